package verify

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
)

// keysPath is where a customer makes a key, and below it revokes one.
const keysPath = "/api/v1/keys"

// access is the API keys that policies' requests carry.
type access struct {
	err   error  // why a sign-up for the first came to nothing
	first string // one of a file, or of a customer who signed up
	// second is another of the same customer, made for this run, so that a limit
	// over all keys can be told from one for each; "" has why.
	second, id, why string
}

// access finds the keys, and makes a second one where it is needed.
func (c *client) access(ctx context.Context, o *Options, second bool) (a access) {
	switch {
	case len(o.Keys) > 0:
		a.first = o.Keys[0]
	case o.apart():
		a.first, a.err = c.signUp(ctx)
	}
	if a.first == "" || !second {
		return a
	}
	answer, text := c.first(ctx, http.MethodPost, keysPath, a.first, `{"name": "load verify"}`)
	var made struct {
		ID  string `json:"id"`
		Key string `json:"api_key"`
	}
	if json.Unmarshal(text, &made) != nil || made.ID == "" || made.Key == "" {
		a.why = "its customer could not make a second key: " + answer.told()
		return a
	}
	a.id, a.second = made.ID, made.Key
	return a
}

// revoke takes back the second key, which else would stay with the customer of a
// file's key. It does so after an interruption, too.
func (c *client) revoke(ctx context.Context, a access) error {
	answer, _ := c.first(context.WithoutCancel(ctx), http.MethodDelete, keysPath+"/"+a.id, a.first, "")
	if answer.Status != http.StatusNoContent {
		return fmt.Errorf("the key %.40q that was made for this run could not be revoked: %s", a.id, answer.told())
	}
	return nil
}

// prepare finds what a policy's requests need.
func (c *client) prepare(o *Options, a access) error {
	switch p := c.policy; {
	case p.signed && c.secret == "":
		return &UntriedError{Why: "nothing can sign its events: set GATEHOUSE_STRIPE_WEBHOOK_SECRETS"}
	case !p.NeedsKey:
	case a.err != nil:
		return a.err
	case a.first == "":
		return &UntriedError{Why: "it needs an API key: add --keys-file, or --clients-via forwarded for a target that trusts this machine as a proxy"}
	case p.customer && a.second != "":
		c.keys = []string{a.first, a.second}
	case p.customer:
		c.keys = []string{a.first}
	case len(o.Keys) > 1:
		c.keys = o.Keys[len(o.Keys)-1:]
	default: // making the second has taken a place of the first's
		c.keys = []string{cmp.Or(a.second, a.first)}
	}
	return nil
}

// signUp makes a customer at a load test's domain, for its key.
func (c *client) signUp(ctx context.Context) (key string, err error) {
	a, text := c.first(ctx, http.MethodPost, Policies()[0].path, "", c.signUpBody(0))
	var opened struct {
		Key string `json:"api_key"`
	}
	if json.Unmarshal(text, &opened) != nil || opened.Key == "" {
		return "", fmt.Errorf("a sign-up for an API key came to nothing: %s", a.told())
	}
	return opened.Key, nil
}

// validKey is a key that nobody else uses where there can be one, or "": of the
// policy's that wants to see it pass. One of a file is tried first, since one
// that is none is rightly refused.
func (c *client) validKey(ctx context.Context, o *Options) string {
	switch {
	case !c.policy.passes:
		return ""
	case len(o.Keys) > 0:
		if slices.ContainsFunc(c.passes(ctx, o.Keys[0]), func(a Attempt) bool { return !a.letIn() }) {
			return ""
		}
		return o.Keys[0]
	case !o.apart():
		return ""
	}
	key, err := c.signUp(ctx)
	if err != nil {
		return "" // as the report says of the property
	}
	return key
}

// passes asks each node with a valid key for what is refused for its body, which
// counts as one of the key's other calls.
func (c *client) passes(ctx context.Context, key string) (all []Attempt) {
	h := http.Header{"Content-Type": {"application/json"}, "X-Api-Key": {key}}
	for i := range c.nodes {
		c.own++
		ask := Ask{Target: i, Epoch: time.Now()}
		a, _ := c.request(ctx, ask, http.MethodPost, "/api/v1/usage/report", h, `{}`)
		a.Ask = ask
		all = append(all, a)
	}
	return all
}
