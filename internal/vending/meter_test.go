package vending_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/internal/billing"
	"gatehouse/internal/fault"
	"gatehouse/internal/gateway"
	"gatehouse/internal/vending"
)

const somePrices = `
- {provider: openai, model: "", from: 2000-01-01, input: 10, output: 100}
- {provider: openai, model: gpt, from: 2000-01-01, input: 1, cache_read: 0.5, cache_write: 2, cache_write_hour: 4, output: 10, searches: 10}
- {provider: openai, model: gpt-free, from: 2000-01-01}
- {provider: openrouter, model: "", from: 2000-01-01, input: 10, output: 100}
`

// withMeter runs a test in time of its own, with a meter that runs until stop.
func withMeter(t *testing.T, test func(t *testing.T, m *vending.Meter, s *shelf, stop func())) (log string) {
	t.Helper()
	prices, err := billing.ParsePrices([]byte(somePrices))
	done(t, err)
	var said bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		m := vending.NewMeter(s, prices, time.Now, slog.New(slog.NewTextHandler(&said, nil)), func(string, gateway.Outcome, bool) {})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { m.Run(ctx) })
		stop := func() {
			cancel()
			running.Wait()
		}
		synctest.Wait()
		test(t, m, s, stop)
		stop()
	})
	return said.String()
}

var lease = &gateway.Lease{CredentialID: "credential", CustomerID: "customer", KeyID: "key", GrantID: "grant", Capped: true}

func call(model string) *gateway.Call {
	return &gateway.Call{Provider: "openai", Model: model, Started: time.Now(), InputTokens: 1000, MaxOutputTokens: 50}
}

func settle(t testing.TB, m *vending.Meter, model string) {
	t.Helper()
	m.Settle(t.Context(), lease, call(model), gateway.Usage{InputTokens: 1, Outcome: gateway.Done}, gateway.Reservation{})
}

func TestReservedIsTheWorstThatACallMayCost(t *testing.T) {
	withMeter(t, func(t *testing.T, m *vending.Meter, s *shelf, _ func()) {
		for _, test := range []struct {
			name string
			call gateway.Call
			want int64
		}{
			{"all input written to a cache, all output used", *call("gpt"), 4*1000 + 10*50},
			{"an unknown model", *call("new"), 10*1000 + 100*50},
			{"an answer that nothing bounds", gateway.Call{Provider: "openai", Model: "gpt", InputTokens: 1}, 4 + 10*128_000},
			{"no answer", gateway.Call{Provider: "openai", Model: "gpt", InputTokens: 10, NoOutput: true}, 40},
			{"a bound that means nothing", gateway.Call{Provider: "openai", Model: "gpt", InputTokens: 1, MaxOutputTokens: math.MaxInt64}, 1_000_000_000_000_000},
			{"a negative bound", gateway.Call{Provider: "openai", Model: "gpt", InputTokens: 1, MaxOutputTokens: -5}, 4 + 10*128_000},
		} {
			c := test.call
			c.Started = time.Now()
			r, err := m.Reserve(t.Context(), lease, &c)
			done(t, err)
			want := vending.Hold{
				ID: r.ID, CustomerID: "customer", KeyID: "key", CredentialID: "credential", GrantID: "grant", Provider: vending.OpenAI, Model: c.Model, Micro: test.want,
			}
			if r.MicroUSD != test.want || s.holds[r.ID] != want {
				t.Errorf("%s: reserved %+v, held %+v, want %d", test.name, r, s.holds[r.ID], test.want)
			}
		}
		held := len(s.holds)
		s.over = true
		for _, c := range []gateway.Call{{Provider: "ollama", Model: "llama", InputTokens: 1000}, {Provider: "openai", Model: "gpt", Free: true}, *call("gpt-free")} {
			if r, err := m.Reserve(t.Context(), lease, &c); err != nil || r != (gateway.Reservation{}) || len(s.holds) != held {
				t.Errorf("%+v costs nothing, and has %+v reserved, %v", c, r, err)
			}
		}
	})
}

