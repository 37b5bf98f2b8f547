package records

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"gatehouse/internal/account"
	"gatehouse/internal/billing"
)

// Erasure is what erasing a customer came to.
type Erasure struct {
	account.Erased
	Was account.Data // the customer as it was
}

// Erase removes what is personal of a customer. Stripe may have told of it when
// nobody knew whom it meant; such events are made the customer's before its
// address is gone, so that an erasure that is cut short, and then run again, finds
// them as well.
func Erase(ctx context.Context, r Runner, id string, at time.Time) (Erasure, error) {
	known, err := Read(ctx, r, "read_customer", func(r Reader) (d account.Data, err error) {
		d.Customer, err = Customer(r, "id", id, ", email_canonical", &d.CanonicalEmail)
		return d, err
	})
	if err != nil {
		return Erasure{}, err
	}
	who := tracesOf(known)
	last, err := adopt(ctx, r, id, who, place{})
	if err != nil {
		return Erasure{}, err
	}
	done, err := Write(ctx, r, "erase_customer", func(t Tx) (Erasure, error) { return erase(t, id, at) })
	if err != nil {
		return done, err
	}
	// What has come meanwhile, or was decided just then. Events are stamped before
	// they are committed.
	last.at -= time.Minute.Microseconds()
	if _, err = adopt(ctx, r, id, who, last); err == nil {
		err = r.Write(ctx, "empty_events", func(t Tx) error {
			if _, err := t.Lock(id); err != nil {
				return err
			}
			return blank(t, id, "")
		})
	}
	if err != nil {
		return done, fmt.Errorf("%s is erased, but some of Stripe's events may tell of it: run it again: %w", id, err)
	}
	return done, nil
}

// erase removes a customer's own rows.
func erase(t Tx, id string, at time.Time) (e Erasure, err error) {
	if _, err := t.Lock(id); err != nil {
		return e, err
	}
	e.Was.Customer, err = Customer(t, "id", id, ", email_canonical", &e.Was.CanonicalEmail)
	e.Customer, e.Already = e.Was.Customer, !e.Was.ErasedAt.IsZero()
	if err != nil || e.Already {
		return e, err
	}
	if err := t.Row("SELECT count(*) FROM jobs WHERE subject = $1 AND running", []any{id}, &e.Running); err != nil {
		return e, err
	}
	now, err := t.Now()
	if err == nil {
		err = endCredentials(t, id, "", now, "its customer was erased")
	}
	if err != nil {
		return e, err
	}
	_, err = t.Exec("UPDATE customers SET name = '', email = '', email_canonical = 'erased:' || id, company = '', erased_at = $2 WHERE id = $1", id, at.UnixMicro())
	for _, removal := range []string{
		"DELETE FROM api_keys WHERE customer_id = $1", "DELETE FROM outcomes WHERE customer_id = $1", "DELETE FROM jobs WHERE subject = $1",
		"DELETE FROM payment_methods WHERE customer_id = $1",
		"UPDATE grants SET github_job = '', github_run = '' WHERE customer_id = $1",
	} {
		if err == nil {
			_, err = t.Exec(removal, id)
		}
	}
	if err == nil { // a charge under way may come through yet, and nobody may begin one
		_, err = t.Exec("UPDATE fixes SET external_id = id, repository = '', pull_request = '', begun_at = CASE WHEN begun_at > $2 THEN $2 ELSE begun_at END WHERE customer_id = $1",
			id, now-(billing.ChargeTrust+time.Minute).Microseconds()) // for nodes whose clocks are behind
	}
	if err == nil {
		err = blank(t, id, "")
	}
	e.Customer.Name, e.Customer.Email, e.Customer.Company, e.Customer.ErasedAt = "", "", "", Instant(at.UnixMicro())
	return e, err
}

const ofErased = "its customer was erased"

