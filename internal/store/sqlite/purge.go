package sqlite

import (
	"context"

	"github.com/go-json-experiment/json"

	"gatehouse/internal/account"
	"gatehouse/internal/store/records"
)

// domain is that of a canonical address, which has one @.
const domain = "substr(email_canonical, instr(email_canonical, '@') + 1)"

// PurgeSome implements account.Registry. No index knows domains, so it is a
// read that looks for them, which holds up nobody; the transaction looks again
// at those that were found.
func (s *Store) PurgeSome(ctx context.Context, at, after string, limit int) (account.Purged, error) {
	ids, err := records.Read(ctx, runner{s}, "purge_read", func(r records.Reader) ([]string, error) {
		return records.List(r, "SELECT id FROM customers WHERE id > $1 AND "+domain+" = $2 ORDER BY id LIMIT $3", []any{after, at, limit}, records.Text)
	})
	if err != nil || len(ids) == 0 {
		return account.Purged{}, err
	}
	list, err := json.Marshal(ids)
	if err != nil {
		return account.Purged{}, err
	}
	done, err := s.purge(ctx, at, string(list))
	if err == nil && len(ids) == limit {
		done.Next = ids[limit-1]
	}
	return done, err
}

func (s *Store) purge(ctx context.Context, at, list string) (account.Purged, error) {
	return records.Write(ctx, runner{s}, "purge", func(t records.Tx) (account.Purged, error) { return purge(t, at, list) })
}

// purge looks again at the customers of a list, in JSON.
func purge(t records.Tx, at, list string) (account.Purged, error) {
	return records.Purge(t, at, domain, "SELECT value FROM json_each($2)", list)
}
