package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"gatehouse/internal/billing"
	"gatehouse/internal/store/postgres"
	"gatehouse/internal/store/postgres/pgtest"
)

func receipt(id string) billing.Receipt {
	return billing.Receipt{ID: id, Type: "invoice.paid", Payload: []byte(id), Note: "by a test"}
}

// waiting says whether so many sessions wait for locks.
func waiting(t testing.TB, url string, n int) func() error {
	return func() error {
		if got := ask[int](t, url, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"); got < n {
			return fmt.Errorf("%d wait for locks", got)
		}
		return nil
	}
}

// holdEvents keeps all from taking in events, so that those queue, and are a
// group once it is let go.
func holdEvents(t *testing.T, url string) (release func()) {
	t.Helper()
	tx, err := connect(t, url).Begin(t.Context())
	must(t, err)
	_, err = tx.Exec(t.Context(), "LOCK TABLE stripe_events IN SHARE MODE")
	must(t, err)
	return func() { must(t, tx.Rollback(context.Background())) }
}

// Events that come to several nodes are new on one of them, and one at a time.
func TestEventIsNewOnOneNode(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	nodes := []*postgres.Store{node(t, url), node(t, url)}
	const ids, callers = 40, 8
	var news [ids]atomic.Int32
	var all sync.WaitGroup
	release := holdEvents(t, url)
	for c := range callers {
		for i := range ids {
			all.Go(func() {
				if c%2 == 1 {
					i = ids - 1 - i // in another order
				}
				isNew, err := nodes[c%2].TakeIn(t.Context(), receipt(fmt.Sprintf("evt_%d", i)))
				if err != nil {
					t.Error(err)
				}
				if isNew {
					news[i].Add(1)
				}
			})
		}
	}
	eventually(t, recovery, waiting(t, url, 2)) // each node
	release()
	all.Wait()
	for i := range news {
		if n := news[i].Load(); n != 1 {
			t.Errorf("evt_%d was new %d times", i, n)
		}
	}
	if got := ask[string](t, url, "SELECT concat_ws(' ', (SELECT count(*) FROM stripe_events), (SELECT count(*) FROM jobs WHERE kind = 'stripe_event'))"); got != "40 40" {
		t.Errorf("events and jobs: %s", got)
	}
}

// What breaks a group fails alone, and those that are too large together are
// several.
func TestBrokenEventFailsAlone(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	s := node(t, url)
	release := holdEvents(t, url)
	large := bytes.Repeat([]byte{0xff}, 1<<20)
	receipts := []billing.Receipt{receipt("evt_first")}
	for i := range 12 {
		r := receipt(fmt.Sprintf("evt_%d", i%10)) // two of them twice
		if r.Payload = large; i == 5 {
			r.Type = "\x00"
		}
		receipts = append(receipts, r)
	}
	isNew, errs := make([]bool, len(receipts)), make([]error, len(receipts))
	var all sync.WaitGroup
	for i, r := range receipts {
		all.Go(func() { isNew[i], errs[i] = s.TakeIn(t.Context(), r) })
		if i == 0 {
			eventually(t, recovery, waiting(t, url, 1)) // the others are no part of its group
		}
	}
	pause(t.Context(), 50*time.Millisecond) // all queue
	release()
	all.Wait()
	news := 0
	for i, err := range errs {
		broken := receipts[i].Type == "\x00"
		if (err != nil) != broken || isAway(err) {
			t.Errorf("%s: %v", receipts[i].ID, err)
		}
		if isNew[i] {
			news++
		}
	}
	if news != 10 {
		t.Errorf("%d were new, want 10", news)
	}
	got := ask[string](t, url, "SELECT concat_ws(' ', count(*), (SELECT count(*) FROM jobs WHERE kind = 'stripe_event'), sum(octet_length(payload))) FROM stripe_events")
	if want := fmt.Sprint(10, " ", 10, " ", 9<<20+len("evt_first")); got != want {
		t.Errorf("events, jobs and octets: %s, want %s", got, want)
	}
}

