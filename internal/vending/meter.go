package vending

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"gatehouse/internal/billing"
	"gatehouse/internal/fault"
	"gatehouse/internal/gateway"
)

const (
	// holdLife is for how long a hold stands without being kept: those of a node
	// that died lapse then, and count until they are booked. keepEvery is how often
	// a node keeps its own.
	holdLife  = 30 * time.Second
	keepEvery = 10 * time.Second
	// settleSome is how many calls are booked at once, and maxUnsettled how many
	// may wait to be: beyond it a call waits for its booking.
	settleSome   = 256
	maxUnsettled = 8192
	settleRetry  = 500 * time.Millisecond
	// settleTries is how often a row is tried that the database refuses.
	settleTries = 5
	// holdTime bounds the setting aside itself.
	holdTime = 5 * time.Second
	// holdsAtOnce is how many holds a node has under way: those of one customer wait
	// for each other in the database, and must leave others its connections.
	holdsAtOnce = 4
	// assumedOutput is what a request that bounds its answer by nothing may come
	// to, in tokens.
	assumedOutput = 128_000
)

// Meter sets money aside for calls and books what they came to.
type Meter struct {
	store  Store
	prices billing.Prices
	now    func() time.Time
	log    *slog.Logger
	ended  func(provider string, outcome gateway.Outcome, estimated bool)

	turns   chan struct{} // taken while money is set aside
	holds   sync.Map      // ids of what is held for calls under way
	doubts  doubts        // and of what may be held for none
	queue   chan Spending
	done    chan struct{}
	booking sync.RWMutex // by those who may put something into the queue
	there   bool         // the database was, when BookLost was last called
	// lostSome is how many lost calls are booked at once.
	lostSome int
}

// NewMeter returns a meter. ended is told of each call.
func NewMeter(store Store, prices billing.Prices, now func() time.Time, log *slog.Logger, ended func(string, gateway.Outcome, bool)) *Meter {
	return &Meter{store: store, prices: prices, now: now, log: log, ended: ended, turns: make(chan struct{}, holdsAtOnce), queue: make(chan Spending, maxUnsettled), done: make(chan struct{}), lostSome: settleSome}
}

// Reserve implements gateway.Meter.
func (m *Meter) Reserve(ctx context.Context, l *gateway.Lease, c *gateway.Call) (gateway.Reservation, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return gateway.Reservation{}, fmt.Errorf("make hold id: %w", err)
	}
	h := Hold{
		ID: id.String(), CustomerID: l.CustomerID, KeyID: l.KeyID, CredentialID: l.CredentialID, GrantID: l.GrantID,
		Provider: Provider(c.Provider), Model: storable(c.Model), Micro: m.most(c),
	}
	if h.Micro == 0 {
		return gateway.Reservation{}, nil
	}
	select {
	case m.turns <- struct{}{}:
	case <-ctx.Done():
		return gateway.Reservation{}, ctx.Err()
	}
	// Its outcome should be known: a hold that nobody knows of is booked one day.
	m.holds.Store(h.ID, true)
	holding, cancel := context.WithTimeout(context.WithoutCancel(ctx), holdTime)
	err = m.store.Hold(holding, h, holdLife)
	cancel()
	<-m.turns
	if err == nil {
		return gateway.Reservation{ID: h.ID, MicroUSD: h.Micro}, nil
	}
	m.holds.Delete(h.ID)
	switch f, ok := errors.AsType[*fault.Error](err); {
	case !ok || f.Kind == fault.Unavailable:
		m.doubts.add(h.ID)
	case f.Kind == fault.PaymentRequired:
		m.book(Spending{Audit: m.row(l, c, Refusing, f.Code)})
	}
	return gateway.Reservation{}, err
}

// most is what a call may come to at the most, by what of its input may be
// written to a cache, which costs more.
func (m *Meter) most(c *gateway.Call) (micro int64) {
	out := c.MaxOutputTokens
	if out <= 0 && !c.NoOutput {
		out = assumedOutput
	}
	for _, u := range []gateway.Usage{{InputTokens: c.InputTokens}, {CacheWriteTokens: c.InputTokens}, {CacheWriteHourTokens: c.InputTokens}} {
		u.OutputTokens = out
		micro = max(micro, m.cost(c, u))
	}
	return micro
}

// cost is what a call came to, in millionths of a dollar.
func (m *Meter) cost(c *gateway.Call, u gateway.Usage) int64 {
	if u.Priced {
		return max(u.Cost, 0)
	}
	if c.Free || c.Provider == string(Ollama) {
		return 0
	}
	model := u.Model
	if model == "" {
		model = c.Model
	}
	return m.prices.Cost(c.Provider, model, c.Started, billing.Tokens{
		Input: u.InputTokens, CacheRead: u.CacheReadTokens, CacheWrite: u.CacheWriteTokens, CacheWriteHour: u.CacheWriteHourTokens,
		Output: u.OutputTokens, Searches: u.WebSearches,
	})
}

