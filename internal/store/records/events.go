package records

import (
	"fmt"
	"strings"
	"time"

	"gatehouse/internal/billing"
	"gatehouse/internal/jobs"
)

const eventColumns = "e.id, e.type, e.state, e.reason, e.waits_for, e.customer_id, e.received_at, e.decided_at, e.history, coalesce(j.tries, 0), coalesce(j.claim, 0), e.state = 'received' AND (j.dead_at IS NOT NULL OR j.kind IS NULL), coalesce(j.reason, '')"

const fromEvents = " FROM stripe_events e LEFT JOIN jobs j ON j.kind = 'stripe_event' AND j.subject = e.id"

func scanEvent(scan Scan, more ...any) (e billing.StoredEvent, err error) {
	var received int64
	var decided *int64
	var history, failure string
	err = scan(append([]any{
		&e.ID, &e.Type, &e.State, &e.Reason, &e.WaitsFor, &e.CustomerID, &received, &decided, &history, &e.Tries, &e.Claim, &e.Dead, &failure,
	}, more...)...)
	e.ReceivedAt, e.DecidedAt = Instant(received), Optional(decided)
	e.History = strings.Split(strings.TrimSuffix(history, "\n"), "\n")
	if e.State == billing.Received { // its job knows more
		e.Reason = failure
	}
	return e, err
}

// step is a line of an event's history, in which each has its time.
func step(at int64, what string) string {
	return Instant(at).Format("2006-01-02T15:04:05.000000Z") + " " + oneLine(what) + "\n"
}

func oneLine(s string) string { return strings.ReplaceAll(s, "\n", " ") }

// Arrival is how an event that is taken in begins: its state, and the lines of
// its history without their time.
func Arrival(r billing.Receipt) (state string, lines []string) {
	lines = []string{oneLine("received: " + r.Note)}
	if r.Park != "" {
		return string(billing.Parked), append(lines, oneLine("parked: "+r.Park))
	}
	return string(billing.Received), lines
}

// InsertEvent writes an event's row with the job that applies it, and says
// whether it is new.
func InsertEvent(t Tx, r billing.Receipt) (isNew bool, err error) {
	now, err := t.Now()
	if err != nil {
		return false, err
	}
	state, lines := Arrival(r)
	var history strings.Builder
	for _, line := range lines {
		history.WriteString(step(now, line))
	}
	n, err := t.Exec("INSERT INTO stripe_events (id, type, payload, state, reason, received_at, history) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
		r.ID, r.Type, r.Payload, state, r.Park, now, history.String())
	if err == nil && n == 1 && r.Park == "" {
		err = Enqueue(t, jobs.StripeEvent, r.ID)
	}
	return n == 1, err
}

// Event reads an event.
func Event(r Reader, id string) (e billing.StoredEvent, err error) {
	var payload []byte
	e, err = scanEvent(func(into ...any) error {
		return r.Row("SELECT "+eventColumns+", e.payload"+fromEvents+" WHERE e.id = $1", []any{id}, into...)
	}, &payload)
	e.Payload = payload
	return e, missing(err, "There is no such event.")
}

// where says in SQL which events a filter means; its arguments are $1 to $4.
const where = ` WHERE ($1 = '' OR e.id = $1) AND ($2 = '' OR e.state = $2) AND ($3 = '' OR e.type = $3)
	AND ($4 = 0 OR e.state = 'received' AND (j.dead_at IS NOT NULL OR j.kind IS NULL))`

func eventArgs(f billing.EventFilter) []any {
	dead := 0
	if f.Dead {
		dead = 1
	}
	return []any{f.ID, string(f.State), f.Type, dead}
}

// Events lists events, the newest first, from the one before on.
func Events(r Reader, f billing.EventFilter, before string, limit int) ([]billing.StoredEvent, error) {
	from := int64(1) << 62
	if before != "" {
		if err := r.Row("SELECT received_at FROM stripe_events WHERE id = $1", []any{before}, &from); err != nil {
			return nil, missing(err, "There is no event "+before+".")
		}
	}
	return List(r, "SELECT "+eventColumns+fromEvents+where+" AND (e.received_at, e.id) < ($5, $6) ORDER BY e.received_at DESC, e.id DESC LIMIT $7",
		append(eventArgs(f), from, before, limit), func(scan Scan) (billing.StoredEvent, error) { return scanEvent(scan) })
}

