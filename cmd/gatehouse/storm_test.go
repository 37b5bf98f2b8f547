package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"
)

// The contract's limit of sign-ups, and what the refused are told.
const (
	signUpLimit  = 10
	signUpWindow = time.Minute
	tooMany      = "Rate limit exceeded. Maximum 10 onboarding requests per minute per IP address."
)

// A storm of sign-ups from many addresses at once: each address gets its ten,
// whatever it sends, and the metrics count what the clients counted.
func TestStorm(t *testing.T) {
	t.Parallel()
	needLinux(t)
	const addresses, each, workers = 200, 15, 64
	n := startNode(t, newDatabase(t))

	clients := make([]*http.Client, addresses)
	for i := range clients {
		clients[i] = n.client(loopback(i))
	}
	jobs := make(chan [2]int) // which address, its how manieth request
	results := make(chan call)
	var senders sync.WaitGroup
	for range workers {
		senders.Go(func() {
			for job := range jobs {
				c := stormCall(clients[job[0]], n.url, job[0], job[1])
				c.source = loopback(job[0])
				results <- c
			}
		})
	}
	go func() {
		for _, i := range rand.Perm(addresses * each) {
			jobs <- [2]int{i / each, i % each}
		}
		close(jobs)
		senders.Wait()
		close(results)
	}()
	began := time.Now()
	calls := make([]call, 0, addresses*each)
	for c := range results {
		calls = append(calls, c)
	}
	if took := time.Since(began); took >= signUpWindow {
		t.Logf("the storm took %s, longer than a window: more than ten of an address may be right", took)
	} else {
		exactlyTen(t, calls)
	}
	for _, wrong := range append(overAdmitted(calls, signUpLimit, signUpWindow), wronglyDenied(calls, signUpLimit, signUpWindow)...) {
		t.Error(wrong)
	}
	byStatus := make(map[int]int)
	known := make(map[string]told)
	for _, c := range calls {
		if !c.answered() {
			t.Fatalf("no answer: %v", c.err)
		}
		byStatus[c.status]++
		if c.email != "" {
			known[c.email] = told{call: c}
		}
		if c.status == http.StatusTooManyRequests {
			wantDenial(t, c)
		}
	}
	t.Logf("answers by status: %v", byStatus)
	stormMetrics(t, n, byStatus)
	n.drain()
	mustAudit(t, n.database, known)
}

// stormCall is the nth request of an address: mostly a sign-up, now and then
// one of those that are refused for what they say, which count all the same.
func stormCall(client *http.Client, base string, address, nth int) call {
	switch nth {
	case 0:
		return signUp(client, base, fmt.Sprintf("storm-%d@mailinator.com", address))
	case 1:
		return do(client, http.MethodPost, base+"/api/v1/customers/onboard", "", `{"name": "cut of`)
	}
	return signUp(client, base, fmt.Sprintf("storm-%d-%d@customers.dev", address, nth))
}

// exactlyTen wants ten requests of each address admitted, no more, no less.
func exactlyTen(t *testing.T, calls []call) {
	t.Helper()
	for source, own := range bySource(calls) {
		admitted := 0
		for _, c := range own {
			if c.admitted() {
				admitted++
			}
		}
		if admitted != signUpLimit {
			t.Errorf("%s: %d of %d requests were admitted, want %d", source, admitted, len(own), signUpLimit)
		}
	}
}

// wantDenial holds a 429 to the contract's words.
func wantDenial(t *testing.T, c call) {
	t.Helper()
	if code, message := c.problem(); code != "RATE_LIMITED" || message != tooMany {
		t.Errorf("refused with %s %q, want RATE_LIMITED %q", code, message, tooMany)
	}
	if wait, err := strconv.Atoi(c.header.Get("Retry-After")); err != nil || wait < 1 || wait > 60 {
		t.Errorf("Retry-After %q, want whole seconds from 1 to 60", c.header.Get("Retry-After"))
	}
	if got := c.header.Get("X-RateLimit-Remaining"); got != "0" {
		t.Errorf("X-RateLimit-Remaining of a refusal: %q, want 0", got)
	}
}

// stormMetrics holds the node's counts against the clients'.
func stormMetrics(t *testing.T, n *node, byStatus map[int]int) {
	t.Helper()
	m := n.metrics()
	want := func(what string, got float64, want int) {
		t.Helper()
		if got != float64(want) {
			t.Errorf("%s: the node counted %v, the clients %d", what, got, want)
		}
	}
	all := 0
	const requests, route = "gatehouse_http_request_duration_seconds_count", "route=/api/v1/customers/onboard"
	for status, count := range byStatus {
		all += count
		want(fmt.Sprintf("answers %d", status), m.sum(requests, route, "method=POST", "status="+strconv.Itoa(status)), count)
	}
	want("answers", m.sum(requests, route), all)
	denied := byStatus[http.StatusTooManyRequests]
	const decisions, policy = "gatehouse_rate_limit_decisions_total", "policy=onboarding"
	want("admissions", m.sum(decisions, policy, "outcome=admitted"), all-denied)
	want("refusals", m.sum(decisions, policy, "outcome=denied")+m.sum(decisions, policy, "outcome=denied_remembered"), denied)
	want("decisions that failed", m.sum(decisions, policy, "outcome=store_failed"), 0)
	want("sign-ups", m.sum("gatehouse_sign_ups_total", "outcome=created"), byStatus[http.StatusCreated])
	want("refused sign-ups", m.sum("gatehouse_sign_ups_total", "outcome=disposable_provider"), byStatus[http.StatusUnprocessableEntity])
	want("faults of the limit", m.sum("gatehouse_http_faults_total", "kind=limited"), denied)
	want("faults of validation", m.sum("gatehouse_http_faults_total", "kind=invalid"), byStatus[http.StatusUnprocessableEntity])
	want("faults of form", m.sum("gatehouse_http_faults_total", "kind=malformed"), byStatus[http.StatusBadRequest])
}
