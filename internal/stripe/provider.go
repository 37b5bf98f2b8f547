package stripe

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"gatehouse/internal/billing"
)

var _ billing.Provider = (*Client)(nil)

// maxPages bounds how far a list is followed: 100 objects are on a page.
const maxPages = 50

// Live says whether the key moves real money.
func (c *Client) Live() bool { return strings.HasPrefix((*c.key.text)[len("sk_"):], "live_") }

// Subscription returns a subscription as it is now, with all its prices.
func (c *Client) Subscription(ctx context.Context, id string) (billing.SubscriptionObject, error) {
	raw, err := c.object(ctx, "/v1/subscriptions/", id)
	if err != nil {
		return billing.SubscriptionObject{}, err
	}
	o, more, err := readSubscription(inAnswer, raw)
	if err == nil && more {
		o.Prices, err = allPrices(ctx, c, "/v1/subscription_items", url.Values{"subscription": {id}}, func(i item) ident { return i.ID })
	}
	return o, same(id, o.ID, err)
}

// Invoice returns an invoice as it is now, with the prices of all its lines.
func (c *Client) Invoice(ctx context.Context, id string) (billing.InvoiceObject, error) {
	raw, err := c.object(ctx, "/v1/invoices/", id)
	if err != nil {
		return billing.InvoiceObject{}, err
	}
	o, _, err := readInvoice(inAnswer, raw)
	if err == nil && o.MoreLines {
		o.MoreLines = false
		o.Prices, err = allPrices(ctx, c, "/v1/invoices/"+url.PathEscape(id)+"/lines", url.Values{}, func(l line) ident { return l.ID })
	}
	return o, same(id, o.ID, err)
}

// Method returns a payment method, and whether it is attached now.
func (c *Client) Method(ctx context.Context, id string) (billing.MethodObject, error) {
	raw, err := c.object(ctx, "/v1/payment_methods/", id)
	if err != nil {
		return billing.MethodObject{}, err
	}
	o, _, err := readMethod(inAnswer, raw)
	return o, same(id, o.ID, err)
}

// Price returns a price, also one that is still called a plan.
func (c *Client) Price(ctx context.Context, id string) (billing.Price, error) {
	raw, err := c.object(ctx, "/v1/prices/", id)
	if err != nil {
		return billing.Price{}, err
	}
	var w base
	var p price
	if err = decodeObject(inAnswer, "price", raw, &w); err == nil {
		err = decode(inAnswer, raw, &p)
	}
	p.Partial = false
	return p.Price, same(id, p.ID, err)
}

// InvoiceOf returns which invoice a payment intent paid, "" when none. A charge
// without an intent paid none, as far as the API tells.
func (c *Client) InvoiceOf(ctx context.Context, intent string) (string, error) {
	if !strings.HasPrefix(intent, "pi_") {
		return "", nil
	}
	found, _, err := page[payment](ctx, c, "/v1/invoice_payments", url.Values{"payment[type]": {"payment_intent"}, "payment[payment_intent]": {intent}})
	if err != nil {
		return "", gone(err)
	}
	for _, p := range found {
		if p.Payment.Intent == ref(intent) && p.Invoice != "" {
			return string(p.Invoice), nil
		}
	}
	return "", nil
}

// Events returns a page of the events that may have an effect, at most 100 from
// since to until (whole seconds, both included), the newest first. They have
// the form of the version of the API in which they were made.
func (c *Client) Events(ctx context.Context, since, until time.Time, after string) ([]billing.Receipt, bool, error) {
	query := url.Values{
		"types[]":      slices.Sorted(maps.Keys(effects)),
		"created[gte]": {strconv.FormatInt(since.Unix(), 10)},
		"created[lte]": {strconv.FormatInt(until.Unix(), 10)},
	}
	if after != "" {
		query.Set("starting_after", after)
	}
	var found []jsontext.Value
	more, err := false, error(nil)
	for _, limit := range []string{"100", "10", "1"} { // an event is at most some 1 MiB
		query.Set("limit", limit)
		if found, more, err = page[jsontext.Value](ctx, c, "/v1/events", query); !errors.Is(err, errTooLong) {
			break
		}
	}
	if err != nil {
		return nil, false, gone(err)
	}
	receipts := make([]billing.Receipt, 0, len(found))
	for _, raw := range found {
		r := Receive(raw, "fetched by the reconciler")
		if strings.HasPrefix(r.ID, noID) { // the next page could not be asked for
			return nil, false, errors.New(inAnswer + " has an event without an id")
		}
		receipts = append(receipts, r)
	}
	return receipts, more, nil
}

// object asks for one object; a path of Stripe's can't be left with an id.
func (c *Client) object(ctx context.Context, path, id string) (jsontext.Value, error) {
	if !isID(id) || id == "." || id == ".." {
		return nil, billing.ErrGone
	}
	raw, err := c.get(ctx, path+url.PathEscape(id), nil)
	return raw, gone(err)
}

// gone is billing.ErrGone where that is what Stripe says.
func gone(err error) error {
	if e, ok := errors.AsType[*refusalError](err); ok && e.isMissing() {
		return billing.ErrGone
	}
	return err
}

// same refuses an answer about another object than was asked for.
func same(asked, got string, err error) error {
	if err == nil && asked != got {
		return errors.New(inAnswer + " is another object")
	}
	return err
}

// pages goes through a list, one page after the other. An error is the last.
func pages[T any](ctx context.Context, c *Client, path string, query url.Values, id func(T) ident) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		query.Set("limit", "100")
		for range maxPages {
			found, more, err := page[T](ctx, c, path, query)
			if err != nil {
				yield(none, err)
				return
			}
			for _, one := range found {
				if !yield(one, nil) {
					return
				}
			}
			if !more {
				return
			}
			query.Set("starting_after", string(id(found[len(found)-1])))
		}
		yield(none, fmt.Errorf("the list has more than %d pages", maxPages))
	}
}

// allPrices are the prices of all that is on a list.
func allPrices[T interface{ priceOf() billing.Price }](ctx context.Context, c *Client, path string, query url.Values, id func(T) ident) ([]billing.Price, error) {
	var all []T
	for one, err := range pages(ctx, c, path, query, id) {
		if err != nil {
			return nil, gone(err)
		}
		all = append(all, one)
	}
	return pricesOf(all), nil
}
