package account_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"gatehouse/internal/account"
	"gatehouse/internal/apikey"
	"gatehouse/internal/billing"
	"gatehouse/internal/fault"
)

// wrong are the fields that an error refuses, with the reasons.
func wrong(t *testing.T, err error) []string {
	t.Helper()
	f, ok := errors.AsType[*fault.Error](err)
	if !ok {
		t.Fatalf("the error is %v, want a fault", err)
	}
	if f.Kind != fault.Invalid || f.Code != "VALIDATION_FAILED" || f.Message != f.Details[0].Message {
		t.Errorf("the fault is %+v", f)
	}
	var all []string
	for _, d := range f.Details {
		if !strings.HasPrefix(d.Message, d.Field+" ") {
			t.Errorf("the message %q does not begin with its field %q", d.Message, d.Field)
		}
		all = append(all, d.Field+": "+d.Reason)
	}
	return all
}

func TestSignUpWritesAllThatItTells(t *testing.T) {
	b := &book{}
	d := newDesk(t, b, nil)
	a := application("  Jane Doe ", " Jane.Doe+work@Gmail.com ")
	a.Company, a.Source = given("Acme"), given("api")
	c, key, err := d.signUp(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	if len(b.opened) != 1 {
		t.Fatalf("%d accounts were opened", len(b.opened))
	}
	o := b.opened[0]
	want := account.Customer{
		ID: o.ID, Name: "Jane Doe", Email: "Jane.Doe+work@Gmail.com", Company: "Acme", Source: "api", Plan: billing.Trial,
		TrialFixesLimit: 5, CreditBalance: 5, CreatedAt: created,
	}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Errorf("the customer told differs (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, o.Customer); diff != "" {
		t.Errorf("the customer stored differs (-want +got):\n%s", diff)
	}
	if o.CanonicalEmail != "janedoe@gmail.com" {
		t.Errorf("the canonical address is %q", o.CanonicalEmail)
	}
	wantGrant := billing.Entry{
		ID: o.Grant.ID, Number: 1, Amount: 5, BalanceAfter: 5, Source: "trial_signup", Reference: "signup:" + o.ID, CreatedAt: created,
	}
	if diff := cmp.Diff(wantGrant, o.Grant); diff != "" {
		t.Errorf("the grant differs (-want +got):\n%s", diff)
	}
	presented, ok := apikey.Parse(key.Reveal())
	if !ok || presented != o.Key.Presented || !strings.HasPrefix(key.Reveal(), "gk_test_") {
		t.Errorf("the key handed over is not the one stored, or of another kind")
	}
	wantKey := apikey.Record{ID: o.Key.ID, Name: "default", Prefix: key.Reveal()[:len("gk_test_")+12], CreatedAt: created}
	if diff := cmp.Diff(wantKey, o.Key.Record); diff != "" {
		t.Errorf("the key's record differs (-want +got):\n%s", diff)
	}
	for _, at := range []time.Time{o.CreatedAt, o.Grant.CreatedAt, o.Key.CreatedAt} {
		if at.Location() != time.UTC {
			t.Errorf("a time is %s, want it in UTC", at)
		}
	}
	ids := []string{o.ID, o.Grant.ID, o.Key.ID}
	for i, s := range ids {
		if id, err := uuid.Parse(s); err != nil || id.Version() != 7 || slices.Contains(ids[:i], s) {
			t.Errorf("the ids are %v, want three UUIDv7", ids)
		}
	}
	if !slices.Equal(d.outcomes, []string{"created"}) {
		t.Errorf("outcomes %v", d.outcomes)
	}
}

func TestWhatIsLeftOutHasDefaults(t *testing.T) {
	b := &book{}
	a := application("Jane", "jane@acme.com")
	a.Company = given("  ")
	c, _, err := newDesk(t, b, nil).signUp(t.Context(), a)
	if err != nil || c.Company != "" || c.Source != "direct" || c.StripeCustomerID != "" || c.State != "" {
		t.Errorf("SignUp = %+v, %v", c, err)
	}
}

func TestEachSourceOfTheContractIsTaken(t *testing.T) {
	for _, source := range []string{"direct", "github_marketplace", "early_access", "api"} {
		a := application("Jane", "jane@acme.com")
		a.Source = &source
		if c, _, err := newDesk(t, &book{}, nil).signUp(t.Context(), a); err != nil || c.Source != source {
			t.Errorf("source %q: %q, %v", source, c.Source, err)
		}
	}
}

func TestAllThatIsWrongIsToldAtOnce(t *testing.T) {
	long := given(strings.Repeat("x", 256))
	tests := []struct {
		name string
		give account.Application
		want []string
	}{
		{"nothing given", account.Application{}, []string{"name: required", "email: required"}},
		{"all of it", account.Application{Name: given("a\x00b"), Email: given("jane"), Company: long, Source: given("tv")},
			[]string{"name: malformed", "email: malformed", "company: too_long", "source: not_allowed"}},
		{"empty", account.Application{Name: given(" "), Email: given(""), Company: given(""), Source: given("")},
			[]string{"name: required", "email: required", "source: not_allowed"}},
		{"the source in capitals", account.Application{Name: given("J"), Email: given("j@acme.com"), Source: given("API")}, []string{"source: not_allowed"}},
		{"a disposable address and a long name", account.Application{Name: long, Email: given("j@mailinator.com")},
			[]string{"name: too_long", "email: disposable_provider"}},
		{"a reserved domain", application("J", "j@example.com"), []string{"email: disposable_provider"}},
		{"a denied domain", application("J", "j@sub.competitor.com"), []string{"email: not_allowed"}},
		{"a long local part", application("J", strings.Repeat("x", 65)+"@acme.com"), []string{"email: too_long"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, mail := &book{}, &resolver{}
			d := newDesk(t, b, mail)
			c, key, err := d.signUp(t.Context(), tt.give)
			if diff := cmp.Diff(tt.want, wrong(t, err)); diff != "" {
				t.Errorf("what is wrong differs (-want +got):\n%s", diff)
			}
			if c != (account.Customer{}) || key != (apikey.Secret{}) || len(b.tried) > 0 {
				t.Errorf("refused, and yet %+v, or %d tries to open", c, len(b.tried))
			}
			if len(mail.asked) > 0 {
				t.Errorf("the network was asked about %v", mail.asked)
			}
			_, first, _ := strings.Cut(tt.want[0], ": ")
			if !slices.Equal(d.outcomes, []string{first}) {
				t.Errorf("outcomes %v, want %q", d.outcomes, first)
			}
		})
	}
}

func TestMailIsCheckedAfterAllElseAndBeforeTheWrite(t *testing.T) {
	var said []string
	b, mail := &book{said: &said}, &resolver{said: &said}
	if _, _, err := newDesk(t, b, mail).signUp(t.Context(), application("Jane", "Jane@Bücher.DE")); err != nil {
		t.Fatal(err)
	}
	if want := []string{"check xn--bcher-kva.de", "open jane@xn--bcher-kva.de"}; !slices.Equal(said, want) {
		t.Errorf("it went %q, want %q", said, want)
	}
}

func TestDomainWithoutMailIsRefused(t *testing.T) {
	for outcome, refusal := range map[string]error{
		"no_mail_server": fault.Field("email", fault.NoMailServer, "email must be at a domain that can receive mail"),
		"failed":         context.Canceled, // what a checker of another making may say
	} {
		b := &book{}
		d := newDesk(t, b, &resolver{err: refusal})
		_, key, err := d.signUp(t.Context(), application("Jane", "jane@acme.com"))
		if !errors.Is(err, refusal) || key != (apikey.Secret{}) || len(b.tried) > 0 {
			t.Errorf("SignUp = %v, and %d tries to open, want the checker's error and none", err, len(b.tried))
		}
		if !slices.Equal(d.outcomes, []string{outcome}) {
			t.Errorf("outcomes %v, want %s", d.outcomes, outcome)
		}
	}
}

func TestTakenAddressIsRefused(t *testing.T) {
	b := &book{}
	d := newDesk(t, b, nil)
	if _, _, err := d.signUp(t.Context(), application("Jane", "jane.doe@gmail.com")); err != nil {
		t.Fatal(err)
	}
	_, key, err := d.signUp(t.Context(), application("Jane", "JaneDoe+2@googlemail.com"))
	if got := wrong(t, err); !slices.Equal(got, []string{"email: already_registered"}) || key != (apikey.Secret{}) {
		t.Errorf("the second sign-up is refused for %v", got)
	}
	if len(b.opened) != 1 || !slices.Equal(d.outcomes, []string{"created", "already_registered"}) {
		t.Errorf("%d accounts, outcomes %v", len(b.opened), d.outcomes)
	}
}

func TestStoreThatFailsLeavesTheAddressFree(t *testing.T) {
	b := &book{err: errAway}
	d := newDesk(t, b, nil)
	c, key, err := d.signUp(t.Context(), application("Jane", "jane@acme.com"))
	if !errors.Is(err, errAway) || c != (account.Customer{}) || key != (apikey.Secret{}) {
		t.Errorf("SignUp = %+v, %v, want the store's error and no key", c, err)
	}
	b.err = nil
	if _, key, err := d.signUp(t.Context(), application("Jane", "jane@acme.com")); err != nil || key == (apikey.Secret{}) {
		t.Errorf("once the store is back: %v", err)
	}
	if len(b.opened) != 1 || !slices.Equal(d.outcomes, []string{"failed", "created"}) {
		t.Errorf("%d accounts, outcomes %v", len(b.opened), d.outcomes)
	}
}

// A key whose hash may or may not be stored must not be handed over, and
// whoever tries again must not become a second customer.
func TestStoreThatFailsButPersistsMakesOneCustomer(t *testing.T) {
	b := &book{err: errAway, persist: true}
	d := newDesk(t, b, nil)
	_, key, err := d.signUp(t.Context(), application("Jane", "jane@acme.com"))
	if !errors.Is(err, errAway) || key != (apikey.Secret{}) {
		t.Errorf("SignUp = %v, want the store's error and no key", err)
	}
	b.err = nil
	_, key, err = d.signUp(t.Context(), application("Jane", "jane@acme.com"))
	if got := wrong(t, err); !slices.Equal(got, []string{"email: already_registered"}) || key != (apikey.Secret{}) {
		t.Errorf("the second sign-up is refused for %v", got)
	}
	if len(b.opened) != 1 || !slices.Equal(d.outcomes, []string{"failed", "already_registered"}) {
		t.Errorf("%d accounts, outcomes %v", len(b.opened), d.outcomes)
	}
}

func TestConcurrentSignUpsShareNothing(t *testing.T) {
	b := &book{}
	d := newDesk(t, b, nil)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			address := fmt.Sprintf("jane%d@acme.com", i)
			c, key, err := d.signUp(t.Context(), application("Jane", address))
			if err != nil || c.Email != address || key.Reveal() == "" {
				t.Errorf("SignUp of %s = %+v, %v", address, c, err)
			}
		})
	}
	wg.Wait()
	seen := map[string]bool{}
	for _, o := range b.opened {
		for _, s := range []string{o.ID, o.Grant.ID, o.Key.ID, o.Key.PublicID, string(o.Key.Hash[:])} {
			if seen[s] {
				t.Errorf("%q is used twice", s)
			}
			seen[s] = true
		}
	}
	if len(b.opened) != 50 || len(d.outcomes) != 50 {
		t.Errorf("%d accounts, %d outcomes", len(b.opened), len(d.outcomes))
	}
}

