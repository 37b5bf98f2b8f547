package store

import (
	"context"
	"errors"
	"iter"
	"slices"
)

// Kind is what a column holds, and so what is compared of it once it is copied.
type Kind string

// The kinds: how a value is handed over, and what is added up.
const (
	Text   Kind = "text"   // a string; octets
	Int    Kind = "int"    // an int64; itself
	Bool   Kind = "bool"   // a bool; how many are true
	Bytes  Kind = "bytes"  // a []byte; octets
	Stamps Kind = "stamps" // a []int64; how many
)

// Column is one column of a Table.
type Column struct {
	Name string
	Kind Kind
}

// Table is a table as both kinds of database have it.
type Table struct {
	Name    string
	Key     int // how many columns, the first ones, name a row
	Columns []Column
}

// Tables are all that hold data, each after those that it refers to. What
// belongs to one database is not in them: its migrations, fence and nodes, a
// purge under way, and the order in which SQLite wrote its outcomes.
func Tables() []Table {
	return []Table{
		{"customers", 1, slices.Concat(
			of(Text, "id", "name", "email", "email_canonical", "company", "source", "subscription_plan", "subscription_state", "stripe_customer_id"),
			of(Int, "trial_fixes_limit", "trial_fixes_used", "credit_balance", "credit_debt", "created_at", "suspended_at", "erased_at", "period_start", "period_end", "day_budget"),
			of(Bool, "load_test", "cancels_at_end"))},
		{"api_keys", 2, slices.Concat(
			of(Text, "customer_id", "id", "public_id", "prefix", "name"),
			of(Bytes, "hash"),
			of(Int, "created_at", "last_used_at", "expires_at", "retires_at", "revoked_at"))},
		{"ledger_entries", 2, slices.Concat(
			of(Text, "customer_id"),
			of(Int, "number"),
			of(Text, "id", "source", "reference"),
			of(Int, "amount", "balance_after", "debt", "created_at"))},
		{"rate_windows", 2, slices.Concat(of(Text, "policy", "key"), of(Stamps, "stamps"), of(Int, "granted"))},
		{"jobs", 2, slices.Concat(
			of(Text, "kind", "subject", "reason"),
			of(Int, "created_at", "due_at", "claim", "tries", "dead_at"),
			of(Bool, "running"))},
		{"stripe_events", 1, slices.Concat(
			of(Text, "id", "type", "state", "reason", "waits_for", "customer_id", "history"),
			of(Bytes, "payload"),
			of(Int, "received_at", "decided_at"))},
		{"subscription_facts", 2, slices.Concat(
			of(Text, "subscription_id", "event_id", "customer_id", "kind", "status", "was"),
			of(Int, "at", "seen", "started", "period_start", "period_end"),
			of(Bool, "pro", "cancels_at_end"))},
		{"pro_prices", 1, of(Text, "id")},
		{"payment_methods", 1, slices.Concat(of(Text, "id", "customer_id"), of(Int, "attached_at", "detached_at"))},
		{"payments", 1, slices.Concat(of(Text, "id", "customer_id", "intent"), of(Int, "cents", "credits", "refunded", "disputed"))},
		{"disputes", 1, slices.Concat(of(Text, "id", "customer_id", "payment_id"), of(Int, "credits"), of(Bool, "won"))},
		{"fixes", 1, slices.Concat(
			of(Text, "id", "customer_id", "external_id", "repository", "pull_request", "state", "paid_by", "currency", "stripe_customer", "method", "intent", "why"),
			of(Int, "cents", "balance_after", "created_at", "attempt", "begun_at", "tried_at"))},
		{"reconciler", 1, slices.Concat(of(Int, "one", "since", "until", "begun_at"), of(Text, "after_event"))},
		{"grants", 1, slices.Concat(of(Text, "id", "customer_id", "github_job", "github_run"), of(Int, "created_at", "ttl", "cap", "spent"))},
		{"credentials", 1, slices.Concat(
			of(Text, "id", "grant_id", "customer_id", "key_id", "provider", "public_id", "enforcement"), of(Bytes, "hash"), of(Int, "created_at", "expires_at", "revoked_at"))},
		{"provider_keys", 1, slices.Concat(of(Text, "id", "provider", "key_id"), of(Int, "sweep_at"), of(Bool, "doomed"))},
		{"holds", 1, slices.Concat(of(Text, "id", "grant_id", "customer_id", "key_id", "credential_id", "provider", "model", "node"), of(Int, "micro", "lapses_at"))},
		{"spending", 2, slices.Concat(of(Text, "customer_id"), of(Int, "day", "micro"))},
		{"audit", 1, slices.Concat(
			of(Text, "id", "customer_id", "key_id", "credential_id", "grant_id", "action", "provider", "model", "outcome", "job"),
			of(Int, "at", "requests", "input_tokens", "output_tokens", "cost"), of(Bool, "estimated"))},
		{"outcomes", 1, slices.Concat(
			of(Bytes, "request", "body", "sealed"),
			of(Text, "customer_id", "key_id"),
			of(Int, "created_at", "status"))},
	}
}

func of(kind Kind, names ...string) (all []Column) {
	for _, name := range names {
		all = append(all, Column{name, kind})
	}
	return all
}

// Sums are what must be equal in a table and its copy. Each database adds up
// what it has stored.
type Sums struct {
	Rows    int64
	Columns []string // as Table.Columns; decimal, since it may exceed an int64
}

// Copied is a table that was copied, and what is equal on both sides.
type Copied struct {
	Table Table
	Sums  Sums
}

// Source is a database at one moment, for a copy.
type Source interface {
	Sums(ctx context.Context, t Table) (Sums, error)
	// Rows yields all rows, each time in the same order; nil values are NULL. A
	// row is the consumer's until it asks for the next.
	Rows(ctx context.Context, t Table) iter.Seq2[[]any, error]
}

// ErrMaybeCopied says that nobody knows whether a copy was committed.
var ErrMaybeCopied = errors.New("the copy may be committed or not: the target holds all of it, or nothing")
