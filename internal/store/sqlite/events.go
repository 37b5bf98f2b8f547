package sqlite

import (
	"context"

	"gatehouse/internal/billing"
	"gatehouse/internal/store/records"
)

// TakeIn implements billing.Inbox.
func (s *Store) TakeIn(ctx context.Context, r billing.Receipt) (isNew bool, err error) {
	return records.Write(ctx, runner{s}, "take_in_event", func(t records.Tx) (bool, error) { return records.InsertEvent(t, r) })
}