// Requeue has events decided again, and says how many. Those of which nothing is
// left are passed over: no job could apply them.
func Requeue(t Tx, ids []string, why string) (n int, err error) {
	now, err := t.Now()
	if err != nil {
		return 0, err
	}
	for _, id := range ids {
		changed, err := t.Exec("UPDATE stripe_events SET state = 'received', waits_for = '', history = history || $2 WHERE id = $1 AND length(payload) > 0", id, step(now, "queued again: "+why))
		if err != nil {
			return n, err
		}
		if changed == 0 {
			continue
		}
		n++
		// A job that runs just now decides by what was; its claim ends here.
		if _, err := t.Exec(`INSERT INTO jobs (kind, subject, created_at, due_at, claim) VALUES ($1, $2, $3, $3, $3)
			ON CONFLICT (kind, subject) DO UPDATE SET due_at = excluded.due_at, claim = jobs.claim + 1, tries = 0, running = false, dead_at = NULL, reason = ''`,
			string(jobs.StripeEvent), id, now); err != nil {
			return n, err
		}
	}
	return n, nil
}

func requeue(t Tx, ids []string, why string) error {
	_, err := Requeue(t, ids, why)
	return err
}

// wakeAll queues the events that wait for anything of a kind.
func wakeAll(t Tx, prefix string) error {
	ids, err := List(t, "SELECT id FROM stripe_events WHERE state = 'parked' AND waits_for >= $1 AND waits_for < $2 ORDER BY id || ''", []any{prefix, prefix + "\x7f"}, Text)
	if err != nil {
		return err
	}
	return requeue(t, ids, prefix+" something is known")
}

// wake queues the events that wait for something that is there now.
func wake(t Tx, prefix, id string) error {
	if id == "" {
		return nil
	}
	ids, err := List(t, "SELECT id FROM stripe_events WHERE state = 'parked' AND waits_for = $1 ORDER BY id || ''", []any{prefix + id}, Text)
	if err != nil {
		return err
	}
	return requeue(t, ids, prefix+id+" is there")
}

// Revisit queues the events whose wait has ended without anybody waking them:
// what they wait for came in the same moment, or with a sign-up.
func Revisit(t Tx) (queued int, parked billing.ParkedEvents, err error) {
	ids, err := List(t, `SELECT e.id FROM stripe_events e WHERE e.state = 'parked' AND e.waits_for <> '' AND (
		EXISTS (SELECT 1 FROM customers c WHERE c.stripe_customer_id = substr(e.waits_for, 17) AND e.waits_for LIKE 'stripe_customer:%')
		OR EXISTS (SELECT 1 FROM customers c WHERE c.id = substr(e.waits_for, 10) AND e.waits_for LIKE 'customer:%')
		OR EXISTS (SELECT 1 FROM pro_prices p WHERE p.id = substr(e.waits_for, 7) AND e.waits_for LIKE 'price:%')
		OR EXISTS (SELECT 1 FROM payments p WHERE p.id = substr(e.waits_for, 9) AND p.customer_id <> '' AND e.waits_for LIKE 'payment:%')
		OR EXISTS (SELECT 1 FROM payments p WHERE p.intent = substr(e.waits_for, 9) AND p.intent <> '' AND p.customer_id <> '' AND e.waits_for LIKE 'payment:%')
		OR EXISTS (SELECT 1 FROM subscription_facts f WHERE f.subscription_id = substr(e.waits_for, 14) AND f.pro AND e.waits_for LIKE 'subscription:%')
		) ORDER BY e.id || '' LIMIT 500`, nil, Text) // not by the index of ids, which would read all events
	if err == nil {
		err = requeue(t, ids, "what it waited for is there")
	}
	if err == nil {
		err = t.Row("SELECT count(nullif(waits_for, '')), count(*) - count(nullif(waits_for, '')) FROM stripe_events WHERE state = 'parked'", nil, &parked.Waiting, &parked.Stuck)
	}
	return len(ids), parked, err
}

