package billing

import (
	"bytes"
	_ "embed"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
)

// Tokens are what a call to an AI provider used.
type Tokens struct {
	Input          int64 // neither read from a cache nor written to one
	CacheRead      int64
	CacheWrite     int64 // kept for minutes
	CacheWriteHour int64 // kept for an hour
	Output         int64
	Searches       int64
}

// Prices are what AI providers ask for, by model and date.
type Prices struct{ rows []priceRow }

// priceRow is what a provider's models that begin so cost from a day on, in
// dollars a million tokens, and a thousand searches.
type priceRow struct {
	Provider       string  `yaml:"provider"`
	Model          string  `yaml:"model"` // a prefix; "": all others
	From           string  `yaml:"from"`  // YYYY-MM-DD
	Input          float64 `yaml:"input"`
	CacheRead      float64 `yaml:"cache_read"`
	CacheWrite     float64 `yaml:"cache_write"`
	CacheWriteHour float64 `yaml:"cache_write_hour"`
	Output         float64 `yaml:"output"`
	Searches       float64 `yaml:"searches"`
	from           time.Time
}

//go:embed prices.yaml
var embeddedPrices []byte

// PricesText is the file in the binary.
func PricesText() []byte { return bytes.Clone(embeddedPrices) }

// DefaultPrices are those in the binary.
func DefaultPrices() Prices {
	p, err := ParsePrices(embeddedPrices)
	if err != nil {
		panic("the embedded prices: " + err.Error()) // a test reads them
	}
	return p
}

// ParsePrices reads a price table.
func ParsePrices(text []byte) (p Prices, err error) {
	if err := yaml.UnmarshalWithOptions(text, &p.rows, yaml.Strict()); err != nil {
		return p, fmt.Errorf("not a price table: %w", err)
	}
	for i := range p.rows {
		r := &p.rows[i]
		if r.from, err = time.Parse(time.DateOnly, r.From); err != nil || r.Provider == "" {
			return p, fmt.Errorf("price %d: want a provider, and from as YYYY-MM-DD", i+1)
		}
		for _, price := range []float64{r.Input, r.CacheRead, r.CacheWrite, r.CacheWriteHour, r.Output, r.Searches} {
			if !(price >= 0 && price <= 100_000) {
				return p, fmt.Errorf("price %d: want prices from 0 to 100000 dollars", i+1)
			}
		}
	}
	return p, nil
}

// maxCost bounds what any numbers come to: a billion dollars, of which thousands
// add up to an int64.
const maxCost = 1_000_000_000_000_000

// Cost is what tokens of a model cost at a time, in millionths of a dollar,
// rounded up. A model that is not in the table costs what the provider's dearest
// does.
func (p Prices) Cost(provider, model string, at time.Time, t Tokens) int64 {
	var best *priceRow
	var dearest int64
	for i := range p.rows {
		r := &p.rows[i]
		if r.Provider != provider {
			continue
		}
		dearest = max(dearest, r.cost(t))
		if at.Before(r.from) || !strings.HasPrefix(model, r.Model) {
			continue
		}
		if best == nil || len(r.Model) > len(best.Model) || len(r.Model) == len(best.Model) && !r.from.Before(best.from) {
			best = r
		}
	}
	if best == nil {
		return dearest
	}
	return best.cost(t)
}

// cost counts dollars a million tokens, which are millionths of a dollar a token.
// What no provider can mean, a negative number, is none.
func (r *priceRow) cost(t Tokens) int64 {
	var micro float64
	for _, part := range []struct {
		n     int64
		price float64
	}{
		{t.Input, r.Input}, {t.CacheRead, r.CacheRead}, {t.CacheWrite, r.CacheWrite}, {t.CacheWriteHour, r.CacheWriteHour}, {t.Output, r.Output},
		{t.Searches, r.Searches * 1000},
	} {
		micro += float64(max(part.n, 0)) * part.price
	}
	return int64(math.Ceil(min(micro*(1-1e-14), maxCost))) // the sum of floats may be a hair too much
}