// blank removes what is personal of an erased customer's events, or of one of
// them. Those that wait do so no longer, nor does one whose job was given up; those
// that a job is to decide are blanked when it has.
func blank(t Tx, owner, only string) error {
	now, err := t.Now()
	if err != nil {
		return err
	}
	const theirs = " WHERE customer_id = $1 AND customer_id <> '' AND ($2 = '' OR id = $2)"
	_, err = t.Exec("UPDATE stripe_events SET state = 'ignored', reason = $3, waits_for = '', decided_at = $4, history = history || $5"+theirs+
		" AND (state = 'parked' OR state = 'received' AND NOT EXISTS (SELECT 1 FROM jobs WHERE kind = 'stripe_event' AND subject = stripe_events.id AND dead_at IS NULL))",
		owner, only, ofErased, now, step(now, "ignored: "+ofErased))
	if err == nil {
		_, err = t.Exec("DELETE FROM jobs WHERE kind = 'stripe_event' AND dead_at IS NOT NULL AND subject IN (SELECT id FROM stripe_events"+theirs+" AND state = 'ignored')", owner, only)
	}
	if err == nil {
		_, err = t.Exec("UPDATE stripe_events SET payload = $3"+theirs+" AND state <> 'received' AND payload <> $3", owner, only, []byte{})
	}
	return err
}

// place is how far a search has come through the events in the order they came.
type place struct {
	at int64
	id string
}

// searchSome is how many events one reading call looks into: some megabytes.
const searchSome = 500

// adopt makes a customer's what is nobody's and tells of it, from a place on.
// Each is a transaction of its own: those who lock two events could wait for each
// other in a circle.
func adopt(ctx context.Context, r Runner, owner string, who traces, from place) (place, error) {
	for {
		seen, found := 0, []string(nil)
		err := r.Read(ctx, "search_events", func(r Reader) error {
			return r.Each(`SELECT received_at, id, waits_for, payload FROM stripe_events WHERE (received_at, id) > ($1, $2) AND customer_id = '' AND length(payload) > 0
				ORDER BY received_at, id LIMIT $3`, []any{from.at, from.id, searchSome}, func(scan Scan) error {
				var waits string
				var payload []byte
				err := scan(&from.at, &from.id, &waits, &payload)
				if seen++; err == nil && who.in(payload, waits != "") {
					found = append(found, from.id)
				}
				return err
			})
		})
		for _, id := range found {
			if err == nil {
				err = r.Write(ctx, "adopt_event", func(t Tx) error {
					now, err := t.Now()
					if err == nil {
						_, err = t.Exec("UPDATE stripe_events SET customer_id = $2, history = history || $3 WHERE id = $1 AND customer_id = ''",
							id, owner, step(now, "it names "+owner+", who is erased"))
					}
					return err
				})
			}
		}
		if err != nil || seen < searchSome {
			return from, err
		}
	}
}

// traces find a customer in what Stripe tells: by its ids alone, or by its address
// as well.
type traces struct{ ids, all *regexp.Regexp }

// tracesOf is a customer by its id, that at Stripe and, until it is erased, its
// address as it was given and in its canonical form. Each is looked for as a word
// of its own: ann@x.dev is not in joann@x.dev, nor cus_1 in cus_12.
func tracesOf(d account.Data) traces {
	anyOf := func(texts ...string) string {
		var quoted []string
		for _, text := range texts {
			if text != "" { // which is everywhere
				quoted = append(quoted, regexp.QuoteMeta(text))
			}
		}
		return strings.Join(quoted, "|")
	}
	ids := `(^|[^0-9A-Za-z])(` + anyOf(d.ID, d.StripeCustomerID) + `)($|[^0-9A-Za-z])`
	words := ids
	if addresses := anyOf(d.Email, d.CanonicalEmail); d.ErasedAt.IsZero() && addresses != "" {
		words += `|(?i:(^|[^\pL\pN.!#$%&'*+^_~-])(` + addresses + `)($|[^\pL\pN._-]|\.($|[^\pL\pN])))`
	}
	return traces{regexp.MustCompile(ids), regexp.MustCompile(words)}
}

// in says whether what Stripe told has any of them: in a text of its JSON, in
// whatever way that is written, or anywhere if it is none. Of what waits for
// somebody who is not known yet the address is no sign: two may share one, and the
// other's payment must not be lost.
func (t traces) in(payload []byte, waits bool) bool {
	words := t.all
	if waits {
		words = t.ids
	}
	d := jsontext.NewDecoder(bytes.NewBuffer(payload), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	for {
		token, err := d.ReadToken()
		switch {
		case errors.Is(err, io.EOF):
			return false
		case err != nil:
			return words.Match(payload)
		case token.Kind() == '"' && words.MatchString(token.String()):
			return true
		}
	}
}
