package billing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"gatehouse/internal/jobs"
)

const (
	// lookBack is how far Stripe's list of events goes back.
	lookBack = 30 * 24 * time.Hour
	// settling is how young events are left to arrive by themselves.
	settling = time.Minute
	// overlap is how much is read again: an event may enter the list a little
	// after its time.
	overlap = 10 * time.Minute
	// lookAhead is how far a test clock may have been put forward.
	lookAhead = 20 * 365 * 24 * time.Hour
	// reconcileTime bounds one run within its job's time; the next goes on.
	reconcileTime = 20 * time.Second
)

// Reconciler takes in what Stripe's webhooks never brought.
type Reconciler struct {
	inbox    Inbox
	intake   *Intake
	provider Provider
	settling time.Duration
	now      func() time.Time
	log      *slog.Logger
	missed   func(n int)
}

// NewReconciler returns a reconciler that runs once in every. missed is told of
// events that never arrived.
func NewReconciler(inbox Inbox, intake *Intake, p Provider, every time.Duration, now func() time.Time, log *slog.Logger, missed func(n int)) *Reconciler {
	return &Reconciler{inbox, intake, p, min(settling, every), now, log, missed}
}

// Handle is the handler of jobs.StripeReconcile. It goes through what happened
// since the last run, 30 days back at most, and notes after each page how far it
// has come. What was not in the inbox goes the way of every event.
func (r *Reconciler) Handle(ctx context.Context, _ jobs.Job) error {
	c, err := r.inbox.Cursor(ctx)
	if err != nil {
		return fmt.Errorf("read the reconciler's place: %w", err)
	}
	begun := r.now()
	oldest := begun.Add(-lookBack)
	if c.Since.Before(oldest) {
		c.Since = oldest
	}
	if c.Until.IsZero() || c.Until.Before(c.Since) {
		c.Until, c.After = begun.Add(-r.settling), ""
	}
	found := 0
	take := func(page []Receipt) error {
		for _, e := range page {
			isNew, err := r.intake.TakeIn(ctx, e)
			if err != nil {
				return fmt.Errorf("take in event: %w", err)
			}
			if isNew {
				found++
			}
		}
		return nil
	}
	defer func() {
		if found > 0 {
			r.missed(found)
			r.log.WarnContext(ctx, "events of Stripe's had not arrived and were fetched: see gatehouse admin webhooks list", "events", found)
		}
	}()
	for more := true; more; {
		if r.now().Sub(begun) > reconcileTime {
			return nil // the next run goes on
		}
		var page []Receipt
		page, more, err = r.provider.Events(ctx, c.Since.Add(-overlap), c.Until, c.After)
		if errors.Is(err, ErrGone) && c.After != "" { // the event is too old by now: from the newest again
			c.After, more = "", true
			continue
		}
		if err != nil {
			return fmt.Errorf("list events: %w", err)
		}
		if err := take(page); err != nil {
			return err
		}
		if more && len(page) > 0 {
			c.After = page[len(page)-1].ID
		} else {
			c.Since, c.Until, c.After, more = c.Until, time.Time{}, "", false
		}
		c.BegunAt = begun
		if err := r.inbox.SetCursor(ctx, c); err != nil {
			return fmt.Errorf("note the reconciler's place: %w", err)
		}
	}
	if r.provider.Live() {
		return nil
	}
	// A test clock's events may be of a time to come.
	for after, more := "", true; more && r.now().Sub(begun) < reconcileTime; {
		var page []Receipt
		if page, more, err = r.provider.Events(ctx, begun.Add(r.settling), begun.Add(lookAhead), after); err == nil {
			err = take(page)
		}
		if err != nil || len(page) == 0 {
			return err
		}
		after = page[len(page)-1].ID
	}
	return nil
}
