package storetest

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"gatehouse/internal/account"
	"gatehouse/internal/apikey"
	"gatehouse/internal/billing"
	"gatehouse/internal/fault"
	"gatehouse/internal/store"
)

// Backend is one empty database. Differences are declared, never guessed.
type Backend struct {
	store.Store
	// Clock moves the store's clock.
	Clock *Clock
	// KeepsErased says that the database's log holds what was erased until it is
	// recycled.
	KeepsErased bool
	// Crash ends what the store has under way, as a crash of its database would;
	// nil: nothing but a killed process does.
	Crash func(testing.TB)
	// Reopen closes the store and opens it again on the same data.
	Reopen func(testing.TB) store.Store
}

// Clock is a store's clock in the tests' hands.
type Clock struct {
	mu  sync.Mutex
	at  time.Time
	set func(time.Time) // where the database has the clock
}

// NewClock returns a clock that stands still until it is moved.
func NewClock() *Clock { return &Clock{at: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)} }

// Lend has set called with the clock's time, now and whenever it is moved.
func (c *Clock) Lend(set func(time.Time)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.set = set
	set(c.at)
}

// Now is the clock's time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

// Move moves the clock on, or back.
func (c *Clock) Move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
	if c.set != nil {
		c.set(c.at)
	}
}

// Run tests the store that open opens.
func Run(t *testing.T, open func(testing.TB) Backend) {
	for _, group := range []struct {
		name  string
		tests map[string]func(*testing.T, Backend)
	}{
		{"Accounts", accountTests},
		{"Keys", keyTests},
		{"Enter", enterTests},
		{"Ledger", ledgerTests},
		{"Limits", limitTests},
		{"Purge", purgeTests},
		{"Jobs", jobTests},
		{"FollowUps", followUpTests},
		{"Outcomes", outcomeTests},
		{"Inbox", inboxTests},
		{"Reconciler", reconcilerTests},
		{"Apply", applyTests},
		{"Credits", creditTests},
		{"Standing", standingTests},
		{"Fixes", fixTests},
		{"ManyFixes", manyFixTests},
		{"Vending", vendingTests},
		{"Ending", endingTests},
		{"Budgets", budgetTests},
		{"Lost", lostTests},
		{"ProviderKeys", providerKeyTests},
		{"Refused", refusedTests},
		{"Model", modelTests},
		{"Erase", eraseTests},
		{"About", aboutTests},
	} {
		for name, test := range group.tests {
			t.Run(group.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				test(t, open(t))
			})
		}
	}
}

// newOpening is a sign-up of somebody with an address of that canonical form,
// of a load test's if it is at loadDomain.
func newOpening(t testing.TB, clock *Clock, canonical string) (account.Opening, apikey.Secret) {
	t.Helper()
	at := clock.Now().UTC().Truncate(time.Microsecond)
	id, entry := newID(t), newID(t)
	secret, issue, err := apikey.NewIssue(apikey.Live, "default", at, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	return account.Opening{
		Customer: account.Customer{
			ID: id, Name: "Ada Łovelace", Email: canonical, Company: "Engines", Source: "direct", Plan: billing.Trial,
			TrialFixesLimit: 5, CreditBalance: 5, CreatedAt: at,
		},
		CanonicalEmail: canonical, LoadTest: strings.HasSuffix(canonical, "@"+loadDomain), Key: issue,
		Grant: billing.Entry{
			ID: entry, Number: 1, Amount: 5, BalanceAfter: 5,
			Source: billing.TrialSignUp, Reference: billing.SignUpReference(id), CreatedAt: at,
		},
	}, secret
}

// signUp opens an account and returns it as one who presents its key sees it.
func signUp(t testing.TB, b Backend, canonical string) (account.Opening, apikey.Presented, apikey.Principal) {
	t.Helper()
	o, secret := newOpening(t, b.Clock, canonical)
	if err := b.Open(t.Context(), o, nil); err != nil {
		t.Fatal(err)
	}
	return o, present(t, secret), apikey.Principal{CustomerID: o.ID, KeyID: o.Key.ID}
}

func present(t testing.TB, secret apikey.Secret) apikey.Presented {
	t.Helper()
	p, ok := apikey.Parse(secret.Reveal())
	if !ok {
		t.Fatal("a generated key does not parse")
	}
	return p
}

func newID(t testing.TB) string {
	t.Helper()
	id, err := uuid.NewV7()
	if err != nil {
		t.Fatal(err)
	}
	return id.String()
}

// wantFault fails unless err is a fault of that kind; reason "" is any.
func wantFault(t testing.TB, err error, kind fault.Kind, reason string) {
	t.Helper()
	f, ok := errors.AsType[*fault.Error](err)
	if !ok || f.Kind != kind {
		t.Fatalf("error is %v, want fault %s", err, kind)
	}
	if reason != "" && (len(f.Details) != 1 || f.Details[0].Reason != reason) {
		t.Fatalf("details are %v, want reason %s", f.Details, reason)
	}
}

// at once runs n calls together and returns how many succeeded; others must
// be faults of the kind.
func atOnce(t testing.TB, n int, otherwise fault.Kind, call func(i int) error) (succeeded int) {
	t.Helper()
	errs := make([]error, n)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-start
			errs[i] = call(i)
		})
	}
	close(start)
	wg.Wait()
	for _, err := range errs {
		if err == nil {
			succeeded++
			continue
		}
		wantFault(t, err, otherwise, "")
	}
	return succeeded
}
