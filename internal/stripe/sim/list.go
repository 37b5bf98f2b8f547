package sim

import (
	"net/http"
	"slices"
)

// list is a list as Stripe answers it.
type list[T any] struct {
	Object  string `json:"object"` // "list"
	Data    []T    `json:"data"`
	HasMore bool   `json:"has_more"`
	URL     string `json:"url"`
}

// page answers with a page of the rows that are kept, newest first.
func page[T identified](c *call, rows []T, keep func(T) bool) (any, *Failure) {
	limit := int(c.form.number("limit", 10))
	if limit < 1 || limit > 100 {
		c.form.refuse(invalid("limit", "parameter_invalid_integer", "This value must be between 1 and 100 (inclusive)."))
	}
	after, before := c.form.text("starting_after"), c.form.text("ending_before")
	for _, id := range []string{after, before} {
		if _, ok := c.byID[id].(T); id != "" && !ok {
			c.form.refuse(missing("starting_after", id))
		}
	}
	if f := c.form.done(); f != nil {
		return nil, f
	}
	rows = slices.Clone(rows)
	if before == "" { // otherwise those just above it are wanted, so begin below
		slices.Reverse(rows)
	}
	found, more, begun := []T{}, false, after == "" && before == ""
	for _, row := range rows {
		id := row.base().ID
		switch {
		case !begun:
			begun = id == after || id == before
		case !keep(row):
		case len(found) == limit:
			more = true
		default:
			found = append(found, row)
		}
	}
	if before != "" {
		slices.Reverse(found)
	}
	return list[T]{"list", found, more, c.path}, nil
}

// is is a condition of a list: "" holds for all.
func is(wanted, has string) bool { return wanted == "" || wanted == has }

// show answers with the object that the path names.
func show[T any, P object[T]](c *call) (any, *Failure) {
	row := named[T, P](c)
	return row, c.form.done()
}

// object is a pointer to one kind of object.
type object[T any] interface {
	*T
	identified
}

// named is the object that the path names. It is never nil: where there is
// none the form is refused, and the object an empty one.
func named[T any, P object[T]](c *call) P {
	if row, ok := c.byID[c.id].(P); ok {
		return row
	}
	f := missing("id", c.id)
	f.status = http.StatusNotFound
	c.form.refuse(f)
	return new(T)
}

// given is the object that a parameter names, or nil where it is not sent.
func given[T identified](c *call, param string) (row T) {
	id := c.form.text(param)
	if id == "" {
		return row
	}
	row, ok := c.byID[id].(T)
	if !ok {
		c.form.refuse(missing(param, id))
	}
	return row
}

// needed is the object that a parameter must name, and like named never nil.
func needed[T any, P object[T]](c *call, param string) P {
	c.form.need(param)
	if row := given[P](c, param); row != nil {
		return row
	}
	return new(T)
}

// put stores a new object.
func put[T identified](s *Server, rows *[]T, row T) T {
	*rows = append(*rows, row)
	s.byID[row.base().ID] = row
	return row
}
