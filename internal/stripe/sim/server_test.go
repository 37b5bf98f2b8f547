package sim_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"gatehouse/internal/stripe/sim"
)

type reply struct {
	status   int
	replayed bool
	header   http.Header
	id       string
	kind     string // of an error
	code     string
	ids      string // of a list
	more     bool
}

var jane = url.Values{"email": {"jane@example.test"}, "name": {"Jane"}, "metadata[a]": {"1"}, "metadata[b[c]]": {"2"}}

// send makes one request on a connection of its own: net/http would itself
// repeat one that has an Idempotency-Key when a used connection breaks.
func send(ctx context.Context, s *sim.Server, method, path, key string, form url.Values) (reply, error) {
	target, body := s.URL()+path, io.Reader(strings.NewReader(form.Encode()))
	if method == http.MethodGet {
		target, body = target+"?"+form.Encode(), nil
	}
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return reply{}, err
	}
	req.Close = true
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Authorization", "Bearer sk_"+"test_1234567890")
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	resp, err := (&http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).Do(req)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	var in struct {
		ID    string `json:"id"`
		Error struct {
			Type string `json:"type"`
			Code string `json:"code"`
		} `json:"error"`
		Data []struct {
			ID string `json:"id"`
		} `json:"data"`
		More bool `json:"has_more"`
	}
	err = json.UnmarshalRead(resp.Body, &in)
	r := reply{
		status: resp.StatusCode, replayed: resp.Header.Get("Idempotent-Replayed") == "true", header: resp.Header,
		id: in.ID, kind: in.Error.Type, code: in.Error.Code, more: in.More,
	}
	for _, c := range in.Data {
		r.ids += c.ID + " "
	}
	return r, err
}

func create(t *testing.T, s *sim.Server, key string, form url.Values) reply {
	t.Helper()
	r, err := send(t.Context(), s, http.MethodPost, "/v1/customers", key, form)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func start(t *testing.T) *sim.Server {
	t.Helper()
	s := sim.Start()
	t.Cleanup(s.Close)
	return s
}

func TestIdempotencyKeyReplaysItsAnswer(t *testing.T) {
	s := start(t)
	john := url.Values{"email": {"john@example.test"}}
	first := create(t, s, "k", jane)
	if again := create(t, s, "k", jane); first.id == "" || first.replayed || again.id != first.id || !again.replayed {
		t.Errorf("first %+v, again %+v", first, again)
	}
	if r := create(t, s, "k", john); r.status != 400 || r.kind != "idempotency_error" {
		t.Errorf("other parameters: %+v", r)
	}
	if r := create(t, s, "l", john); r.id == "" || r.id == first.id || r.replayed {
		t.Errorf("another key: %+v", r)
	}
	for range 2 {
		if r := create(t, s, "", john); r.id == "" || r.replayed {
			t.Errorf("no key: %+v", r)
		}
	}
	s.Forget()
	if r := create(t, s, "k", jane); r.id == first.id || r.replayed {
		t.Errorf("a forgotten key: %+v", r)
	}
	all := s.Customers()
	if len(all) != 5 || all[0].Asked != 2 || all[0].Name != "Jane" || all[0].Metadata["a"] != "1" || all[0].Metadata["b[c]"] != "2" {
		t.Errorf("customers %+v", all)
	}
}

func TestOnlySomeFailuresAreStored(t *testing.T) {
	for fault, want := range map[sim.Fault]struct {
		status int
		stored bool
	}{
		sim.Failed: {500, true}, sim.Refused: {400, true},
		sim.Unavailable: {503, false}, sim.Limited: {429, false}, sim.Unauthorized: {401, false},
		sim.Redirect: {307, false},
	} {
		s := start(t)
		s.Set(sim.Trouble{Fault: fault, Times: 1})
		if r := create(t, s, "k", jane); r.status != want.status || r.replayed || (r.header.Get("Retry-After") == "1") != (fault == sim.Limited) {
			t.Errorf("%d: %+v", want.status, r)
		}
		if r := create(t, s, "k", jane); r.replayed != want.stored || want.stored && r.status != want.status || !want.stored && r.status != 200 {
			t.Errorf("%d again: %+v; stored is %v", want.status, r, want.stored)
		}
		s.Forget()
		if r := create(t, s, "k", jane); r.status != 200 {
			t.Errorf("%d later: %+v", want.status, r)
		}
	}
}

func TestAnswersAreLostAfterTheWork(t *testing.T) {
	for _, fault := range []sim.Fault{sim.Lost, sim.Cut} {
		s := start(t)
		s.Set(sim.Trouble{Fault: fault, Times: 1})
		if r, err := send(t.Context(), s, http.MethodPost, "/v1/customers", "k", jane); err == nil {
			t.Fatalf("it answers %+v", r)
		}
		if r := create(t, s, "k", jane); !r.replayed || len(s.Customers()) != 1 {
			t.Errorf("again: %+v, customers %+v", r, s.Customers())
		}
	}
}

func TestKeyIsInUseWhileItsRequestHangs(t *testing.T) {
	s := start(t)
	s.Set(sim.Trouble{Fault: sim.Hang, Times: 1})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		_, err := send(ctx, s, http.MethodPost, "/v1/customers", "k", jane)
		ended <- err
	}()
	for s.Hanging() == 0 {
		runtime.Gosched()
	}
	if r := create(t, s, "k", jane); r.status != 409 || r.code != "idempotency_key_in_use" {
		t.Errorf("beside it: %+v", r)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the hanging request ends with %v", err)
	}
	for s.Hanging() != 0 {
		runtime.Gosched()
	}
	if r := create(t, s, "k", jane); r.status != 200 || r.replayed {
		t.Errorf("after it: %+v", r)
	}
}

