package storetest

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"gatehouse/internal/apikey"
	"gatehouse/internal/fault"
	"gatehouse/internal/jobs"
	"gatehouse/internal/vending"
)

// makers are the providers that make keys of their own here.
var makers = []vending.Provider{vending.OpenAI, vending.OpenRouter}

// begun is an order for one of OpenAI's own keys whose intent is written.
func begun(t testing.TB, b Backend, by apikey.Principal) (vending.Order, vending.Intent) {
	t.Helper()
	o := order(t, by, vending.OpenAI)
	intents, err := b.BeginKeys(t.Context(), o, makers)
	if err != nil || len(intents) != 1 {
		t.Fatalf("begun %+v, %v", intents, err)
	}
	return o, intents[0]
}

// keyed is an order whose key the provider made.
func keyed(o vending.Order, i vending.Intent) vending.Order {
	o.Issues = slices.Clone(o.Issues)
	o.Issues[0].Key = &vending.Key{ID: "key_" + i.ID, Enforcement: vending.ByExpiry, ExpiresAt: i.ExpiresAt}
	return o
}

// owned is a credential that is a provider's own key.
func owned(t testing.TB, b Backend, by apikey.Principal) vending.Credential {
	t.Helper()
	o, i := begun(t, b, by)
	return grant(t, b, keyed(o, i)).Credentials[0]
}

// wantKeyOf checks that a credential's key is to be deleted, by its id at the
// provider, and ends it; or that it is not.
func wantKeyOf(t testing.TB, b Backend, credentialID, keyID string, doomed bool) {
	t.Helper()
	p, id, is, err := b.DoomKey(t.Context(), credentialID)
	if err != nil || is != doomed || doomed && (p != vending.OpenAI || id != keyID) {
		t.Fatalf("the key is %s %q, doomed %v, %v; want %q, %v", p, id, is, err, keyID, doomed)
	}
	if doomed {
		done(t, b.ForgetKey(t.Context(), credentialID, keyID))
		done(t, b.ForgetKey(t.Context(), credentialID, keyID))
	}
}

func queued(t testing.TB, b Backend) []string {
	t.Helper()
	if _, err := b.QueueKeys(t.Context(), 1000); err != nil {
		t.Fatal(err)
	}
	return subjects(listed(t, b, jobs.Filter{Kind: jobs.ProviderKey}))
}