func TestRefusedCallIsInTheTrail(t *testing.T) {
	withMeter(t, func(t *testing.T, m *vending.Meter, s *shelf, _ func()) {
		s.over = true
		r, err := m.Reserve(t.Context(), lease, call("gpt"))
		if wantFault(t, err, fault.PaymentRequired, "BUDGET_EXCEEDED"); retryAfter(err) != 0 || r != (gateway.Reservation{}) {
			t.Errorf("refused with %+v, reserved %+v", err, r)
		}
		synctest.Wait()
		got := s.calls()["gpt"]
		want := vending.Spending{Audit: vending.Audit{
			ID: got.ID, At: time.Now(), CustomerID: "customer", KeyID: "key", CredentialID: "credential", GrantID: "grant",
			Action: vending.Refusing, Provider: vending.OpenAI, Model: "gpt", Outcome: "BUDGET_EXCEEDED",
		}}
		if got != want || got.ID == "" {
			t.Errorf("the trail has %+v", got)
		}
		s.do(func() { s.over, s.away = false, errAway })
		_, err = m.Reserve(t.Context(), lease, call("other"))
		wantFault(t, err, fault.Unavailable, "")
		s.setAway(nil)
		if pass(time.Second); len(s.calls()) != 1 {
			t.Error("who could not be asked is no refusal")
		}
	})
}

func TestSettledCallIsBookedAndItsHoldReleased(t *testing.T) {
	withMeter(t, func(t *testing.T, m *vending.Meter, s *shelf, _ func()) {
		c := call("gpt")
		r, err := m.Reserve(t.Context(), lease, c)
		done(t, err)
		m.Settle(t.Context(), lease, c, gateway.Usage{
			Model: "gpt-2", InputTokens: 1, CacheReadTokens: 2, CacheWriteTokens: 3, CacheWriteHourTokens: 4, OutputTokens: 5, WebSearches: 1, Estimated: true, Outcome: gateway.Cut,
		}, r)
		synctest.Wait()
		got := s.calls()["gpt-2"]
		want := vending.Spending{Reservation: r.ID, Audit: vending.Audit{
			ID: r.ID, At: time.Now(), CustomerID: "customer", KeyID: "key", CredentialID: "credential", GrantID: "grant", Action: vending.Calling, Provider: vending.OpenAI,
			Model: "gpt-2", Requests: 1, InputTokens: 10, OutputTokens: 5, Cost: 1 + 1 + 6 + 16 + 50 + 10_000, Estimated: true, Outcome: "cut",
		}}
		if got != want || len(s.holds) != 0 {
			t.Errorf("booked %+v\n want  %+v\nheld %+v", got, want, s.holds)
		}
	})
}

func TestWhatACallCosts(t *testing.T) {
	used := gateway.Usage{InputTokens: 1000, OutputTokens: 10, Outcome: gateway.Done}
	priced := func(cost int64) gateway.Usage {
		u := used
		u.Priced, u.Cost = true, cost
		return u
	}
	withMeter(t, func(t *testing.T, m *vending.Meter, s *shelf, _ func()) {
		for _, test := range []struct {
			name, provider string
			free           bool
			used           gateway.Usage
			want           int64
		}{
			{"by the table", "openrouter", false, used, 11_000},
			{"the provider's own figure", "openrouter", false, priced(7), 7},
			{"its own nothing", "openrouter", false, priced(0), 0},
			{"a negative figure", "openrouter", false, priced(-7), 0},
			{"ollama", "ollama", false, used, 0},
			{"a free call", "openai", true, used, 0},
		} {
			m.Settle(t.Context(), lease, &gateway.Call{Provider: test.provider, Model: test.name, Free: test.free, Started: time.Now()}, test.used, gateway.Reservation{})
			synctest.Wait()
			if got := s.calls()[test.name]; got.Cost != test.want || got.Requests != 1 || got.InputTokens != 1000 {
				t.Errorf("%s: %+v", test.name, got)
			}
		}
		m.Settle(t.Context(), lease, call("a\x00b\xffc"), gateway.Usage{}, gateway.Reservation{})
		synctest.Wait()
		if got := s.calls()["a?b?c"]; got.Requests != 1 {
			t.Errorf("a name that no database takes: %+v", s.calls())
		}
	})
}

func TestCallsAreBookedInGroupsUntilTheyAre(t *testing.T) {
	log := withMeter(t, func(t *testing.T, m *vending.Meter, s *shelf, _ func()) {
		s.setAway(errAway)
		settle(t, m, "first")
		synctest.Wait()
		for range 600 {
			settle(t, m, "later")
		}
		pass(time.Hour)
		if len(s.booked) != 0 || len(s.groups) != 7201 {
			t.Errorf("%d booked in %d tries", len(s.booked), len(s.groups))
		}
		s.do(func() { s.away, s.groups = nil, nil })
		pass(500 * time.Millisecond)
		if len(s.booked) != 601 || len(s.groups) != 4 || s.groups[1] != 256 {
			t.Errorf("%d booked in groups of %v", len(s.booked), s.groups)
		}
	})
	if n := strings.Count(log, "calls can't be booked"); n != 1 {
		t.Errorf("said %d times: %s", n, log)
	}
}

