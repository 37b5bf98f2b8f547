package stripe

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"

	stripego "github.com/stripe/stripe-go/v85"

	"gatehouse/internal/account"
	"gatehouse/internal/account/email"
	"gatehouse/internal/jobs"
)

// ownerField is the metadata in which a customer at Stripe names ours.
const ownerField = "gatehouse_customer_id"

// Client calls Stripe's API. It may be used by many goroutines.
type Client struct {
	key Key
	api stripego.Backend
}

// New returns a client for the API at base, which [ParseBase] read.
func New(key Key, base string) *Client {
	return &Client{key: key, api: stripego.GetBackendWithConfig(stripego.APIBackend, &stripego.BackendConfig{
		URL:               &base,
		HTTPClient:        &http.Client{Transport: newTransport()}, // no time-out: the caller's context has one
		MaxNetworkRetries: new(int64(0)),                           // the job tries again
		EnableTelemetry:   new(false),
		LeveledLogger:     &stripego.LeveledLogger{Level: stripego.LevelNull}, // it would log answers
	})}
}

// EnsureCustomer makes the customer at Stripe and returns its id there: cus_
// and at most 250 printable ASCII characters. The id of ours is in its metadata
// as gatehouse_customer_id. ctx bounds the whole; there is no other time-out.
//
// Trying again is safe. Each try has the same Idempotency-Key, so for 24 hours
// at least Stripe answers with the customer that an earlier try made, or with
// the 500 that it met. Later the key is forgotten and would make a second
// customer. So again, true when an earlier try may have come through, first
// looks for ours among the 100 newest customers with the address. It is not
// done at first, since it would double the calls, and it does not replace the
// key: two tries at once would both find nothing.
//
// An error marked by jobs.Permanent is Stripe's refusal, which would come again;
// any other is worth another try. Neither text has the API key, an address or
// more than a cleaned line of what Stripe says.
func (c *Client) EnsureCustomer(ctx context.Context, who account.Customer, again bool) (string, error) {
	address, err := email.Parse(who.Email) // Stripe is told a domain's A-labels
	if err != nil {
		return "", jobs.Permanent(errors.New("the customer's address can't be read"))
	}
	if again {
		id, err := c.find(ctx, who.ID, address.ASCII())
		if err != nil {
			return "", fmt.Errorf("look for a customer at Stripe: %w", err)
		}
		if id != "" {
			return id, nil
		}
	}
	var made stripego.Customer
	err = c.call(http.MethodPost, stripego.Params{Context: ctx, IdempotencyKey: new("gatehouse-customer-" + who.ID)},
		url.Values{"email": {address.ASCII()}, "name": {who.Name}, "metadata[" + ownerField + "]": {who.ID}}, &made)
	if err == nil {
		err = check(&made, who.ID)
	}
	if err != nil {
		return "", fmt.Errorf("create a customer at Stripe: %w", err)
	}
	return made.ID, nil
}

// find returns the id of the customer at Stripe that names ours, or "".
func (c *Client) find(ctx context.Context, owner, address string) (string, error) {
	var list stripego.CustomerList
	err := c.call(http.MethodGet, stripego.Params{Context: ctx},
		url.Values{"email": {address}, "limit": {"100"}}, &list) // 100 is Stripe's most
	if err != nil {
		return "", err
	}
	for _, found := range list.Data {
		if found != nil && found.Metadata[ownerField] == owner {
			return found.ID, check(found, owner)
		}
	}
	return "", nil
}

// call asks for /v1/customers. It takes a form, since the client that comes
// with stripe-go's typed lists goes on through all their pages and has the key
// in the open. No text of stripe-go's errors gets out: they quote the URL, in
// which there is an address, and whole answers.
func (c *Client) call(method string, params stripego.Params, form url.Values, answer stripego.LastResponseSetter) error {
	err := c.api.CallRaw(method, "/v1/customers", *c.key.text, []byte(form.Encode()), &params, answer)
	if err == nil {
		return nil
	}
	if params.Context.Err() != nil {
		return params.Context.Err()
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err // the transport's
	}
	return errors.New("the answer is JSON, but not what was asked for")
}

var customerID = regexp.MustCompile(`^cus_[!-~]{1,250}$`)

// check returns what is wrong with a customer in an answer. One that names no
// customer of ours passes: stripe-mock's do.
func check(c *stripego.Customer, owner string) error {
	named, has := c.Metadata[ownerField]
	switch {
	case c.Object != "customer":
		return errors.New("the answer is no customer")
	case !customerID.MatchString(c.ID):
		return errors.New("the answer's customer has an id that is none of Stripe's")
	case c.Deleted:
		return errors.New("the answer's customer is deleted")
	case has && named != owner:
		return errors.New("the answer's customer is another one's")
	}
	return nil
}
