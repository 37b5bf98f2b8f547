package sim

import (
	"slices"
	"strconv"
)

// seedCatalogue makes what is there from the start: Pro, and a price that is
// not Pro's.
func (s *Server) seedCatalogue() {
	at := s.now("")
	for _, p := range []struct {
		product, name, price, lookup string
		cents                        int64
	}{
		{"prod_pro", "Pro", "price_pro", "pro_monthly", 59900},
		{"prod_other", "Other", "price_other", "", 1900},
	} {
		put(s, &s.products, &Product{Base: Base{ID: p.product, Object: "product", Created: at}, Active: true, Name: p.name})
		price := newPrice("usd", p.product, p.cents, &Recurring{Interval: "month", IntervalCount: 1, UsageType: "licensed"})
		price.Base, price.LookupKey = Base{ID: p.price, Object: "price", Created: at}, p.lookup
		put(s, &s.prices, price)
	}
}

// newPrice is a price without an id. Without recurring it is due once.
func newPrice(currency, product string, cents int64, recurring *Recurring) *Price {
	p := &Price{
		Active: true, BillingScheme: "per_unit", Currency: currency, Product: product, Recurring: recurring, Type: "one_time",
		UnitAmount: cents, UnitAmountDecimal: strconv.FormatInt(cents, 10),
	}
	if recurring != nil {
		p.Type = "recurring"
	}
	return p
}

func (c *call) createPrice() (any, *Failure) {
	currency, cents := c.form.need("currency"), c.form.number("unit_amount", 0)
	lookup, metadata := c.form.text("lookup_key"), c.form.metadata(nil)
	var recurring *Recurring
	if interval := c.form.text("recurring[interval]"); interval != "" {
		recurring = &Recurring{Interval: interval, IntervalCount: max(1, c.form.number("recurring[interval_count]", 1)), UsageType: "licensed"}
		if !slices.Contains([]string{"day", "week", "month", "year"}, interval) {
			c.form.refuse(invalid("recurring[interval]", "", "Invalid recurring[interval]: must be one of day, week, month or year"))
		}
	}
	product := needed[Product](c, "product")
	if f := c.form.done(); f != nil {
		return nil, f
	}
	at := c.now("")
	price := newPrice(currency, product.ID, cents, recurring)
	price.Base, price.LookupKey, price.Metadata = c.base("price", "price", at, c.live), lookup, metadata
	put(c.Server, &c.prices, price)
	c.emit("price.created", at, price)
	return price, nil
}

func (c *call) listPrices() (any, *Failure) {
	keys, product := c.form.all("lookup_keys"), c.form.text("product")
	return page(c, c.prices, func(row *Price) bool {
		return is(product, row.Product) && (len(keys) == 0 || slices.Contains(keys, row.LookupKey))
	})
}
