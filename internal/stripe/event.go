package stripe

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"gatehouse/internal/billing"
)

// noID begins the id of what has none: the hash of its bytes follows.
const noID = "sha256:"

// Receive makes a receipt of bytes that are Stripe's beyond doubt, whatever
// they are. note says how they came. It keeps body, and reads no more of it
// than its form and the names of the event: [ParseEvent] reads the rest.
//
// The receipt's id is the event's, 1 to 255 printable ASCII characters, where
// the bytes are JSON that has one, and otherwise made of their hash: what can't
// be read must not take the place of an event that can.
func Receive(body []byte, note string) billing.Receipt {
	e, err := readEnvelope(body)
	r := billing.Receipt{ID: e.id, Type: e.kind, Payload: body, Note: note}
	switch {
	case err != nil:
		r.Park = err.Error()
	case e.id == "":
		r.Park = "it has no id, or one that is none of Stripe's"
	case strings.HasPrefix(e.object, "v2."):
		r.Park = "it is a thin event, which names an object and does not show it: have the endpoint send snapshots"
	case e.object != "event":
		r.Park = "it is not an event"
	case e.kind == "":
		r.Park = "it has no type, or one that is none of Stripe's"
	}
	if r.ID == "" {
		sum := sha256.Sum256(body)
		r.ID = noID + hex.EncodeToString(sum[:])
	}
	return r
}

// envelope is what an event is called. What is not a name is "".
type envelope struct{ id, object, kind string }

// readEnvelope goes through the whole body, so that what has no end, or none
// that can be read, has no names.
func readEnvelope(body []byte) (e envelope, err error) {
	// What is there twice is found by ParseEvent, unless it is one of the names.
	d := jsontext.NewDecoder(bytes.NewBuffer(body), jsontext.AllowDuplicateNames(true))
	if start, err := d.ReadToken(); err != nil || start.Kind() != '{' {
		return envelope{}, errors.New("it is no JSON object")
	}
	names := map[string]*string{"id": &e.id, "object": &e.object, "type": &e.kind}
	seen := make(map[string]bool, len(names))
	for d.PeekKind() != '}' {
		name, err := d.ReadToken()
		if err != nil {
			return envelope{}, broken(d)
		}
		key := name.String()
		v, err := d.ReadValue()
		if err != nil {
			return envelope{}, broken(d)
		}
		into, ok := names[key]
		if !ok {
			continue
		}
		text, err := jsontext.AppendUnquote(nil, v)
		if *into = ""; err == nil && !seen[key] && isID(string(text)) { // two are none
			*into = string(text)
		}
		seen[key] = true
	}
	if _, err := d.ReadToken(); err != nil { // the end of the object
		return envelope{}, broken(d)
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return envelope{}, broken(d)
	}
	return e, nil
}

func broken(d *jsontext.Decoder) error {
	return fmt.Errorf("it is no JSON that can be read, from byte %d", d.InputOffset())
}

// data is what an event is about, and what of it has changed.
type data struct {
	Object   jsontext.Value `json:"object"`
	Previous jsontext.Value `json:"previous_attributes"`
}

// effects are the types of event that may change something here, and what reads
// their object. Stripe lets one ask for 20 at once.
var effects = map[string]func(*billing.Event, data) error{
	"customer.subscription.created": subscriptionEvent,
	"customer.subscription.updated": subscriptionEvent,
	"customer.subscription.deleted": subscriptionEvent,
	"customer.subscription.paused":  subscriptionEvent,
	"customer.subscription.resumed": subscriptionEvent,
	"invoice.paid":                  invoiceEvent,
	"invoice.payment_succeeded":     invoiceEvent,
	"invoice.payment_failed":        invoiceEvent,
	"invoice_payment.paid":          invoicePaymentEvent,
	"payment_method.attached":       methodEvent,
	"payment_method.detached":       methodEvent,
	"charge.refunded":               chargeEvent,
	"charge.dispute.created":        disputeEvent,
	"charge.dispute.closed":         disputeEvent,
}

// ParseEvent reads an event in the shape of any version of the API from
// 2022-08-01 on. It reads what it needs and passes over the rest; of types that
// have no effect it reads the envelope and, as far as it can, whom they are
// about.
//
// The error names the field that can't be read and shows nothing that was in
// the event.
func ParseEvent(payload []byte) (billing.Event, error) {
	var w struct {
		base
		Type    ident `json:"type"`
		Created unix  `json:"created"`
		Live    bool  `json:"livemode"`
		Account ident `json:"account"`
		Data    data  `json:"data"`
	}
	if err := decode("the event", payload, &w); err != nil {
		return billing.Event{}, err
	}
	e := billing.Event{ID: string(w.ID), Type: string(w.Type), Created: w.Created.Time, Live: w.Live, Account: string(w.Account)}
	switch {
	case w.Object != "event":
		return billing.Event{}, errors.New("the event.object is another")
	case e.ID == "":
		return billing.Event{}, errors.New("the event.id is missing")
	case e.Type == "":
		return billing.Event{}, errors.New("the event.type is missing")
	case e.Created.IsZero():
		return billing.Event{}, errors.New("the event.created is missing")
	}
	read, ok := effects[e.Type]
	if !ok {
		e.Party = anyone(w.Data.Object)
		return e, nil
	}
	if err := read(&e, w.Data); err != nil {
		return billing.Event{}, err
	}
	return e, nil
}

// HasEffect says whether events of a type may have an effect.
func HasEffect(kind string) bool { return effects[kind] != nil }
