package api_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
)

// client calls one server. It follows no redirects, decompresses nothing, and
// reports each answer that openapi.yaml does not allow.
type client struct {
	url    string
	http   *http.Client
	off    map[string]bool
	report func(error)
}

func newClient(t testing.TB, url string, off map[string]bool, seen *logs) *client {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 1024, DisableCompression: true, ExpectContinueTimeout: time.Hour}
	t.Cleanup(transport.CloseIdleConnections)
	c := &client{url: url, off: off, report: func(err error) { t.Errorf("%v", err) }}
	c.http = &http.Client{
		Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
			resp, err := transport.RoundTrip(req)
			if err != nil {
				return nil, err
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				return nil, err
			}
			seen.issued(body)
			if err := checkAnswer(req, answer{resp.StatusCode, resp.Header, body, resp.Close}, off); err != nil {
				c.report(fmt.Errorf("%s %s: %w", req.Method, req.URL.RequestURI(), err))
			}
			resp.Body = io.NopCloser(bytes.NewReader(body))
			return resp, nil
		}),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// detail is a part of a request.
type detail func(*http.Request)

// header sets a header line, or adds one where the request has it already.
func header(name, value string) detail {
	return func(r *http.Request) { r.Header[name] = append(r.Header[name], value) }
}

// key authenticates.
func key(apiKey string) detail { return header("X-Api-Key", apiKey) }

// from names the client's address to a server that trusts 127.0.0.0/8.
func from(address string) detail { return header("X-Forwarded-For", address) }

// body is sent as it is, without a Content-Type.
func body(text string) detail {
	return func(r *http.Request) {
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
	}
}

// chunked is sent without a Content-Length.
func chunked(b io.Reader) detail {
	return func(r *http.Request) { r.Body, r.ContentLength = io.NopCloser(b), -1 }
}

// document is sent as application/json.
func document(text string) detail {
	return func(r *http.Request) {
		body(text)(r)
		header("Content-Type", "application/json")(r)
	}
}

// try sends a request, in whatever goroutine.
func (c *client) try(ctx context.Context, method, path string, details ...detail) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.url+path, http.NoBody)
	if err != nil {
		return answer{}, err
	}
	for _, d := range details {
		d(req)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, text, resp.Close}, err
}

// send sends a request and returns whatever is answered.
func (c *client) send(t testing.TB, method, path string, details ...detail) answer {
	t.Helper()
	a, err := c.try(t.Context(), method, path, details...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// atOnce makes n requests side by side and returns their answers.
func (c *client) atOnce(t testing.TB, n int, send func(i int) (answer, error)) []answer {
	t.Helper()
	answers := make([]answer, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			var err error
			if answers[i], err = send(i); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return answers
}

// raw writes bytes as they are, then nothing more, and returns the first
// answer.
func (c *client) raw(t testing.TB, method, path, text string) answer {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(c.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	req := &http.Request{Method: method, URL: mustURL(t, path)}
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answer{resp.StatusCode, resp.Header, got, resp.Close}
	if err := checkAnswer(req, a, c.off); err != nil {
		c.report(fmt.Errorf("%s %s: %w", method, path, err))
	}
	return a
}

// want fails the test unless the answer has the status.
func (a answer) want(t testing.TB, status int) answer {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	return a
}

// done fails the test unless the answer is 200 or 201.
func (a answer) done(t testing.TB) answer {
	t.Helper()
	if a.status == http.StatusOK {
		return a
	}
	return a.want(t, http.StatusCreated)
}

// problem is the one form of an error.
type problem struct {
	Error struct {
		Code, Message string
		Details       []struct{ Field, Reason, Message string }
	}
	RequestID string `json:"request_id"`
}

// refused fails the test unless the answer is an error of the code.
func (a answer) refused(t testing.TB, status int, code string) problem {
	t.Helper()
	p := decode[problem](t, a.want(t, status))
	if p.Error.Code != code {
		t.Fatalf("code %s, want %s: %s", p.Error.Code, code, a.body)
	}
	return p
}

// invalid fails the test unless the answer refuses one field for one reason.
func (a answer) invalid(t testing.TB, field, reason string) string {
	t.Helper()
	p := a.refused(t, http.StatusUnprocessableEntity, "VALIDATION_FAILED")
	if d := p.Error.Details; len(d) != 1 || d[0].Field != field || d[0].Reason != reason {
		t.Fatalf("details %+v, want one that says %s is %s", d, field, reason)
	}
	return p.Error.Message
}

// limits fails the test unless the answer has the headers of a policy.
func (a answer) limits(t testing.TB, policy string) limits {
	t.Helper()
	l, err := limitsOf(a.header)
	if err != nil || l.policy != policy {
		t.Fatalf("limit headers of %q (%v), want those of %s", l.policy, err, policy)
	}
	return l
}

// unlimited fails the test if the answer has limit headers.
func (a answer) unlimited(t testing.TB) {
	t.Helper()
	if l, err := limitsOf(a.header); err != nil || l != (limits{}) {
		t.Fatalf("limit headers where there should be none: %+v %v", l, err)
	}
}

// decode reads a body that has passed openapi.yaml.
func decode[T any](t testing.TB, a answer) (v T) {
	t.Helper()
	if err := json.Unmarshal(a.body, &v, json.MatchCaseInsensitiveNames(true)); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
	return v
}

var people atomic.Int64

// someone is an address that nobody has signed up with yet.
func someone() string { return "someone" + strconv.FormatInt(people.Add(1), 10) + "@company.dev" }

const onboard = "/api/v1/customers/onboard"

// signUp opens an account and returns its customer's id and its key.
func (c *client) signUp(t testing.TB, details ...detail) (id, apiKey string) {
	t.Helper()
	a := c.send(t, "POST", onboard, append(details, document(`{"name": "Someone", "email": "`+someone()+`"}`))...).want(t, http.StatusCreated)
	got := decode[struct {
		Customer struct{ ID string }
		Key      string `json:"api_key"`
	}](t, a)
	return got.Customer.ID, got.Key
}
