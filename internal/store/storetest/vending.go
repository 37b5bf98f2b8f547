package storetest

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"gatehouse/internal/apikey"
	"gatehouse/internal/fault"
	"gatehouse/internal/idempotency"
	"gatehouse/internal/vending"
)

// order asks for an hour at some providers, with tokens that nobody will see.
func order(t testing.TB, by apikey.Principal, providers ...vending.Provider) vending.Order {
	t.Helper()
	o := vending.Order{ID: newID(t), By: by, TTL: time.Hour, Job: "build", Run: "17"}
	for _, p := range providers {
		_, presented := apikey.GenerateToken(apikey.Live)
		o.Issues = append(o.Issues, vending.Issue{ID: newID(t), Provider: p, Presented: presented})
	}
	return o
}

// grant commits an order.
func grant(t testing.TB, b Backend, o vending.Order) vending.Granted {
	t.Helper()
	g, err := b.Grant(t.Context(), o, nil)
	done(t, err)
	return g
}

// granted is somebody's credential, just made.
func granted(t testing.TB, b Backend, by apikey.Principal) vending.Issue {
	t.Helper()
	o := order(t, by, vending.Anthropic)
	grant(t, b, o)
	return o.Issues[0]
}

// refresh is an order in a credential's stead.
func refresh(t testing.TB, by apikey.Principal, id string) vending.Order {
	t.Helper()
	o := order(t, by, "")
	o.Replace, o.TTL, o.Job, o.Run = id, 0, "", ""
	return o
}

// wantLives checks for each token whether it works.
func wantLives(t testing.TB, b Backend, lives bool, tokens ...vending.Issue) {
	t.Helper()
	for _, i := range tokens {
		l, err := b.Lease(t.Context(), i.Presented)
		if !lives {
			wantFault(t, err, fault.NotFound, "")
		} else if err != nil || l.CredentialID != i.ID {
			t.Errorf("its lease is %+v, %v", l, err)
		}
	}
}

