package billing_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/billing"
)

func catalogueText(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile("catalogue.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestDefaultCatalogueIsTheContracts(t *testing.T) {
	c := billing.DefaultCatalogue()
	got := []any{c.Currency, c.Trial.Credits, c.Trial.Fixes, c.PaymentMethod.Credits, c.FixCents(billing.Trial), c.FixCents(billing.PayAsYouGo), c.FixCents(billing.Pro), c.Pro.MonthCents, c.Pro.Credits, c.Pro.LookupKey, c.Pro.MetadataPlan, len(c.Pro.Prices)}
	want := []any{"usd", int64(5), int64(5), int64(5), int64(2900), int64(2900), int64(1500), int64(59900), int64(60), "pro_monthly", "pro", 0}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	read, err := billing.ParseCatalogue([]byte(catalogueText(t)))
	if diff := cmp.Diff(c, read); err != nil || diff != "" {
		t.Errorf("%v (-embedded +read):\n%s", err, diff)
	}
}

// Each field must be there, and says which one isn't.
func TestCatalogueIsWhole(t *testing.T) {
	lines := strings.SplitAfter(catalogueText(t), "\n")
	field := regexp.MustCompile(`^( *)(\w+):`)
	group, fields := "", 0
	for i, line := range lines {
		found := field.FindStringSubmatch(line)
		if found == nil {
			continue
		}
		fields++
		name, until := found[2], i+1
		if found[1] == "" {
			for group = name; until < len(lines) && strings.HasPrefix(lines[until], " "); until++ { // with what is in it
			}
		} else {
			name = group + "." + name
		}
		without := strings.Join(lines[:i], "") + strings.Join(lines[until:], "")
		if _, err := billing.ParseCatalogue([]byte(without)); err == nil || !strings.HasPrefix(err.Error(), name+" is missing") {
			t.Errorf("without %s: %v", name, err)
		}
	}
	if fields != 15 {
		t.Errorf("tried without %d fields", fields)
	}
}

func TestCatalogueSaysWhatIsWrong(t *testing.T) {
	for _, tt := range []struct{ from, to, says string }{
		{"currency: usd", "currency: USD", `currency "USD": want an ISO code`},
		{"currency: usd", "currency: ''", `currency ""`},
		{"currency: usd", "currency: dollar", "currency"},
		{"currency: usd", "currency: [usd]", "currency"},
		{"currency: usd", "currency: usd\ncurrency: eur", "currency"},
		{"currency: usd", "currency: usd\nvat: 19", "vat"},
		{"  month_cents: 59900", "  month_cents: 59900\n  year_cents: 599000", "year_cents"},
		{"  month_cents: 59900", "  month_cents: 59900\n  month_cents: 59900", "month_cents"},
		{"month_cents: 59900", "month_cents: 0", "pro.month_cents is 0: want 1 to 99999999"},
		{"month_cents: 59900", "month_cents: 100000000", "pro.month_cents is 100000000"},
		{"month_cents: 59900", "month_cents: 9223372036854775808", "month_cents"},
		{"month_cents: 59900", "month_cents: 599.00", "pro.month_cents"},
		{"month_cents: 59900", "month_cents: '59900'", "month_cents"},
		{"month_cents: 59900", "month_cents:", "pro.month_cents"},
		{"fix_cents: 2900", "fix_cents: 0", "pay_as_you_go.fix_cents is 0"},
		{"fix_cents: 2900", "fix_cents: -1", "pay_as_you_go.fix_cents is -1"},
		{"fix_cents: 1500", "fix_cents: 0", "pro.fix_cents is 0"},
		{"credits: 60", "credits: 0", "pro.credits is 0: want 1 to 1000000"},
		{"credits: 60", "credits: 1000001", "pro.credits is 1000001"},
		{"trial:\n  credits: 5", "trial:\n  credits: -1", "trial.credits is -1: want 0 to 1000000"},
		{"  fixes: 5", "  fixes: -5", "trial.fixes is -5"},
		{"payment_method:\n  credits: 5", "payment_method:\n  credits: -5", "payment_method.credits is -5"},
		{"lookup_key: pro_monthly\n  metadata_plan: pro ", "lookup_key: ''\n  metadata_plan: '' ", "no price of Stripe's would be Pro's"},
		{"prices: []", "prices: {}", "prices"},
		{"prices: []", "prices: price_1", "prices"},
		{"prices: []", "prices: [price_1, '']", "pro.prices has an empty one"},
		{"trial:\n", "trial: 5\nother:\n", "catalogue"},
		{"pro:", "pro: [", "YAML"},
	} {
		text := catalogueText(t)
		if strings.Count(text, tt.from) != 1 {
			t.Fatalf("%q is there %d times", tt.from, strings.Count(text, tt.from))
		}
		if _, err := billing.ParseCatalogue([]byte(strings.Replace(text, tt.from, tt.to, 1))); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%q: %v", tt.to, err)
		}
	}
	for _, text := range []string{"", "\x00", "[]", "a: b: c", "5", "null", "- 1"} {
		if c, err := billing.ParseCatalogue([]byte(text)); err == nil {
			t.Errorf("%q is read as %+v", text, c)
		}
	}
}

