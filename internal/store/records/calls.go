package records

import (
	"context"
	"slices"
	"time"

	"gatehouse/internal/account"
	"gatehouse/internal/apikey"
	"gatehouse/internal/billing"
	"gatehouse/internal/idempotency"
	"gatehouse/internal/jobs"
	"gatehouse/internal/vending"
)

// Runner runs operations on a database, each under the name that its observer
// knows it by.
type Runner interface {
	// Read runs a reading call.
	Read(ctx context.Context, name string, run func(Reader) error) error
	// Write runs a writing call, in one transaction. It may run more than once,
	// though it is committed at most once.
	Write(ctx context.Context, name string, run func(Tx) error) error
}

// Read is a reading call with a result.
func Read[T any](ctx context.Context, r Runner, name string, run func(Reader) (T, error)) (result T, err error) {
	err = r.Read(ctx, name, func(r Reader) (err error) {
		result, err = run(r)
		return err
	})
	return result, err
}

// Write is a writing call with a result. A caller that gave up gets the zero
// result, and looks at nothing that may still be written to.
func Write[T any](ctx context.Context, r Runner, name string, run func(Tx) (T, error)) (T, error) {
	var committed T
	err := r.Write(ctx, name, func(t Tx) error {
		result, err := run(t)
		if err == nil {
			committed = result
		}
		return err
	})
	if err != nil {
		var none T
		return none, err
	}
	return committed, nil
}

// WriteOnce is a writing call whose outcome is kept. customerID is whose it is.
func WriteOnce[T any](ctx context.Context, r Runner, name, customerID string, o *idempotency.Once[T], run func(Tx) (T, error)) (T, error) {
	return Write(ctx, r, name, func(t Tx) (T, error) { return Once(t, customerID, o, run) })
}

// Calls are a store's calls that are the same on all: a store embeds them.
type Calls struct{ runner Runner }

// NewCalls returns the calls that r runs.
func NewCalls(r Runner) Calls { return Calls{r} }

// Customer implements account.Store.
func (c Calls) Customer(ctx context.Context, id string) (account.Customer, error) {
	return c.customer(ctx, "id", id)
}

// CustomerByEmail implements account.Registry.
func (c Calls) CustomerByEmail(ctx context.Context, canonical string) (account.Customer, error) {
	return c.customer(ctx, "email_canonical", canonical)
}

func (c Calls) customer(ctx context.Context, column, value string) (account.Customer, error) {
	return Read(ctx, c.runner, "read_customer", func(r Reader) (account.Customer, error) { return Customer(r, column, value, "") })
}

// Customers implements account.Registry.
func (c Calls) Customers(ctx context.Context, after string, limit int) ([]account.Customer, error) {
	return Read(ctx, c.runner, "list_customers", func(r Reader) ([]account.Customer, error) { return Customers(r, after, limit) })
}

// Suspend implements account.Registry.
func (c Calls) Suspend(ctx context.Context, id string, at time.Time) (account.Customer, error) {
	return Write(ctx, c.runner, "suspend_customer", func(t Tx) (account.Customer, error) { return Suspend(t, id, at) })
}

// Resume implements account.Registry.
func (c Calls) Resume(ctx context.Context, id string) (account.Customer, error) {
	return c.Suspend(ctx, id, time.Time{})
}

// SetStripeCustomer implements account.Store.
func (c Calls) SetStripeCustomer(ctx context.Context, id, stripeID string) error {
	return c.runner.Write(ctx, "set_stripe_customer", func(t Tx) error { return SetStripeCustomer(t, id, stripeID) })
}

// Keys implements apikey.Store.
func (c Calls) Keys(ctx context.Context, customerID string) ([]apikey.Record, error) {
	return Read(ctx, c.runner, "list_keys", func(r Reader) ([]apikey.Record, error) { return Keys(r, customerID) })
}

// AddKey implements apikey.Store.
func (c Calls) AddKey(ctx context.Context, by apikey.Principal, key apikey.Issue, keep *idempotency.Once[apikey.Record]) error {
	_, err := WriteOnce(ctx, c.runner, "add_key", by.CustomerID, keep, func(t Tx) (apikey.Record, error) { return AddKey(t, by, key) })
	return err
}

// ReplaceKey implements apikey.Store.
func (c Calls) ReplaceKey(ctx context.Context, by apikey.Principal, oldID string, grace time.Duration, key apikey.Issue, keep *idempotency.Once[apikey.Record]) (apikey.Record, error) {
	return WriteOnce(ctx, c.runner, "replace_key", by.CustomerID, keep, func(t Tx) (apikey.Record, error) { return ReplaceKey(t, by, oldID, grace, key) })
}

