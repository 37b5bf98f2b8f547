package apikey_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"gatehouse/internal/apikey"
	"gatehouse/internal/idempotency"
)

// drawer is a store that notes what it is asked to do. It can fail.
type drawer struct {
	err     error
	by      apikey.Principal
	added   []apikey.Issue
	old     string
	grace   time.Duration
	records []apikey.Record
	revoked []string
	listed  []string
}

func (d *drawer) Keys(_ context.Context, customerID string) ([]apikey.Record, error) {
	d.listed = append(d.listed, customerID)
	return d.records, d.err
}

func (d *drawer) AddKey(_ context.Context, by apikey.Principal, key apikey.Issue, _ *idempotency.Once[apikey.Record]) error {
	d.by, d.added = by, append(d.added, key)
	return d.err
}

func (d *drawer) ReplaceKey(_ context.Context, by apikey.Principal, oldID string, grace time.Duration, key apikey.Issue, _ *idempotency.Once[apikey.Record]) (apikey.Record, error) {
	d.by, d.old, d.grace, d.added = by, oldID, grace, append(d.added, key)
	if d.err != nil {
		return apikey.Record{}, d.err
	}
	key.Name, key.ExpiresAt = "of the old", expiry
	return key.Record, nil
}

func (d *drawer) RevokeKey(_ context.Context, by apikey.Principal, id string) error {
	d.by, d.revoked = by, append(d.revoked, id)
	return d.err
}

var (
	// noon has a zone and nanoseconds, which no record keeps.
	noon    = time.Date(2026, 3, 1, 14, 0, 0, 123456789, time.FixedZone("", 2*60*60))
	created = time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)
	expiry  = time.Date(2030, 1, 31, 12, 0, 0, 0, time.UTC)
)

func at(t time.Time) func() time.Time { return func() time.Time { return t } }

// belongs checks that a secret is the one whose hash and id were stored.
func belongs(t *testing.T, secret apikey.Secret, stored apikey.Issue) {
	t.Helper()
	read, ok := apikey.Parse(secret.Reveal())
	if !ok || read != stored.Presented {
		t.Errorf("the key handed over is not the one stored")
	}
}

func TestCreateStoresTheKeyThatItHandsOver(t *testing.T) {
	for _, kind := range []apikey.Kind{apikey.Live, apikey.Test} {
		store := &drawer{}
		issued, err := apikey.NewService(store, kind, at(noon)).Create(t.Context(), jane, "laptop", expiry, nil)
		secret, record := issued.Secret, issued.Record
		if err != nil {
			t.Fatal(err)
		}
		if len(store.added) != 1 || store.by != jane {
			t.Fatalf("stored %d keys by %+v, want 1 by %+v", len(store.added), store.by, jane)
		}
		issue := store.added[0]
		belongs(t, secret, issue)
		want := apikey.Record{
			ID: record.ID, Name: "laptop", Prefix: apikey.Prefix(kind, issue.PublicID), CreatedAt: created, ExpiresAt: expiry,
		}
		if diff := cmp.Diff(want, record); diff != "" {
			t.Errorf("the record told differs (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(want, issue.Record); diff != "" {
			t.Errorf("the record stored differs (-want +got):\n%s", diff)
		}
		if record.CreatedAt.Location() != time.UTC {
			t.Errorf("it was created at %s, want a time in UTC", record.CreatedAt)
		}
		if id, err := uuid.Parse(record.ID); err != nil || id.Version() != 7 {
			t.Errorf("the id is %q, want a UUIDv7", record.ID)
		}
	}
}

func TestRotateTellsTheRecordThatTheStoreMade(t *testing.T) {
	store := &drawer{}
	issued, err := apikey.NewService(store, apikey.Live, at(noon)).Rotate(t.Context(), jane, "the old", 90*time.Minute, nil)
	secret, record := issued.Secret, issued.Record
	if err != nil {
		t.Fatal(err)
	}
	if store.by != jane || store.old != "the old" || store.grace != 90*time.Minute {
		t.Errorf("the store was asked to replace %q after %s by %+v", store.old, store.grace, store.by)
	}
	belongs(t, secret, store.added[0])
	want := apikey.Record{
		ID: store.added[0].ID, Name: "of the old", Prefix: apikey.Prefix(apikey.Live, store.added[0].PublicID),
		CreatedAt: created, ExpiresAt: expiry,
	}
	if diff := cmp.Diff(want, record); diff != "" {
		t.Errorf("the record told differs (-want +got):\n%s", diff)
	}
}

func TestKeyThatWasNotStoredIsNotHandedOver(t *testing.T) {
	store := &drawer{err: errAway}
	s := apikey.NewService(store, apikey.Live, at(noon))
	for name, do := range map[string]func() (apikey.Issued, error){
		"Create": func() (apikey.Issued, error) { return s.Create(t.Context(), jane, "", time.Time{}, nil) },
		"Rotate": func() (apikey.Issued, error) { return s.Rotate(t.Context(), jane, "old", 0, nil) },
	} {
		issued, err := do()
		if !errors.Is(err, errAway) || issued != (apikey.Issued{}) {
			t.Errorf("%s hands over %q, %+v, %v, want the store's error alone", name, issued.Secret.Reveal(), issued.Record, err)
		}
	}
}

func TestListAndDeleteAskTheStore(t *testing.T) {
	store := &drawer{records: []apikey.Record{{ID: "a"}, {ID: "b"}}}
	s := apikey.NewService(store, apikey.Live, at(noon))
	got, err := s.List(t.Context(), "jane")
	if err != nil || !cmp.Equal(got, store.records) || !cmp.Equal(store.listed, []string{"jane"}) {
		t.Errorf("List = %+v, %v, of %v", got, err, store.listed)
	}
	if err := s.Delete(t.Context(), jane, "a"); err != nil || store.by != jane || !cmp.Equal(store.revoked, []string{"a"}) {
		t.Errorf("Delete = %v, and revoked %v by %+v", err, store.revoked, store.by)
	}
	store.err = errAway
	if _, err := s.List(t.Context(), "jane"); !errors.Is(err, errAway) {
		t.Errorf("List = %v, want the store's error", err)
	}
	if err := s.Delete(t.Context(), jane, "a"); !errors.Is(err, errAway) {
		t.Errorf("Delete = %v, want the store's error", err)
	}
}

func TestIssuesAreAllDifferent(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		_, issue, err := apikey.NewIssue(apikey.Test, "", noon, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		if seen[issue.ID] || seen[issue.PublicID] {
			t.Fatalf("issued twice: %+v", issue.Record)
		}
		seen[issue.ID], seen[issue.PublicID] = true, true
	}
}
