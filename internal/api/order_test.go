package api_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"gatehouse/internal/ratelimit"
)

// offered is a body that the server has to ask for (Expect: 100-continue).
type offered struct {
	io.Reader
	asked bool
}

func (o *offered) Read(b []byte) (int, error) {
	o.asked = true
	return o.Reader.Read(b)
}

// offer makes a body that the client sends only if the server reads it.
func offer(text string, length int64) (*offered, detail) {
	o := &offered{Reader: strings.NewReader(text)}
	return o, func(r *http.Request) {
		r.Body, r.ContentLength = io.NopCloser(o), length
		r.Header.Set("Expect", "100-continue")
	}
}

// A request is refused as early as can be: what is refused before its body
// matters has its body left unread.
func TestRefusedBodyIsNotRead(t *testing.T) {
	s := newServer(t, limit("onboarding", "4/60s"), limit("api", "3/60s"), limit("credential_exchange", "1/60s"), limit("auth_failure", "1/60s"))
	_, mine := s.signUp(t)
	_, limited := s.signUp(t)
	for range 3 {
		s.send(t, "GET", "/api/v1/account", key(limited)).want(t, http.StatusOK)
	}
	id, suspended := s.signUp(t)
	if _, err := s.database.Suspend(t.Context(), id, time.Now()); err != nil {
		t.Fatal(err)
	}
	signUp := `{"name": "Ada", "email": "` + someone() + `"}`
	isJSON := header("Content-Type", "application/json")
	for _, test := range []struct {
		name, method, path string
		details            []detail
		text               string
		length             int64 // 0: the text's
		status             int
		read               bool
	}{
		{"admitted", "POST", "/api/v1/keys", []detail{key(mine), isJSON}, `{"name": "ci"}`, 0, 201, true},
		{"invalid", "POST", "/api/v1/keys", []detail{key(mine), isJSON}, `{"name": 5}`, 0, 422, true},
		{"no JSON", "POST", "/api/v1/keys", []detail{key(mine), isJSON}, `{`, 0, 400, true},
		{"no such path", "POST", "/api/v1/key", []detail{key(mine), isJSON}, `{}`, 0, 404, false},
		{"no such method", "PUT", "/api/v1/keys", []detail{key(mine), isJSON}, `{}`, 0, 405, false},
		{"suspended", "POST", "/api/v1/keys", []detail{key(suspended), isJSON}, `{}`, 0, 403, false},
		{"limited by key", "POST", "/api/v1/keys", []detail{key(limited), isJSON}, `{}`, 0, 429, false},
		{"an exchange", "POST", exchange, []detail{key(mine), isJSON}, `{"providers": ["openai"]}`, 0, 200, true},
		{"an exchange too many", "POST", exchange, []detail{key(mine), isJSON}, `{"providers": ["openai"]}`, 0, 429, false},
		{"no key", "POST", "/api/v1/keys", []detail{isJSON}, `{}`, 0, 401, false},
		{"no key, once too often", "POST", "/api/v1/keys", []detail{isJSON}, `{}`, 0, 429, false},
		{"another type", "POST", onboard, nil, signUp, 0, 415, false},
		{"a webhook that is too long", "POST", webhooks, nil, "{}", maxEvent + 1, 413, false},
		{"a webhook that is not signed", "POST", webhooks, nil, "{}", 0, 401, true},
		{"limited by address", "POST", onboard, []detail{isJSON}, signUp, 0, 429, false},
		{"limited by address, too long", "POST", onboard, []detail{isJSON}, signUp, 1 << 30, 429, false},
		{"limited by address, another type", "POST", onboard, nil, signUp, 0, 429, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			length := test.length
			if length == 0 {
				length = int64(len(test.text))
			}
			o, send := offer(test.text, length)
			s.send(t, test.method, test.path, append(test.details, send)...).want(t, test.status)
			if o.asked != test.read {
				t.Errorf("the body is read: %v, want %v", o.asked, test.read)
			}
		})
	}
}

// The same for a body that says it is too long.
func TestTooLongBodyIsNotRead(t *testing.T) {
	s := newServer(t)
	o, send := offer("{}", maxBody+1)
	s.send(t, "POST", onboard, header("Content-Type", "application/json"), send).want(t, http.StatusRequestEntityTooLarge)
	if o.asked {
		t.Error("the body is read")
	}
}

