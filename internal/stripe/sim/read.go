package sim

import (
	"maps"

	"github.com/go-json-experiment/json"
)

// Customers are those that were made, in order; copies.
func (s *Server) Customers() []Customer {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]Customer, 0, len(s.customers))
	for _, c := range s.customers {
		kept := *c
		kept.Metadata = maps.Clone(c.Metadata)
		all = append(all, kept)
	}
	return all
}

// PaymentMethods are all payment methods, in order; copies.
func (s *Server) PaymentMethods() []PaymentMethod { return copies(s, &s.methods) }

// Intents are all payment intents, in order; copies.
func (s *Server) Intents() []PaymentIntent { return copies(s, &s.intents) }

// Charges are all charges, in order; copies.
func (s *Server) Charges() []Charge { return copies(s, &s.charges) }

// Subscriptions are all subscriptions, in order; copies.
func (s *Server) Subscriptions() []Subscription { return copies(s, &s.subscriptions) }

// Invoices are all invoices, in order; copies.
func (s *Server) Invoices() []Invoice { return copies(s, &s.invoices) }

// Disputes are all disputes, in order; copies.
func (s *Server) Disputes() []Dispute { return copies(s, &s.disputes) }

// Events are all events of the last 30 days, in order; copies.
func (s *Server) Events() []Event { return copies(s, &s.events) }

// copies have all that the API shows.
func copies[T any](s *Server, rows *[]*T) []T {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]T, len(*rows))
	for i, row := range *rows {
		if err := json.Unmarshal(marshal(row), &all[i]); err != nil {
			panic(err) // what was written can be read
		}
	}
	return all
}
