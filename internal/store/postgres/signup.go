package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"gatehouse/internal/account"
	"gatehouse/internal/fault"
	"gatehouse/internal/idempotency"
	"gatehouse/internal/store/records"
)

// signUp is one call of Open.
type signUp struct {
	account.Opening
	keep bool
	kept kept // what is kept of the answer
}

type opening = call[signUp, account.Customer]

// Open implements account.Store.
func (s *Store) Open(ctx context.Context, o account.Opening, keep *idempotency.Once[account.Customer]) (err error) {
	start := time.Now()
	defer func() { s.observe("open_account", time.Since(start), err) }()
	in := signUp{Opening: o, keep: keep != nil}
	if in.keep {
		made, err := records.MakeOutcome(keep, o.Customer)
		if err != nil {
			return err
		}
		in.kept = kept{made, o.ID}
	}
	_, err = s.signUps.do(ctx, in)
	return err
}

// openGroup opens the accounts of some callers as a group. One that breaks it
// fails alone: what was certainly rolled back is tried again singly.
func (s *Store) openGroup(ctx context.Context, group []*opening) {
	refused, err := s.openAll(ctx, group)
	if errors.Is(err, errTwice) && len(group) == 1 {
		refused, err = s.openAll(ctx, group) // which sees the other's outcome
	}
	for len(group) == 1 && sqlState(err) == lockNotAvailable && hasTime(ctx) { // another opens one with the same address
		refused, err = s.openAll(ctx, group)
	}
	if err != nil && len(group) > 1 && rolledBack(err) {
		for i := range group {
			s.openGroup(ctx, group[i:i+1])
		}
		return
	}
	err = s.away(err)
	for i, c := range group {
		if err == nil {
			c.answer(c.in.Customer, refused[i])
		} else {
			c.answer(account.Customer{}, err)
		}
	}
}

// errTwice rolls a group back in which another node was faster to answer a
// request of the same Idempotency-Key.
var errTwice = errors.New("another node keeps an outcome of the request")

// rolledBack says whether a transaction certainly had no effect, for a reason
// that may be one of its operations' alone.
func rolledBack(err error) bool {
	switch state := sqlState(err); state {
	case "":
		return errors.Is(err, errTwice)
	case lockNotAvailable, deadlock:
		return true
	default:
		return !passing(err)
	}
}

// openSQL writes the accounts whose addresses are free, in the order of the
// addresses, so that two nodes never wait for each other in a circle, and
// returns their ids. An account whose request has its outcome already is left
// out.
const openSQL = `WITH q AS MATERIALIZED (
	SELECT id, name, email, email_canonical, company, source, subscription_plan, subscription_state, trial_fixes_limit, trial_fixes_used,
		credit_balance, credit_debt, created_at, load_test, request FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::bigint[], $10::bigint[],
		$11::bigint[], $12::bigint[], $13::bigint[], $14::boolean[], $15::bytea[])
	AS q(id, name, email, email_canonical, company, source, subscription_plan, subscription_state, trial_fixes_limit, trial_fixes_used,
		credit_balance, credit_debt, created_at, load_test, request)
), c AS (
	INSERT INTO customers (id, name, email, email_canonical, company, source, subscription_plan, subscription_state, trial_fixes_limit, trial_fixes_used,
		credit_balance, credit_debt, created_at, load_test)
	SELECT id, name, email, email_canonical, company, source, subscription_plan, subscription_state, trial_fixes_limit, trial_fixes_used,
		credit_balance, credit_debt, created_at, load_test
	FROM q WHERE NOT EXISTS (SELECT FROM outcomes o WHERE o.request = q.request AND o.created_at > now_us() - $32)
	ORDER BY email_canonical COLLATE "C" ON CONFLICT (email_canonical) DO NOTHING RETURNING id
), k AS (
	INSERT INTO api_keys (customer_id, id, public_id, hash, prefix, name, created_at, expires_at)
	SELECT c.id, k.id, k.public_id, k.hash, k.prefix, k.name, k.created_at, k.expires_at
	FROM c JOIN unnest($1, $16::text[], $17::text[], $18::bytea[], $19::text[], $20::text[], $21::bigint[], $22::bigint[])
	AS k(customer_id, id, public_id, hash, prefix, name, created_at, expires_at) ON k.customer_id = c.id
), e AS (
	INSERT INTO ledger_entries (customer_id, number, id, amount, balance_after, source, reference, created_at)
	SELECT c.id, e.number, e.id, e.amount, e.balance_after, e.source, e.reference, e.created_at
	FROM c JOIN unnest($1, $23::bigint[], $24::text[], $25::bigint[], $26::bigint[], $27::text[], $28::text[], $29::bigint[])
	AS e(customer_id, number, id, amount, balance_after, source, reference, created_at) ON e.customer_id = c.id
), j AS (
	INSERT INTO jobs (kind, subject, created_at, due_at, claim)
	SELECT j.kind, c.id, n.at, n.at, n.at FROM (SELECT now_us() AS at OFFSET 0) n, c JOIN unnest($30::text[], $31::text[]) AS j(kind, subject) ON j.subject = c.id
	ON CONFLICT DO NOTHING
)
SELECT id FROM c`

// column is one column of the rows that a group writes.
func column[T any](group []*opening, of func(*signUp) T) []T {
	values := make([]T, len(group))
	for i, c := range group {
		values[i] = of(&c.in)
	}
	return values
}