func TestOneCallThatCannotBeBookedHoldsUpNoOther(t *testing.T) {
	log := withMeter(t, func(t *testing.T, m *vending.Meter, s *shelf, _ func()) {
		s.do(func() { s.poison = "poison" })
		s.setAway(errAway)
		for i := range 100 {
			if i%50 == 7 {
				settle(t, m, "poison")
			} else {
				settle(t, m, "fine")
			}
		}
		s.setAway(nil)
		pass(time.Hour)
		if len(s.booked) != 98 {
			t.Errorf("%d of 98 were booked", len(s.booked))
		}
	})
	if !strings.Contains(log, "a call was not booked") || !strings.Contains(log, "model=poison") || !strings.Contains(log, "customer=customer") {
		t.Errorf("what was lost is not said: %s", log)
	}
}

func TestLastWordsAreBookedAtStop(t *testing.T) {
	withMeter(t, func(t *testing.T, m *vending.Meter, s *shelf, stop func()) {
		s.setAway(errAway)
		for range 300 {
			settle(t, m, "queued")
		}
		synctest.Wait()
		s.setAway(nil)
		stop()
		if len(s.booked) != 300 {
			t.Errorf("%d of 300 were booked", len(s.booked))
		}
		settle(t, m, "late")
		if len(s.booked) != 301 {
			t.Error("what came after the end was not booked")
		}
	})
	log := withMeter(t, func(t *testing.T, m *vending.Meter, s *shelf, stop func()) {
		s.setAway(errors.New("gone for good"))
		settle(t, m, "lost")
		stop()
	})
	if !strings.Contains(log, "a call was not booked") {
		t.Errorf("nothing is said of what was lost: %s", log)
	}
}

func TestEachCallIsBookedThoughTheNodeStopsAmidThem(t *testing.T) {
	withMeter(t, func(t *testing.T, m *vending.Meter, s *shelf, stop func()) {
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				for range 20 {
					settle(t, m, "m")
					<-time.After(time.Millisecond)
				}
			})
		}
		<-time.After(7 * time.Millisecond)
		stop()
		all.Wait()
		if len(s.booked) != 1000 {
			t.Errorf("%d of 1000 were booked", len(s.booked))
		}
	})
}

func TestHoldsAreKept(t *testing.T) {
	log := withMeter(t, func(t *testing.T, m *vending.Meter, s *shelf, _ func()) {
		if pass(time.Minute); s.kept != 0 {
			t.Errorf("an idle node wrote %d times in a minute", s.kept)
		}
		_, err := m.Reserve(t.Context(), lease, call("gpt"))
		done(t, err)
		if pass(time.Minute); s.kept != 6 {
			t.Errorf("kept %d times in a minute", s.kept)
		}
		s.setAway(errAway)
		pass(10 * time.Second)
	})
	if !strings.Contains(log, "may lapse") {
		t.Errorf("nothing is said: %s", log)
	}
}

func TestQueueIsBounded(t *testing.T) {
	withMeter(t, func(t *testing.T, m *vending.Meter, s *shelf, stop func()) {
		s.setAway(errAway)
		settled := 0
		var caller sync.WaitGroup
		caller.Go(func() {
			for range 20_000 {
				settle(t, m, "m")
				settled++
			}
		})
		pass(time.Second)
		if settled > 9000 {
			t.Errorf("%d wait in memory", settled)
		}
		s.setAway(nil)
		pass(time.Second)
		if caller.Wait(); settled != 20_000 {
			t.Errorf("%d of 20000 went on", settled)
		}
		if stop(); len(s.booked) != 20_000 {
			t.Errorf("%d of 20000 were booked", len(s.booked))
		}
	})
}

func TestEachCallsEndIsTold(t *testing.T) {
	var told []string
	s := newShelf()
	m := vending.NewMeter(s, billing.Prices{}, time.Now, quiet(), func(provider string, o gateway.Outcome, estimated bool) {
		told = append(told, provider+" "+string(o))
		if !estimated {
			t.Error("it was estimated")
		}
	})
	m.Settle(t.Context(), lease, call("gpt"), gateway.Usage{Outcome: gateway.Left, Estimated: true}, gateway.Reservation{})
	done(t, m.BookLost(t.Context()))
	s.lost = []vending.Audit{{Provider: vending.Anthropic}}
	done(t, m.BookLost(t.Context()))
	if len(told) != 2 || told[0] != "openai left" || told[1] != "anthropic lost" {
		t.Errorf("told %v", told)
	}
}