// Each request that is let in takes a place, whatever is wrong with it.
func TestRefusalsCount(t *testing.T) {
	s := newServer(t, at(newClock()))
	isJSON := header("Content-Type", "application/json")
	for i, refused := range []struct {
		status  int
		details []detail
	}{
		{400, []detail{document("{")}},
		{400, []detail{document("")}},
		{413, []detail{document(strings.Repeat(" ", maxBody+1))}},
		{413, []detail{isJSON, chunked(strings.NewReader(strings.Repeat(" ", maxBody+1)))}},
		{415, []detail{body("{}")}},
		{415, []detail{document("{}"), header("Content-Encoding", "gzip")}},
		{422, []detail{document("{}")}},
		{422, []detail{document("[]")}},
		{422, []detail{document(`{"name": 5}`)}},
		{422, []detail{document(`{"name": "Ada", "email": "ada@mailinator.com"}`)}},
	} {
		if l := s.send(t, "POST", onboard, refused.details...).want(t, refused.status).limits(t, "onboarding"); l.remaining != 9-i {
			t.Errorf("after %d refusals %d places are left", i+1, l.remaining)
		}
	}
	s.send(t, "POST", onboard, document(`{"name": "Ada", "email": "`+someone()+`"}`)).refusedBy(t, "onboarding", signUpsPerMinute)
	if n := len(s.customers(t)); n != 0 {
		t.Errorf("%d customers were made", n)
	}
}

// The same with a key: also a 404 of ours takes a place, though it does not
// say so.
func TestRefusalsOfAKeyCount(t *testing.T) {
	s := newServer(t, at(newClock()))
	_, mine := s.signUp(t)
	_, order := s.keys(t, mine)
	last := "/api/v1/keys/" + order[0]
	for _, refused := range []struct {
		status       int
		method, path string
		details      []detail
	}{
		{400, "POST", "/api/v1/keys", []detail{document("{")}},
		{413, "POST", "/api/v1/keys", []detail{document(strings.Repeat(" ", maxBody+1))}},
		{415, "POST", "/api/v1/keys", []detail{body("{}")}},
		{422, "POST", last + "/rotate", []detail{document(`{"grace_minutes": -1}`)}},
		{404, "POST", "/api/v1/keys/x/rotate", nil},
		{404, "DELETE", "/api/v1/keys/" + someID, nil},
		{409, "DELETE", last, nil},
		{422, "GET", "/api/v1/account/ledger?limit=x", nil},
		{422, "POST", refresh, []detail{document("{}")}},
		{404, "POST", refresh, []detail{document(`{"credential_id": "` + someID + `"}`)}},
		{404, "DELETE", credentials + "/" + someID, nil},
		{422, "POST", report, []detail{document("{}")}},
		{422, "POST", fixes, []detail{document("{}")}},
		{400, "POST", fixes, []detail{document("")}},
	} {
		s.send(t, refused.method, refused.path, append(refused.details, key(mine))...).want(t, refused.status)
	}
	if l := s.send(t, "GET", "/api/v1/account", key(mine)).want(t, http.StatusOK).limits(t, "api"); l.remaining != 500-1-14-1 {
		t.Errorf("%d places are left, want 484", l.remaining)
	}
}

// late is a limiter's store that is so slow that clients leave meanwhile.
type late struct {
	ratelimit.Store
	taken chan error
}

func (l late) Take(ctx context.Context, name ratelimit.Name, limit ratelimit.Limit, key string) (ratelimit.Decision, error) {
	<-ctx.Done() // the client has left
	d, err := l.Store.Take(ctx, name, limit, key)
	l.taken <- err
	return d, err
}

// Who closes the connection before the answer has been counted all the same.
func TestLeavingEarlyCounts(t *testing.T) {
	s := newServer(t, at(newClock()))
	taken := make(chan error)
	store := s.counted.use(late{s.database, taken})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // far beyond what it takes
	defer cancel()
	for range 10 {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, "POST "+onboard+" HTTP/1.1\r\nHost: gatehouse\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-taken:
			if err != nil {
				t.Fatalf("the request was not counted: %v", err)
			}
		case <-ctx.Done():
			t.Fatal("the request was not seen")
		}
	}
	s.counted.use(store)
	s.send(t, "POST", onboard).refusedBy(t, "onboarding", signUpsPerMinute)
}

// Two requests written at once on one connection are two requests.
func TestPipelinedRequestsCount(t *testing.T) {
	s := newServer(t, at(newClock()), limit("onboarding", "2/60s"))
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	one := "POST " + onboard + " HTTP/1.1\r\nHost: gatehouse\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
	if _, err := io.WriteString(conn, one+one+one); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	for _, want := range []int{422, 422, 429} {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != want {
			t.Errorf("status %d, want %d", resp.StatusCode, want)
		}
	}
}