// SweepEvents removes events that were settled long ago, or have waited so long
// for what never came, for an operator too: those whose jobs were given up with
// these jobs.
func SweepEvents(t Tx, limit int) (int64, error) {
	now, err := t.Now()
	if err != nil {
		return 0, err
	}
	var given []string
	// One that is queued again meanwhile has another history.
	swept, err := List(t, `DELETE FROM stripe_events WHERE (id, history) IN (SELECT id, history FROM stripe_events
		WHERE received_at < $1 AND coalesce(decided_at, 0) < $1 AND (state <> 'received'
			OR NOT EXISTS (SELECT 1 FROM jobs WHERE kind = 'stripe_event' AND subject = stripe_events.id AND (dead_at IS NULL OR dead_at >= $1)))
		ORDER BY received_at LIMIT $2) RETURNING id, state = 'received'`, []any{now - billing.EventLife.Microseconds(), limit}, func(scan Scan) (id string, err error) {
		var dead bool
		if err = scan(&id, &dead); dead {
			given = append(given, id)
		}
		return id, err
	})
	for _, id := range given {
		if err == nil {
			err = t.Put("DELETE FROM jobs WHERE kind = $1 AND subject = $2 AND dead_at IS NOT NULL", string(jobs.StripeEvent), id)
		}
	}
	return int64(len(swept)), err
}

// Cursor reads how far the reconciler has come; its zero value: nowhere.
func Cursor(r Reader) (c billing.Cursor, err error) {
	var since, until, begun int64
	err = r.Row("SELECT coalesce(max(since), 0), coalesce(max(until), 0), coalesce(max(after_event), ''), coalesce(max(begun_at), 0) FROM reconciler", nil, &since, &until, &c.After, &begun)
	c.Since, c.Until, c.BegunAt = moment(since), moment(until), moment(begun)
	return c, err
}

// SetCursor notes how far the reconciler has come.
func SetCursor(t Tx, c billing.Cursor) error {
	_, err := t.Exec(`INSERT INTO reconciler (one, since, until, after_event, begun_at) VALUES (1, $1, $2, $3, $4)
		ON CONFLICT (one) DO UPDATE SET since = excluded.since, until = excluded.until, after_event = excluded.after_event, begun_at = excluded.begun_at`,
		microsOf(c.Since), microsOf(c.Until), c.After, microsOf(c.BegunAt))
	return err
}

// QueueReconcile queues a run of the reconciler when it is time.
func QueueReconcile(t Tx, every time.Duration) error {
	c, err := Cursor(t)
	if err != nil {
		return err
	}
	now, err := t.Now()
	if err != nil || now-microsOf(c.BegunAt) < every.Microseconds() {
		return err
	}
	// One that failed may wait for hours, or be dead: what was missed meanwhile
	// must not wait as long.
	if _, err := t.Exec("UPDATE jobs SET due_at = $2, tries = 0, dead_at = NULL WHERE kind = $1 AND NOT running AND (dead_at IS NOT NULL OR due_at > $3)",
		string(jobs.StripeReconcile), now, now+every.Microseconds()); err != nil {
		return err
	}
	return Enqueue(t, jobs.StripeReconcile, reconciling)
}

// reconciling is the subject of the reconciler's job.
const reconciling = "events"

// moment is a time that is 0 when there is none.
func moment(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return Instant(us)
}

func microsOf(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// ProPrices returns which of some prices are Pro's, and whether a subscription
// is.
func ProPrices(r Reader, prices []string, subscription string) (known []string, isPro bool, err error) {
	for _, id := range prices {
		var there bool
		if err := r.Row("SELECT EXISTS (SELECT 1 FROM pro_prices WHERE id = $1)", []any{id}, &there); err != nil {
			return nil, false, err
		}
		if there {
			known = append(known, id)
		}
	}
	err = r.Row("SELECT EXISTS (SELECT 1 FROM subscription_facts WHERE subscription_id = $1 AND pro)", []any{subscription}, &isPro)
	return known, isPro, err
}

// decided writes what became of an event.
func decided(t Tx, c billing.Change, owner string) error {
	now, err := t.Now()
	if err != nil {
		return err
	}
	what := fmt.Sprintf("%s by %s: %s", c.State, c.By, c.Reason)
	if c.WaitsFor != "" {
		what += "; waits for " + c.WaitsFor
	}
	_, err = t.Exec(`UPDATE stripe_events SET state = $2, reason = $3, waits_for = $4, customer_id = CASE WHEN $5 <> '' THEN $5 ELSE customer_id END, decided_at = $6, history = history || $7
		WHERE id = $1 AND state = 'received'`, c.EventID, string(c.State), c.Reason, c.WaitsFor, owner, now, step(now, what))
	var erased string // who was, and is its owner now or was thought to be
	if err == nil {
		err = t.Row("SELECT coalesce(max(c.id), '') FROM stripe_events e JOIN customers c ON c.id = e.customer_id WHERE e.id = $1 AND c.erased_at IS NOT NULL", []any{c.EventID}, &erased)
	}
	if err == nil && erased != "" {
		err = blank(t, erased, c.EventID)
	}
	return err
}
