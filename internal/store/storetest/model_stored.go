package storetest

import (
	"fmt"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"gatehouse/internal/billing"
)

// stored are the references of the ledger's entries.
func (s *simulation) stored() map[string]bool {
	entries, err := s.Entries(s.t.Context(), s.order.CustomerID, 0, 10_000)
	done(s.t, err)
	all := make(map[string]bool)
	for _, e := range entries {
		all[e.Reference] = true
	}
	return all
}

// storedFixes are the fixes that are there.
func (s *simulation) storedFixes() map[int]*billing.Fix {
	all := make(map[int]*billing.Fix)
	for _, f := range export(s.t, s.Backend, s.order.CustomerID).Fixes {
		var at int
		if _, err := fmt.Sscanf(f.ExternalID, "fix-%d", &at); err != nil {
			s.t.Fatal(err)
		}
		all[at] = &f
	}
	return all
}

// compare holds what there is against the model.
func (s *simulation) compare(rt *rapid.T, when string) {
	balance, debt := credits(s.t, s.Backend, s.order.CustomerID)
	if balance != max(s.net, 0) || debt != max(-s.net, 0) {
		rt.Fatalf("%s the balance is %d and the debt %d, want %d", when, balance, debt, s.net)
	}
	if diff := gocmp.Diff(s.references, s.stored()); diff != "" {
		rt.Fatalf("%s (-model +references):\n%s", when, diff)
	}
	for _, evt := range s.sent {
		if e := event(s.t, s.Backend, evt); (e.State == billing.Parked) != s.parked[evt] || e.State == billing.Received {
			rt.Fatalf("%s %s is %s; parked it should be: %t", when, evt, e.State, s.parked[evt])
		}
	}
	stored := s.storedFixes()
	for at, f := range s.fixes {
		if stored[at] == nil || stored[at].State != f.State || stored[at].ID != f.ID {
			rt.Fatalf("%s fix %d is %+v, want %+v", when, at, stored[at], f)
		}
	}
}
