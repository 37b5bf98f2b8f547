package jobs

import (
	"context"
	"errors"
	"time"
)

// Kind is what a job does. It is a metric label.
type Kind string

// The kinds of job. Append only: rows of them may be anywhere.
const (
	WelcomeMail     Kind = "welcome_mail"     // subject: the customer's id
	StripeCustomer  Kind = "stripe_customer"  // subject: the customer's id
	StripeEvent     Kind = "stripe_event"     // subject: the event's id
	StripeReconcile Kind = "stripe_reconcile" // subject: "events"
	FixCharge       Kind = "fix_charge"       // subject: the fix's id
	ProviderKey     Kind = "provider_key"     // subject: the credential's id
)

// Kinds lists them.
func Kinds() []Kind {
	return []Kind{WelcomeMail, StripeCustomer, StripeEvent, StripeReconcile, FixCharge, ProviderKey}
}

const (
	// Timeout ends a handler's context. What it does takes a second or two.
	Timeout = 30 * time.Second
	// Lease is how long a claimed job is its worker's; then, if the worker
	// died or hangs, the job is due again. It is longer than Timeout, so that
	// an honest worker never meets its successor.
	Lease = 60 * time.Second
	// MaxTries is how often a job is begun before it is dead: with Delay,
	// after 67 hours at the least and some four days as a rule, so that what
	// breaks on a Friday evening can be mended on Monday.
	MaxTries = 36
	// MaxDelay bounds the wait between two tries.
	MaxDelay = 6 * time.Hour
	// maxReason bounds what is kept of why a try failed, in bytes.
	maxReason = 500
)

// Job is a job as stored.
type Job struct {
	Kind      Kind
	Subject   string
	CreatedAt time.Time
	// DueAt is when it may be claimed: of a running job the end of its lease.
	DueAt   time.Time
	Running bool
	Tries   int // begun since it was made or retried
	// Claim numbers its claims, ever up: only the last one counts.
	Claim  int64
	DeadAt time.Time // zero: not dead
	Reason string    // why the last try failed
}

// Stat is how many jobs of a kind there are.
type Stat struct {
	Kind   Kind
	Queued int           // not dead: waiting or running
	Dead   int           // given up
	Oldest time.Duration // age of the oldest queued one
	// Overdue is for how long the one that waits longest could have been
	// begun; one that failed waits its time and is not overdue.
	Overdue time.Duration
}

// Queue is what the runner needs of a database. Times are the database's.
type Queue interface {
	// Claim leases at most n due jobs of a kind, those due longest first:
	// each is begun once more and is this caller's until the lease ends.
	Claim(ctx context.Context, kind Kind, n int, lease time.Duration) ([]Job, error)
	// Done removes a job, unless it was claimed again since.
	Done(ctx context.Context, j Job) error
	// Postpone makes a claimed job due after a while, unless it was claimed
	// again since. A try that refund gives back was not the job's fault. An
	// empty reason leaves the last one.
	Postpone(ctx context.Context, j Job, after time.Duration, reason string, refund bool) error
	// Bury keeps a claimed job as dead, unless it was claimed again since.
	Bury(ctx context.Context, j Job, reason string) error
	// JobStats counts the jobs of each kind that has any.
	JobStats(ctx context.Context) ([]Stat, error)
}

// Admin is what an operator does with jobs, on the database itself.
type Admin interface {
	// Jobs lists at most limit jobs in the order of kind and subject, after
	// those two: all, or the dead ones alone, of one kind, or with "" of all.
	Jobs(ctx context.Context, f Filter, after Job, limit int) ([]Job, error)
	// RetryJobs makes jobs that failed, dead or waiting for their next try, due
	// at once, as if they had never been tried, and returns how many it were.
	RetryJobs(ctx context.Context, f Filter) (int, error)
	// DropJobs removes dead jobs, or those of one subject that do not run,
	// dead or not, and returns how many it were.
	DropJobs(ctx context.Context, f Filter) (int, error)
}

// Filter says which jobs are meant; its zero value: all.
type Filter struct {
	Kind    Kind   // "": any
	Subject string // "": any
	Dead    bool   // dead ones alone
}

// permanent is an error that trying again will not mend.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// Permanent marks an error that trying again will not mend: the job is dead at
// once. The text is kept and logged, so it holds no secret and no address.
func Permanent(err error) error { return permanent{err} }

// IsPermanent says whether err was marked so.
func IsPermanent(err error) bool {
	_, ok := errors.AsType[permanent](err)
	return ok
}