func TestPricesThatArePros(t *testing.T) {
	text := catalogueText(t)
	other := strings.NewReplacer("lookup_key: pro_monthly", "lookup_key: ''", "metadata_plan: pro", "metadata_plan: ''", "prices: []", "prices: [price_1, price_2]").Replace(text)
	both := [2]billing.Catalogue{}
	for i, text := range []string{text, other} {
		var err error
		if both[i], err = billing.ParseCatalogue([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		price billing.Price
		want  [2]bool // by key and plan; by ids
	}{
		{billing.Price{}, [2]bool{false, false}},
		{billing.Price{ID: "price_1"}, [2]bool{false, true}},
		{billing.Price{ID: "price_2", Partial: true}, [2]bool{false, true}},
		{billing.Price{ID: "price_3"}, [2]bool{false, false}},
		{billing.Price{ID: "price_3", LookupKey: "pro_monthly"}, [2]bool{true, false}},
		{billing.Price{ID: "price_3", Plan: "pro"}, [2]bool{true, false}},
		{billing.Price{ID: "price_3", LookupKey: "pro", Plan: "pro_monthly"}, [2]bool{false, false}},
		{billing.Price{ID: "price_3", Plan: "Pro"}, [2]bool{false, false}},
	} {
		if got := [2]bool{both[0].IsPro(tt.price), both[1].IsPro(tt.price)}; got != tt.want {
			t.Errorf("%+v: %v, want %v", tt.price, got, tt.want)
		}
	}
}

func FuzzParseCatalogue(f *testing.F) {
	f.Add(catalogueText(f))
	f.Add("currency: usd\ntrial: {credits: 1, fixes: 1}\npayment_method: {credits: 0}\npay_as_you_go: {fix_cents: 1}\npro: {month_cents: 1, credits: 1, fix_cents: 1, lookup_key: a, metadata_plan: b, prices: [c]}\n")
	f.Add("a: &a [*a]")
	f.Add("pro: !!binary x\n? [")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := billing.ParseCatalogue([]byte(text))
		if err != nil {
			return
		}
		for _, cents := range []int64{c.FixCents(billing.Trial), c.FixCents(billing.PayAsYouGo), c.FixCents(billing.Pro), c.Pro.MonthCents} {
			if cents < 1 || cents > 99_999_999 {
				t.Errorf("%d cents", cents)
			}
		}
		for _, credits := range []int64{c.Trial.Credits, c.Trial.Fixes, c.PaymentMethod.Credits, c.Pro.Credits - 1} {
			if credits < 0 || credits > 1_000_000 {
				t.Errorf("%d credits", credits)
			}
		}
		if len(c.Currency) != 3 || c.IsPro(billing.Price{}) {
			t.Errorf("%+v", c)
		}
	})
}