var providerKeyTests = map[string]func(*testing.T, Backend){
	"IntentsAreOfThoseThatMakeKeys": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		o := order(t, by, vending.Anthropic, vending.OpenRouter, vending.OpenAI)
		o.TTL = 90 * time.Minute
		intents, err := b.BeginKeys(t.Context(), o, makers)
		done(t, err)
		var want []vending.Intent
		for _, i := range o.Issues[1:] {
			want = append(want, vending.Intent{ID: i.ID, Provider: i.Provider, Life: o.TTL, ExpiresAt: b.Clock.Now().Add(o.TTL)})
		}
		if !slices.Equal(intents, want) {
			t.Errorf("intents are %+v, want %+v", intents, want)
		}
		done(t, b.SetBudget(t.Context(), by.CustomerID, 100))
		if intents, err = b.BeginKeys(t.Context(), order(t, by, vending.OpenAI), makers); err != nil || len(intents) != 0 {
			t.Errorf("with a budget: %+v, %v", intents, err)
		}
		broke(t, b, by)
		_, err = b.BeginKeys(t.Context(), order(t, by, vending.OpenAI), makers)
		wantLimit(t, err)
	},
	"AGrantedKeyIsACredentialAndNoToken": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		o, i := begun(t, b, by)
		o = keyed(o, i)
		o.Issues[0].Key.ExpiresAt = i.ExpiresAt.Add(-time.Second)
		c := grant(t, b, o).Credentials[0]
		if c.Enforcement != vending.ByExpiry || !c.ExpiresAt.Equal(i.ExpiresAt.Add(-time.Second)) || c.Revocation() != "" || !c.Remains {
			t.Errorf("the credential is %+v", c)
		}
		wantLives(t, b, false, o.Issues[0])
		if rows := trail(t, b, vending.AuditFilter{Action: vending.Granting}); len(rows) != 1 || rows[0].Outcome != "provider_expiry" {
			t.Errorf("the trail is %+v", rows)
		}
		wantKeyOf(t, b, c.ID, "", false)
		if due := queued(t, b); len(due) != 0 {
			t.Errorf("%v are to be deleted", due)
		}
		b.Clock.Move(o.TTL - time.Second)
		if due := queued(t, b); !slices.Equal(due, []string{c.ID}) {
			t.Errorf("at its end %v are to be deleted", due)
		}
		wantKeyOf(t, b, c.ID, "key_"+c.ID, true)
		if rows := trail(t, b, vending.AuditFilter{Action: vending.Revoking}); len(rows) != 0 {
			t.Errorf("it ended by itself, and the trail is %+v", rows)
		}
	},
	"RevokedIsPendingUntilTheKeyIsGone": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		record, _ := add(t, b, by, time.Time{})
		other := apikey.Principal{CustomerID: by.CustomerID, KeyID: record.ID}
		deleted, ofKey, stays := owned(t, b, by), owned(t, b, other), owned(t, b, by)
		gateway := granted(t, b, by)
		done(t, b.Revoke(t.Context(), by, deleted.ID))
		done(t, b.RevokeKey(t.Context(), by, record.ID))
		revocations := func() (all []string) {
			found, err := b.Credentials(t.Context(), by.CustomerID)
			done(t, err)
			for _, c := range found {
				all = append(all, c.Revocation())
			}
			return all
		}
		if got := revocations(); !slices.Equal(got, []string{"pending", "pending", "", ""}) {
			t.Errorf("revocations are %q", got)
		}
		want := []string{deleted.ID, ofKey.ID}
		if due := queued(t, b); !slices.Equal(due, want) {
			t.Errorf("%v are to be deleted, want %v", due, want)
		}
		wantKeyOf(t, b, deleted.ID, "key_"+deleted.ID, true)
		wantKeyOf(t, b, stays.ID, "", false)
		if got := revocations(); !slices.Equal(got, []string{"done", "pending", "", ""}) {
			t.Errorf("revocations are %q", got)
		}
		rows := trail(t, b, vending.AuditFilter{CredentialID: deleted.ID, Action: vending.Revoking})
		if len(rows) != 2 || rows[0].Outcome != "deleted" || rows[1].Outcome != "gone at the provider" {
			t.Errorf("the trail is %+v", rows)
		}
		_, err := b.Suspend(t.Context(), by.CustomerID, b.Clock.Now())
		done(t, err)
		if due := queued(t, b); !slices.Contains(due, stays.ID) || slices.Contains(due, gateway.ID) {
			t.Errorf("with their customer %v are to be deleted", due)
		}
	},
	"ABudgetEndsThem": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		o, i := begun(t, b, by)
		own, gateway := owned(t, b, by), granted(t, b, by)
		done(t, b.SetBudget(t.Context(), by.CustomerID, 0))
		wantKeyOf(t, b, own.ID, "", false)
		done(t, b.SetBudget(t.Context(), by.CustomerID, 100))
		wantKeyOf(t, b, own.ID, "key_"+own.ID, true)
		wantLives(t, b, true, gateway)
		_, err := b.Grant(t.Context(), keyed(o, i), nil)
		wantFault(t, err, fault.Unavailable, "")
	},
	"WhatIsNotGrantedInTimeIsDoomed": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		o, i := begun(t, b, by)
		late, _ := begun(t, b, by)
		b.Clock.Move(vending.KeyPatience - time.Microsecond)
		wantKeyOf(t, b, i.ID, "", false)
		if due := queued(t, b); len(due) != 0 {
			t.Errorf("%v are to be deleted", due)
		}
		b.Clock.Move(time.Microsecond)
		if due := queued(t, b); !slices.Equal(due, []string{i.ID, late.Issues[0].ID}) {
			t.Errorf("%v are to be deleted", due)
		}
		// Until somebody dooms it, it may still be granted.
		c := grant(t, b, keyed(late, vending.Intent{ID: late.Issues[0].ID, ExpiresAt: b.Clock.Now().Add(time.Hour)})).Credentials[0]
		wantKeyOf(t, b, c.ID, "", false)
		if _, _, doomed, err := b.DoomKey(t.Context(), i.ID); err != nil || !doomed {
			t.Fatalf("doomed %v, %v", doomed, err)
		}
		_, err := b.Grant(t.Context(), keyed(o, i), nil)
		wantFault(t, err, fault.Unavailable, "")
		wantKeyOf(t, b, i.ID, "", true)
		wantKeyOf(t, b, i.ID, "", false)
		if rows := trail(t, b, vending.AuditFilter{Action: vending.Revoking}); len(rows) != 0 {
			t.Errorf("nobody had it, and the trail is %+v", rows)
		}
	},
	"AbandonedIsDeletedAtOnceButNotWhatWasGranted": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		_, made := begun(t, b, by)
		_, never := begun(t, b, by)
		given := owned(t, b, by)
		left := func(id, keyID string) vending.Leftover {
			return vending.Leftover{ID: id, Provider: vending.OpenAI, KeyID: keyID}
		}
		done(t, b.AbandonKeys(t.Context(), []vending.Leftover{left(made.ID, "key_1"), left(never.ID, ""), left(given.ID, "key_"+given.ID)}))
		if due := queued(t, b); !slices.Equal(due, []string{made.ID}) {
			t.Errorf("%v are to be deleted", due)
		}
		wantKeyOf(t, b, made.ID, "key_1", true)
		b.Clock.Move(vending.KeyPatience)
		wantKeyOf(t, b, never.ID, "", false)
		wantKeyOf(t, b, given.ID, "", false)

		_, slow := begun(t, b, by) // swept while its provider took its time
		b.Clock.Move(vending.KeyPatience)
		wantKeyOf(t, b, slow.ID, "", true)
		done(t, b.AbandonKeys(t.Context(), []vending.Leftover{left(slow.ID, "key_2")}))
		wantKeyOf(t, b, slow.ID, "key_2", true)
		_, slow = begun(t, b, by) // and while it was looked for
		b.Clock.Move(vending.KeyPatience)
		_, _, _, err := b.DoomKey(t.Context(), slow.ID)
		done(t, err)
		done(t, b.AbandonKeys(t.Context(), []vending.Leftover{left(slow.ID, "key_3")}))
		done(t, b.ForgetKey(t.Context(), slow.ID, ""))
		wantKeyOf(t, b, slow.ID, "key_3", true)
	},
	"RefreshOfOnesOwnIsAnother": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		old, token := owned(t, b, by), granted(t, b, by)
		again := refresh(t, by, old.ID)
		_, err := b.BeginKeys(t.Context(), again, makers)
		wantFault(t, err, fault.Conflict, "") // too early
		b.Clock.Move(56 * time.Minute)
		_, err = b.BeginKeys(t.Context(), refresh(t, by, newID(t)), makers)
		wantFault(t, err, fault.NotFound, "")
		if intents, err := b.BeginKeys(t.Context(), refresh(t, by, token.ID), makers); err != nil || len(intents) != 0 {
			t.Errorf("the gateway's is refreshed by %+v, %v", intents, err)
		}
		intents, err := b.BeginKeys(t.Context(), again, makers)
		if err != nil || len(intents) != 1 || intents[0].Provider != vending.OpenAI || intents[0].Life != time.Hour {
			t.Fatalf("intents are %+v, %v", intents, err)
		}
		c := grant(t, b, keyed(again, intents[0])).Credentials[0]
		if c.Enforcement != vending.ByExpiry || !c.ExpiresAt.Equal(b.Clock.Now().Add(time.Hour)) {
			t.Errorf("refreshed as %+v", c)
		}
		wantKeyOf(t, b, old.ID, "key_"+old.ID, true)
		wantKeyOf(t, b, c.ID, "", false)
	},
	"SurvivesItsCustomer": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@"+loadDomain)
		c := owned(t, b, by)
		if n := purgeAll(t, b, 10); n != 1 {
			t.Fatalf("%d were removed", n)
		}
		if due := queued(t, b); !slices.Equal(due, []string{c.ID}) {
			t.Errorf("%v are to be deleted", due)
		}
		wantKeyOf(t, b, c.ID, "key_"+c.ID, true)
	},
	"GrantedOrDoomedNeverBoth": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		for range 20 {
			o, i := begun(t, b, by)
			b.Clock.Move(vending.KeyPatience)
			var wg sync.WaitGroup
			var granted, doomed bool
			wg.Go(func() {
				_, err := b.Grant(t.Context(), keyed(o, vending.Intent{ID: i.ID, ExpiresAt: b.Clock.Now().Add(time.Hour)}), nil)
				granted = err == nil
			})
			wg.Go(func() { _, _, doomed, _ = b.DoomKey(t.Context(), i.ID) })
			wg.Wait()
			if granted == doomed {
				t.Fatalf("granted %v, doomed %v", granted, doomed)
			}
		}
	},
	"TenThousandEndAtOnce": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		const n = 10_000
		for range n / 100 {
			o := order(t, by, slices.Repeat([]vending.Provider{vending.OpenAI}, 100)...)
			_, err := b.BeginKeys(t.Context(), o, makers)
			done(t, err)
		}
		b.Clock.Move(vending.KeyPatience)
		seen := 0
		for {
			some, err := b.QueueKeys(t.Context(), 500)
			done(t, err)
			if seen += some; some == 0 {
				break
			}
		}
		stats, err := b.JobStats(t.Context())
		if err != nil || seen != n || fmt.Sprint(stats[0].Kind, stats[0].Queued) != fmt.Sprint(jobs.ProviderKey, n) {
			t.Errorf("%d of %d are queued: %+v, %v", seen, n, stats, err)
		}
	},
}
