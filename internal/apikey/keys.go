package apikey

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"gatehouse/internal/fault"
	"gatehouse/internal/idempotency"
)

// Record is what is kept and shown of a key.
type Record struct {
	ID         string // UUIDv7
	Name       string // "" when it has none
	Prefix     string // see Prefix
	CreatedAt  time.Time
	LastUsedAt time.Time // zero: never; exact to a minute
	ExpiresAt  time.Time // zero: never; the end of the grace, once replaced
}

// Issue is a key about to be stored.
type Issue struct {
	Record
	Presented
}

// NewIssue makes a key and its record.
func NewIssue(kind Kind, name string, at, expires time.Time) (Secret, Issue, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return Secret{}, Issue{}, fmt.Errorf("make key id: %w", err)
	}
	secret, presented := Generate(kind)
	return secret, Issue{
		Record: Record{
			ID: id.String(), Name: name, Prefix: Prefix(kind, presented.PublicID),
			CreatedAt: at.UTC().Truncate(time.Microsecond), ExpiresAt: expires,
		},
		Presented: presented,
	}, nil
}

// Each key has a rate window of its own, and revoked keys stay on record. So
// that a customer can neither multiply its rate nor fill the database:
const (
	MaxKeys     = 100 // unrevoked ones of a customer
	MaxKeysADay = 200 // made for a customer within 24 hours, rotations too
)

// Store keeps customers' keys. Whether a key has expired is decided by the
// store's clock. Calls made with a key name it in by: if it stopped being
// usable, or its customer was suspended, since it was let in, they are
// refused as fault.Unauthenticated or fault.Forbidden and change nothing, so
// that no revoked key makes a new one.
type Store interface {
	// Keys lists the customer's unrevoked keys, oldest first.
	Keys(ctx context.Context, customerID string) ([]Record, error)
	// AddKey stores a key. More than MaxKeys, or than MaxKeysADay within 24
	// hours, are fault.Conflict; an expiry
	// that is not in the future is fault.Invalid for expires_at.
	AddKey(ctx context.Context, by Principal, key Issue, keep *idempotency.Once[Record]) error
	// ReplaceKey stores key under the name and the expiry of the key oldID,
	// which stays usable for the grace and not beyond its own expiry, and
	// returns the new record. Replacing it once more within its grace does
	// the same and shortens the grace at most. An unknown or another
	// customer's key is fault.NotFound, one that is not usable
	// fault.Conflict; the bounds are AddKey's.
	ReplaceKey(ctx context.Context, by Principal, oldID string, grace time.Duration, key Issue, keep *idempotency.Once[Record]) (Record, error)
	// RevokeKey ends a key. Ending a revoked one again does nothing; an
	// unknown or another customer's is fault.NotFound; the last usable one
	// is fault.Conflict.
	RevokeKey(ctx context.Context, by Principal, id string) error
}

// Service is what a customer does with keys.
type Service struct {
	store Store
	kind  Kind
	now   func() time.Time
}

// NewService returns a service that issues keys of one kind.
func NewService(store Store, kind Kind, now func() time.Time) *Service {
	return &Service{store: store, kind: kind, now: now}
}

// List returns the customer's unrevoked keys, oldest first.
func (s *Service) List(ctx context.Context, customerID string) ([]Record, error) {
	return s.store.Keys(ctx, customerID)
}

// Issued is a new key, which can't be read again.
type Issued struct {
	Record
	Secret Secret
}

// Create makes a key for the customer, and keeps what keep makes of it; a zero
// expires never does.
func (s *Service) Create(ctx context.Context, by Principal, name string, expires time.Time, keep *idempotency.Once[Issued]) (Issued, error) {
	if expires.UTC().Year() > 9999 { // which RFC 3339 can't write
		return Issued{}, fault.Field("expires_at", fault.NotAllowed, "expires_at must be before the year 10000")
	}
	secret, issue, err := NewIssue(s.kind, name, s.now(), expires)
	if err != nil {
		return Issued{}, err
	}
	issued := func(r Record) Issued { return Issued{r, secret} }
	if err := s.store.AddKey(ctx, by, issue, idempotency.Map(keep, issued)); err != nil {
		return Issued{}, fmt.Errorf("create key: %w", err)
	}
	return issued(issue.Record), nil
}

// Rotate replaces a key by a new one of the same name and expiry, and keeps
// what keep makes of it.
func (s *Service) Rotate(ctx context.Context, by Principal, id string, grace time.Duration, keep *idempotency.Once[Issued]) (Issued, error) {
	secret, issue, err := NewIssue(s.kind, "", s.now(), time.Time{})
	if err != nil {
		return Issued{}, err
	}
	issued := func(r Record) Issued { return Issued{r, secret} }
	record, err := s.store.ReplaceKey(ctx, by, id, grace, issue, idempotency.Map(keep, issued))
	if err != nil {
		return Issued{}, fmt.Errorf("rotate key: %w", err)
	}
	return issued(record), nil
}

// Delete revokes a key for good.
func (s *Service) Delete(ctx context.Context, by Principal, id string) error {
	return s.store.RevokeKey(ctx, by, id)
}