func TestUsagePeriodIsTheMonthInUTC(t *testing.T) {
	month := func(y int, m time.Month) time.Time { return time.Date(y, m, 1, 0, 0, 0, 0, time.UTC) }
	zone := func(hours int) *time.Location { return time.FixedZone("", hours*60*60) }
	tests := []struct {
		name       string
		now        time.Time
		start, end time.Time
	}{
		{"within a month", time.Date(2026, 3, 15, 12, 0, 0, 0, time.UTC), month(2026, 3), month(2026, 4)},
		{"at its first moment", month(2026, 3), month(2026, 3), month(2026, 4)},
		{"at its last", month(2026, 3).Add(-1), month(2026, 2), month(2026, 3)},
		{"on the 31st, before a shorter month", time.Date(2026, 1, 31, 23, 59, 59, 999999999, time.UTC), month(2026, 1), month(2026, 2)},
		{"on the 29th of February", time.Date(2028, 2, 29, 12, 0, 0, 0, time.UTC), month(2028, 2), month(2028, 3)},
		{"in December", time.Date(2026, 12, 31, 23, 0, 0, 0, time.UTC), month(2026, 12), month(2027, 1)},
		{"already the next month here, not in UTC", time.Date(2026, 4, 1, 1, 0, 0, 0, zone(2)), month(2026, 3), month(2026, 4)},
		{"still the old year here, not in UTC", time.Date(2026, 12, 31, 20, 0, 0, 0, zone(-5)), month(2027, 1), month(2027, 2)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			jane := account.Customer{ID: "jane", Name: "Jane", CreditBalance: 3}
			b := &book{opened: []account.Opening{{Customer: jane}}}
			s := account.NewService(b, account.Policy{}, func() time.Time { return tt.now }, nil)
			c, usage, err := s.Get(t.Context(), "jane")
			if want := (account.Usage{Start: tt.start, End: tt.end, Fixes: 2}); err != nil || usage != want || c != jane {
				t.Errorf("Get = %+v, %+v, %v, want %+v", c, usage, err, want)
			}
			if !slices.Equal(b.counted, []time.Time{tt.start, tt.end}) {
				t.Errorf("fixes were counted in %v", b.counted)
			}
		})
	}
}

