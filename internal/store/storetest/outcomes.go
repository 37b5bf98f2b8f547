package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"gatehouse/internal/account"
	"gatehouse/internal/apikey"
	"gatehouse/internal/fault"
	"gatehouse/internal/idempotency"
	"gatehouse/internal/jobs"
)

func request(name string) idempotency.Request {
	return idempotency.NewRequest("test", "POST", "/", name, []byte(name))
}

// keep keeps the id of an effect's result, as if it were sealed.
func keep[T any](r idempotency.Request, id func(T) string) *idempotency.Once[T] {
	return &idempotency.Once[T]{Request: r, Seal: func(result T) (idempotency.Outcome, error) { return outcome(r, "key-1", id(result)), nil }}
}

func outcome(r idempotency.Request, keyID, text string) idempotency.Outcome {
	o := idempotency.Outcome{Request: r, Status: 201}
	o.Body.KeyID, o.Body.Bytes = keyID, []byte(text)
	return o
}

func customerID(c account.Customer) string { return c.ID }
func keyID(r apikey.Record) string         { return r.ID + " " + r.Name }

// wantOutcome fails unless this is kept of the request; "" is nothing.
func wantOutcome(t testing.TB, b Backend, r idempotency.Request, text string) {
	t.Helper()
	got, found, err := b.Outcome(t.Context(), r.ID)
	switch {
	case err != nil:
		t.Fatal(err)
	case found != (text != ""):
		t.Errorf("an outcome was found: %t, %+v", found, got)
	case found && (got.Request != r || got.Status != 201 || got.Body.KeyID != "key-1" || string(got.Body.Bytes) != text):
		t.Errorf("found %+v, want %q", got, text)
	}
}

func wantRunning(t testing.TB, err error) {
	t.Helper()
	wantFault(t, err, fault.Conflict, "")
	if f, _ := errors.AsType[*fault.Error](err); f.Code != "IDEMPOTENCY_CONFLICT" {
		t.Errorf("refused with %s", f.Code)
	}
}

