package stripetest

import (
	"bytes"
	"crypto/rand"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
)

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	fault, ok := s.arrive()
	if !ok {
		panic(http.ErrAbortHandler) // closes the connection
	}
	defer s.open.Done()
	_, key, _ := strings.Cut(r.Header.Get("Authorization"), "Bearer ")
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Request-Id", "req_"+strconv.Itoa(s.Requests()))
	switch {
	case r.ParseForm() != nil:
		fail(w, http.StatusBadRequest, "invalid_request_error", "", "The form can't be read.")
	case fault == Unauthorized, !strings.HasPrefix(key, "sk_") && !strings.HasPrefix(key, "rk_"):
		fail(w, http.StatusUnauthorized, "invalid_request_error", "",
			"Invalid API Key provided: "+key[:min(8, len(key))]+"************"+key[max(0, len(key)-4):])
	case fault == Limited:
		w.Header().Set("Retry-After", "1")
		fail(w, http.StatusTooManyRequests, "invalid_request_error", "rate_limit", "Request rate limit exceeded.")
	case fault == Unavailable:
		fail(w, http.StatusServiceUnavailable, "api_error", "", "Stripe is away.")
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
	case r.URL.Path != "/v1/customers":
		fail(w, http.StatusNotFound, "invalid_request_error", "", "Unrecognized request URL.")
	case r.Method == http.MethodPost:
		s.create(w, r, fault)
	case fault == Hang:
		s.mu.Lock()
		defer s.mu.Unlock()
		s.hang(r)
	case r.Method == http.MethodGet:
		s.show(w, r, fault)
	default:
		fail(w, http.StatusMethodNotAllowed, "invalid_request_error", "", "Unsupported method.")
	}
}

// create makes a customer, or replays what an Idempotency-Key once led to.
func (s *Server) create(w http.ResponseWriter, r *http.Request, fault Fault) {
	metadata, unknown := map[string]string{}, ""
	for field := range r.PostForm {
		name, inside := strings.CutPrefix(field, "metadata[")
		switch {
		case inside && strings.HasSuffix(name, "]"):
			metadata[strings.TrimSuffix(name, "]")] = r.PostForm.Get(field)
		case field != "email" && field != "name":
			unknown = field
		}
	}
	if unknown != "" { // a request that is not valid is not stored
		fail(w, http.StatusBadRequest, "invalid_request_error", "parameter_unknown", "Received unknown parameter: "+unknown)
		return
	}
	key := r.Header.Get("Idempotency-Key")
	mine := &answer{params: r.PostForm.Encode()}
	s.mu.Lock()
	first := s.answers[key]
	switch {
	case key == "" || first == nil:
		if key != "" {
			s.answers[key] = mine
		}
	case first.params != mine.params:
		s.mu.Unlock()
		fail(w, http.StatusBadRequest, "idempotency_error", "",
			"Keys for idempotent requests can only be used with the same parameters they were first used with. Try using a key other than '"+key+"'.")
		return
	case first.status == 0:
		s.mu.Unlock()
		fail(w, http.StatusConflict, "invalid_request_error", "idempotency_key_in_use",
			"There is currently another in-progress request using this Idempotent Key: "+key+". Please try again later.")
		return
	default:
		mine = first
		w.Header().Set("Idempotent-Replayed", "true")
		if mine.made != nil {
			mine.made.Asked++
		}
	}
	email := r.PostForm.Get("email")
	switch {
	case mine.status != 0:
	case fault == Hang:
		s.hang(r)
		delete(s.answers, key)
		s.mu.Unlock()
		panic(http.ErrAbortHandler)
	case fault == Failed:
		mine.status, mine.body = http.StatusInternalServerError, problem("api_error", "", "An unknown error occurred.")
	case fault == Refused:
		mine.status, mine.body = http.StatusBadRequest, problem("card_error", "card_declined", "The card of "+email+" was declined.")
	default:
		mine.made = &Customer{
			ID: "cus_" + rand.Text()[:14], Object: "customer", Created: time.Now().Unix(),
			Email: email, Name: r.PostForm.Get("name"), Metadata: metadata, Asked: 1,
		}
		s.customers = append(s.customers, mine.made)
		mine.status, mine.body = http.StatusOK, marshal(mine.made)
	}
	s.mu.Unlock()
	finish(w, mine.status, mine.body, fault)
}

// show lists customers, the newest first.
func (s *Server) show(w http.ResponseWriter, r *http.Request, fault Fault) {
	email := r.Form.Get("email")
	switch fault {
	case Failed:
		fail(w, http.StatusInternalServerError, "api_error", "", "An unknown error occurred.")
		return
	case Refused:
		fail(w, http.StatusBadRequest, "invalid_request_error", "email_invalid", "Invalid email address: "+email)
		return
	}
	limit, err := strconv.Atoi(r.Form.Get("limit"))
	if err != nil || limit < 1 || limit > 100 {
		limit = 10
	}
	found := s.Customers()
	slices.Reverse(found)
	found = slices.DeleteFunc(found, func(c Customer) bool { return email != "" && c.Email != email })
	finish(w, http.StatusOK, marshal(map[string]any{
		"object": "list", "url": "/v1/customers", "has_more": len(found) > limit, "data": found[:min(limit, len(found))],
	}), fault)
}

// hang waits until the client or the server goes. The caller holds the lock,
// which is open meanwhile.
func (s *Server) hang(r *http.Request) {
	s.hanging++
	s.mu.Unlock()
	select {
	case <-r.Context().Done():
	case <-s.done:
	}
	s.mu.Lock()
	s.hanging--
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

func fail(w http.ResponseWriter, status int, kind, code, message string) {
	reply(w, status, problem(kind, code, message))
}

func problem(kind, code, message string) []byte {
	return marshal(map[string]any{"error": map[string]string{"type": kind, "code": code, "message": message}})
}

func reply(w http.ResponseWriter, status int, body []byte) {
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that is gone: nothing to do
}

// marshal panics on what is no JSON: a bug here.
func marshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}