// An event that another transaction is taking in holds up itself, and is new if
// the other is undone.
func TestEventTakenInElsewhereIsWaitedFor(t *testing.T) {
	t.Parallel()
	for _, commits := range []bool{false, true} {
		url := newDatabase(t)
		s := node(t, url)
		tx, err := connect(t, url).Begin(t.Context())
		must(t, err)
		_, err = tx.Exec(t.Context(), "INSERT INTO stripe_events (id, type, payload, state, received_at, history) VALUES ('evt_held', '', '', 'received', 0, '')")
		must(t, err)
		var all sync.WaitGroup
		all.Go(func() {
			if isNew, err := s.TakeIn(t.Context(), receipt("evt_held")); err != nil || isNew == commits {
				t.Errorf("committed elsewhere: %t, new: %t, %v", commits, isNew, err)
			}
		})
		eventually(t, recovery, waiting(t, url, 1))
		pause(t.Context(), 500*time.Millisecond) // longer than a statement waits
		if commits {
			must(t, tx.Commit(t.Context()))
		} else {
			must(t, tx.Rollback(t.Context()))
		}
		all.Wait()
		if isNew, err := s.TakeIn(t.Context(), receipt("evt_other")); err != nil || !isNew {
			t.Errorf("another is new: %t, %v", isNew, err)
		}
	}
}

// Who is told that an event is away asks again, and it is there once.
func TestLostAnswerOfAnEvent(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	w := newWire(t, pgtest.Need(t).Addr())
	s := node(t, w.through(url))
	var lost atomic.Bool
	w.onSend(func(l *link, sent []byte) {
		if bytes.Contains(sent, []byte("evt_lost")) && !lost.Swap(true) {
			l.lose(reset)
		}
	})
	_, err := s.TakeIn(t.Context(), receipt("evt_lost"))
	wantAway(t, err)
	eventually(t, recovery, func() error {
		isNew, err := s.TakeIn(t.Context(), receipt("evt_lost"))
		if err == nil && isNew {
			t.Error("it is new a second time")
		}
		return err
	})
	if n := ask[int](t, url, "SELECT count(*) FROM jobs WHERE kind = 'stripe_event'"); n != 1 {
		t.Errorf("%d jobs", n)
	}
}

// Backends that are killed undo what they did not commit: each event's effect is
// there once, whatever is asked how often.
func TestEffectsOutliveKilledBackends(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	s := node(t, url)
	o, _ := newOpening(t, uuid.NewString()+"@example.dev")
	must(t, s.Open(t.Context(), o, nil))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var killer, workers sync.WaitGroup
	killed, failed := 0, atomic.Int32{}
	succeeded := make(chan struct{}, 1)
	killer.Go(func() {
		c, err := pgx.Connect(context.WithoutCancel(ctx), url)
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = c.Close(context.Background()) }()
		for ctx.Err() == nil {
			// Between two kills something succeeds, however slow the machine: killed by
			// the clock, a starved one never gets a call done.
			select {
			case <-succeeded:
			case <-ctx.Done():
			}
			done, err := c.Exec(context.WithoutCancel(ctx), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'gatehouse' AND datname = current_database() AND state <> 'idle'")
			if err != nil {
				t.Error(err)
				return
			}
			killed += int(done.RowsAffected())
		}
	})
	again := func(call func() error) {
		for range 200 {
			err := call()
			if err == nil {
				select {
				case succeeded <- struct{}{}:
				default: // the killer has been told
				}
				return
			}
			failed.Add(1)
			if !isAway(err) {
				t.Error(err)
				return
			}
		}
		t.Error("it never succeeded")
	}
	const invoices = 30
	for worker := range 4 {
		workers.Go(func() {
			for i := range invoices {
				evt := fmt.Sprintf("evt_%d_%d", worker, i) // each invoice has an event of each worker
				again(func() error {
					_, err := s.TakeIn(context.Background(), receipt(evt))
					return err
				})
				again(func() error {
					_, err := s.Apply(context.Background(), billing.Change{
						EventID: evt, By: "worker", State: billing.Done, Customer: billing.Party{CustomerID: o.ID},
						Payment: &billing.Payment{ID: fmt.Sprint("in_", i), Cents: 1, Credits: 1, Source: billing.ProPayment},
					})
					return err
				})
			}
		})
	}
	workers.Wait()
	cancel()
	killer.Wait()
	if killed == 0 || failed.Load() == 0 {
		t.Errorf("%d backends were killed, %d calls failed: nothing was tested", killed, failed.Load())
	}
	report, err := billing.Verify(s.Ledgers(t.Context(), ""))
	if err != nil || len(report.Findings) > 0 || report.Entries != 1+invoices {
		t.Errorf("ledgers: %+v, %v, want %d entries", report, err, 1+invoices)
	}
	events, err := s.Events(t.Context(), billing.EventFilter{}, "", 1000)
	if err != nil || len(events) != 4*invoices || slices.ContainsFunc(events, func(e billing.StoredEvent) bool { return e.State != billing.Done || len(e.History) != 2 }) {
		t.Errorf("%d events, %v: not each was decided once", len(events), errors.Join(err))
	}
	t.Logf("%d backends were killed, %d calls failed", killed, failed.Load())
}
