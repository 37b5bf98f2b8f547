package main

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"gatehouse/internal/billing"
	"gatehouse/internal/store/postgres"
	"gatehouse/internal/store/sqlite"
)

const (
	webhookSecret = "whsec_bench"
	// eventNote is how long what is said of an event's arrival is.
	eventNote = "by webhook, signed at 2026-12-01T12:00:00Z with secret 1"
)

// paidInvoice is an event as Stripe sends it, 1.6 KiB of it: a month of Pro was
// paid. ID and WHO stand for what differs. No colon is before a letter: there
// pgbench would see a variable.
const paidInvoice = `{
  "id": "evt_ID",
  "object": "event",
  "api_version": "2024-09-30.acacia",
  "created": 1790000000,
  "data": {
    "object": {
      "id": "in_ID",
      "object": "invoice",
      "amount_paid": 59900,
      "billing_reason": "subscription_cycle",
      "created": 1789996400,
      "currency": "usd",
      "customer": "cus_WHO",
      "lines": {
        "object": "list",
        "data": [
          {
            "id": "il_ID",
            "object": "line_item",
            "amount": 59900,
            "description": "1 × Pro (at $599.00 / month)",
            "period": { "end": 1792588400, "start": 1789996400 },
            "price": {
              "id": "price_1PgafyB7WZ01zgkWqPro0001",
              "object": "price",
              "currency": "usd",
              "lookup_key": "pro_monthly",
              "metadata": { "plan": "pro" },
              "unit_amount": 59900
            },
            "quantity": 1,
            "subscription": "sub_WHO"
          }
        ],
        "has_more": false,
        "total_count": 1
      },
      "livemode": false,
      "metadata": {},
      "paid": true,
      "payment_intent": "pi_ID",
      "status": "paid",
      "subscription": "sub_WHO",
      "subscription_details": { "metadata": { "gatehouse_customer_id": "WHO" } },
      "total": 59900
    }
  },
  "livemode": false,
  "pending_webhooks": 1,
  "request": { "id": null, "idempotency_key": null },
  "type": "invoice.paid"
}`

// paid is such an event.
func paid(id, customer string) []byte {
	return []byte(strings.NewReplacer("ID", id, "WHO", customer).Replace(paidInvoice))
}

// receipts are events as they are taken in.
func receipts(n int) []billing.Receipt {
	rows := make([]billing.Receipt, n)
	for i := range rows {
		id := rand.Text()[:24]
		rows[i] = billing.Receipt{ID: "evt_" + id, Type: "invoice.paid", Payload: paid(id, "0192f0c1-2b3d-7a4e-8f50-112233445566"), Note: eventNote}
	}
	return rows
}

// sign makes the value of a webhook's signature header, as of now.
func sign(body []byte) string {
	at := strconv.FormatInt(time.Now().Unix(), 10)
	mac := hmac.New(sha256.New, []byte(webhookSecret))
	mac.Write(append([]byte(at), '.'))
	mac.Write(body)
	return fmt.Sprintf("t=%s,v1=%x", at, mac.Sum(nil))
}

// appendWebhook appends a webhook; forwarded is as of appendSignUp.
func appendWebhook(buf, body []byte, signature, forwarded string) []byte {
	buf = append(buf, "POST /api/webhooks/stripe HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json; charset=utf-8\r\nStripe-Signature: "...)
	buf = append(buf, signature...)
	if forwarded != "" {
		buf = append(append(buf, "\r\nX-Forwarded-For: "...), forwarded...)
	}
	buf = append(buf, "\r\nContent-Length: "...)
	buf = strconv.AppendInt(buf, int64(len(body)), 10)
	return append(append(buf, "\r\n\r\n"...), body...)
}

// takeIn has 64 callers take events in, and returns how many a second.
func takeIn(ctx context.Context, inbox billing.Inbox, rows []billing.Receipt) (float64, error) {
	return together(len(rows), func(_, i int) error {
		isNew, err := inbox.TakeIn(ctx, rows[i])
		if err == nil && !isNew {
			err = errors.New("an event is said to be a duplicate")
		}
		return err
	})
}

// benchWebhooks lets 64 goroutines take events in in the store, without HTTP,
// and inserts the same rows raw, in turns: 64 a transaction in SQLite; in
// PostgreSQL with pgbench, one statement an event, at its best client count. No
// jobs are worked off. Making the rows is not counted.
func benchWebhooks(ctx context.Context, o options) error {
	if err := eventsInSQLite(ctx, o); err != nil {
		return err
	}
	c, err := o.startPostgres()
	if err != nil {
		return err
	}
	return errors.Join(eventsInPostgres(ctx, o, c), c.Close())
}