// RevokeKey implements apikey.Store.
func (c Calls) RevokeKey(ctx context.Context, by apikey.Principal, id string) error {
	return c.runner.Write(ctx, "revoke_key", func(t Tx) error { return RevokeKey(t, by, id) })
}

// KeyOwner implements apikey.Registry.
func (c Calls) KeyOwner(ctx context.Context, idOrPrefix string) (customerID, id string, err error) {
	err = c.runner.Read(ctx, "find_key", func(r Reader) (err error) {
		customerID, id, err = KeyOwner(r, idOrPrefix)
		return err
	})
	return customerID, id, err
}

// Entries implements billing.Store.
func (c Calls) Entries(ctx context.Context, customerID string, before int64, limit int) ([]billing.Entry, error) {
	return Read(ctx, c.runner, "list_entries", func(r Reader) ([]billing.Entry, error) { return Entries(r, customerID, before, limit) })
}

// Adjust implements billing.Adjuster.
func (c Calls) Adjust(ctx context.Context, customerID string, amount int64, reference string) (billing.Entry, error) {
	return Write(ctx, c.runner, "adjust_ledger", func(t Tx) (billing.Entry, error) { return Adjust(t, customerID, amount, reference) })
}

// Event implements billing.Inbox.
func (c Calls) Event(ctx context.Context, id string) (billing.StoredEvent, error) {
	return Read(ctx, c.runner, "read_event", func(r Reader) (billing.StoredEvent, error) { return Event(r, id) })
}

// Apply implements billing.Inbox.
func (c Calls) Apply(ctx context.Context, change billing.Change) (billing.StoredEvent, error) {
	return Write(ctx, c.runner, "apply_event", func(t Tx) (billing.StoredEvent, error) { return Apply(t, change) })
}

// ProPrices implements billing.Inbox.
func (c Calls) ProPrices(ctx context.Context, prices []string, subscription string) (known []string, isPro bool, err error) {
	err = c.runner.Read(ctx, "find_prices", func(r Reader) (err error) {
		known, isPro, err = ProPrices(r, prices, subscription)
		return err
	})
	return known, isPro, err
}

// Revisit implements billing.Inbox.
func (c Calls) Revisit(ctx context.Context) (queued int, parked billing.ParkedEvents, err error) {
	type result struct {
		queued int
		parked billing.ParkedEvents
	}
	done, err := Write(ctx, c.runner, "revisit_events", func(t Tx) (r result, err error) {
		r.queued, r.parked, err = Revisit(t)
		return r, err
	})
	return done.queued, done.parked, err
}

// SweepEvents implements billing.Inbox.
func (c Calls) SweepEvents(ctx context.Context, limit int) (int, error) {
	n, err := Write(ctx, c.runner, "sweep_events", func(t Tx) (int64, error) { return SweepEvents(t, limit) })
	return int(n), err
}

// Cursor implements billing.Inbox.
func (c Calls) Cursor(ctx context.Context) (billing.Cursor, error) {
	return Read(ctx, c.runner, "read_cursor", Cursor)
}

// SetCursor implements billing.Inbox.
func (c Calls) SetCursor(ctx context.Context, at billing.Cursor) error {
	return c.runner.Write(ctx, "set_cursor", func(t Tx) error { return SetCursor(t, at) })
}

// QueueReconcile implements billing.Inbox.
func (c Calls) QueueReconcile(ctx context.Context, every time.Duration) error {
	return c.runner.Write(ctx, "queue_reconcile", func(t Tx) error { return QueueReconcile(t, every) })
}

// Events implements billing.InboxAdmin.
func (c Calls) Events(ctx context.Context, f billing.EventFilter, before string, limit int) ([]billing.StoredEvent, error) {
	return Read(ctx, c.runner, "list_events", func(r Reader) ([]billing.StoredEvent, error) { return Events(r, f, before, limit) })
}

// Replay implements billing.InboxAdmin.
func (c Calls) Replay(ctx context.Context, f billing.EventFilter) (queued int, err error) {
	if f.ID != "" {
		return Write(ctx, c.runner, "replay_events", func(t Tx) (int, error) { return Requeue(t, []string{f.ID}, byOperator) })
	}
	for before := ""; ; {
		some, err := c.Events(ctx, f, before, replaySome)
		if err != nil || len(some) == 0 {
			return queued, err
		}
		var ids []string
		for _, e := range some {
			before, ids = e.ID, append(ids, e.ID)
		}
		slices.Sort(ids) // so that two commands never wait for each other in a circle
		n, err := Write(ctx, c.runner, "replay_events", func(t Tx) (int, error) { return Requeue(t, ids, byOperator) })
		queued += n
		if err != nil {
			return queued, err
		}
	}
}

