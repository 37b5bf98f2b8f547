package storetest

import (
	"errors"
	"testing"
	"time"

	"gatehouse/internal/apikey"
	"gatehouse/internal/fault"
	"gatehouse/internal/ratelimit"
)

var apiLimit = ratelimit.Limit{Count: 500, Window: time.Hour}

// add makes a key beside the ones there are.
func add(t testing.TB, b Backend, by apikey.Principal, expires time.Time) (apikey.Record, apikey.Presented) {
	t.Helper()
	secret, issue, err := apikey.NewIssue(apikey.Live, "another", b.Clock.Now(), expires)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.AddKey(t.Context(), by, issue, nil); err != nil {
		t.Fatal(err)
	}
	return issue.Record, present(t, secret)
}

func replace(t testing.TB, b Backend, by apikey.Principal, oldID string, grace time.Duration) (apikey.Record, apikey.Presented, error) {
	t.Helper()
	secret, issue, err := apikey.NewIssue(apikey.Live, "", b.Clock.Now(), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	record, err := b.ReplaceKey(t.Context(), by, oldID, grace, issue, nil)
	return record, present(t, secret), err
}

// enters says whether the key is let in.
func enters(t testing.TB, b Backend, key apikey.Presented) bool {
	t.Helper()
	who, d, err := b.Enter(t.Context(), key, "api", apiLimit)
	if err != nil {
		t.Fatal(err)
	}
	return who.KeyID != "" && d.Admitted
}

var keyTests = map[string]func(*testing.T, Backend){
	"AddedKeyWorksAndIsListed": func(t *testing.T, b Backend) {
		o, _, by := signUp(t, b, "ada@example.dev")
		record, key := add(t, b, by, time.Time{})
		if !enters(t, b, key) {
			t.Error("the key is not let in")
		}
		keys, err := b.Keys(t.Context(), o.ID)
		if err != nil || len(keys) != 2 || keys[1].ID != record.ID || keys[1].LastUsedAt.IsZero() || !keys[0].LastUsedAt.IsZero() {
			t.Errorf("keys are %+v, %v", keys, err)
		}
	},
	"ExpiryIsHalfOpenByTheStoresClock": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		_, key := add(t, b, by, b.Clock.Now().Add(time.Minute))
		b.Clock.Move(time.Minute - time.Microsecond)
		if !enters(t, b, key) {
			t.Error("refused before its end")
		}
		b.Clock.Move(time.Microsecond)
		if enters(t, b, key) {
			t.Error("let in at its end")
		}
	},
	"ExpiryInThePastIsRefused": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		_, issue, err := apikey.NewIssue(apikey.Live, "", b.Clock.Now(), b.Clock.Now())
		if err != nil {
			t.Fatal(err)
		}
		wantFault(t, b.AddKey(t.Context(), by, issue, nil), fault.Invalid, fault.NotAllowed)
	},
	"KeysAreBounded": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		n := atOnce(t, apikey.MaxKeys+20, fault.Conflict, func(int) error {
			_, issue, err := apikey.NewIssue(apikey.Live, "", b.Clock.Now(), time.Time{})
			if err != nil {
				return err
			}
			for tries := 0; ; tries++ { // whom a starved machine gave no connection in time tries again
				err := b.AddKey(t.Context(), by, issue, nil)
				if f, ok := errors.AsType[*fault.Error](err); !ok || f.Kind != fault.Unavailable || tries == 20 {
					return err
				}
			}
		})
		if n != apikey.MaxKeys-1 {
			t.Errorf("%d keys were added to one, want %d", n, apikey.MaxKeys-1)
		}
		if _, _, err := replace(t, b, by, by.KeyID, 0); err != nil {
			t.Errorf("rotating without grace at the bound: %v", err)
		}
	},
	"RevokedKeyIsOutAndStaysOut": func(t *testing.T, b Backend) {
		o, key, by := signUp(t, b, "ada@example.dev")
		record, other := add(t, b, by, time.Time{})
		for range 2 { // idempotent
			if err := b.RevokeKey(t.Context(), by, record.ID); err != nil {
				t.Fatal(err)
			}
		}
		if enters(t, b, other) || !enters(t, b, key) {
			t.Error("the wrong key is out")
		}
		keys, err := b.Keys(t.Context(), o.ID)
		if err != nil || len(keys) != 1 || keys[0].ID != by.KeyID {
			t.Errorf("keys are %+v, %v", keys, err)
		}
	},
	"LastUsableKeyStaysWithItsOwner": func(t *testing.T, b Backend) {
		o, _, by := signUp(t, b, "ada@example.dev")
		wantFault(t, b.RevokeKey(t.Context(), by, by.KeyID), fault.Conflict, "")
		add(t, b, by, b.Clock.Now().Add(time.Minute))
		b.Clock.Move(time.Hour) // an expired key is no usable one
		wantFault(t, b.RevokeKey(t.Context(), by, by.KeyID), fault.Conflict, "")
		if err := b.RevokeKey(t.Context(), apikey.Principal{CustomerID: o.ID}, by.KeyID); err != nil {
			t.Errorf("an operator may: %v", err)
		}
	},
	"TwoKeysCannotRevokeEachOther": func(t *testing.T, b Backend) {
		for range 20 {
			_, _, by := signUp(t, b, newID(t)+"@example.dev")
			record, _ := add(t, b, by, time.Time{})
			both := []apikey.Principal{by, {CustomerID: by.CustomerID, KeyID: record.ID}}
			errs := make(chan error, 2)
			for i := range both {
				go func() { errs <- b.RevokeKey(t.Context(), both[i], both[1-i].KeyID) }()
			}
			if e1, e2 := <-errs, <-errs; (e1 == nil) == (e2 == nil) {
				t.Fatalf("both ended alike: %v; %v", e1, e2)
			}
		}
	},
	"OthersKeysAreNotFound": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		_, key, other := signUp(t, b, "eve@example.dev")
		wantFault(t, b.RevokeKey(t.Context(), by, other.KeyID), fault.NotFound, "")
		wantFault(t, b.RevokeKey(t.Context(), by, "no-such-key"), fault.NotFound, "")
		_, _, err := replace(t, b, by, other.KeyID, 0)
		wantFault(t, err, fault.NotFound, "")
		if !enters(t, b, key) {
			t.Error("the other's key is out")
		}
	},
	"RotatedKeyIsOutAtOnceWithoutGrace": func(t *testing.T, b Backend) {
		_, old, by := signUp(t, b, "ada@example.dev")
		record, key, err := replace(t, b, by, by.KeyID, 0)
		if err != nil {
			t.Fatal(err)
		}
		if enters(t, b, old) || !enters(t, b, key) || record.Name != "default" {
			t.Errorf("the wrong key is in, or %+v lost its name", record)
		}
		_, _, err = replace(t, b, apikey.Principal{CustomerID: by.CustomerID}, by.KeyID, 0)
		wantFault(t, err, fault.Conflict, "") // revoked
	},
	"RotatedKeyWorksForItsGrace": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		end := b.Clock.Now().Add(time.Hour)
		record, old := add(t, b, by, end)
		fresh, _, err := replace(t, b, by, record.ID, 30*time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if !fresh.ExpiresAt.Equal(end) {
			t.Errorf("the new key ends at %v, the old one would have at %v", fresh.ExpiresAt, end)
		}
		b.Clock.Move(30*time.Minute - time.Microsecond)
		if !enters(t, b, old) {
			t.Error("refused within the grace")
		}
		b.Clock.Move(time.Microsecond)
		if enters(t, b, old) {
			t.Error("let in after the grace")
		}
	},
	"RotatingAgainWithinTheGraceLosesNothing": func(t *testing.T, b Backend) {
		// The answer to the first rotation was lost; the customer tries again.
		_, old, by := signUp(t, b, "ada@example.dev")
		for range 2 {
			record, key, err := replace(t, b, by, by.KeyID, 10*time.Minute)
			if err != nil || !record.ExpiresAt.IsZero() {
				t.Fatalf("the new key is %+v, %v, want one that never ends", record, err)
			}
			b.Clock.Move(time.Minute)
			if !enters(t, b, key) || !enters(t, b, old) {
				t.Error("a key is out within the grace")
			}
		}
		b.Clock.Move(8 * time.Minute) // the first grace counts
		if enters(t, b, old) {
			t.Error("the second rotation prolonged the grace")
		}
	},
	"KeysOfADayAreBounded": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		made := 1
		for {
			record, _, err := replace(t, b, by, by.KeyID, 0)
			if err != nil {
				wantFault(t, err, fault.Conflict, "")
				break
			}
			by.KeyID = record.ID
			made++
		}
		if made != apikey.MaxKeysADay {
			t.Errorf("%d keys were made, want %d", made, apikey.MaxKeysADay)
		}
		b.Clock.Move(25 * time.Hour)
		if _, _, err := replace(t, b, by, by.KeyID, 0); err != nil {
			t.Errorf("a day later: %v", err)
		}
	},
	"GraceDoesNotProlongAKey": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		record, old := add(t, b, by, b.Clock.Now().Add(time.Minute))
		if _, _, err := replace(t, b, by, record.ID, time.Hour); err != nil {
			t.Fatal(err)
		}
		b.Clock.Move(time.Minute)
		if enters(t, b, old) {
			t.Error("the grace prolonged the key")
		}
	},
	"EndedKeyChangesNothing": func(t *testing.T, b Backend) {
		// It was let in, and ended before its change was committed.
		o, _, by := signUp(t, b, "ada@example.dev")
		record, _ := add(t, b, by, time.Time{})
		if err := b.RevokeKey(t.Context(), by, record.ID); err != nil {
			t.Fatal(err)
		}
		ended := apikey.Principal{CustomerID: o.ID, KeyID: record.ID}
		_, issue, err := apikey.NewIssue(apikey.Live, "", b.Clock.Now(), time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		wantFault(t, b.AddKey(t.Context(), ended, issue, nil), fault.Unauthenticated, "")
		_, _, err = replace(t, b, ended, by.KeyID, 0)
		wantFault(t, err, fault.Unauthenticated, "")
		wantFault(t, b.RevokeKey(t.Context(), ended, by.KeyID), fault.Unauthenticated, "")
		if _, err := b.Suspend(t.Context(), o.ID, b.Clock.Now()); err != nil {
			t.Fatal(err)
		}
		wantFault(t, b.AddKey(t.Context(), by, issue, nil), fault.Forbidden, "")
	},
	"OwnerIsFoundByIDAndPrefix": func(t *testing.T, b Backend) {
		o, _, _ := signUp(t, b, "ada@example.dev")
		for _, name := range []string{o.Key.ID, o.Key.Prefix} {
			customerID, id, err := b.KeyOwner(t.Context(), name)
			if err != nil || customerID != o.ID || id != o.Key.ID {
				t.Errorf("owner of %s is %s, key %s, %v", name, customerID, id, err)
			}
		}
		_, _, err := b.KeyOwner(t.Context(), "gk_live_nosuchkey000")
		wantFault(t, err, fault.NotFound, "")
	},
	"NoKeyForNobody": func(t *testing.T, b Backend) {
		_, issue, err := apikey.NewIssue(apikey.Live, "", b.Clock.Now(), time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		wantFault(t, b.AddKey(t.Context(), apikey.Principal{CustomerID: newID(t)}, issue, nil), fault.NotFound, "")
	},
}
