package sim

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// call is one request; it holds the lock.
type call struct {
	*Server
	form *form
	path string
	id   string    // in the path
	live bool      // which the key says
	made *Customer // by this call
}

// handler does a call's work. It checks all before it changes anything: what
// fails with another status than 402 has changed nothing.
type handler func(*call) (any, *Failure)

// answer is what is stored with an Idempotency-Key.
type answer struct {
	params string // what the key was first used with
	status int    // 0: still under way
	body   []byte
	made   *Customer
}

// Failure is the error of an answer, and of a payment that failed.
type Failure struct {
	status        int
	Type          string         `json:"type"`
	Code          string         `json:"code,omitzero"`
	DeclineCode   string         `json:"decline_code,omitzero"`
	Message       string         `json:"message"`
	Param         string         `json:"param,omitzero"`
	Charge        string         `json:"charge,omitzero"`
	PaymentMethod *PaymentMethod `json:"payment_method,omitzero"`
	PaymentIntent *PaymentIntent `json:"payment_intent,omitzero"`
}

func invalid(param, code, message string) *Failure {
	return &Failure{status: http.StatusBadRequest, Type: "invalid_request_error", Code: code, Message: message, Param: param}
}

// serve answers a request to the API, nil being none of its paths.
func (s *Server) serve(h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		fault, number, ok := s.arrive(r.URL.Path)
		if !ok {
			panic(http.ErrAbortHandler) // closes the connection
		}
		defer s.open.Done()
		key, _, basic := r.BasicAuth() // which Stripe takes as well
		if !basic {
			_, key, _ = strings.Cut(r.Header.Get("Authorization"), "Bearer ")
		}
		request := "req_" + strconv.Itoa(number)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Request-Id", request)
		switch {
		case r.ParseForm() != nil:
			refuse(w, &Failure{status: 400, Type: "invalid_request_error", Message: "The form can't be read."})
		case fault == Unauthorized, !strings.HasPrefix(key, "sk_") && !strings.HasPrefix(key, "rk_"):
			refuse(w, &Failure{status: 401, Type: "invalid_request_error",
				Message: "Invalid API Key provided: " + key[:min(8, len(key))] + "************" + key[max(0, len(key)-4):]})
		case fault == Limited:
			w.Header().Set("Retry-After", "1")
			w.Header().Set("Stripe-Should-Retry", "true")
			refuse(w, &Failure{status: 429, Type: "invalid_request_error", Code: "rate_limit", Message: "Request rate limit exceeded."})
		case fault == Unavailable:
			refuse(w, &Failure{status: 503, Type: "api_error", Message: "Stripe is away."})
		case fault == Garbage:
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, "<html><body>It works! Ask root@example.test.</body></html>")
		case fault == Redirect:
			w.Header().Set("Location", s.url+r.URL.RequestURI())
			reply(w, http.StatusTemporaryRedirect, []byte(`{"id":"cus_redirect","object":"customer"}`))
		case fault == Endless:
			for spaces := bytes.Repeat([]byte(" "), 32<<10); ; {
				if _, err := w.Write(spaces); err != nil {
					return
				}
			}
		case h == nil:
			refuse(w, &Failure{status: 404, Type: "invalid_request_error",
				Message: "Unrecognized request URL (" + r.Method + ": " + r.URL.Path + "), or one that this stand-in does not know."})
		default:
			c := &call{Server: s, form: newForm(r.Form), path: r.URL.Path, id: r.PathValue("id"), live: strings.HasPrefix(key[2:], "_live_")}
			a, replayed := c.answer(r, h, fault, request)
			if replayed {
				w.Header().Set("Idempotent-Replayed", "true")
			}
			finish(w, a.status, a.body, fault)
		}
	}
}

// steer answers a request to what is no part of Stripe's API: without a key,
// faults or a count.
func (s *Server) steer(h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.ParseForm() != nil {
			refuse(w, invalid("", "", "The form can't be read."))
			return
		}
		c, a := &call{Server: s, form: newForm(r.Form), path: r.URL.Path, id: r.PathValue("id")}, answer{}
		if !c.steered(h, &a) {
			panic(http.ErrAbortHandler)
		}
		reply(w, a.status, a.body)
	}
}

// steered does what a call of steer asks, unless the server is closed.
func (c *call) steered(h handler, a *answer) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.do(h, "", a)
	}
	return !c.closed
}

