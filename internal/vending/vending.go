package vending

import (
	"context"
	"time"

	"gatehouse/internal/apikey"
	"gatehouse/internal/gateway"
	"gatehouse/internal/idempotency"
)

// Provider is an AI provider, by its name in the API and in paths.
type Provider string

// The providers. They are stored.
const (
	Anthropic  Provider = "anthropic"
	OpenAI     Provider = "openai"
	OpenRouter Provider = "openrouter"
	Ollama     Provider = "ollama"
)

// Providers lists them.
func Providers() []Provider { return []Provider{Anthropic, OpenAI, OpenRouter, Ollama} }

// path is what a provider's own SDK has behind the host in its base_url.
var path = map[Provider]string{Anthropic: "", OpenAI: "/v1", OpenRouter: "/api/v1", Ollama: ""}

// Bounds of a grant.
const (
	DefaultTTL   = time.Hour
	MaxTTL       = 4 * time.Hour
	MaxProviders = 8
	// RefreshWithin is how long before its end a credential may be refreshed.
	RefreshWithin = 5 * time.Minute
	// MaxCents bounds what a grant, or a customer's day, may spend.
	MaxCents  = 100_000_000
	maxHeader = 255 // characters of X-GitHub-Job and X-GitHub-Run
)

// MicroPerCent is a cent in millionths of a dollar, in which costs are counted.
const MicroPerCent = 10_000

// Enforcement says who makes a credential's expiry true. It is stored.
type Enforcement string

// The enforcements.
const (
	ByGateway Enforcement = "gateway"         // a token of ours, that works at our gateway alone
	ByExpiry  Enforcement = "provider_expiry" // a provider's own key, that ends there by itself
	ByDelete  Enforcement = "provider_delete" // likewise, but it ends when we delete it
)

// Issue is a credential as it is to be stored.
type Issue struct {
	ID       string // UUIDv7
	Provider Provider
	// Presented is of the token; where there is a key of the provider's own it is
	// of one that nobody has.
	apikey.Presented
	Key *Key // nil: the gateway's token
}

// Key is a provider's own key, as it is stored.
type Key struct {
	ID          string // the provider's
	Enforcement Enforcement
	ExpiresAt   time.Time
}

// KeyPatience is how long after its intent a key must be granted: a provider and
// a commit take seconds. Beyond it the key is deleted, should it exist.
const KeyPatience = 2 * time.Minute

// Intent says that a provider is about to be asked for a key. It is written before.
type Intent struct {
	ID        string // of the credential
	Provider  Provider
	Life      time.Duration
	ExpiresAt time.Time // by the database's clock
}

// Leftover is what an exchange that came to nothing knows of a key: its id at the
// provider, or with "" that there certainly is none.
type Leftover struct {
	ID       string
	Provider Provider
	KeyID    string
}

// Order is a grant as it is to be written.
type Order struct {
	ID      string // UUIDv7
	By      apikey.Principal
	TTL     time.Duration
	Cap     int64 // what its credentials together may spend, in millionths of a dollar; 0: no bound
	Job     string
	Run     string
	Issues  []Issue
	Replace string // the credential that these replace, of whose grant they are; "": a new grant
}

// Granted is what a customer has after an exchange.
type Granted struct {
	Credentials []Credential
	Balance     int64     // credits
	ResetAt     time.Time // the end of the Pro period; zero: none
}

// Credential is a credential as stored.
type Credential struct {
	ID         string
	Provider   Provider
	CreatedAt  time.Time
	ExpiresAt  time.Time // by the database's clock
	RevokedAt  time.Time // zero: not revoked
	KeyID      string
	Job, Run   string
	CustomerID string

	Enforcement Enforcement
	Remains     bool // a provider's own key, which may still be there
}

// Revocation is what became of a credential that was revoked: pending while the
// provider may still take its key, then done; "" when it was not.
func (c Credential) Revocation() string {
	switch {
	case c.RevokedAt.IsZero():
		return ""
	case c.Remains:
		return "pending"
	}
	return "done"
}

// Lease is a token that works, as the database has it.
type Lease struct {
	CredentialID, CustomerID, KeyID, GrantID string
	Provider                                 Provider
	ExpiresAt                                time.Time
	Capped                                   bool // by its grant or its customer's day
}

// Report is what a client says that it used.
type Report struct {
	CustomerID string
	Provider   Provider
	Tokens     int64
	Requests   int64
	JobID      string // counts once
}

// Action is what an audit row is about. It is stored.
type Action string

// The actions.
const (
	Granting  Action = "grant"
	Refusing  Action = "refusal"
	Revoking  Action = "revocation"
	Calling   Action = "call"
	Reporting Action = "report" // what a client said, which bills nobody
)

// Audit is a row of the audit trail.
type Audit struct {
	ID           string // begins with a UUIDv7
	At           time.Time
	CustomerID   string
	KeyID        string
	CredentialID string
	GrantID      string
	Action       Action
	Provider     Provider
	Model        string
	Requests     int64
	InputTokens  int64 // of the whole prompt
	OutputTokens int64
	Cost         int64 // millionths of a dollar
	Estimated    bool
	Outcome      string // of a call: how it ended; of a refusal: its code
}

