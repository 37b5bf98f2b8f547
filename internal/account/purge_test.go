package account_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/account"
	"gatehouse/internal/account/email"
	"gatehouse/internal/apikey"
)

// steps is a registry that says what it was told to of each step of a purge,
// and takes a second for it.
type steps struct {
	account.Registry
	say   []account.Purged
	err   error // after all those
	asked []string
	when  []time.Time
}

func (s *steps) PurgeSome(_ context.Context, domain, after string, limit int) (account.Purged, error) {
	s.asked, s.when = append(s.asked, domain+" after "+after), append(s.when, time.Now())
	<-time.After(time.Second)
	if limit < 1 || limit > 1000 || len(s.say) == 0 {
		return account.Purged{}, s.err
	}
	done := s.say[0]
	s.say = s.say[1:]
	return done, nil
}

func TestPurgeGoesInStepsAndRestsBetween(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &steps{say: []account.Purged{{Removed: 250, Next: "a"}, {Removed: 200, Kept: 50, Next: "b"}, {Kept: 1}}}
		var told []account.Purged
		done, err := account.Purge(t.Context(), s, "load.dev", func(p account.Purged) { told = append(told, p) })
		if err != nil || done != (account.Purged{Removed: 450, Kept: 51}) {
			t.Errorf("done %+v, %v", done, err)
		}
		if want := []string{"load.dev after ", "load.dev after a", "load.dev after b"}; !slices.Equal(s.asked, want) {
			t.Errorf("asked %q, want %q", s.asked, want)
		}
		if want := []account.Purged{{Removed: 250, Next: "a"}, {Removed: 450, Kept: 50, Next: "b"}, {Removed: 450, Kept: 51}}; !cmp.Equal(told, want) {
			t.Errorf("told %v, want %v", told, want)
		}
		for i := 1; i < len(s.when); i++ {
			if apart := s.when[i].Sub(s.when[i-1]); apart != 2*time.Second {
				t.Errorf("step %d began %s after the one before: a node's writes had no turn", i, apart)
			}
		}
	})
}

func TestPurgeThatEndsEarlySaysHowFarItCame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &steps{say: []account.Purged{{Removed: 250, Next: "a"}}, err: errAway}
		done, err := account.Purge(t.Context(), s, "load.dev", func(account.Purged) {})
		says := "purge load.dev: 250 customers removed, run it again for the rest: "
		if !errors.Is(err, errAway) || done.Removed != 250 || err.Error() != says+errAway.Error() {
			t.Errorf("done %+v, %v", done, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		s = &steps{say: []account.Purged{{Removed: 1, Next: "a"}, {Removed: 1}}}
		done, err = account.Purge(ctx, s, "load.dev", func(account.Purged) { cancel() })
		if !errors.Is(err, context.Canceled) || done.Removed != 1 || len(s.asked) != 1 {
			t.Errorf("interrupted: done %+v, %v, after %d steps", done, err, len(s.asked))
		}
	})
}

func TestLoadTestDomainsAreMarkedAndNotAskedForMail(t *testing.T) {
	mail := &resolver{err: errors.New("no mail there")}
	rules, err := email.NewRules(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	domains := []string{"load.gatehouse.internal"}
	b := &book{}
	s := account.NewService(b, account.Policy{Rules: rules.Exempt(domains), Mail: mail, LoadTest: domains, KeyKind: apikey.Test},
		time.Now, func(string) {})
	if _, err := s.SignUp(t.Context(), application("Jane", "jane@LOAD.gatehouse.internal"), nil); err != nil || len(mail.asked) > 0 || !b.opened[0].LoadTest {
		t.Errorf("at a load-test domain: %v, asked of %q, opened %+v", err, mail.asked, b.opened)
	}
	if _, err := s.SignUp(t.Context(), application("Jane", "jane@acme.com"), nil); !errors.Is(err, mail.err) {
		t.Errorf("elsewhere: %v", err)
	}
	mail.err = nil
	for _, address := range []string{"jane@acme.com", "jane@gatehouse.dev"} {
		if _, err := s.SignUp(t.Context(), application("Jane", address), nil); err != nil || b.opened[len(b.opened)-1].LoadTest {
			t.Errorf("%s: %v, opened %+v", address, err, b.opened)
		}
	}
}