// answer does what is asked, or replays what an Idempotency-Key once led to.
func (c *call) answer(r *http.Request, h handler, fault Fault, request string) (mine *answer, replayed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := r.Header.Get("Idempotency-Key")
	if r.Method != http.MethodPost {
		key = ""
	}
	mine = &answer{params: r.URL.Path + "?" + r.Form.Encode()}
	if first := c.answers[key]; key != "" && first != nil {
		switch {
		case first.params != mine.params:
			mine.fail(&Failure{status: 400, Type: "idempotency_error",
				Message: "Keys for idempotent requests can only be used with the same parameters they were first used with. Try using a key other than '" + key + "'."})
			return mine, false
		case first.status == 0:
			mine.fail(&Failure{status: 409, Type: "invalid_request_error", Code: "idempotency_key_in_use",
				Message: "There is currently another in-progress request using this Idempotent Key: " + key + ". Please try again later."})
			return mine, false
		}
		if first.made != nil {
			first.made.Asked++
		}
		return first, true
	}
	if key != "" {
		c.answers[key] = mine
	}
	email := r.Form.Get("email")
	switch {
	case fault == Hang:
		c.hang(r)
		delete(c.answers, key)
		panic(http.ErrAbortHandler)
	case fault == Failed:
		mine.fail(&Failure{status: 500, Type: "api_error", Message: "An unknown error occurred."})
		return mine, false
	case fault == Refused && r.Method == http.MethodPost:
		mine.fail(&Failure{status: 400, Type: "card_error", Code: "card_declined", Message: "The card of " + email + " was declined."})
		return mine, false
	case fault == Refused:
		mine.fail(invalid("email", "email_invalid", "Invalid email address: "+email))
		return mine, false
	case fault == Slow: // its work is done also when the client has gone
		d := cmp.Or(c.trouble.Wait, time.Second)
		c.mu.Unlock()
		wait(c.ending.Done(), d, nil)
		c.mu.Lock()
	}
	c.cause = EventRequest{ID: request, IdempotencyKey: key}
	c.do(h, r.Header.Get("Stripe-Version"), mine)
	c.cause = EventRequest{}
	if mine.status < 500 && mine.status >= 400 && mine.status != http.StatusPaymentRequired {
		delete(c.answers, key) // a request that is not valid is not stored
	}
	return mine, false
}

// do does the work and keeps its answer in a, in that version of the API.
func (c *call) do(h handler, version string, a *answer) {
	value, failure := h(c)
	c.commit()
	if failure != nil {
		a.fail(failure)
		return
	}
	a.status, a.body, a.made = http.StatusOK, marshal(value), c.made
	if version != "" && version < flattened {
		a.body = marshal(c.render(value, version))
	}
}

func (a *answer) fail(f *Failure) {
	a.status, a.body = f.status, marshal(map[string]*Failure{"error": f})
}

// hang waits until the client or the server goes. The caller holds the lock,
// which is open meanwhile.
func (s *Server) hang(r *http.Request) {
	s.hanging++
	s.mu.Unlock()
	select {
	case <-r.Context().Done():
	case <-s.ending.Done():
	}
	s.mu.Lock()
	s.hanging--
}

// wait waits for so long, or until either channel is closed.
func wait(done <-chan struct{}, d time.Duration, hurry <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-done:
	case <-hurry:
	}
}

// finish answers, unless the answer is to be lost.
func finish(w http.ResponseWriter, status int, body []byte, fault Fault) {
	switch fault {
	case Lost:
		panic(http.ErrAbortHandler)
	case Cut:
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		reply(w, status, body[:len(body)/2])
		_ = http.NewResponseController(w).Flush() // or nothing would be sent
		panic(http.ErrAbortHandler)
	default:
		reply(w, status, body)
	}
}

func refuse(w http.ResponseWriter, f *Failure) {
	var a answer
	a.fail(f)
	reply(w, a.status, a.body)
}

func reply(w http.ResponseWriter, status int, body []byte) {
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that is gone: nothing to do
}

// wire is how objects are written: what there is not is null, and is "" or 0 here.
var wire = json.JoinOptions(json.Deterministic(true), json.WithMarshalers(
	json.MarshalToFunc(func(e *jsontext.Encoder, text string) error {
		if text == "" {
			return e.WriteToken(jsontext.Null)
		}
		return errors.ErrUnsupported // the usual way
	})))

// marshal panics on what is no JSON: a bug here.
func marshal(v any) []byte {
	b, err := json.Marshal(v, wire)
	if err != nil {
		panic(err)
	}
	return b
}
