package storetest

import (
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"gatehouse/internal/apikey"
	"gatehouse/internal/fault"
	"gatehouse/internal/vending"
)

// endingTests are of all that ends credentials.
var endingTests = map[string]func(*testing.T, Backend){
	"RevokeIsIdempotentAndOfTheirOwn": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		_, _, eve := signUp(t, b, "eve@example.dev")
		gone, stays := granted(t, b, by), granted(t, b, by)
		wantFault(t, b.Revoke(t.Context(), eve, gone.ID), fault.NotFound, "")
		wantFault(t, b.Revoke(t.Context(), by, newID(t)), fault.NotFound, "")
		wantFault(t, b.RevokeAny(t.Context(), newID(t)), fault.NotFound, "")
		wantLives(t, b, true, gone, stays)
		at := b.Clock.Now()
		done(t, b.Revoke(t.Context(), by, gone.ID))
		wantRevoked(t, b, "deleted", gone)
		b.Clock.Move(time.Second)
		at = at.Add(time.Second) // that of the last time it was asked for, so that nodes hear of it again
		done(t, b.Revoke(t.Context(), by, gone.ID))
		done(t, b.RevokeAny(t.Context(), gone.ID))
		all, err := b.Credentials(t.Context(), by.CustomerID)
		if err != nil || len(all) != 2 || all[0].RevokedAt != at || !all[1].RevokedAt.IsZero() {
			t.Errorf("credentials are %+v, %v", all, err)
		}
		if rows := trail(t, b, vending.AuditFilter{Action: vending.Revoking}); len(rows) != 1 || rows[0].KeyID != by.KeyID {
			t.Errorf("its revocations are %+v", rows)
		}
		wantLives(t, b, true, stays)
		b.Clock.Move(15 * time.Second)
		wantLives(t, b, false, gone)
		if ids, err := b.Revoked(t.Context(), 15*time.Second); err != nil || len(ids) != 0 {
			t.Errorf("after a while %v are listed, %v", ids, err)
		}
	},
	"OperatorEndsAnybodys": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		i := granted(t, b, by)
		done(t, b.RevokeAny(t.Context(), i.ID))
		wantRevoked(t, b, "deleted", i)
	},
	"WithTheirKey": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		record, _ := add(t, b, by, time.Time{})
		other := apikey.Principal{CustomerID: by.CustomerID, KeyID: record.ID}
		stays := granted(t, b, by)
		o := order(t, other, vending.Anthropic, vending.OpenAI)
		grant(t, b, o)
		done(t, b.RevokeKey(t.Context(), by, record.ID))
		wantRevoked(t, b, "its key was revoked", o.Issues...)
		done(t, b.RevokeKey(t.Context(), by, record.ID))
		wantRevoked(t, b, "its key was revoked", o.Issues...)
		wantLives(t, b, true, stays)
	},
	"WithAKeyReplacedAtOnce": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		first := granted(t, b, by)
		record, _, err := replace(t, b, by, by.KeyID, time.Hour)
		done(t, err)
		wantLives(t, b, true, first) // with a grace they end by themselves
		next := apikey.Principal{CustomerID: by.CustomerID, KeyID: record.ID}
		second := granted(t, b, next)
		_, _, err = replace(t, b, next, next.KeyID, 0)
		done(t, err)
		wantRevoked(t, b, "its key was replaced", second)
		wantLives(t, b, true, first)
	},
	"WithTheirCustomer": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		_, _, eve := signUp(t, b, "eve@example.dev")
		record, _ := add(t, b, by, time.Time{})
		tokens := []vending.Issue{granted(t, b, by), granted(t, b, apikey.Principal{CustomerID: by.CustomerID, KeyID: record.ID})}
		theirs := granted(t, b, eve)
		_, err := b.Suspend(t.Context(), by.CustomerID, b.Clock.Now())
		done(t, err)
		wantRevoked(t, b, "its customer was suspended", tokens...)
		_, err = b.Resume(t.Context(), by.CustomerID)
		done(t, err)
		wantLives(t, b, false, tokens...)
		wantLives(t, b, true, theirs)
		granted(t, b, by)
	},
	"WithTheirErasedCustomer": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		i := granted(t, b, by)
		_, err := b.Erase(t.Context(), by.CustomerID, b.Clock.Now())
		done(t, err)
		wantRevoked(t, b, "its customer was erased", i)
		d := export(t, b, by.CustomerID)
		if len(d.Credentials) != 1 || d.Credentials[0].Job != "" || d.Credentials[0].Run != "" || len(d.Audit) != 2 {
			t.Errorf("left are %+v and %+v", d.Credentials, d.Audit)
		}
	},
	"BesideExchanges": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		record, _ := add(t, b, by, time.Time{})
		other := apikey.Principal{CustomerID: by.CustomerID, KeyID: record.ID}
		orders := make([]vending.Order, 40)
		for i := range orders {
			orders[i] = order(t, other, vending.Anthropic)
		}
		atOnce(t, len(orders)+1, fault.Unauthenticated, func(i int) error {
			return patiently(func() error {
				if i == len(orders) {
					return b.RevokeKey(t.Context(), by, record.ID)
				}
				_, err := b.Grant(t.Context(), orders[i], nil)
				return err
			})
		})
		for _, o := range orders {
			wantLives(t, b, false, o.Issues...)
		}
	},
	"ThousandsAtOnce": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		for range 20 {
			o := order(t, by)
			for range 100 {
				o.Issues = append(o.Issues, order(t, by, vending.Anthropic).Issues...)
			}
			grant(t, b, o)
		}
		_, err := b.Suspend(t.Context(), by.CustomerID, b.Clock.Now())
		done(t, err)
		ids, err := b.Revoked(t.Context(), time.Second)
		if err != nil || len(ids) != 2000 {
			t.Errorf("%d were revoked, %v", len(ids), err)
		}
		if rows, err := b.AuditRows(t.Context(), vending.AuditFilter{Action: vending.Revoking}, "", 3000); err != nil || len(rows) != 2000 {
			t.Errorf("%d revocations are written, %v", len(rows), err)
		}
	},
	"ExportHasCredentialsAndTheTrail": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		_, _, eve := signUp(t, b, "eve@example.dev")
		granted(t, b, eve)
		lives, ended := granted(t, b, by), granted(t, b, by)
		done(t, b.Revoke(t.Context(), by, ended.ID))
		d := export(t, b, by.CustomerID)
		if diff := gocmp.Diff(trail(t, b, vending.AuditFilter{CustomerID: by.CustomerID}), d.Audit); diff != "" || len(d.Audit) != 3 {
			t.Errorf("the trail (-want +exported):\n%s", diff)
		}
		if len(d.Credentials) != 2 || d.Credentials[0].ID != lives.ID || d.Credentials[1].RevokedAt != b.Clock.Now() {
			t.Errorf("credentials are %+v", d.Credentials)
		}
	},
	"PurgeLeavesNothing": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@"+loadDomain)
		_, _, eve := signUp(t, b, "eve@example.dev")
		gone, stays := granted(t, b, by), granted(t, b, eve)
		for _, i := range []vending.Issue{gone, stays} {
			l := leaseOf(t, b, i)
			done(t, b.Settle(t.Context(), []vending.Spending{spending(t, b, l, 3, "")}))
			done(t, b.Hold(t.Context(), hold(t, l, 4), time.Minute))
		}
		done(t, b.Report(t.Context(), vending.Report{CustomerID: by.CustomerID, Provider: vending.Ollama, JobID: "j"}, nil))
		if n := purgeAll(t, b, 10); n != 1 {
			t.Errorf("%d were purged", n)
		}
		wantLives(t, b, false, gone)
		wantLives(t, b, true, stays)
		if rows := trail(t, b, vending.AuditFilter{CustomerID: by.CustomerID}); len(rows) != 0 {
			t.Errorf("the purged's trail is %+v", rows)
		}
		if rows := trail(t, b, vending.AuditFilter{}); len(rows) != 2 {
			t.Errorf("the trail is %+v", rows)
		}
	},
}