func TestUsagePeriodIsProsWhileItIsPaid(t *testing.T) {
	start, end := time.Date(2026, 3, 20, 8, 30, 0, 0, time.UTC), time.Date(2026, 4, 20, 8, 30, 0, 0, time.UTC)
	march, april := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC)
	may := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	pro := account.Customer{Plan: billing.Pro, State: "active", PeriodStart: start, PeriodEnd: end}
	with := func(change func(*account.Customer)) account.Customer {
		c := pro
		change(&c)
		return c
	}
	tests := []struct {
		name       string
		customer   account.Customer
		now        time.Time
		start, end time.Time
	}{
		{"at its first moment", pro, start, start, end},
		{"in the next month", pro, april.Add(time.Hour), start, end},
		{"at its last moment", pro, end.Add(-1), start, end},
		{"past due", with(func(c *account.Customer) { c.State = "past_due" }), april, start, end},
		{"cancelled with its end", with(func(c *account.Customer) { c.CancelsAtEnd = true }), april, start, end},
		{"not begun", pro, start.Add(-1), march, april},
		{"over, and the next one not paid yet", pro, end, april, may},
		{"Pro no more", with(func(c *account.Customer) { c.Plan = billing.PayAsYouGo }), april, april, may},
		{"of a period that is not known", account.Customer{Plan: billing.Pro}, april, april, may},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.customer.ID = "jane"
			b := &book{opened: []account.Opening{{Customer: tt.customer}}}
			s := account.NewService(b, account.Policy{}, func() time.Time { return tt.now.In(time.FixedZone("", 5*60*60)) }, nil)
			_, usage, err := s.Get(t.Context(), "jane")
			if want := (account.Usage{Start: tt.start, End: tt.end, Fixes: 2}); err != nil || usage != want {
				t.Errorf("Get = %+v, %v, want %+v", usage, err, want)
			}
			if !slices.Equal(b.counted, []time.Time{tt.start, tt.end}) {
				t.Errorf("fixes were counted in %v", b.counted)
			}
		})
	}
}

func TestGetPassesTheStoresErrorOn(t *testing.T) {
	d := newDesk(t, &book{err: errAway}, nil)
	if c, u, err := d.Get(t.Context(), "jane"); !errors.Is(err, errAway) || c != (account.Customer{}) || u != (account.Usage{}) {
		t.Errorf("Get = %+v, %+v, %v, want the store's error alone", c, u, err)
	}
	d = newDesk(t, &book{uncounted: errAway, opened: []account.Opening{{Customer: account.Customer{ID: "jane"}}}}, nil)
	if c, u, err := d.Get(t.Context(), "jane"); !errors.Is(err, errAway) || c != (account.Customer{}) || u != (account.Usage{}) {
		t.Errorf("Get = %+v, %+v, %v, want the error of counting alone", c, u, err)
	}
	d = newDesk(t, &book{}, nil)
	_, _, err := d.Get(t.Context(), "jane")
	if f, ok := errors.AsType[*fault.Error](err); !ok || f.Kind != fault.NotFound {
		t.Errorf("Get of nobody = %v, want fault.NotFound", err)
	}
}
