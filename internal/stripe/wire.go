package stripe

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"gatehouse/internal/billing"
)

// decode reads an object of Stripe's, called name in errors, which say which
// field can't be read and show nothing of it.
func decode(name string, raw jsontext.Value, into any) error {
	switch raw.Kind() {
	case '{':
	case jsontext.KindInvalid:
		if len(raw) == 0 {
			return errors.New(name + " is missing")
		}
		return errors.New(name + " is no JSON")
	default:
		return errors.New(name + " is no object")
	}
	err := json.Unmarshal(raw, into)
	if err == nil {
		return nil
	}
	e, ok := errors.AsType[*json.SemanticError](err)
	switch {
	case ok:
		field := name + strings.ReplaceAll(string(e.JSONPointer), "/", ".")
		if why, ok := errors.AsType[invalidError](err); ok {
			return errors.New(field + why.Error())
		}
		return errors.New(field + " has another type or size than it should")
	case errors.Is(err, jsontext.ErrDuplicateName):
		return errors.New(name + " has one key twice")
	}
	return errors.New(name + " is no JSON that can be read")
}

// invalidError is why a value of the right type will not do.
type invalidError string

func (e invalidError) Error() string { return string(e) }

// Values of Stripe's. Each is its zero value where it is null or left out.
type (
	ident string              // an id
	ref   string              // the id of another object
	word  string              // a status
	cents int64               // an amount
	unix  struct{ time.Time } // whole seconds
	label string              // what somebody wrote into metadata
	price struct{ billing.Price }
	plan  struct{ price } // what a price was before
	// maybe tells null from what is left out.
	maybe[T any] struct {
		Given bool
		Value T
	}
)

// UnmarshalJSONFrom takes 1 to 255 printable ASCII characters without spaces.
func (i *ident) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	var s string
	if err := json.UnmarshalDecode(d, &s); err != nil {
		return err
	}
	if s != "" && !isID(s) {
		return invalidError(" is no id of Stripe's")
	}
	*i = ident(s)
	return nil
}

// UnmarshalJSONFrom takes an id, or the whole object where it was asked for.
func (r *ref) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() != '{' {
		return json.UnmarshalDecode(d, (*ident)(r))
	}
	var object base
	err := json.UnmarshalDecode(d, &object)
	*r = ref(object.ID)
	return err
}

// UnmarshalJSONFrom takes what [isWord] does.
func (w *word) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	var s string
	if err := json.UnmarshalDecode(d, &s); err != nil {
		return err
	}
	if !isWord(s) {
		return invalidError(" is no word of Stripe's")
	}
	*w = word(s)
	return nil
}

// isWord says whether s can be shown for a status or a code.
func isWord(s string) bool {
	return len(s) <= maxField && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789_") == ""
}

// UnmarshalJSONFrom takes whole numbers from 0 on.
func (c *cents) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	err := json.UnmarshalDecode(d, (*int64)(c))
	if err == nil && *c < 0 {
		return invalidError(" is below zero")
	}
	return err
}

// maxUnix is the last second of the year 9999, the last that RFC 3339 can write.
const maxUnix = 253402300799

// UnmarshalJSONFrom takes seconds from 1970 to the year 9999; 0 is no time.
func (u *unix) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	var n int64
	if err := json.UnmarshalDecode(d, &n); err != nil {
		return err
	}
	if n < 0 || n > maxUnix {
		return invalidError(" is no time")
	}
	if n > 0 {
		u.Time = time.Unix(n, 0).UTC()
	}
	return nil
}

// UnmarshalJSONFrom takes anything, and is "" where that is nothing of ours.
func (l *label) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	v, err := d.ReadValue()
	if err != nil {
		return err
	}
	if text, err := jsontext.AppendUnquote(nil, v); err == nil && isID(string(text)) && !bytes.ContainsRune(text, '@') { // an address is none, and may be logged
		*l = label(text)
	}
	return nil
}

// UnmarshalJSONFrom takes a price or its id. One that has neither of the keys
// that make a price Pro's was left out in part.
func (p *price) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() != '{' {
		err := json.UnmarshalDecode(d, (*ident)(&p.ID))
		p.Partial = p.ID != ""
		return err
	}
	var w struct {
		ID        ident         `json:"id"`
		LookupKey maybe[string] `json:"lookup_key"`
		Metadata  maybe[struct {
			Plan string `json:"plan"`
		}] `json:"metadata"`
	}
	err := json.UnmarshalDecode(d, &w)
	p.Price = billing.Price{ID: string(w.ID), LookupKey: w.LookupKey.Value, Plan: w.Metadata.Value.Plan, Partial: !w.LookupKey.Given && !w.Metadata.Given}
	return err
}

// UnmarshalJSONFrom takes a plan or its id. A plan shows no lookup key, also
// where its price has one.
func (p *plan) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	err := p.price.UnmarshalJSONFrom(d)
	p.Partial = p.ID != "" && p.Plan == ""
	return err
}

// UnmarshalJSONFrom takes what a T does.
func (m *maybe[T]) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	m.Given = true
	return json.UnmarshalDecode(d, &m.Value)
}

// base is what every object has.
type base struct {
	ID     ident  `json:"id"`
	Object string `json:"object"`
}

// check says whether it is an object of a kind. Its kind may be left out.
func (b base) check(name, kind string) error {
	switch {
	case b.Object != "" && b.Object != kind:
		return fmt.Errorf("%s.object is another than %s", name, kind)
	case b.ID == "":
		return errors.New(name + ".id is missing")
	}
	return nil
}

// decodeObject reads an object of one kind.
func decodeObject(name, kind string, raw jsontext.Value, into interface{ check(name, kind string) error }) error {
	if err := decode(name, raw, into); err != nil {
		return err
	}
	return into.check(name, kind)
}

// owned is what every object has that is a customer's.
type owned struct {
	base
	Customer ref      `json:"customer"`
	Metadata metadata `json:"metadata"`
}

type metadata struct {
	Owner   label `json:"gatehouse_customer_id"`
	Fix     label `json:"gatehouse_fix_id"`
	Attempt label `json:"gatehouse_attempt"`
}

func (o owned) party() billing.Party {
	return billing.Party{StripeID: string(o.Customer), CustomerID: string(o.Metadata.Owner)}
}

// list is a page, or the first part of a list within an object.
type list[T any] struct {
	Data []T  `json:"data"`
	More bool `json:"has_more"`
}