// wantRevoked checks that the tokens that were revoked lately are those, and
// that each has its row in the trail.
func wantRevoked(t testing.TB, b Backend, why string, tokens ...vending.Issue) {
	t.Helper()
	wantLives(t, b, false, tokens...)
	got, err := b.Revoked(t.Context(), 15*time.Second)
	done(t, err)
	var want []string
	for _, i := range tokens {
		want = append(want, i.PublicID)
		rows := trail(t, b, vending.AuditFilter{CredentialID: i.ID, Action: vending.Revoking})
		if len(rows) != 1 || rows[0].Outcome != why || rows[0].At != b.Clock.Now() || rows[0].GrantID == "" || rows[0].CustomerID == "" || rows[0].Provider != i.Provider {
			t.Errorf("its revocation is written as %+v", rows)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("revoked (-want +got):\n%s", diff)
	}
}

func trail(t testing.TB, b Backend, f vending.AuditFilter) []vending.Audit {
	t.Helper()
	rows, err := b.AuditRows(t.Context(), f, "", 1000)
	done(t, err)
	return rows
}

// broke takes all of a customer's credits.
func broke(t testing.TB, b Backend, by apikey.Principal) {
	t.Helper()
	_, err := b.Adjust(t.Context(), by.CustomerID, -5, "none are left for "+by.CustomerID)
	done(t, err)
}

var vendingTests = map[string]func(*testing.T, Backend){
	"GrantIsThereAsWritten": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		o := order(t, by, vending.Anthropic, vending.OpenAI, vending.Ollama)
		got := grant(t, b, o)
		now := b.Clock.Now()
		want := vending.Granted{Balance: 5}
		for _, i := range o.Issues {
			want.Credentials = append(want.Credentials, vending.Credential{
				ID: i.ID, Provider: i.Provider, CreatedAt: now, ExpiresAt: now.Add(time.Hour), KeyID: by.KeyID, Job: "build", Run: "17", CustomerID: by.CustomerID, Enforcement: vending.ByGateway,
			})
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +granted):\n%s", diff)
		}
		listed, err := b.Credentials(t.Context(), by.CustomerID)
		if diff := gocmp.Diff(want.Credentials, listed); err != nil || diff != "" {
			t.Errorf("%v (-want +listed):\n%s", err, diff)
		}
		for _, i := range o.Issues {
			l, err := b.Lease(t.Context(), i.Presented)
			want := vending.Lease{CredentialID: i.ID, CustomerID: by.CustomerID, KeyID: by.KeyID, GrantID: o.ID, Provider: i.Provider, ExpiresAt: now.Add(time.Hour)}
			if err != nil || l != want {
				t.Errorf("its lease is %+v, %v, want %+v", l, err, want)
			}
			rows := trail(t, b, vending.AuditFilter{CredentialID: i.ID})
			row := vending.Audit{At: now, CustomerID: by.CustomerID, KeyID: by.KeyID, CredentialID: i.ID, GrantID: o.ID, Action: vending.Granting, Provider: i.Provider, Outcome: "gateway"}
			if len(rows) == 1 {
				row.ID = rows[0].ID
			}
			if diff := gocmp.Diff([]vending.Audit{row}, rows); diff != "" {
				t.Errorf("the trail (-want +got):\n%s", diff)
			}
		}
		c, err := b.Customer(t.Context(), by.CustomerID)
		if err != nil || c.CreditBalance != 5 {
			t.Errorf("the balance is %d, %v: an exchange consumes nothing", c.CreditBalance, err)
		}
	},
	"AllOrNone": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		there := granted(t, b, by)
		o := order(t, by, vending.Anthropic, vending.OpenAI)
		o.Issues[1].PublicID = there.PublicID // it can't be written
		if _, err := b.Grant(t.Context(), o, nil); err == nil {
			t.Fatal("a public id was given twice")
		}
		wantLives(t, b, false, o.Issues[0])
		if all, err := b.Credentials(t.Context(), by.CustomerID); err != nil || len(all) != 1 {
			t.Errorf("credentials are %+v, %v", all, err)
		}
		if rows := trail(t, b, vending.AuditFilter{}); len(rows) != 1 {
			t.Errorf("the trail is %+v", rows)
		}
	},
	"ManyAtOnceEachGetTheirOwn": func(t *testing.T, b Backend) {
		_, _, ada := signUp(t, b, "ada@example.dev")
		_, _, poor := signUp(t, b, "poor@example.dev")
		broke(t, b, poor)
		_, _, gone := signUp(t, b, "gone@example.dev")
		_, err := b.Suspend(t.Context(), gone.CustomerID, b.Clock.Now())
		done(t, err)
		record, _ := add(t, b, ada, b.Clock.Now().Add(time.Second))
		ended := apikey.Principal{CustomerID: ada.CustomerID, KeyID: record.ID}
		b.Clock.Move(time.Second)
		taken := granted(t, b, ada)
		const each = 6
		var wg sync.WaitGroup
		orders, errs := make([]vending.Order, 6*each), make([]error, 6*each)
		for i := range orders {
			by := []apikey.Principal{ada, poor, gone, ended, {CustomerID: newID(t), KeyID: newID(t)}, ada}[i%6]
			orders[i] = order(t, by, vending.Anthropic)
			if i == 5 { // it breaks whatever transaction it is in
				orders[i].Issues[0].PublicID = taken.PublicID
			}
			wg.Go(func() { _, errs[i] = b.Grant(t.Context(), orders[i], nil) })
		}
		wg.Wait()
		for i, o := range orders {
			switch i % 6 {
			case 0, 5:
				if (errs[i] == nil) != (i != 5) {
					t.Errorf("order %d: %v", i, errs[i])
				}
				wantLives(t, b, i != 5, o.Issues[0])
			case 1:
				wantLimit(t, errs[i])
			case 2:
				wantFault(t, errs[i], fault.Forbidden, "")
			default:
				wantFault(t, errs[i], fault.Unauthenticated, "")
			}
		}
		if rows := trail(t, b, vending.AuditFilter{Action: vending.Granting}); len(rows) != 2*each {
			t.Errorf("the trail has %d grants, want %d", len(rows), 2*each)
		}
	},
	"KeptAnswersAreOfAnExchange": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		r, o := request("exchange"), order(t, by, vending.Anthropic)
		once := keep(r, func(g vending.Granted) string { return g.Credentials[0].ID })
		_, err := b.Grant(t.Context(), o, once)
		done(t, err)
		wantOutcome(t, b, r, o.Issues[0].ID)
		again := order(t, by, vending.Anthropic)
		_, err = b.Grant(t.Context(), again, once)
		wantRunning(t, err)
		wantLives(t, b, false, again.Issues[0])
		lost := keep(request("lost"), func(vending.Granted) string { return "" })
		lost.Seal = func(vending.Granted) (idempotency.Outcome, error) {
			return idempotency.Outcome{}, errors.New("not sealed")
		}
		if _, err = b.Grant(t.Context(), again, lost); err == nil {
			t.Error("granted, and not kept")
		}
		wantLives(t, b, false, again.Issues[0])
	},
	"WithoutCreditsOrAWayToPay": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		broke(t, b, by)
		o := order(t, by, vending.Anthropic)
		_, err := b.Grant(t.Context(), o, nil)
		wantLimit(t, err)
		wantLives(t, b, false, o.Issues[0])
		_, err = b.Grant(t.Context(), refresh(t, by, newID(t)), nil)
		wantLimit(t, err)

		in, pays := newInbox(b), payer(t, b, 0)
		way := apikey.Principal{CustomerID: pays.CustomerID, KeyID: pays.KeyID}
		grant(t, b, order(t, way, vending.Anthropic))
		in.apply(t, told(way.CustomerID, fact("sub", "updated", 1, "active", "past_due")))
		_, err = b.Grant(t.Context(), order(t, way, vending.Anthropic), nil)
		wantLimit(t, err)
		_, err = b.Adjust(t.Context(), way.CustomerID, 1, "a present")
		done(t, err)
		if g := grant(t, b, order(t, way, vending.Anthropic)); g.Balance != 1 {
			t.Errorf("with a credit: %+v", g)
		}
	},
	"ByAKeyThatEnded": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		record, _ := add(t, b, by, b.Clock.Now().Add(time.Minute))
		other := apikey.Principal{CustomerID: by.CustomerID, KeyID: record.ID}
		granted(t, b, other)
		b.Clock.Move(time.Minute)
		_, err := b.Grant(t.Context(), order(t, other, vending.Anthropic), nil)
		wantFault(t, err, fault.Unauthenticated, "")
		_, err = b.Suspend(t.Context(), by.CustomerID, b.Clock.Now())
		done(t, err)
		_, err = b.Grant(t.Context(), order(t, by, vending.Anthropic), nil)
		wantFault(t, err, fault.Forbidden, "")
	},
	"ExpiryIsHalfOpenByTheDatabasesClock": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		i := granted(t, b, by)
		b.Clock.Move(time.Hour - time.Microsecond)
		wantLives(t, b, true, i)
		b.Clock.Move(time.Microsecond)
		wantLives(t, b, false, i)
		if all, err := b.Credentials(t.Context(), by.CustomerID); err != nil || len(all) != 0 {
			t.Errorf("credentials are %+v, %v", all, err)
		}
		wantRevoked(t, b, "")
	},
	"LeaseNeedsTheWholeToken": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		i, other := granted(t, b, by), granted(t, b, by)
		i.Hash = other.Hash
		wantLives(t, b, false, i)
		_, unknown := apikey.GenerateToken(apikey.Live)
		wantLives(t, b, false, vending.Issue{Presented: unknown})
	},
	"RefreshReplacesInTheLastMinutes": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		_, _, eve := signUp(t, b, "eve@example.dev")
		first := order(t, by, vending.OpenAI, vending.Ollama)
		first.TTL, first.Cap = 90*time.Minute, 7
		grant(t, b, first)
		old := first.Issues[0]
		b.Clock.Move(first.TTL - vending.RefreshWithin - time.Microsecond)
		next := refresh(t, by, old.ID)
		_, err := b.Grant(t.Context(), next, nil)
		wantFault(t, err, fault.Conflict, "")
		b.Clock.Move(time.Microsecond)
		for _, o := range []vending.Order{refresh(t, eve, old.ID), refresh(t, by, newID(t))} {
			_, err = b.Grant(t.Context(), o, nil)
			wantFault(t, err, fault.NotFound, "")
		}
		wantLives(t, b, true, first.Issues...)
		got := grant(t, b, next)
		now := b.Clock.Now()
		want := vending.Granted{Balance: 5, Credentials: []vending.Credential{{
			ID: next.Issues[0].ID, Provider: vending.OpenAI, CreatedAt: now, ExpiresAt: now.Add(first.TTL), KeyID: by.KeyID, Job: "build", Run: "17", CustomerID: by.CustomerID, Enforcement: vending.ByGateway,
		}}}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +granted):\n%s", diff)
		}
		l, err := b.Lease(t.Context(), next.Issues[0].Presented)
		if err != nil || l.GrantID != first.ID || !l.Capped {
			t.Errorf("the new one's lease is %+v, %v", l, err)
		}
		wantLives(t, b, true, first.Issues[1])
		wantRevoked(t, b, "replaced", old)
		_, err = b.Grant(t.Context(), refresh(t, by, old.ID), nil)
		wantFault(t, err, fault.Conflict, "")
		b.Clock.Move(vending.RefreshWithin)
		_, err = b.Grant(t.Context(), refresh(t, by, first.Issues[1].ID), nil) // expired
		wantFault(t, err, fault.Conflict, "")
	},
	"OfTwoHundredRefreshesAtOnceOneWins": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		old := granted(t, b, by)
		b.Clock.Move(56 * time.Minute)
		orders := make([]vending.Order, 200)
		for i := range orders {
			orders[i] = refresh(t, by, old.ID)
		}
		won := atOnce(t, len(orders), fault.Conflict, func(i int) error {
			return patiently(func() error {
				_, err := b.Grant(t.Context(), orders[i], nil)
				return err
			})
		})
		if all, err := b.Credentials(t.Context(), by.CustomerID); won != 1 || err != nil || len(all) != 2 {
			t.Errorf("%d won; credentials are %+v, %v", won, all, err)
		}
		wantRevoked(t, b, "replaced", old)
	},
	"SurvivesReopening": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		lives, ended := granted(t, b, by), granted(t, b, by)
		done(t, b.Revoke(t.Context(), by, ended.ID))
		b.Store = b.Reopen(t)
		wantLives(t, b, true, lives)
		wantRevoked(t, b, "deleted", ended)
	},
	"ReportCountsOnce": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		_, _, eve := signUp(t, b, "eve@example.dev")
		r := vending.Report{CustomerID: by.CustomerID, Provider: vending.OpenAI, Tokens: 70, Requests: 3, JobID: "job-1"}
		other := r
		other.Tokens, other.Provider = 99, vending.Anthropic
		theirs := r
		theirs.CustomerID = eve.CustomerID
		second := r
		second.JobID = "job-2"
		for _, r := range []vending.Report{r, r, other, theirs, second} {
			done(t, b.Report(t.Context(), r, nil))
		}
		if n := atOnce(t, 20, fault.Unavailable, func(int) error { return b.Report(t.Context(), r, nil) }); n == 0 {
			t.Error("none was recorded")
		}
		var got []vending.Audit
		for _, row := range trail(t, b, vending.AuditFilter{Action: vending.Reporting}) {
			row.ID = ""
			got = append(got, row)
		}
		row := vending.Audit{At: b.Clock.Now(), CustomerID: by.CustomerID, Action: vending.Reporting, Provider: vending.OpenAI, Requests: 3, InputTokens: 70}
		row2 := row
		row2.CustomerID = eve.CustomerID
		if diff := gocmp.Diff([]vending.Audit{row, row2, row}, got); diff != "" {
			t.Errorf("reports (-want +got):\n%s", diff)
		}
		used, err := b.UsedBetween(t.Context(), by.CustomerID, b.Clock.Now().Add(-time.Hour), b.Clock.Now().Add(time.Hour))
		if err != nil || len(used) != 0 {
			t.Errorf("what was said counts as used: %+v, %v", used, err)
		}
	},
}