// replaySome is how many events one transaction queues: some ten ms.
const replaySome = 200

const byOperator = "replayed by an operator"

// BeginFix implements billing.FixStore.
func (c Calls) BeginFix(ctx context.Context, o billing.FixOrder, keep *idempotency.Once[billing.FixResult]) (billing.FixResult, error) {
	return WriteOnce(ctx, c.runner, "begin_fix", o.CustomerID, keep, func(t Tx) (billing.FixResult, error) { return BeginFix(t, o) })
}

// SettleFix implements billing.FixStore.
func (c Calls) SettleFix(ctx context.Context, o billing.FixOutcome, keep *idempotency.Once[billing.FixResult]) (billing.FixResult, error) {
	return WriteOnce(ctx, c.runner, "settle_fix", o.CustomerID, keep, func(t Tx) (billing.FixResult, error) { return SettleFix(t, o) })
}

// Fix implements billing.FixStore.
func (c Calls) Fix(ctx context.Context, id string) (billing.Fix, error) {
	return Read(ctx, c.runner, "read_fix", func(r Reader) (billing.Fix, error) { return Fix(r, id) })
}

// FixesBetween implements billing.FixStore.
func (c Calls) FixesBetween(ctx context.Context, customerID string, start, end time.Time) (int64, error) {
	return Read(ctx, c.runner, "count_fixes", func(r Reader) (int64, error) { return FixesBetween(r, customerID, start, end) })
}

// Grant implements vending.Store.
func (c Calls) Grant(ctx context.Context, o vending.Order, keep *idempotency.Once[vending.Granted]) (vending.Granted, error) {
	return WriteOnce(ctx, c.runner, "grant_credentials", o.By.CustomerID, keep, func(t Tx) (vending.Granted, error) { return Grant(t, o) })
}

// BeginKeys implements vending.Store.
func (c Calls) BeginKeys(ctx context.Context, o vending.Order, makers []vending.Provider) ([]vending.Intent, error) {
	return Write(ctx, c.runner, "begin_keys", func(t Tx) ([]vending.Intent, error) { return BeginKeys(t, o, makers) })
}

// AbandonKeys implements vending.Store.
func (c Calls) AbandonKeys(ctx context.Context, keys []vending.Leftover) error {
	return c.runner.Write(ctx, "abandon_keys", func(t Tx) error { return AbandonKeys(t, keys) })
}

// QueueKeys implements vending.Store.
func (c Calls) QueueKeys(ctx context.Context, limit int) (int, error) {
	if due, err := Read(ctx, c.runner, "find_due_keys", KeysDue); err != nil || !due {
		return 0, err
	}
	n, err := Write(ctx, c.runner, "queue_keys", func(t Tx) (int64, error) { return QueueKeys(t, limit) })
	return int(n), err
}

// DoomKey implements vending.Store.
func (c Calls) DoomKey(ctx context.Context, id string) (p vending.Provider, keyID string, doomed bool, err error) {
	err = c.runner.Write(ctx, "doom_key", func(t Tx) (err error) {
		p, keyID, doomed, err = DoomKey(t, id)
		return err
	})
	return p, keyID, doomed, err
}

// ForgetKey implements vending.Store.
func (c Calls) ForgetKey(ctx context.Context, id, keyID string) error {
	return c.runner.Write(ctx, "forget_key", func(t Tx) error { return ForgetKey(t, id, keyID) })
}

// Credentials implements vending.Store.
func (c Calls) Credentials(ctx context.Context, customerID string) ([]vending.Credential, error) {
	return Read(ctx, c.runner, "list_credentials", func(r Reader) ([]vending.Credential, error) { return Credentials(r, customerID) })
}

// Revoke implements vending.Store.
func (c Calls) Revoke(ctx context.Context, by apikey.Principal, id string) error {
	return c.runner.Write(ctx, "revoke_credential", func(t Tx) error { return RevokeCredential(t, by, id) })
}

// RevokeAny implements vending.Admin.
func (c Calls) RevokeAny(ctx context.Context, id string) error {
	return c.Revoke(ctx, apikey.Principal{}, id)
}

// Report implements vending.Store.
func (c Calls) Report(ctx context.Context, r vending.Report, keep *idempotency.Once[vending.Report]) error {
	_, err := WriteOnce(ctx, c.runner, "report_usage", r.CustomerID, keep, func(t Tx) (vending.Report, error) { return r, Report(t, r) })
	return err
}

// Lease implements vending.Store.
func (c Calls) Lease(ctx context.Context, token apikey.Presented) (vending.Lease, error) {
	return Read(ctx, c.runner, "find_token", func(r Reader) (vending.Lease, error) { return Lease(r, token) })
}

