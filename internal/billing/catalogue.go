package billing

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"gatehouse/internal/fault"
)

// Plan is what a customer pays by.
type Plan string

// The plans.
const (
	Trial      Plan = "trial" // until the first payment method
	PayAsYouGo Plan = "pay_as_you_go"
	Pro        Plan = "pro"
)

// Catalogue is what is sold: plans, prices and credits.
type Catalogue struct {
	Currency string `yaml:"currency"` // ISO 4217, in lower case as Stripe has it
	Trial    struct {
		Credits int64 `yaml:"credits"`
		Fixes   int64 `yaml:"fixes"`
	} `yaml:"trial"`
	PaymentMethod struct {
		Credits int64 `yaml:"credits"` // for a customer's first one
	} `yaml:"payment_method"`
	PayAsYouGo struct {
		FixCents int64 `yaml:"fix_cents"`
	} `yaml:"pay_as_you_go"`
	Pro struct {
		MonthCents   int64    `yaml:"month_cents"`
		Credits      int64    `yaml:"credits"` // for a paid invoice
		FixCents     int64    `yaml:"fix_cents"`
		LookupKey    string   `yaml:"lookup_key"`
		MetadataPlan string   `yaml:"metadata_plan"`
		Prices       []string `yaml:"prices"`
	} `yaml:"pro"`
}

//go:embed catalogue.yaml
var embeddedCatalogue []byte

// CatalogueText is the file in the binary, with what its fields mean.
func CatalogueText() []byte { return bytes.Clone(embeddedCatalogue) }

// DefaultCatalogue is the one in the binary.
func DefaultCatalogue() Catalogue {
	c, err := ParseCatalogue(embeddedCatalogue)
	if err != nil {
		panic("the embedded catalogue: " + err.Error()) // a test reads it
	}
	return c
}

// Bounds of what a catalogue says, so that no sum of it leaves an int64.
const (
	maxCents   = 99_999_999 // Stripe's most for one charge
	maxCredits = 1_000_000
)

// ParseCatalogue reads a catalogue. Every field must be given, and no other.
func ParseCatalogue(text []byte) (c Catalogue, err error) {
	defer func() {
		if p := recover(); p != nil { // the YAML reader breaks on some texts
			err = fmt.Errorf("not YAML that can be read: %w", fault.Panicked(p))
		}
	}()
	var given map[string]any
	if err := yaml.Unmarshal(text, &given); err != nil {
		return c, fmt.Errorf("not YAML: %w", err)
	}
	if err := yaml.NewDecoder(bytes.NewReader(text), yaml.Strict()).Decode(&c); err != nil {
		return c, fmt.Errorf("not a catalogue: %w", err)
	}
	if missing := missingFields(given); missing != "" {
		return c, fmt.Errorf("%s is missing: start from what `gatehouse catalogue` prints", missing)
	}
	if !regexp.MustCompile(`^[a-z]{3}$`).MatchString(c.Currency) {
		return c, fmt.Errorf("currency %q: want an ISO code in lower case, such as usd", c.Currency)
	}
	for _, n := range []struct {
		name        string
		value       int64
		least, most int64
	}{
		{"trial.credits", c.Trial.Credits, 0, maxCredits},
		{"trial.fixes", c.Trial.Fixes, 0, maxCredits},
		{"payment_method.credits", c.PaymentMethod.Credits, 0, maxCredits},
		{"pay_as_you_go.fix_cents", c.PayAsYouGo.FixCents, 1, maxCents},
		{"pro.month_cents", c.Pro.MonthCents, 1, maxCents},
		{"pro.credits", c.Pro.Credits, 1, maxCredits},
		{"pro.fix_cents", c.Pro.FixCents, 1, maxCents},
	} {
		if n.value < n.least || n.value > n.most {
			return c, fmt.Errorf("%s is %d: want %d to %d", n.name, n.value, n.least, n.most)
		}
		if !isWhole(given, n.name) {
			return c, fmt.Errorf("%s: want a whole number, %d to %d", n.name, n.least, n.most)
		}
	}
	switch {
	case c.Pro.LookupKey == "" && c.Pro.MetadataPlan == "" && len(c.Pro.Prices) == 0:
		return c, errors.New("pro has no lookup_key, metadata_plan or prices: no price of Stripe's would be Pro's")
	case slices.Contains(c.Pro.Prices, ""):
		return c, errors.New("pro.prices has an empty one: want ids such as price_1Abc")
	}
	return c, nil
}

// isWhole says whether a field is written as a whole number. The decoder takes
// 599.99 as well, and drops what is behind the point.
func isWhole(given map[string]any, name string) bool {
	group, field, _ := strings.Cut(name, ".")
	fields, _ := given[group].(map[string]any)
	switch fields[field].(type) {
	case int64, uint64:
		return true
	}
	return false
}

// missingFields names the first field that a catalogue lacks.
func missingFields(given map[string]any) string {
	for _, field := range []struct {
		name  string
		below []string
	}{
		{"currency", nil},
		{"trial", []string{"credits", "fixes"}},
		{"payment_method", []string{"credits"}},
		{"pay_as_you_go", []string{"fix_cents"}},
		{"pro", []string{"month_cents", "credits", "fix_cents", "lookup_key", "metadata_plan", "prices"}},
	} {
		value, ok := given[field.name]
		if !ok {
			return field.name
		}
		group, _ := value.(map[string]any)
		for _, name := range field.below {
			if _, ok := group[name]; !ok {
				return field.name + "." + name
			}
		}
	}
	return ""
}

// Price is what is known of a price of Stripe's.
type Price struct {
	ID        string
	LookupKey string
	Plan      string // its metadata's plan
	// Partial says that an event named the price and left out what it is.
	Partial bool
}

// IsPro says whether a price is Pro's by what is known of it here.
func (c Catalogue) IsPro(p Price) bool {
	return p.LookupKey != "" && p.LookupKey == c.Pro.LookupKey || p.Plan != "" && p.Plan == c.Pro.MetadataPlan || slices.Contains(c.Pro.Prices, p.ID)
}

// FixCents is what a fix costs on a plan when no credit pays for it.
func (c Catalogue) FixCents(p Plan) int64 {
	if p == Pro {
		return c.Pro.FixCents
	}
	return c.PayAsYouGo.FixCents
}