func TestTroubleMayComeEveryNthTime(t *testing.T) {
	s := start(t)
	s.Set(sim.Trouble{Fault: sim.Unavailable, Every: 3, Times: 2})
	var got []int
	for range 10 {
		got = append(got, create(t, s, "", jane).status)
	}
	want := []int{200, 200, 503, 200, 200, 503, 200, 200, 200, 200}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("%v, want %v", got, want)
		}
	}
	if s.Requests() != 10 {
		t.Errorf("%d requests, want 10", s.Requests())
	}
}

func TestListIsByAddressAndNewestFirst(t *testing.T) {
	s := start(t)
	one, _, two := create(t, s, "", jane), create(t, s, "", url.Values{"email": {"john@example.test"}}), create(t, s, "", jane)
	list := func(form url.Values) reply {
		r, err := send(t.Context(), s, http.MethodGet, "/v1/customers", "", form)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := list(url.Values{"email": {"jane@example.test"}}); r.ids != two.id+" "+one.id+" " || r.more {
		t.Errorf("all: %+v", r)
	}
	if r := list(url.Values{"email": {"jane@example.test"}, "limit": {"1"}}); r.ids != two.id+" " || !r.more {
		t.Errorf("one: %+v", r)
	}
	if r := list(url.Values{"email": {"Jane@example.test"}}); r.ids != "" {
		t.Errorf("another case: %+v", r)
	}
}

func TestWhatItDoesNotKnowIsRefused(t *testing.T) {
	s := start(t)
	if r := create(t, s, "k", url.Values{"emial": {"x"}}); r.status != 400 || r.code != "parameter_unknown" {
		t.Errorf("%+v", r)
	}
	if r := create(t, s, "k", jane); r.status != 200 || r.replayed {
		t.Errorf("a request that was not valid is stored: %+v", r)
	}
	for _, path := range []string{"/v1/charges", "/"} {
		if r, err := send(t.Context(), s, http.MethodPost, path, "", nil); err != nil || r.status != 404 {
			t.Errorf("%s: %+v, %v", path, r, err)
		}
	}
}

func TestCloseEndsWhatIsUnderWay(t *testing.T) {
	for _, fault := range []sim.Fault{sim.Hang, sim.Endless} {
		s := start(t)
		s.Set(sim.Trouble{Fault: fault})
		ended := make(chan error)
		go func() {
			_, err := send(t.Context(), s, http.MethodGet, "/v1/customers", "", nil)
			ended <- err
		}()
		for s.Requests() == 0 {
			runtime.Gosched()
		}
		s.Close()
		if err := <-ended; err == nil {
			t.Error("it answers")
		}
	}
	if _, err := sim.Listen("256.0.0.1:1"); err == nil {
		t.Error("it listens on no address")
	}
}
