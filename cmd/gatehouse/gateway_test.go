package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	revokeTrials = flag.Int("revoke.trials", 20, "how many credentials TestRevokeTrial revokes")
	budgetCalls  = flag.Int("budget.calls", 200, "how many calls TestBudgetRace makes at once")
)

const (
	deadWithin   = time.Second     // after its revocation was answered, a token is dead on every node
	streamWithin = 2 * time.Second // and the streams that were open under it have ended
)

// provider is an AI provider: what is not streamed is answered at once, and a
// stream goes on until its client leaves.
type provider struct {
	*httptest.Server
	calls atomic.Int64
}

func newProvider(t testing.TB) *provider {
	p := new(provider)
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.calls.Add(1)
		body, _ := io.ReadAll(r.Body)
		if r.Header.Get("X-Api-Key") != "sk-real" || strings.Contains(string(body), "gt_live_") {
			t.Errorf("the provider was asked with %v", r.Header)
		}
		if !strings.Contains(string(body), `"stream":true`) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"id":"msg_1","type":"message","model":"claude-sonnet-4-5","content":[],"stop_reason":"end_turn","usage":{"input_tokens":1000,"output_tokens":1000}}`)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"claude-sonnet-4-5\",\"usage\":{\"input_tokens\":1000,\"output_tokens\":1}}}\n\n")
		beat := time.NewTicker(20 * time.Millisecond)
		defer beat.Stop()
		for {
			fmt.Fprint(w, "event: ping\ndata: {\"type\":\"ping\"}\n\n")
			_ = http.NewResponseController(w).Flush()
			select {
			case <-beat.C:
			case <-r.Context().Done():
				return
			}
		}
	}))
	t.Cleanup(func() { p.CloseClientConnections(); p.Close() })
	return p
}

func (p *provider) env() []string {
	return []string{
		"GATEHOUSE_ANTHROPIC_API_KEY=sk-real", "GATEHOUSE_ANTHROPIC_BASE_URL=" + p.URL,
		"GATEHOUSE_LIMIT_API=off", "GATEHOUSE_LIMIT_CREDENTIAL_EXCHANGE=off", "GATEHOUSE_LIMIT_AUTH_FAILURE=off",
	}
}

// exchanged trades a key for a token.
func exchanged(t testing.TB, n *node, key, more string) (id, token string) {
	t.Helper()
	c := do(n.client(""), http.MethodPost, n.url+"/api/v1/credentials/exchange", key, `{"providers": ["anthropic"]`+more+`}`)
	var told struct {
		Credentials map[string]struct {
			ID     string `json:"id"`
			APIKey string `json:"api_key"`
		} `json:"credentials"`
	}
	if err := c.decode(&told); err != nil || c.status != http.StatusOK {
		t.Fatalf("exchange: %d %s, %v", c.status, c.body, err)
	}
	return told.Credentials["anthropic"].ID, told.Credentials["anthropic"].APIKey
}

// message has some thousand tokens, as what the provider says of it.
var message = `{"model":"claude-sonnet-4-5","max_tokens":1000,"messages":[{"role":"user","content":"` + strings.Repeat("hello ", 1000) + `"}]}`

// asker asks nodes with tokens, many at once.
type asker struct{ *http.Client }

func newAsker(t testing.TB) asker {
	a := asker{newClient("")}
	t.Cleanup(a.CloseIdleConnections)
	return a
}

func (a asker) ask(n *node, token string) call {
	return do(a.Client, http.MethodPost, n.url+"/gateway/anthropic/v1/messages", token, message)
}

// TestRevokeTrial revokes credentials while all nodes are asked with them
// without a pause, and streams are open, in each way there is: the worst counts.
func TestRevokeTrial(t *testing.T) {
	needLinux(t)
	p := newProvider(t)
	c := newCluster(t, 3, newPostgres(t), p.env())
	var nodes []*node
	for _, place := range c.places {
		nodes = append(nodes, place.alive())
	}
	customer := mustSignUp(t, nodes[0].client(""), nodes[0].url, "trial@customers.dev")
	asker := newAsker(t)
	var worst, worstStream time.Duration
	for trial := range *revokeTrials {
		id, token := exchanged(t, nodes[0], customer.key, "")
		stream := openStream(t, asker, nodes[trial%3], token)
		var mu sync.Mutex
		var last time.Time // when the last call began that was let in
		stop := make(chan struct{})
		var asking sync.WaitGroup
		for _, n := range nodes {
			asking.Go(func() {
				for {
					began := time.Now()
					c := asker.ask(n, token)
					status := c.status
					switch {
					case c.err != nil: // cut in the middle, as the token died
					case status == http.StatusOK:
						mu.Lock()
						if began.After(last) {
							last = began
						}
						mu.Unlock()
					case status == http.StatusUnauthorized:
						return
					case status == http.StatusServiceUnavailable: // a busy machine: it lets nobody in
					default:
						t.Errorf("trial %d: a call is answered %d %s", trial, status, c.body)
						return
					}
					select {
					case <-stop:
						return
					default:
					}
				}
			})
		}
		pause(time.Duration(rand.IntN(100)) * time.Millisecond)
		if got := do(nodes[(trial+1)%3].client(""), http.MethodDelete, nodes[(trial+1)%3].url+"/api/v1/credentials/"+id, customer.key, ""); got.status != http.StatusNoContent {
			t.Fatalf("trial %d: the revocation is answered %d %s", trial, got.status, got.body)
		}
		revoked := time.Now()
		tired := time.AfterFunc(patience, func() { close(stop) })
		asking.Wait()
		ended := <-stream
		tired.Stop()
		worst, worstStream = max(worst, last.Sub(revoked)), max(worstStream, ended.Sub(revoked))
	}
	t.Logf("| trials | the last call let in after its revocation | the last stream's end |")
	t.Logf("| %d | %s | %s |", *revokeTrials, worst.Round(time.Millisecond), worstStream.Round(time.Millisecond))
	if worst > deadWithin || worstStream > streamWithin {
		t.Errorf("a call was let in %s after its revocation, want at most %s; a stream ended after %s, want %s", worst, deadWithin, worstStream, streamWithin)
	}
}

// openStream opens a stream and tells when it has ended. A node that can't tell
// just then what was revoked is asked again.
func openStream(t testing.TB, a asker, n *node, token string) <-chan time.Time {
	t.Helper()
	var resp *http.Response
	n.until("it opens a stream", func() bool {
		req, err := http.NewRequest(http.MethodPost, n.url+"/gateway/anthropic/v1/messages", strings.NewReader(strings.Replace(message, `"max_tokens"`, `"stream":true,"max_tokens"`, 1)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Content-Type", "application/json")
		if resp, err = a.Do(req); err != nil { //nolint:bodyclose // its reader does
			t.Fatal(err)
		}
		if resp.StatusCode == http.StatusServiceUnavailable {
			_ = resp.Body.Close()
			return false
		}
		return true
	})
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("open a stream: %d", resp.StatusCode)
	}
	lines := bufio.NewReader(resp.Body)
	if _, err := lines.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	ended := make(chan time.Time, 1)
	go func() {
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, lines)
		ended <- time.Now()
	}()
	return ended
}

// TestBudgetRace makes many calls at once over three nodes within one budget: what
// is spent stays within it, and what was set aside and not spent comes back.
func TestBudgetRace(t *testing.T) {
	needLinux(t)
	p := newProvider(t)
	c := newCluster(t, 3, newPostgres(t), p.env())
	var nodes []*node
	for _, place := range c.places {
		nodes = append(nodes, place.alive())
	}
	customer := mustSignUp(t, nodes[0].client(""), nodes[0].url, "race@customers.dev")
	const cents, each = 60, 1000*3 + 1000*15 // a call's 1,000 tokens in and out, in millionths of a dollar
	id, token := exchanged(t, nodes[0], customer.key, fmt.Sprintf(`, "max_cents": %d`, cents))
	asker := newAsker(t)
	var passed, refused atomic.Int64
	var calls sync.WaitGroup
	for i := range *budgetCalls {
		calls.Go(func() {
			c := asker.ask(nodes[i%3], token)
			for c.status == http.StatusServiceUnavailable { // a busy machine
				c = asker.ask(nodes[i%3], token)
			}
			switch {
			case c.status == http.StatusOK:
				passed.Add(1)
			case c.status == http.StatusPaymentRequired && c.header.Get("X-Gatehouse-Error") == "BUDGET_EXCEEDED" && c.header.Get("Retry-After") == "":
				refused.Add(1)
			default:
				t.Errorf("a call is answered %d %s %v", c.status, c.body, c.err)
			}
		})
	}
	calls.Wait()
	// What was set aside beyond a call's cost has come back: calls pass until the
	// budget is spent but for less than what one may come to.
	for more := true; more; {
		switch asker.ask(nodes[0], token).status {
		case http.StatusOK:
			passed.Add(1)
		case http.StatusPaymentRequired:
			more = false
		}
	}
	spent := func() (n, micro int64) {
		o := finish(t, gatehouse(t, "admin", "audit", "--credential", id, "--action", "call", "--limit", "0", "--json", databaseFlag(c.database)))
		for line := range strings.Lines(o.stdout) {
			var row struct {
				Cost int64 `json:"cost_micro_usd"`
			}
			if err := json.Unmarshal([]byte(line), &row); err != nil {
				t.Fatal(err, line)
			}
			n, micro = n+1, micro+row.Cost
		}
		return n, micro
	}
	nodes[0].until("all calls are booked", func() bool { n, _ := spent(); return n == passed.Load() })
	n, micro := spent()
	if micro != n*each || micro > cents*10_000 || n == 0 {
		t.Errorf("%d calls cost %d millionths, want %d each, and at most %d", n, micro, each, cents*10_000)
	}
	if p.calls.Load() != n {
		t.Errorf("the provider was asked %d times for %d calls", p.calls.Load(), n)
	}
	t.Logf("| calls at once | passed in all | refused at once | spent, of %d cents |", cents)
	t.Logf("| %d | %d | %d | %.1f |", *budgetCalls, n, refused.Load(), float64(micro)/10_000)
}