func eventsInSQLite(ctx context.Context, o options) error {
	store, err := sqlite.Open(ctx, sqlite.Options{Path: filepath.Join(o.dir, "events.db"), Serve: true, Migrate: true})
	if err != nil {
		return err
	}
	raw, err := openRaw(ctx, filepath.Join(o.dir, "rawevents.db"))
	if err != nil {
		return err
	}
	events, err1 := raw.PrepareContext(ctx, "INSERT INTO stripe_events (id, type, payload, state, reason, received_at, history) VALUES (?, ?, ?, 'received', '', ?, ?)")
	queued, err2 := raw.PrepareContext(ctx, "INSERT INTO jobs (kind, subject, created_at, due_at, claim) VALUES ('stripe_event', ?1, ?2, ?2, ?2)")
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	insert := func(rows []billing.Receipt) error {
		tx, err := raw.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		events, queued := tx.StmtContext(ctx, events), tx.StmtContext(ctx, queued)
		for _, r := range rows {
			now := time.Now().UTC()
			_, err1 := events.ExecContext(ctx, r.ID, r.Type, r.Payload, now.UnixMicro(), now.Format("2006-01-02T15:04:05.000000Z")+" received: "+r.Note+"\n")
			_, err2 := queued.ExecContext(ctx, r.ID, now.UnixMicro())
			if err := errors.Join(err1, err2); err != nil {
				return errors.Join(err, tx.Rollback())
			}
		}
		return tx.Commit()
	}
	rows := func(n int) ([]billing.Receipt, error) { return receipts(n), nil }
	err = byRaw(o, "events", rows, insert, func(rows []billing.Receipt) (float64, error) { return takeIn(ctx, store, rows) })
	return errors.Join(err, store.Close(), events.Close(), queued.Close(), raw.Close())
}

// byRaw has a store write rows and inserts their like raw, 64 a transaction, in
// turns, and compares how many of them are written in a second.
func byRaw[T any](o options, what string, rows func(n int) ([]T, error), insert func([]T) error, write func([]T) (float64, error)) error {
	const turn = 128 * signUpClients
	var ratios, storeRates, rawRates []float64
	for range 2 * o.rounds { // turns are short
		rows, err := rows(2 * turn)
		if err != nil {
			return err
		}
		start := time.Now()
		for i := 0; i < turn; i += signUpClients {
			if err := insert(rows[i : i+signUpClients]); err != nil {
				return err
			}
		}
		rawRate := turn / time.Since(start).Seconds()
		rate, err := write(rows[turn:])
		if err != nil {
			return err
		}
		storeRates, rawRates, ratios = append(storeRates, rate), append(rawRates, rawRate), append(ratios, rate/rawRate)
	}
	fmt.Printf("SQLite, %s a second: store %s, raw %s, ratio %s\n", what, spread("%.0f", storeRates), spread("%.0f", rawRates), spread("%.2f", ratios))
	return nil
}

// eventScript is one statement that writes an event and its job, as pgbench runs
// it. Its stamp has dashes, for the colons' sake.
func eventScript() string {
	payload := strings.NewReplacer("ID", "' || u.id || '", "WHO", "0192f0c1-2b3d-7a4e-8f50-112233445566").Replace(paidInvoice)
	return `WITH e AS (
	INSERT INTO stripe_events (id, type, payload, state, reason, received_at, history)
	SELECT 'evt_' || u.id, 'invoice.paid', convert_to('` + payload + `', 'UTF8'), 'received', '', now_us(),
		'2026-12-01T12-00-00.000000Z received: ` + strings.ReplaceAll(eventNote, ":", "-") + `' || chr(10)
	FROM (SELECT left(replace(gen_random_uuid()::text, '-', ''), 24) AS id OFFSET 0) u RETURNING id, received_at
)
INSERT INTO jobs (kind, subject, created_at, due_at, claim) SELECT 'stripe_event', id, received_at, received_at, received_at FROM e;
`
}

func eventsInPostgres(ctx context.Context, o options, c cluster) error {
	return c.byPgbench(ctx, o, "events", eventScript(), c.database, func(s *postgres.Store) (float64, error) {
		return takeIn(ctx, s, receipts(256*signUpClients))
	})
}

// byPgbench has a store write in a new database, and pgbench run a script at its
// best client count in another, in turns, and compares how much they do a second.
func (c cluster) byPgbench(ctx context.Context, o options, what, script string, database func(context.Context) (string, error), write func(*postgres.Store) (float64, error)) error {
	clients, err := bestClients(ctx, o, database, script)
	if err != nil {
		return err
	}
	var ratios, storeRates, benchRates []float64
	for range o.rounds {
		url, err := database(ctx)
		if err != nil {
			return err
		}
		yardstick, err := pgbench(ctx, o.dir, url, script, clients, o.slice)
		if err != nil {
			return err
		}
		if url, err = c.database(ctx); err != nil {
			return err
		}
		store, err := postgres.Open(ctx, postgres.Options{URL: url, Serve: true})
		if err != nil {
			return err
		}
		rate, err := write(store)
		if err := errors.Join(err, store.Close()); err != nil {
			return err
		}
		fmt.Printf("  pgbench %6.0f/s   store %6.0f/s\n", yardstick, rate)
		storeRates, benchRates, ratios = append(storeRates, rate), append(benchRates, yardstick), append(ratios, rate/yardstick)
	}
	fmt.Printf("PostgreSQL, %s a second: store %s, pgbench, %d clients, %s, ratio %s\n",
		what, spread("%.0f", storeRates), clients, spread("%.0f", benchRates), spread("%.2f", ratios))
	return nil
}