// Spending is a call that is settled. Without a row's id there was no call, and
// what was set aside for it is let go of.
type Spending struct {
	Audit
	// Reservation is the hold's id, "" when nothing was set aside. The row has the
	// same id, as it has where the call is booked as lost: the first of the two counts.
	Reservation string
}

// LostAfter is for how long a hold must have lapsed until its call is booked as
// lost. A node that is away from the database for less comes back and books what
// its calls came to.
const LostAfter = 5 * time.Minute

// Hold is money set aside for a call, by what the trail will say of it.
type Hold struct {
	ID           string // UUIDv7
	CustomerID   string
	KeyID        string
	CredentialID string
	GrantID      string
	Provider     Provider
	Model        string // that was asked for
	Micro        int64
}

// Lost is the call that the hold is for, when nobody is left to say what it came
// to. It ended before the hold lapsed, and may have cost all that was held.
func (h Hold) Lost(lapsed time.Time) Audit {
	return Audit{
		ID: h.ID, At: lapsed, CustomerID: h.CustomerID, KeyID: h.KeyID, CredentialID: h.CredentialID, GrantID: h.GrantID,
		Action: Calling, Provider: h.Provider, Model: h.Model, Requests: 1, Cost: h.Micro, Estimated: true, Outcome: string(gateway.Lost),
	}
}

// Used is what a customer used at a provider in a period.
type Used struct{ Requests, InputTokens, OutputTokens int64 }

// Store is what credentials need from a database.
type Store interface {
	// Grant commits a grant with its credentials, or replaces one of the
	// customer's in the last RefreshWithin of its life. Without credits and a
	// way to pay it is fault.Forbidden; another customer's credential is
	// fault.NotFound, one that is revoked, ended or refreshed too early
	// fault.Conflict.
	Grant(ctx context.Context, o Order, keep *idempotency.Once[Granted]) (Granted, error)
	// BeginKeys writes down which keys the providers of an order are about to be
	// asked for, of those that make them. There are none where a day's budget
	// bounds the customer, or the credential to be replaced is the gateway's. It
	// refuses what Grant would.
	BeginKeys(ctx context.Context, o Order, makers []Provider) ([]Intent, error)
	// AbandonKeys lets go of keys that were not granted, those too whose intents
	// are gone, since they were swept meanwhile.
	AbandonKeys(ctx context.Context, keys []Leftover) error
	// QueueKeys queues a job for each of at most limit keys that are to be deleted,
	// and returns how many it were.
	QueueKeys(ctx context.Context, limit int) (int, error)
	// DoomKey says whether a key is to be deleted, which from then on nothing
	// changes. Its id at the provider is "" where that is not known.
	DoomKey(ctx context.Context, id string) (p Provider, keyID string, doomed bool, err error)
	// ForgetKey notes that a key is no more, of the id that DoomKey told.
	ForgetKey(ctx context.Context, id, keyID string) error
	// Credentials lists a customer's credentials that have not ended, oldest first.
	Credentials(ctx context.Context, customerID string) ([]Credential, error)
	// Revoke ends a credential of the key's customer; again it does nothing.
	// Another customer's is fault.NotFound.
	Revoke(ctx context.Context, by apikey.Principal, id string) error
	// Report keeps what a client says; a job counts once.
	Report(ctx context.Context, r Report, keep *idempotency.Once[Report]) error
	// Lease finds a token, or fault.NotFound when there is none of the hash. One
	// that is revoked or has expired is none.
	Lease(ctx context.Context, token apikey.Presented) (Lease, error)
	// Revoked lists the public ids of tokens that were revoked in the last while.
	Revoked(ctx context.Context, since time.Duration) ([]string, error)
	// Hold sets money aside, within what the grant and the customer's day have
	// left beside what is spent and held; beyond it is fault.PaymentRequired.
	Hold(ctx context.Context, h Hold, life time.Duration) error
	// KeepHolds makes holds last on for a while; their ids are sorted. Those that
	// are gone stay gone.
	KeepHolds(ctx context.Context, ids []string, life time.Duration) error
	// BookLost books at most limit calls whose holds lapsed LostAfter ago or more,
	// at what was held for them, and returns them. With limit 0 it only asks the
	// database.
	BookLost(ctx context.Context, limit int) ([]Audit, error)
	// Settle books calls and lets go of what was held for them. Booked again, a
	// row of the same id changes nothing. A row of no time gets the database's.
	Settle(ctx context.Context, calls []Spending) error
	// UsedBetween sums up a customer's calls from start to before end.
	UsedBetween(ctx context.Context, customerID string, start, end time.Time) (map[Provider]Used, error)
}

// Admin is what an operator does with credentials, on the database itself.
type Admin interface {
	// SetBudget bounds what a customer may spend in a day (UTC); 0: no bound. A
	// bound ends keys of providers' own, which nothing of ours would hold to it.
	SetBudget(ctx context.Context, customerID string, cents int64) error
	// RevokeAny ends any credential.
	RevokeAny(ctx context.Context, id string) error
	// AuditRows lists rows of the trail after an id, in their order: as they were
	// written, but that calls for which money was held stand where they began.
	AuditRows(ctx context.Context, f AuditFilter, after string, limit int) ([]Audit, error)
}

// AuditFilter says which rows are meant; its zero value: all.
type AuditFilter struct {
	CustomerID   string
	CredentialID string
	Action       Action
	Since, Until time.Time
}
