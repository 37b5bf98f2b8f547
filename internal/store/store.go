package store

import (
	"context"
	"time"

	"gatehouse/internal/account"
	"gatehouse/internal/apikey"
	"gatehouse/internal/billing"
	"gatehouse/internal/ratelimit"
)

// Store is all that a node and an operator's commands ask of a database.
type Store interface {
	account.Store
	account.Registry
	apikey.Checker
	apikey.Registry
	billing.Store
	billing.Auditor
	ratelimit.Store
	// Sweep removes the windows that hold no live stamp, by each policy's
	// window, and returns how many there were and how many are gone.
	Sweep(ctx context.Context, windows map[ratelimit.Name]time.Duration) (seen, removed int, err error)
	// About says what the database is and how it is set, for who wants to know
	// what figures hold for.
	About(ctx context.Context) (About, error)
	// Ping says whether the database can be read and written.
	Ping(ctx context.Context) error
	Close() error
}

// About is what a database is.
type About struct {
	Driver  string `json:"driver"`
	Version string `json:"version"`
	// Settings are those that decide durability and speed, as they are in
	// effect where it is written.
	Settings map[string]string `json:"settings"`
}
