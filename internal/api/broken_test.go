package api_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"gatehouse/internal/account"
	"gatehouse/internal/fault"
)

// broken is an account store that fails when an account is shown.
type broken struct {
	account.Store
	fail func() error
}

func (b broken) Customer(context.Context, string) (account.Customer, error) {
	return account.Customer{}, b.fail()
}

func failing(fail func() error) option {
	return func(_ testing.TB, s *setup) {
		s.accounts = func(store account.Store) account.Store { return broken{store, fail} }
	}
}

// record is the line of a log that has a request's id.
func (l *logs) record(t testing.TB, id string) map[string]any {
	t.Helper()
	for _, line := range l.lines() {
		var record map[string]any
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Fatal(err)
		}
		if record["request_id"] == id {
			return record
		}
	}
	t.Fatalf("nothing is logged of the request %s:\n%s", id, strings.Join(l.lines(), "\n"))
	return nil
}

// A panic is a 500 like any other: the client learns nothing, the log what
// kind it was and where, but not its value, and the next request is served.
func TestPanic(t *testing.T) {
	for name, fail := range map[string]func() error{
		"text":          func() error { panic("gk_live_ jane@company.dev") },
		"error":         func() error { panic(errors.New("gk_live_ jane@company.dev")) },
		"runtime error": func() error { return any(5).(error) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, failing(fail))
			_, mine := s.signUp(t)
			for range 2 {
				got := s.send(t, "GET", "/api/v1/account", key(mine), header("X-Request-Id", "its id"))
				p := got.refused(t, http.StatusInternalServerError, "INTERNAL")
				if p.Error.Message != "Something went wrong on our side." || p.RequestID != "its id" {
					t.Errorf("the answer is %s", got.body)
				}
			}
			s.send(t, "GET", "/api/v1/keys", key(mine)).want(t, http.StatusOK)
			record := s.logs.record(t, "its id")
			if why, _ := record["err"].(string); record["level"] != "ERROR" || !strings.Contains(why, "broken_test.go:") {
				t.Errorf("logged: %v", record)
			}
		})
	}
}

// What a store says of its failure is for the log alone.
func TestBrokenStore(t *testing.T) {
	s := newServer(t, failing(func() error { return errStore }))
	_, mine := s.signUp(t)
	got := s.send(t, "GET", "/api/v1/account", key(mine), header("X-Request-Id", "its id"))
	if p := got.refused(t, http.StatusInternalServerError, "INTERNAL"); p.Error.Message != "Something went wrong on our side." {
		t.Errorf("the answer is %s", got.body)
	}
	if record := s.logs.record(t, "its id"); !strings.Contains(record["err"].(string), errStore.Error()) {
		t.Errorf("logged: %v", record)
	}
}

// A store that fails after a request was let in is a 503 like any other:
// without limit headers, though a place was taken.
func TestStoreAwayMeanwhile(t *testing.T) {
	s := newServer(t, failing(func() error { return fault.Away(errStore) }))
	_, mine := s.signUp(t)
	got := s.send(t, "GET", "/api/v1/account", key(mine))
	got.refused(t, http.StatusServiceUnavailable, "UNAVAILABLE")
	got.unlimited(t)
}

// The log of a node that meets all kinds of refusals at the most talkative
// level, with addresses and keys wherever they can be, has neither; newLogs
// looks.
func TestLogsHoldNoSecrets(t *testing.T) {
	s := newServer(t, limit("onboarding", "6/60s"), failing(func() error { return errStore }))
	_, mine := s.signUp(t)
	address := someone()
	for _, text := range []string{`{"name": "Ada", "email": "` + address + `"}`, `{"name": "Ada", "email": "` + address + `"}`, `{"name": "` + address + `"`, `{"` + address + `": 1, "email": "x"}`} {
		s.send(t, "POST", onboard+"?email="+address+"&api_key="+mine, document(text), header("Referer", "https://company.dev/?email="+address))
	}
	s.send(t, "GET", "/api/v1/account?api_key="+mine, key(mine)).want(t, http.StatusInternalServerError)
	s.send(t, "GET", "/api/v1/keys/"+mine).want(t, http.StatusMethodNotAllowed)
	s.send(t, "DELETE", "/api/v1/keys/"+mine, key(mine)).want(t, http.StatusNotFound)
	s.send(t, "GET", "/api/v1/keys?api_key="+mine, key(flip(mine[0])+mine[1:])).want(t, http.StatusUnauthorized)
	s.send(t, "GET", "/nothing/"+mine+"/"+address).want(t, http.StatusNotFound)
	s.send(t, "GET", "/api/v1/account/ledger?cursor="+mine, key(mine)).want(t, http.StatusUnprocessableEntity)
	if err := s.database.close(); err != nil {
		t.Fatal(err)
	}
	s.send(t, "POST", onboard, document(`{"name": "Ada", "email": "`+someone()+`"}`)).want(t, http.StatusServiceUnavailable)
	s.send(t, "GET", "/api/v1/account", key(mine)).want(t, http.StatusServiceUnavailable)
	if len(s.logs.lines()) < 3 {
		t.Errorf("only this was logged, which shows nothing:\n%s", strings.Join(s.logs.lines(), "\n"))
	}
}
