package sim

import "regexp"

// flattened is the first version in which an invoice names its subscription and
// prices under parent and pricing, and periods are the items'. Versions are
// dates, with a name after them since 2024-09-30, and so in order as texts.
const flattened = "2025-03-31"

var versionForm = regexp.MustCompile(`^20\d\d-\d\d-\d\d(\.[a-z]+)?$`)

// IsVersion says whether a text has the form of an API version.
func IsVersion(text string) bool { return versionForm.MatchString(text) }

// age gives an object, a list of them or an event the form it had before
// [flattened].
func (s *Server) age(t tree) {
	switch id, _ := t["id"].(string); t["object"] {
	case "list":
		for _, row := range t["data"].([]any) {
			s.age(row.(tree))
		}
	case "subscription":
		for _, row := range t["items"].(tree)["data"].([]any) {
			item := row.(tree)
			for _, name := range []string{"current_period_start", "current_period_end"} {
				t[name] = item[name]
				delete(item, name)
			}
		}
		delete(t, "billing_mode")
	case "invoice":
		details := t["parent"].(tree)["subscription_details"].(tree)
		t["subscription"], t["subscription_details"] = details["subscription"], tree{"metadata": details["metadata"]}
		t["paid"] = t["status"] == "paid"
		inv := s.byID[id].(*Invoice)
		t["paid_out_of_band"], t["payment_intent"], t["charge"] = inv.outOfBand, nil, nil
		if pi := s.intentOf(inv); pi != nil {
			t["payment_intent"], t["charge"] = pi.ID, orNull(pi.LatestCharge)
		}
		for _, row := range t["lines"].(tree)["data"].([]any) {
			s.ageLine(row.(tree))
		}
		delete(t, "parent")
		delete(t, "amount_overpaid")
	case "payment_intent":
		t["invoice"] = orNull(s.byID[id].(*PaymentIntent).invoice)
	case "charge":
		t["invoice"] = nil
		if pi, ok := s.byID[t["payment_intent"].(string)].(*PaymentIntent); ok {
			t["invoice"] = orNull(pi.invoice)
		}
	}
}

func (s *Server) ageLine(line tree) {
	details := line["parent"].(tree)["subscription_item_details"].(tree)
	for _, name := range []string{"subscription", "subscription_item", "proration"} {
		line[name] = details[name]
	}
	price := line["pricing"].(tree)["price_details"].(tree)["price"].(string)
	line["price"], line["type"] = s.render(s.byID[price], Version), "subscription"
	for _, name := range []string{"parent", "pricing", "subtotal", "quantity_decimal"} {
		delete(line, name)
	}
}

func orNull(id string) any {
	if id == "" {
		return nil
	}
	return id
}