// Revoked implements vending.Store.
func (c Calls) Revoked(ctx context.Context, since time.Duration) ([]string, error) {
	return Read(ctx, c.runner, "list_revoked", func(r Reader) ([]string, error) { return Revoked(r, since) })
}

// Hold implements vending.Store.
func (c Calls) Hold(ctx context.Context, h vending.Hold, life time.Duration) error {
	return c.runner.Write(ctx, "hold_money", func(t Tx) error { return Hold(t, h, life) })
}

// KeepHolds implements vending.Store.
func (c Calls) KeepHolds(ctx context.Context, ids []string, life time.Duration) error {
	return c.runner.Write(ctx, "keep_holds", func(t Tx) error { return KeepHolds(t, ids, life) })
}

// BookLost implements vending.Store. Mostly there is nothing to book.
func (c Calls) BookLost(ctx context.Context, limit int) ([]vending.Audit, error) {
	found, err := Read(ctx, c.runner, "find_lost_calls", func(r Reader) ([]vending.Audit, error) { return LostCalls(r, limit) })
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return Write(ctx, c.runner, "book_lost_calls", func(t Tx) ([]vending.Audit, error) { return BookLost(t, found) })
}

// Settle implements vending.Store.
func (c Calls) Settle(ctx context.Context, calls []vending.Spending) error {
	return c.runner.Write(ctx, "settle_calls", func(t Tx) error { return SettleCalls(t, calls) })
}

// UsedBetween implements vending.Store.
func (c Calls) UsedBetween(ctx context.Context, customerID string, start, end time.Time) (map[vending.Provider]vending.Used, error) {
	return Read(ctx, c.runner, "sum_usage", func(r Reader) (map[vending.Provider]vending.Used, error) {
		return UsedBetween(r, customerID, start, end)
	})
}

// SetBudget implements vending.Admin.
func (c Calls) SetBudget(ctx context.Context, customerID string, cents int64) error {
	return c.runner.Write(ctx, "set_budget", func(t Tx) error { return SetBudget(t, customerID, cents*vending.MicroPerCent) })
}

// AuditRows implements vending.Admin.
func (c Calls) AuditRows(ctx context.Context, f vending.AuditFilter, after string, limit int) ([]vending.Audit, error) {
	return Read(ctx, c.runner, "list_audit", func(r Reader) ([]vending.Audit, error) { return AuditRows(r, f, after, limit) })
}

// Postpone implements jobs.Queue.
func (c Calls) Postpone(ctx context.Context, j jobs.Job, after time.Duration, reason string, refund bool) error {
	return c.runner.Write(ctx, "postpone_job", func(t Tx) error { return Postpone(t, j, after, reason, refund) })
}

// Bury implements jobs.Queue.
func (c Calls) Bury(ctx context.Context, j jobs.Job, reason string) error {
	return c.runner.Write(ctx, "bury_job", func(t Tx) error { return Bury(t, j, reason) })
}

// JobStats implements jobs.Queue.
func (c Calls) JobStats(ctx context.Context) ([]jobs.Stat, error) {
	return Read(ctx, c.runner, "count_jobs", JobStats)
}

// Jobs implements jobs.Admin.
func (c Calls) Jobs(ctx context.Context, f jobs.Filter, after jobs.Job, limit int) ([]jobs.Job, error) {
	return Read(ctx, c.runner, "list_jobs", func(r Reader) ([]jobs.Job, error) { return Jobs(r, f, after, limit) })
}

// RetryJobs implements jobs.Admin.
func (c Calls) RetryJobs(ctx context.Context, f jobs.Filter) (int, error) {
	n, err := Write(ctx, c.runner, "retry_jobs", func(t Tx) (int64, error) { return RetryJobs(t, f) })
	return int(n), err
}

// DropJobs implements jobs.Admin.
func (c Calls) DropJobs(ctx context.Context, f jobs.Filter) (int, error) {
	n, err := Write(ctx, c.runner, "drop_jobs", func(t Tx) (int64, error) { return DropJobs(t, f) })
	return int(n), err
}

// Outcome implements idempotency.Store.
func (c Calls) Outcome(ctx context.Context, id [32]byte) (o idempotency.Outcome, found bool, err error) {
	err = c.runner.Read(ctx, "find_outcome", func(r Reader) (err error) {
		o, found, err = Outcome(r, id)
		return err
	})
	return o, found, err
}

// SealedWith implements idempotency.Store.
func (c Calls) SealedWith(ctx context.Context) ([]string, error) {
	return Read(ctx, c.runner, "list_sealing_keys", SealedWith)
}
