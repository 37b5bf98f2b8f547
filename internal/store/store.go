package store

import (
	"context"
	"time"

	"gatehouse/internal/account"
	"gatehouse/internal/apikey"
	"gatehouse/internal/billing"
	"gatehouse/internal/idempotency"
	"gatehouse/internal/jobs"
	"gatehouse/internal/ratelimit"
	"gatehouse/internal/vending"
)

// Store is all that a node and an operator's commands ask of a database. What
// one kind of database alone can do is a capability: Copier, cluster.Store.
type Store interface {
	account.Store
	account.Registry
	apikey.Checker
	apikey.Registry
	billing.Adjuster
	billing.Auditor
	billing.FixStore
	billing.Inbox
	billing.InboxAdmin
	billing.Store
	idempotency.Store
	jobs.Admin
	jobs.Queue
	ratelimit.Store
	vending.Admin
	vending.Store
	// Sweep removes the windows that hold no live stamp, by each policy's
	// window, and returns how many there were and how many are gone.
	Sweep(ctx context.Context, windows map[ratelimit.Name]time.Duration) (seen, removed int, err error)
	// About says what the database is and how it is set, for who wants to know
	// what figures hold for.
	About(ctx context.Context) (About, error)
	// InUse is how many connections to the database are busy.
	InUse() int
	// Ping says whether the database can be read and written.
	Ping(ctx context.Context) error
	Close() error
}

// Copier makes copies of a database that no node serves by mistake. SQLite's
// store is one; a PostgreSQL is backed up with its own tools.
type Copier interface {
	// Backup copies the database, as it is at one moment, to a new file, also
	// beside a node that serves it, and says what is in the copy. The copy is
	// fenced: no node serves it before Unfence. What fails or ends early
	// leaves no file. progress is told now and then how many bytes of all are
	// copied.
	Backup(ctx context.Context, file string, progress func(done, all int64)) (Contents, error)
	// Contents says what is in the database.
	Contents(ctx context.Context) (Contents, error)
	// Unfence lets nodes serve the database.
	Unfence(ctx context.Context) error
}

// Migration is one step of a schema's history.
type Migration struct {
	Version int64  `json:"version"`
	Name    string `json:"name"`
	Applied bool   `json:"applied"`
}

// Contents is what is in a database, for who must decide what to do with it.
type Contents struct {
	Schema       int64 // the newest migration applied
	Customers    int64
	NewestSignUp time.Time // zero: none; so is the next
	NewestEntry  time.Time // of all ledgers
	Outcomes     int64     // answers kept for Idempotency-Keys that may still be asked for
	CopiedAt     time.Time // when it was copied, if it is fenced; else zero
	Origin       string    // the name, without folder, of the file it is a copy of
}

// About is what a database is.
type About struct {
	Driver  string `json:"driver"`
	Version string `json:"version"`
	// Settings are those that decide durability and speed, as they are in
	// effect where it is written.
	Settings map[string]string `json:"settings"`
}
