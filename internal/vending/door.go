package vending

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"gatehouse/internal/apikey"
	"gatehouse/internal/fault"
	"gatehouse/internal/gateway"
)

const (
	// Freshness is how old what a node knows of revocations may be: beyond it,
	// it lets nobody in.
	Freshness = time.Second
	// pollEvery is how often it asks, and pollTime how long an answer may take.
	pollEvery = 200 * time.Millisecond
	pollTime  = 700 * time.Millisecond
	// lookBack is how far back it asks: longer than a transaction that revokes may
	// take to commit, since it is the transaction's own time that is stored, and
	// than clocks are wrong by.
	lookBack = 10 * time.Minute
	// looksAtOnce is how many tokens a node asks the database for at once: whoever
	// makes up tokens must leave others its connections.
	looksAtOnce = 8
	// lookAgain is when a token is asked for again, whose budget may be another by
	// now.
	lookAgain = 10 * time.Second
	// maxLeases bounds the memory, to some 100 MB.
	maxLeases = 200_000
)

// Door lets tokens into the gateway from memory. A node asks the database for a
// token once, and then five times a second for what was revoked; it trusts its
// memory only while the last answer is younger than [Freshness].
type Door struct {
	store Store
	now   func() time.Time // the database's
	log   *slog.Logger
	most  int // leases in memory

	turns chan struct{} // taken while a token is looked up

	mu     sync.Mutex
	leases map[[32]byte]*held
	byID   map[string][32]byte // by public id
	asked  time.Time           // when what is known of revocations was asked for; this machine's clock
	epoch  uint64              // one more with each token that was found revoked
	seen   map[string]bool     // of the last answer
}

// held is a lease in memory.
type held struct {
	gateway.Lease
	provider Provider
	looked   time.Time // when the database was last asked for it; this machine's clock
	used     time.Time // likewise, when it last let somebody in
	revoked  func()
}

// NewDoor returns a door that lets nobody in before Run.
func NewDoor(store Store, now func() time.Time, log *slog.Logger) *Door {
	return &Door{store: store, now: now, log: log, most: maxLeases, turns: make(chan struct{}, looksAtOnce), leases: make(map[[32]byte]*held), byID: make(map[string][32]byte)}
}

// Run keeps what is known of revocations fresh until ctx ends.
func (d *Door) Run(ctx context.Context) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for failing := false; ; {
		err := d.poll(ctx)
		if ctx.Err() != nil {
			return
		}
		if (err != nil) != failing {
			failing = err != nil
			if failing {
				d.log.WarnContext(ctx, "what was revoked can't be asked for: the gateway refuses calls once that is a second old", "err", err)
			} else {
				d.log.InfoContext(ctx, "what was revoked is known again")
			}
		}
		if failing {
			d.endStale()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// endStale ends all leases, and so the streams that are open under them, once what
// is known of revocations is too old: one of them may be revoked.
func (d *Door) endStale() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if time.Since(d.asked) < Freshness {
		return
	}
	for id := range d.byID {
		d.forget(id)
	}
}

// poll ends the leases of what was revoked lately.
func (d *Door) poll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pollTime)
	defer cancel()
	asked := time.Now()
	since := lookBack
	d.mu.Lock()
	if !d.asked.IsZero() { // it may have been long ago, and streams are still open
		since += asked.Sub(d.asked)
	}
	d.mu.Unlock()
	ids, err := d.store.Revoked(ctx, since)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked = asked
	before := d.seen
	d.seen = make(map[string]bool, len(ids))
	for _, id := range ids {
		d.seen[id] = true
		if !before[id] {
			d.epoch++ // a look-up under way may have read what was before
			d.forget(id)
		}
	}
	return nil
}

// shrink makes room: what has expired goes, and where that is not enough, a
// quarter of all, which nobody came with for longest. Its caller holds the lock.
func (d *Door) shrink() {
	now := d.now()
	for id, hash := range d.byID {
		if !now.Before(d.leases[hash].ExpiresAt) {
			d.forget(id)
		}
	}
	if len(d.leases) < d.most*3/4 {
		return
	}
	ids := slices.SortedFunc(maps.Keys(d.byID), func(a, b string) int { return d.leases[d.byID[a]].used.Compare(d.leases[d.byID[b]].used) })
	for _, id := range ids[:len(ids)-d.most*3/4+1] {
		d.forget(id)
	}
}