func (m *Meter) row(l *gateway.Lease, c *gateway.Call, action Action, outcome string) Audit {
	id, err := uuid.NewV7()
	if err != nil {
		id = uuid.New() // the order of rows is all that is lost
	}
	return Audit{
		ID: id.String(), At: m.now(), CustomerID: l.CustomerID, KeyID: l.KeyID, CredentialID: l.CredentialID, GrantID: l.GrantID,
		Action: action, Provider: Provider(c.Provider), Model: storable(c.Model), Outcome: outcome,
	}
}

// storable is a model's name, which a client chooses, as any database takes it.
func storable(model string) string {
	return strings.Map(func(r rune) rune {
		if r == 0 || r == utf8.RuneError {
			return '?'
		}
		return r
	}, model)
}

// Settle implements gateway.Meter. The booking follows at once, and is tried until
// it succeeds.
func (m *Meter) Settle(_ context.Context, l *gateway.Lease, c *gateway.Call, u gateway.Usage, r gateway.Reservation) {
	m.ended(c.Provider, u.Outcome, u.Estimated)
	row := m.row(l, c, Calling, string(u.Outcome))
	row.Requests = 1
	row.InputTokens, row.OutputTokens = u.InputTokens+u.CacheReadTokens+u.CacheWriteTokens+u.CacheWriteHourTokens, u.OutputTokens
	row.Cost, row.Estimated = m.cost(c, u), u.Estimated
	if u.Model != "" {
		row.Model = storable(u.Model)
	}
	if r.ID != "" {
		row.ID = r.ID
	}
	m.book(Spending{Audit: row, Reservation: r.ID})
}

// book queues a call. Once the node has stopped it is booked at once, or never.
func (m *Meter) book(s Spending) {
	if !m.enqueue(s) {
		m.lastOf([]Spending{s})
	}
}

func (m *Meter) enqueue(s Spending) bool {
	m.booking.RLock()
	defer m.booking.RUnlock()
	select {
	case <-m.done:
		return false
	default:
	}
	select {
	case m.queue <- s:
		return true
	case <-m.done:
		return false
	}
}

// Run books calls until ctx ends, and keeps this node's holds alive.
func (m *Meter) Run(ctx context.Context) {
	var keeping sync.WaitGroup
	keeping.Go(func() { m.keep(ctx) })
	defer keeping.Wait()
	for {
		select {
		case s := <-m.queue:
			m.settle(ctx, m.gather(s))
		case <-ctx.Done():
			close(m.done)
			m.booking.Lock() // from here on nothing is queued
			m.booking.Unlock()
			m.last()
			return
		}
	}
}

// gather adds what has queued meanwhile.
func (m *Meter) gather(first Spending) []Spending {
	all := []Spending{first}
	for len(all) < settleSome {
		select {
		case s := <-m.queue:
			all = append(all, s)
		default:
			return all
		}
	}
	return all
}

// settle books calls, again and again until it succeeds or ctx ends; then they
// wait for last. A group that the database can't take though it is there is
// parted, so that one bad row holds up no other.
func (m *Meter) settle(ctx context.Context, calls []Spending) {
	for tries := 1; ; tries++ {
		err := m.store.Settle(ctx, calls)
		if err == nil {
			m.release(calls)
			return
		}
		if f, ok := errors.AsType[*fault.Error](err); ctx.Err() == nil && (!ok || f.Kind != fault.Unavailable) {
			switch n := len(calls); {
			case n > 1:
				m.settle(ctx, calls[:n/2])
				m.settle(ctx, calls[n/2:])
				return
			case tries == settleTries:
				m.lost(calls, err)
				return
			}
		}
		if tries == 1 && ctx.Err() == nil {
			m.log.ErrorContext(ctx, "calls can't be booked; trying again", "calls", len(calls), "err", err)
		}
		select {
		case <-time.After(settleRetry):
		case <-ctx.Done():
			m.lastOf(calls)
			return
		}
	}
}

// release keeps what was held for calls no longer.
func (m *Meter) release(calls []Spending) {
	for _, c := range calls {
		m.holds.Delete(c.Reservation)
	}
}

// lost says all of calls that this node will never book. What was held for them is
// kept no longer, so that it is booked once it has lapsed.
func (m *Meter) lost(calls []Spending, err error) {
	m.release(calls)
	for _, c := range calls {
		m.log.Error("a call was not booked", "id", c.ID, "customer", c.CustomerID, "credential", c.CredentialID, "grant", c.GrantID,
			"provider", string(c.Provider), "model", c.Model, "input_tokens", c.InputTokens, "output_tokens", c.OutputTokens, "cost", c.Cost, "err", err)
	}
}

// lastWord is how long the last calls may take, all together, to be booked when a
// node stops.
const lastWord = 5 * time.Second

// last books what is left when the node stops.
func (m *Meter) last() {
	ctx, cancel := context.WithTimeout(context.Background(), lastWord)
	defer cancel()
	for len(m.queue) > 0 {
		m.lastBefore(ctx, m.gather(<-m.queue))
	}
	m.letGo(ctx, 0)
}

func (m *Meter) lastOf(calls []Spending) {
	ctx, cancel := context.WithTimeout(context.Background(), lastWord)
	defer cancel()
	m.lastBefore(ctx, calls)
}

func (m *Meter) lastBefore(ctx context.Context, calls []Spending) {
	if err := m.store.Settle(ctx, calls); err != nil {
		m.lost(calls, err)
	}
}