// openArgs are the arguments of openSQL, in its order.
func openArgs(group []*opening) []any {
	var kinds, subjects []string
	for _, c := range group {
		for _, kind := range c.in.Jobs {
			kinds, subjects = append(kinds, string(kind)), append(subjects, c.in.ID)
		}
	}
	return []any{
		column(group, func(o *signUp) string { return o.ID }),
		column(group, func(o *signUp) string { return o.Name }),
		column(group, func(o *signUp) string { return o.Email }),
		column(group, func(o *signUp) string { return o.CanonicalEmail }),
		column(group, func(o *signUp) string { return o.Company }),
		column(group, func(o *signUp) string { return o.Source }),
		column(group, func(o *signUp) string { return string(o.Plan) }),
		column(group, func(o *signUp) string { return o.State }),
		column(group, func(o *signUp) int64 { return o.TrialFixesLimit }),
		column(group, func(o *signUp) int64 { return o.TrialFixesUsed }),
		column(group, func(o *signUp) int64 { return o.CreditBalance }),
		column(group, func(o *signUp) int64 { return o.CreditDebt }),
		column(group, func(o *signUp) int64 { return o.CreatedAt.UnixMicro() }),
		column(group, func(o *signUp) bool { return o.LoadTest }),
		requests(group),

		column(group, func(o *signUp) string { return o.Key.ID }),
		column(group, func(o *signUp) string { return o.Key.PublicID }),
		column(group, func(o *signUp) []byte { return o.Key.Hash[:] }),
		column(group, func(o *signUp) string { return o.Key.Prefix }),
		column(group, func(o *signUp) string { return o.Key.Name }),
		column(group, func(o *signUp) int64 { return o.Key.CreatedAt.UnixMicro() }),
		column(group, func(o *signUp) *int64 { return records.Micros(o.Key.ExpiresAt) }),

		column(group, func(o *signUp) int64 { return o.Grant.Number }),
		column(group, func(o *signUp) string { return o.Grant.ID }),
		column(group, func(o *signUp) int64 { return o.Grant.Amount }),
		column(group, func(o *signUp) int64 { return o.Grant.BalanceAfter }),
		column(group, func(o *signUp) string { return string(o.Grant.Source) }),
		column(group, func(o *signUp) string { return o.Grant.Reference }),
		column(group, func(o *signUp) int64 { return o.Grant.CreatedAt.UnixMicro() }),

		kinds, subjects, records.Life,
	}
}

// requests are the group's Idempotency-Keys; null where there is none.
func requests(group []*opening) [][]byte {
	return column(group, func(o *signUp) []byte {
		if !o.keep {
			return nil
		}
		return o.kept.ID[:]
	})
}

// openAll opens the accounts of a group in one transaction and returns why each
// was refused, or nil. An error means that none was opened, or that nobody knows.
func (s *Store) openAll(ctx context.Context, group []*opening) (refused []error, err error) {
	refused = make([]error, len(group))
	err = s.connected(ctx, func(ctx context.Context, c *pgxpool.Conn) error {
		var opened map[string]bool
		if err := open(ctx, c, group, &opened); err != nil || len(opened) == len(group) {
			return err
		}
		// Whose the addresses of the others are, and which requests have their
		// outcomes: a look at what was committed by then.
		return each(ctx, c, `SELECT q.i, coalesce((SELECT id FROM customers WHERE email_canonical = q.email), ''),
			EXISTS (SELECT FROM outcomes o WHERE o.request = q.request AND o.created_at > now_us() - $3)
			FROM unnest($1::text[], $2::bytea[]) WITH ORDINALITY AS q(email, request, i)`,
			[]any{column(group, func(o *signUp) string { return o.CanonicalEmail }), requests(group), records.Life}, func(scan records.Scan) error {
				var i int
				var owner string
				var answered bool
				err := scan(&i, &owner, &answered)
				if o := group[i-1].in; !opened[o.ID] {
					refused[i-1] = refusal(o, owner, answered)
				}
				return err
			})
	})
	return refused, err
}

// open writes a group. Where outcomes are kept it looks at what was opened
// before it commits.
func open(ctx context.Context, c *pgxpool.Conn, group []*opening, opened *map[string]bool) error {
	write := func(q queryer) error {
		*opened = make(map[string]bool, len(group))
		return each(ctx, q, openSQL, openArgs(group), func(scan records.Scan) error {
			var id string
			err := scan(&id)
			(*opened)[id] = true
			return err
		})
	}
	keeps := false
	for _, c := range group {
		keeps = keeps || c.in.keep
	}
	if !keeps {
		return write(c)
	}
	return inTx(ctx, c, pgx.TxOptions{}, func(tx pgx.Tx) error {
		if err := write(tx); err != nil {
			return err
		}
		var all []kept
		for _, c := range group {
			if c.in.keep && (*opened)[c.in.ID] {
				all = append(all, c.in.kept)
			}
		}
		done, err := tx.Exec(ctx, keepSQL, keepArgs(all)...)
		if err == nil && int(done.RowsAffected()) < len(all) {
			err = errTwice
		}
		return err
	})
}

// refusal is why an account was not opened: its address is owner's, or its
// request was answered before. One whose own it is was opened by an earlier try
// whose outcome was unknown.
func refusal(o signUp, owner string, answered bool) error {
	switch {
	case answered:
		return idempotency.Running()
	case owner == o.ID:
		return nil
	case owner != "":
		return fault.Field("email", fault.AlreadyRegistered, "email is already registered")
	}
	return fault.Away(errContended) // who had the address has just been removed
}