// forget ends a lease, and the streams that are open under it. Its caller holds
// the lock.
func (d *Door) forget(publicID string) {
	hash, ok := d.byID[publicID]
	if !ok {
		return
	}
	d.leases[hash].revoked()
	delete(d.leases, hash)
	delete(d.byID, publicID)
}

// Enter implements gateway.Door.
func (d *Door) Enter(ctx context.Context, token, provider string) (*gateway.Lease, error) {
	presented, ok := apikey.ParseToken(token)
	if !ok {
		f := unknownToken()
		if strings.HasPrefix(token, "gk_") { // no token, whichever key it is, or none
			f.Message = "This is an API key: exchange it for a token."
		}
		return nil, f
	}
	l, again, fresh := d.recall(presented.Hash)
	if !fresh {
		return nil, stale()
	}
	if l == nil || again {
		err := d.look(ctx, presented)
		if f, ok := errors.AsType[*fault.Error](err); err != nil && (l == nil || ok && f.Kind == fault.Unauthenticated) {
			d.end(presented.PublicID) // should it be there: it works no more
			return nil, err
		} // another error leaves what is known: none of it was revoked
		if l, _, fresh = d.recall(presented.Hash); !fresh { // the look-up took long
			return nil, stale()
		}
		if l == nil { // nor did it outlast the look-up
			return nil, unknownToken()
		}
	}
	if string(l.provider) != provider || !d.now().Before(l.ExpiresAt) {
		return nil, unknownToken()
	}
	return &l.Lease, nil
}

func (d *Door) end(publicID string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.forget(publicID)
}

// recall finds a lease in memory, and says whether its caller is the one to ask
// for it again, and whether the memory may be trusted.
func (d *Door) recall(hash [32]byte) (l *held, again, fresh bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	if l = d.leases[hash]; l != nil {
		l.used = now
		if again = now.Sub(l.looked) > lookAgain; again {
			l.looked = now
		}
	}
	return l, again, !d.asked.IsZero() && now.Sub(d.asked) < Freshness
}

// errChanging ends look-ups that revocations overtake again and again.
var errChanging = errors.New("too much is being revoked")

// look asks the database for a token. What was revoked while it asked is asked
// for again.
func (d *Door) look(ctx context.Context, token apikey.Presented) error {
	for range 5 {
		d.mu.Lock()
		before := d.epoch
		d.mu.Unlock()
		select {
		case d.turns <- struct{}{}:
		case <-ctx.Done():
			return fault.Away(context.Cause(ctx))
		}
		found, err := d.store.Lease(ctx, token)
		<-d.turns
		if f, ok := errors.AsType[*fault.Error](err); ok && f.Kind == fault.NotFound {
			return unknownToken()
		}
		if err != nil || d.remember(token, found, before) {
			return err
		}
	}
	return fault.Away(errChanging)
}

// remember keeps a lease, unless something was revoked since before.
func (d *Door) remember(token apikey.Presented, found Lease, before uint64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.epoch != before {
		return false
	}
	if len(d.leases) >= d.most {
		d.shrink()
	}
	now := time.Now()
	l := &held{provider: found.Provider, looked: now, used: now, Lease: gateway.Lease{
		CredentialID: found.CredentialID, CustomerID: found.CustomerID, KeyID: found.KeyID, GrantID: found.GrantID,
		ExpiresAt: found.ExpiresAt, Capped: found.Capped,
	}}
	if old, ok := d.leases[token.Hash]; ok { // streams are open under it
		l.Ended, l.revoked = old.Ended, old.revoked
	} else {
		l.Ended, l.revoked = context.WithCancel(context.Background())
	}
	d.leases[token.Hash], d.byID[token.PublicID] = l, token.Hash
	return true
}

// unknownToken is the one answer to malformed, unknown, revoked and expired
// tokens, and to those of another provider; Enter says of API keys that they are.
func unknownToken() *fault.Error {
	return &fault.Error{Kind: fault.Unauthenticated, Code: "INVALID_API_KEY", Message: "The token is not valid, or no longer."}
}

func stale() *fault.Error {
	return &fault.Error{
		Kind: fault.Unavailable, Code: "UNAVAILABLE", RetryAfter: time.Second,
		Message: "Gatehouse can't tell just now which tokens were revoked. Try again shortly.",
	}
}
