package billing_test

import (
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"gatehouse/internal/billing"
)

func dayOf(t testing.TB, s string) time.Time {
	t.Helper()
	at, err := time.Parse(time.DateOnly, s)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

const somePrices = `
- {provider: acme, model: "", from: 2025-01-01, input: 50, output: 100}
- {provider: acme, model: gpt, from: 2025-01-01, input: 2, cache_read: 0.5, cache_write: 3, cache_write_hour: 4, output: 10, searches: 10}
- {provider: acme, model: gpt, from: 2025-06-01, input: 1, output: 5}
- {provider: acme, model: gpt-mini, from: 2025-03-01, input: 0.1, output: 0.4}
- {provider: bare, model: a, from: 2025-01-01, input: 3, output: 1}
- {provider: bare, model: b, from: 2025-01-01, input: 1, output: 4}
`

func TestPriceThatHolds(t *testing.T) {
	p, err := billing.ParsePrices([]byte(somePrices))
	if err != nil {
		t.Fatal(err)
	}
	m := int64(1_000_000)
	for _, test := range []struct {
		name, provider, model, at string
		tokens                    billing.Tokens
		want                      int64
	}{
		{"input", "acme", "gpt", "2025-02-01", billing.Tokens{Input: m}, 2 * m},
		{"each part at its own", "acme", "gpt", "2025-02-01", billing.Tokens{Input: m, CacheRead: m, CacheWrite: m, CacheWriteHour: m, Output: m, Searches: 1000}, 2*m + m/2 + 3*m + 4*m + 10*m + 10*m},
		{"the longest prefix", "acme", "gpt-mini-2025", "2025-07-01", billing.Tokens{Input: m}, m / 10},
		{"a prefix whose day is to come", "acme", "gpt-mini-2025", "2025-02-28", billing.Tokens{Input: m}, 2 * m},
		{"the newest, from its first day", "acme", "gpt", "2025-06-01", billing.Tokens{Input: m}, m},
		{"not before its day", "acme", "gpt", "2025-05-31", billing.Tokens{Input: m}, 2 * m},
		{"another model is dear", "acme", "new", "2025-06-01", billing.Tokens{Input: m}, 50 * m},
		{"no name is dear", "acme", "", "2025-06-01", billing.Tokens{Input: m}, 50 * m},
		{"before all days it is dear", "acme", "gpt", "2020-01-01", billing.Tokens{Input: m}, 50 * m},
		{"without a row for all others, as the dearest by input", "bare", "c", "2025-06-01", billing.Tokens{Input: m}, 3 * m},
		{"and as the dearest by output", "bare", "c", "2025-06-01", billing.Tokens{Output: m}, 4 * m},
		{"a provider without prices", "free", "x", "2025-06-01", billing.Tokens{Input: m}, 0},
		{"rounded up", "acme", "gpt-mini", "2025-07-01", billing.Tokens{Input: 1}, 1},
		{"rounded up from more", "acme", "gpt-mini", "2025-07-01", billing.Tokens{Input: 11}, 2},
		{"what is whole stays", "acme", "gpt-mini", "2025-07-01", billing.Tokens{Input: 10}, 1},
		{"nothing", "acme", "gpt", "2025-07-01", billing.Tokens{}, 0},
		{"a negative number is none", "acme", "gpt", "2025-07-01", billing.Tokens{Input: 5, Output: -m}, 5},
		{"absurd numbers are a bounded sum", "acme", "x", "2025-07-01", billing.Tokens{Input: math.MaxInt64, Output: math.MaxInt64}, 1_000_000_000_000_000},
	} {
		if got := p.Cost(test.provider, test.model, dayOf(t, test.at), test.tokens); got != test.want {
			t.Errorf("%s: %d, want %d", test.name, got, test.want)
		}
	}
}

// What floats add up to is never more than what is counted in whole numbers.
func TestPricesAreExact(t *testing.T) {
	p, err := billing.ParsePrices([]byte(somePrices))
	if err != nil {
		t.Fatal(err)
	}
	for n := int64(0); n < 3_000_000; n += 997 {
		want := (n + 4*n + 9) / 10 // in tenths: 0.1 of input, 0.4 of output
		if got := p.Cost("acme", "gpt-mini", dayOf(t, "2025-07-01"), billing.Tokens{Input: n, Output: n}); got != want {
			t.Fatalf("%d of each: %d, want %d", n, got, want)
		}
	}
}

func TestEmbeddedPricesAreWhole(t *testing.T) {
	text, err := os.ReadFile("prices.yaml")
	if err != nil {
		t.Fatal(err)
	}
	p, seen := billing.DefaultPrices(), make(map[string]bool)
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "- ") {
			continue
		}
		if _, err := billing.ParsePrices([]byte(line)); err != nil {
			t.Errorf("%s: %v", strings.TrimSpace(line), err)
		}
		head, _, _ := strings.Cut(line, ", input:")
		if seen[head] {
			t.Errorf("twice: %s", head)
		}
		seen[head] = true
		for _, field := range []string{"input:", "cache_read:", "cache_write:", "cache_write_hour:", "output:", "searches:"} {
			if !strings.Contains(line, " "+field) {
				t.Errorf("%s has no %s", head, field)
			}
		}
	}
	if len(seen) < 10 {
		t.Errorf("%d rows were found", len(seen))
	}
	// A model's row is found, also of a dated name, and what is unknown is dear.
	now := dayOf(t, "2026-11-23")
	for _, test := range []struct {
		provider, model string
		want            int64
	}{
		{"anthropic", "claude-sonnet-4-5-20250929", 18_000_000},
		{"anthropic", "claude-sonnet-4-6", 18_000_000},
		{"anthropic", "claude-sonnet-5-5", 12_000_000},
		{"anthropic", "claude-opus-4-20250514", 90_000_000},
		{"anthropic", "claude-opus-4-1-20250805", 90_000_000},
		{"anthropic", "claude-opus-4-5-20251101", 30_000_000},
		{"anthropic", "claude-opus-4-8", 30_000_000},
		{"anthropic", "claude-opus-5", 30_000_000},
		{"anthropic", "claude-opus-5-5", 24_000_000},
		{"anthropic", "claude-haiku-4-5-20251001", 6_000_000},
		{"anthropic", "claude-haiku-5-5", 3_000_000},
		{"anthropic", "claude-fable-5-1", 60_000_000},
		{"anthropic", "claude-next", 150_000_000},
		{"openai", "gpt-5-2025-08-07", 11_250_000},
		{"openai", "gpt-5-codex", 11_250_000},
		{"openai", "gpt-5-pro-2025-10-06", 135_000_000},
		{"openai", "gpt-5-nano", 450_000},
		{"openai", "gpt-5.1-2025-11-13", 11_250_000},
		{"openai", "gpt-5.2-codex", 15_750_000},
		{"openai", "gpt-5.4-mini-2026-03-17", 5_250_000},
		{"openai", "gpt-5.5", 55_000_000},
		{"openai", "gpt-5.5-pro", 330_000_000},
		{"openai", "gpt-5.6-sol", 55_000_000},
		{"openai", "gpt-5.9", 330_000_000}, // not as 5
		{"openai", "gpt-6.1-sol-2026-09-29", 19_000_000},
		{"openai", "gpt-6.2-sol", 19_000_000},
		{"openai", "gpt-7", 330_000_000},
		{"openai", "gpt-4.1-2025-04-14", 10_000_000},
		{"openai", "gpt-4.1-nano", 500_000},
		{"openai", "gpt-4o-2024-05-13", 20_000_000},
		{"openai", "gpt-4o-2024-11-20", 12_500_000},
		{"openai", "gpt-4o-mini-2024-07-18", 750_000},
		{"openai", "o1-pro", 750_000_000},
		{"openai", "o3-2025-04-16", 10_000_000},
		{"openai", "o3-deep-research", 50_000_000},
		{"openai", "o4-mini-2025-04-16", 5_500_000},
		{"openai", "text-embedding-3-small", 20_000},
		{"openai", "unheard-of", 330_000_000},
		{"openrouter", "anthropic/claude-sonnet-4", 210_000_000},
		{"openrouter", "openai/o1-pro", 750_000_000},
		{"ollama", "llama3", 0},
	} {
		if got := p.Cost(test.provider, test.model, now, billing.Tokens{Input: 1_000_000, Output: 1_000_000}); got != test.want {
			t.Errorf("%s %s: %d, want %d", test.provider, test.model, got, test.want)
		}
	}
}

func TestPriceTableThatIsNone(t *testing.T) {
	for name, text := range map[string]string{
		"not a list":       `provider: acme`,
		"another field":    `- {provider: acme, from: 2025-01-01, inputs: 1}`,
		"no provider":      `- {model: a, from: 2025-01-01, input: 1}`,
		"no day":           `- {provider: acme, input: 1}`,
		"a day that isn't": `- {provider: acme, from: 2025-02-30, input: 1}`,
		"negative":         `- {provider: acme, from: 2025-01-01, input: -1}`,
		"not a number":     `- {provider: acme, from: 2025-01-01, input: .nan}`,
		"beyond all":       `- {provider: acme, from: 2025-01-01, output: 100001}`,
		"a word":           `- {provider: acme, from: 2025-01-01, output: dear}`,
	} {
		if p, err := billing.ParsePrices([]byte(text)); err == nil {
			t.Errorf("%s: read as %+v", name, p)
		}
	}
}
