package stripe

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"

	"github.com/go-json-experiment/json/jsontext"
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
			return "", fmt.Errorf("look for a customer at Stripe: %w", lasting(err))
		}
		if id != "" {
			return id, nil
		}
	}
	answer, err := c.post(ctx, "/v1/customers", "gatehouse-customer-"+who.ID,
		url.Values{"email": {address.ASCII()}, "name": {who.Name}, "metadata[" + ownerField + "]": {who.ID}})
	var made customer
	if err == nil {
		err = decode(inAnswer, answer, &made)
	}
	if err == nil {
		err = made.check(who.ID)
	}
	if err != nil {
		return "", fmt.Errorf("create a customer at Stripe: %w", lasting(err))
	}
	return made.ID, nil
}

// lasting marks what Stripe refuses, and would refuse again.
func lasting(err error) error {
	if e, ok := errors.AsType[*refusalError](err); ok && e.forGood() {
		return jobs.Permanent(err)
	}
	return err
}

// find returns the id of the customer at Stripe that names ours, or "".
func (c *Client) find(ctx context.Context, owner, address string) (string, error) {
	found, _, err := page[jsontext.Value](ctx, c, "/v1/customers", url.Values{"email": {address}, "limit": {"100"}}) // 100 is Stripe's most
	if err != nil {
		return "", err
	}
	for _, raw := range found {
		if raw.Kind() != '{' {
			continue
		}
		var one customer
		if err := decode(inAnswer, raw, &one); err != nil {
			return "", err
		}
		if one.Metadata.Owner.Value == owner {
			return one.ID, one.check(owner)
		}
	}
	return "", nil
}

// inAnswer is what the object in an answer is called in errors.
const inAnswer = "the answer"

// get asks for what is at a path.
func (c *Client) get(ctx context.Context, path string, query url.Values) (jsontext.Value, error) {
	return c.call(http.MethodGet, path, stripego.Params{Context: ctx}, query)
}

// post asks for a change, which Stripe makes once for each key.
func (c *Client) post(ctx context.Context, path, key string, form url.Values) (jsontext.Value, error) {
	return c.call(http.MethodPost, path, stripego.Params{Context: ctx, IdempotencyKey: &key}, form)
}

// page asks for a page of a list, and says whether there are more.
func page[T any](ctx context.Context, c *Client, path string, query url.Values) ([]T, bool, error) {
	answer, err := c.get(ctx, path, query)
	if err != nil {
		return nil, false, err
	}
	var w struct {
		Object string `json:"object"`
		list[T]
	}
	if err := decode(inAnswer, answer, &w); err != nil {
		return nil, false, err
	}
	if w.Object != "list" || w.More && len(w.Data) == 0 {
		return nil, false, errors.New(inAnswer + " is no list")
	}
	return w.Data, w.More, nil
}

// call takes a form and returns JSON, since the client that comes with
// stripe-go's types goes on through all the pages of a list, has the key in the
// open and reads one version of the API alone. No text of stripe-go's errors
// gets out: they quote the URL, in which there may be an address, and whole
// answers.
func (c *Client) call(method, path string, params stripego.Params, form url.Values) (jsontext.Value, error) {
	var a answer
	err := c.api.CallRaw(method, path, *c.key.text, []byte(form.Encode()), &params, &a)
	if err == nil {
		return a.body, nil
	}
	if params.Context.Err() != nil {
		return nil, params.Context.Err()
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		return nil, e.Err // the transport's
	}
	return nil, errors.New("the answer is JSON, but not what was asked for")
}

// answer keeps an answer unread.
type answer struct{ body jsontext.Value }

// SetLastResponse is what stripe-go hands the whole to.
func (a *answer) SetLastResponse(r *stripego.APIResponse) { a.body = r.RawJSON }

// UnmarshalJSON leaves the reading to others.
func (a *answer) UnmarshalJSON([]byte) error { return nil }

// customer is one of Stripe's.
type customer struct {
	ID       string `json:"id"`
	Object   string `json:"object"`
	Deleted  bool   `json:"deleted"`
	Metadata struct {
		Owner maybe[string] `json:"gatehouse_customer_id"`
	} `json:"metadata"`
}

var customerID = regexp.MustCompile(`^cus_[!-~]{1,250}$`)

// check returns what is wrong with a customer in an answer. One that names no
// customer of ours passes: stripe-mock's do.
func (c *customer) check(owner string) error {
	switch {
	case c.Object != "customer":
		return errors.New("the answer is no customer")
	case !customerID.MatchString(c.ID):
		return errors.New("the answer's customer has an id that is none of Stripe's")
	case c.Deleted:
		return errors.New("the answer's customer is deleted")
	case c.Metadata.Owner.Given && c.Metadata.Owner.Value != owner:
		return errors.New("the answer's customer is another one's")
	}
	return nil
}
