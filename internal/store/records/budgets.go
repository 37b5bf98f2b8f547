package records

import (
	"cmp"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"time"

	"gatehouse/internal/fault"
	"gatehouse/internal/vending"
)

// Hold sets money aside within what the grant and the customer's day have left, and
// once: a try before, whose outcome nobody heard, may have done it. What is held
// counts until it is booked or let go of, also when it has lapsed.
func Hold(t Tx, h vending.Hold, life time.Duration) error {
	if _, err := t.Lock(h.CustomerID); err != nil {
		return err
	}
	now, err := t.Now()
	if err != nil {
		return err
	}
	var limit, spent, heldOfGrant, heldOfDay, spentOfDay int64
	var budget *int64
	err = t.Row(`SELECT g.cap, g.spent, c.day_budget, (SELECT coalesce(CAST(sum(micro) AS bigint), 0) FROM holds WHERE grant_id = g.id AND customer_id = c.id AND id <> $4),
		(SELECT coalesce(CAST(sum(micro) AS bigint), 0) FROM holds WHERE customer_id = c.id AND id <> $4), coalesce((SELECT micro FROM spending WHERE customer_id = c.id AND day = $3), 0)
		FROM grants g JOIN customers c ON c.id = g.customer_id WHERE g.id = $1 AND c.id = $2`, []any{h.GrantID, h.CustomerID, dayOf(now), h.ID}, &limit, &spent, &budget, &heldOfGrant, &heldOfDay, &spentOfDay)
	switch {
	case err != nil:
		return missing(err, "There is no such grant.")
	case limit > 0 && h.Micro > limit-spent-heldOfGrant:
		return overBudget("this credential's exchange", h.Micro, limit-spent-heldOfGrant)
	case budget != nil && h.Micro > *budget-spentOfDay-heldOfDay:
		return overBudget("your account for today", h.Micro, *budget-spentOfDay-heldOfDay)
	}
	return t.Put("INSERT INTO holds (id, grant_id, customer_id, key_id, credential_id, provider, model, micro, lapses_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (id) DO NOTHING",
		h.ID, h.GrantID, h.CustomerID, h.KeyID, h.CredentialID, string(h.Provider), h.Model, h.Micro, now+life.Microseconds())
}

// overBudget refuses a call that may cost more than is left beside others under
// way, both in millionths of a dollar.
func overBudget(whose string, most, left int64) *fault.Error {
	return &fault.Error{Kind: fault.PaymentRequired, Code: "BUDGET_EXCEEDED", Message: fmt.Sprintf(
		"The budget of %s does not allow this call: it may cost up to %d cents, and %d are left. With a lower max_tokens (or max_completion_tokens, max_output_tokens) it may cost less.",
		whose, (most+vending.MicroPerCent-1)/vending.MicroPerCent, max(left, 0)/vending.MicroPerCent)}
}

// dayOf is the day of a time, since the epoch.
func dayOf(us int64) int64 { return us / (24 * time.Hour).Microseconds() }

// KeepHolds makes holds last on, those too that lapsed and are still there.
func KeepHolds(t Tx, ids []string, life time.Duration) error {
	now, err := t.Now()
	for _, id := range ids {
		if err == nil {
			err = t.Put("UPDATE holds SET lapses_at = $2 WHERE id = $1", id, now+life.Microseconds())
		}
	}
	return err
}

// LostCalls finds calls whose holds lapsed long ago, as they are to be booked.
func LostCalls(r Reader, limit int) ([]vending.Audit, error) {
	now, err := r.Now()
	if err != nil {
		return nil, err
	}
	return List(r, "SELECT id, customer_id, key_id, credential_id, grant_id, provider, model, micro, lapses_at FROM holds WHERE lapses_at <= $1 ORDER BY id LIMIT $2",
		[]any{now - vending.LostAfter.Microseconds(), limit}, func(scan Scan) (vending.Audit, error) {
			var h vending.Hold
			var lapsed int64
			err := scan(&h.ID, &h.CustomerID, &h.KeyID, &h.CredentialID, &h.GrantID, &h.Provider, &h.Model, &h.Micro, &lapsed)
			return h.Lost(Instant(lapsed)), err
		})
}

