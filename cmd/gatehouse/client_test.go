package main

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"syscall"
	"testing"
	"time"
)

// dialer connects from a loopback address, or with "" from the usual one.
func dialer(source string) *net.Dialer {
	d := &net.Dialer{Timeout: patience}
	if source != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(source)}
	}
	return d
}

// newClient is one client of the API, at an address of its own. Who makes one
// closes its idle connections.
func newClient(source string) *http.Client {
	return &http.Client{
		Transport: &http.Transport{DialContext: dialer(source).DialContext, MaxIdleConnsPerHost: 64},
		Timeout:   patience,
	}
}

// call is one request and what came of it.
type call struct {
	source         string // the client's address
	sent, received time.Time
	status         int // 0: there was no answer
	header         http.Header
	body           []byte
	reused         bool      // the connection had carried a request before
	closes         bool      // the node says that it closes the connection
	err            error     // why there was no answer
	failed         time.Time // when that was known

	email      string // of a sign-up
	customerID string // told in the answer
	key        string // likewise
}

// answered says whether the client knows what became of the request.
func (c call) answered() bool { return c.status != 0 }

// neverArrived says that the request certainly reached no node.
func (c call) neverArrived() bool { return errors.Is(c.err, syscall.ECONNREFUSED) }

// problem is the code and the message of an answer that is an error.
func (c call) problem() (code, message string) {
	var p struct {
		Error struct{ Code, Message string } `json:"error"`
	}
	if json.Unmarshal(c.body, &p) != nil {
		return "", ""
	}
	return p.Error.Code, p.Error.Message
}

// decode reads the JSON of an answer.
func (c call) decode(into any) error {
	if c.err != nil {
		return c.err
	}
	return json.Unmarshal(c.body, into)
}

// do sends a request and reads all of the answer.
func do(client *http.Client, method, url, key, body string) call {
	return doOnce(client, method, url, key, "", body)
}

// doOnce is do with an Idempotency-Key; "": none.
func doOnce(client *http.Client, method, url, key, once, body string) (c call) {
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return call{err: err}
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		r.Header.Set("X-API-Key", key)
	}
	if once != "" {
		r.Header.Set("Idempotency-Key", once)
	}
	r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		GotConn: func(i httptrace.GotConnInfo) { c.reused = i.Reused },
	}))
	c.sent = time.Now()
	resp, err := client.Do(r)
	if err != nil {
		c.err, c.failed = err, time.Now()
		return c
	}
	defer resp.Body.Close()
	c.body, c.err = io.ReadAll(resp.Body)
	c.received = time.Now()
	if c.err == nil { // half an answer is none
		c.status, c.header, c.closes = resp.StatusCode, resp.Header, resp.Close
	} else {
		c.failed = c.received
	}
	return c
}

// signUp signs a customer up; what the answer tells is in the call.
func signUp(client *http.Client, base, email string) call {
	return signUpOnce(client, base, email, "")
}

// signUpOnce is signUp with an Idempotency-Key; "": none.
func signUpOnce(client *http.Client, base, email, once string) call {
	c := doOnce(client, http.MethodPost, base+"/api/v1/customers/onboard", "", once, `{"name": "E. Twoe", "email": "`+email+`"}`)
	c.email = email
	if c.status == http.StatusCreated {
		var told struct {
			Customer struct{ ID string }
			APIKey   string `json:"api_key"`
		}
		if c.err = json.Unmarshal(c.body, &told); c.err == nil {
			c.customerID, c.key = told.Customer.ID, told.APIKey
		}
	}
	return c
}

// mustSignUp signs a customer up who has to get in.
func mustSignUp(t testing.TB, client *http.Client, base, email string) call {
	t.Helper()
	c := signUp(client, base, email)
	if c.status != http.StatusCreated || c.key == "" {
		t.Fatalf("sign-up of %s: %d %s %v, want 201 and a key", email, c.status, c.body, c.err)
	}
	return c
}

// accountOf asks whose key it is, and returns the answer's status and the
// customer's id.
func accountOf(client *http.Client, base, key string) (status int, id string, err error) {
	c := do(client, http.MethodGet, base+"/api/v1/account", key, "")
	var told struct{ Customer struct{ ID string } }
	if c.status == http.StatusOK {
		c.err = json.Unmarshal(c.body, &told)
	}
	return c.status, told.Customer.ID, c.err
}

// checkKey wants a key that works, and is its customer's.
func checkKey(t testing.TB, client *http.Client, base string, told call) {
	t.Helper()
	status, id, err := accountOf(client, base, told.key)
	if err != nil || status != http.StatusOK || id != told.customerID {
		t.Errorf("the key that customer %s was given: %d, customer %q, %v; want 200 and that customer", told.customerID, status, id, err)
	}
}