func newIssue(t testing.TB, b Backend) apikey.Issue {
	t.Helper()
	_, issue, err := apikey.NewIssue(apikey.Live, "fresh", b.Clock.Now(), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	return issue
}

func wantKeys(t testing.TB, b Backend, customer string, want int) {
	t.Helper()
	if keys, err := b.Keys(t.Context(), customer); err != nil || len(keys) != want {
		t.Errorf("%d keys, %v, want %d", len(keys), err, want)
	}
}

// openKept opens an account under a request.
func openKept(t testing.TB, b Backend, canonical string, r idempotency.Request) account.Opening {
	t.Helper()
	o, _ := newOpening(t, b.Clock, canonical)
	o.Jobs = []jobs.Kind{jobs.WelcomeMail}
	done(t, b.Open(t.Context(), o, keep(r, customerID)))
	return o
}

var outcomeTests = map[string]func(*testing.T, Backend){
	"KeptWithTheEffect": func(t *testing.T, b Backend) {
		wantOutcome(t, b, request("open"), "")
		o := openKept(t, b, "ada@example.dev", request("open"))
		wantOutcome(t, b, request("open"), o.ID)
		by := apikey.Principal{CustomerID: o.ID, KeyID: o.Key.ID}
		added := newIssue(t, b)
		done(t, b.AddKey(t.Context(), by, added, keep(request("add"), keyID)))
		wantOutcome(t, b, request("add"), added.ID+" fresh")
		fresh := newIssue(t, b)
		record, err := b.ReplaceKey(t.Context(), by, by.KeyID, 0, fresh, keep(request("replace"), keyID))
		done(t, err)
		wantOutcome(t, b, request("replace"), fresh.ID+" default") // the result's name, not the one given
		if record.Name != "default" {
			t.Errorf("replaced by %+v", record)
		}
		wantKeys(t, b, o.ID, 2)
		b.Store = b.Reopen(t)
		wantOutcome(t, b, request("open"), o.ID)
	},
	"NotKeptOfWhatIsRefused": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		again, _ := newOpening(t, b.Clock, "ada@example.dev")
		wantFault(t, b.Open(t.Context(), again, keep(request("open"), customerID)), fault.Invalid, fault.AlreadyRegistered)
		_, err := b.ReplaceKey(t.Context(), by, "no-such-key", 0, newIssue(t, b), keep(request("replace"), keyID))
		wantFault(t, err, fault.NotFound, "")
		for range apikey.MaxKeys - 1 {
			add(t, b, by, time.Time{})
		}
		wantFault(t, b.AddKey(t.Context(), by, newIssue(t, b), keep(request("add"), keyID)), fault.Conflict, "")
		for _, r := range []string{"open", "add", "replace"} {
			wantOutcome(t, b, request(r), "")
		}
		o, _ := newOpening(t, b.Clock, "eve@example.dev") // and the same request may succeed later
		done(t, b.Open(t.Context(), o, keep(request("open"), customerID)))
		wantOutcome(t, b, request("open"), o.ID)
	},
	"NothingIsDoneWhereTheOutcomeCannotBe": func(t *testing.T, b Backend) {
		_, old, by := signUp(t, b, "ada@example.dev")
		for name, broken := range map[string]error{"plain": errors.New("no key"), "as a fault": fault.Refused("no key"), "a panic": nil} {
			fail := func() (idempotency.Outcome, error) {
				if broken == nil {
					panic("no key")
				}
				return idempotency.Outcome{}, broken
			}
			o, _ := newOpening(t, b.Clock, "eve@example.dev")
			o.Jobs = []jobs.Kind{jobs.WelcomeMail}
			noKey := &idempotency.Once[apikey.Record]{Request: request("key"), Seal: func(apikey.Record) (idempotency.Outcome, error) { return fail() }}
			_, replaced := b.ReplaceKey(t.Context(), by, by.KeyID, 0, newIssue(t, b), noKey)
			for what, err := range map[string]error{
				"open": b.Open(t.Context(), o, &idempotency.Once[account.Customer]{Request: request("open"), Seal: func(account.Customer) (idempotency.Outcome, error) { return fail() }}),
				"add":  b.AddKey(t.Context(), by, newIssue(t, b), noKey), "replace": replaced,
			} {
				if _, refused := errors.AsType[*fault.Error](err); err == nil || refused { // it is our bug
					t.Errorf("%s, %s: %v", what, name, err)
				}
			}
			_, err := b.CustomerByEmail(t.Context(), "eve@example.dev")
			wantFault(t, err, fault.NotFound, "")
			wantKeys(t, b, by.CustomerID, 1)
		}
		wantJobs(t, "jobs", listed(t, b, jobs.Filter{}))
		if !enters(t, b, old) {
			t.Error("the key is out")
		}
		wantOutcome(t, b, request("open"), "")
		wantOutcome(t, b, request("key"), "")
	},
	"SecondCallIsRefusedAndWritesNothing": func(t *testing.T, b Backend) {
		o := openKept(t, b, "ada@example.dev", request("open"))
		by := apikey.Principal{CustomerID: o.ID, KeyID: o.Key.ID}
		for _, canonical := range []string{"ada@example.dev", "eve@example.dev"} {
			again, _ := newOpening(t, b.Clock, canonical)
			again.Jobs = o.Jobs
			wantRunning(t, b.Open(t.Context(), again, keep(request("open"), customerID)))
			_, err := b.Customer(t.Context(), again.ID)
			wantFault(t, err, fault.NotFound, "")
		}
		wantRunning(t, b.Open(t.Context(), o, keep(request("open"), customerID)))
		wantRunning(t, b.AddKey(t.Context(), by, newIssue(t, b), keep(request("open"), keyID)))
		_, err := b.ReplaceKey(t.Context(), by, by.KeyID, 0, newIssue(t, b), keep(request("open"), keyID))
		wantRunning(t, err)
		wantKeys(t, b, o.ID, 1)
		if all := listed(t, b, jobs.Filter{}); len(all) != 1 {
			t.Errorf("jobs are %+v", all)
		}
		wantOutcome(t, b, request("open"), o.ID)
	},
	"ManyAtOnceUnderOneRequestMakeOne": func(t *testing.T, b Backend) {
		openings := make([]account.Opening, 50)
		for i := range openings {
			openings[i], _ = newOpening(t, b.Clock, fmt.Sprintf("u%d@example.dev", i))
		}
		n := atOnce(t, len(openings), fault.Conflict, func(i int) error {
			return b.Open(t.Context(), openings[i], keep(request("open"), customerID))
		})
		all, err := b.Customers(t.Context(), "", 100)
		if err != nil || n != 1 || len(all) != 1 {
			t.Fatalf("%d succeeded and made %d customers, %v", n, len(all), err)
		}
		wantOutcome(t, b, request("open"), all[0].ID)
	},
	"FoundForADayAndThenDoneAnew": func(t *testing.T, b Backend) {
		o := openKept(t, b, "ada@example.dev", request("open"))
		b.Clock.Move(idempotency.Life - time.Microsecond)
		wantOutcome(t, b, request("open"), o.ID)
		again, _ := newOpening(t, b.Clock, "eve@example.dev")
		wantRunning(t, b.Open(t.Context(), again, keep(request("open"), customerID)))
		b.Clock.Move(time.Microsecond)
		wantOutcome(t, b, request("open"), "")
		done(t, b.Open(t.Context(), again, keep(request("open"), customerID)))
		wantOutcome(t, b, request("open"), again.ID)
		b.Clock.Move(idempotency.Life - time.Microsecond) // a life of its own
		wantOutcome(t, b, request("open"), again.ID)
	},
	"SweepTakesOldOnesAndAtMostTheLimit": func(t *testing.T, b Backend) {
		for i := range 5 {
			openKept(t, b, fmt.Sprintf("old%d@example.dev", i), request(fmt.Sprint("old", i)))
		}
		b.Clock.Move(time.Second)
		var young []string
		for i := range 3 {
			young = append(young, openKept(t, b, fmt.Sprintf("young%d@example.dev", i), request(fmt.Sprint("young", i))).ID)
		}
		sweep := func(limit, want int) {
			t.Helper()
			if n, err := b.SweepOutcomes(t.Context(), limit); err != nil || n != want {
				t.Errorf("swept %d, %v, want %d", n, err, want)
			}
		}
		b.Clock.Move(idempotency.Life - time.Second - time.Microsecond)
		sweep(10, 0)
		wantOutcome(t, b, request("old0"), listed(t, b, jobs.Filter{})[0].Subject)
		b.Clock.Move(time.Microsecond)
		// One of the old is written anew: it is young again.
		young = append(young, openKept(t, b, "again@example.dev", request("old2")).ID)
		sweep(2, 2)
		sweep(10, 2)
		sweep(10, 0)
		for i, r := range []string{"young0", "young1", "young2", "old2"} {
			wantOutcome(t, b, request(r), young[i])
		}
		b.Clock.Move(idempotency.Life)
		sweep(10, 4)
	},
	"SealedWithListsTheKeysInUse": func(t *testing.T, b Backend) {
		want := func(want ...string) {
			t.Helper()
			ids, err := b.SealedWith(t.Context())
			if slices.Sort(ids); err != nil || !slices.Equal(ids, want) {
				t.Errorf("sealed with %q, %v, want %q", ids, err, want)
			}
		}
		want()
		for i, key := range []string{"key-2", "key-1", "key-2"} {
			r := request(fmt.Sprint(i))
			o, _ := newOpening(t, b.Clock, fmt.Sprintf("u%d@example.dev", i))
			done(t, b.Open(t.Context(), o, &idempotency.Once[account.Customer]{Request: r, Seal: func(account.Customer) (idempotency.Outcome, error) {
				return outcome(r, key, "text"), nil
			}}))
			b.Clock.Move(time.Second)
		}
		want("key-1", "key-2")
		b.Clock.Move(idempotency.Life - time.Second) // the last one alone is left
		want()
	},
	"PurgeTakesJobsAndOutcomesAlong": func(t *testing.T, b Backend) {
		for i := range 3 {
			for _, domain := range []string{loadDomain, "example.dev"} {
				name := fmt.Sprintf("u%d@%s", i, domain)
				o := openKept(t, b, name, request(name))
				by := apikey.Principal{CustomerID: o.ID, KeyID: o.Key.ID}
				done(t, b.AddKey(t.Context(), by, newIssue(t, b), keep(request("key of "+name), func(apikey.Record) string { return "made" })))
			}
		}
		dead := claim(t, b, jobs.WelcomeMail, 1)[0] // a dead job goes, too
		done(t, b.Bury(context.WithoutCancel(t.Context()), dead, ""))
		if n := purgeAll(t, b, 2); n != 3 {
			t.Errorf("%d were removed", n)
		}
		left, err := b.Customers(t.Context(), "", 10)
		if err != nil || len(left) != 3 {
			t.Fatalf("left are %+v, %v", left, err)
		}
		var ids []string
		for i, c := range left {
			ids = append(ids, c.ID)
			name := fmt.Sprintf("u%d@", i)
			wantOutcome(t, b, request(name+"example.dev"), c.ID)
			wantOutcome(t, b, request("key of "+name+"example.dev"), "made")
			wantOutcome(t, b, request(name+loadDomain), "")
			wantOutcome(t, b, request("key of "+name+loadDomain), "")
		}
		if got := subjects(listed(t, b, jobs.Filter{})); !slices.Equal(got, ids) {
			t.Errorf("jobs are of %q, want of %q", got, ids)
		}
	},
}