// BookLost books calls that LostCalls found and whose holds are still as they were
// found: who takes a hold away books its call. It returns those.
func BookLost(t Tx, found []vending.Audit) (booked []vending.Audit, err error) {
	var calls []vending.Spending
	for _, a := range found {
		n, err := t.Exec("DELETE FROM holds WHERE id = $1 AND lapses_at = $2", a.ID, a.At.UnixMicro())
		if err != nil {
			return nil, err
		}
		if n == 1 {
			booked, calls = append(booked, a), append(calls, vending.Spending{Audit: a})
		}
	}
	return booked, SettleCalls(t, calls)
}

// SettleCalls books calls, each once, and lets go of holds. What was spent moves at
// once with what was held, so that who sets money aside sees both or neither. All is
// done in an order in which two nodes never wait for each other in a circle: holds,
// rows of the trail, and then grants and days, which others wait for most.
func SettleCalls(t Tx, calls []vending.Spending) error {
	type day struct {
		customerID string
		number     int64
	}
	grants, days := make(map[string]int64), make(map[day]int64)
	var holds []string
	for _, c := range calls {
		if c.Reservation != "" {
			holds = append(holds, c.Reservation)
		}
	}
	slices.Sort(holds)
	for _, id := range holds {
		if err := t.Put("DELETE FROM holds WHERE id = $1", id); err != nil {
			return err
		}
	}
	calls = slices.Clone(calls)
	slices.SortFunc(calls, func(a, b vending.Spending) int { return cmp.Compare(a.ID, b.ID) })
	for _, c := range calls {
		if c.ID == "" {
			continue
		}
		if c.At.IsZero() {
			now, err := t.Now()
			if err != nil {
				return err
			}
			c.At = Instant(now)
		}
		booked, err := t.Exec(insertAudit, auditRow(c.Audit, "")...)
		if err != nil {
			return err
		}
		if booked == 1 && c.Cost > 0 {
			grants[c.GrantID] += c.Cost
			days[day{c.CustomerID, dayOf(c.At.UnixMicro())}] += c.Cost
		}
	}
	for _, id := range slices.Sorted(maps.Keys(grants)) {
		if _, err := t.Exec("UPDATE grants SET spent = spent + $2 WHERE id = $1", id, grants[id]); err != nil {
			return err
		}
	}
	for _, d := range slices.SortedFunc(maps.Keys(days), func(a, b day) int {
		return cmp.Or(cmp.Compare(a.customerID, b.customerID), cmp.Compare(a.number, b.number))
	}) {
		if _, err := t.Exec("INSERT INTO spending (customer_id, day, micro) VALUES ($1, $2, $3) ON CONFLICT (customer_id, day) DO UPDATE SET micro = spending.micro + excluded.micro",
			d.customerID, d.number, days[d]); err != nil {
			return err
		}
	}
	return nil
}

// SetBudget bounds what a customer may spend in a day; 0: no bound.
func SetBudget(t Tx, customerID string, micro int64) error {
	if _, err := t.Lock(customerID); err != nil {
		return err
	}
	var budget *int64
	if micro > 0 {
		budget = &micro
	}
	n, err := t.Exec("UPDATE customers SET day_budget = $2 WHERE id = $1", customerID, budget)
	if err == nil && n == 0 {
		err = missingCustomer(sql.ErrNoRows)
	}
	if err != nil || budget == nil {
		return err
	}
	now, err := t.Now()
	if err == nil {
		err = endThose(t, "CAST($2 AS text) = '' AND enforcement <> 'gateway'", customerID, "", now, "its customer has a budget now")
	}
	return err
}
