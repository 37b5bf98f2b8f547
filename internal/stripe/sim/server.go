package sim

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"
)

// Version is the API version that objects have unless another is asked for.
const Version = "2026-03-25.dahlia"

// Options is what a stand-in is started with. The zero value listens on a free
// port of loopback and delivers nothing.
type Options struct {
	Listen string // TCP address; "" is 127.0.0.1:0
	// Webhooks are the addresses of one endpoint: each try of a delivery goes to
	// the next, as a balancer would have it. See also SetWebhooks.
	Webhooks []string
	// Secrets sign: the first one, and beside it the second where two
	// signatures are wanted. Default whsec_sim.
	Secrets    []string
	Seed       uint64        // decides what is dropped, and how events are shuffled
	APIVersion string        // of the events; default Version
	Retry      time.Duration // before the second try of a delivery, doubled with each further one; default 1 s
	GiveUp     time.Duration // a delivery ends once it would have waited longer; default Stripe's 3 days
	Timeout    time.Duration // of one try; default 20 s
	// Unpaid leaves a subscription unpaid when its payment has failed for good;
	// otherwise it is canceled. At Stripe that is a setting too.
	Unpaid bool
	// Now is the time of customers without a test clock, and of signatures;
	// default time.Now.
	Now func() time.Time
	// Delivered is told of each try of a delivery, by several goroutines at once.
	Delivered func(Delivery)
}

// Server is a running stand-in.
type Server struct {
	o      Options
	url    string
	http   *http.Server
	client *http.Client // delivers
	served chan struct{}
	ending context.Context // ends with Close
	end    context.CancelFunc
	open   sync.WaitGroup // requests, deliveries and the ticker

	mu      sync.Mutex
	changed *sync.Cond // a delivery has ended
	closed  bool
	state
	outbox
	troubles
}

// state is all that a reset forgets.
type state struct {
	byID          map[string]identified // every object
	customers     []*Customer           // each kind in the order of creation
	products      []*Product
	prices        []*Price
	methods       []*PaymentMethod
	intents       []*PaymentIntent
	charges       []*Charge
	subscriptions []*Subscription
	invoices      []*Invoice
	payments      []*InvoicePayment
	refunds       []*Refund
	disputes      []*Dispute
	clocks        []*TestClock
	events        []*Event
	fresh         []*Event           // of the call under way
	cause         EventRequest       // of the call under way
	answers       map[string]*answer // by Idempotency-Key
}

// Start starts a stand-in on a free port of loopback. It panics if it can't,
// which is for tests.
func Start() *Server {
	s, err := New(Options{})
	if err != nil {
		panic(err)
	}
	return s
}

// Listen starts a stand-in on a TCP address; port 0 is a free one.
func Listen(addr string) (*Server, error) { return New(Options{Listen: addr}) }

// New starts a stand-in.
func New(o Options) (*Server, error) {
	o.APIVersion = cmp.Or(o.APIVersion, Version)
	o.Retry = cmp.Or(o.Retry, time.Second)
	o.GiveUp = cmp.Or(o.GiveUp, 72*time.Hour)
	o.Timeout = cmp.Or(o.Timeout, 20*time.Second)
	if o.Now == nil {
		o.Now = time.Now
	}
	if len(o.Secrets) == 0 {
		o.Secrets = []string{"whsec_sim"}
	}
	if !IsVersion(o.APIVersion) {
		return nil, fmt.Errorf("start the Stripe stand-in: API version %q: want one such as %s or 2022-11-15", o.APIVersion, Version)
	}
	ln, err := new(net.ListenConfig).Listen(context.Background(), "tcp", cmp.Or(o.Listen, "127.0.0.1:0"))
	if err != nil {
		return nil, fmt.Errorf("start the Stripe stand-in: %w", err)
	}
	s := &Server{o: o, url: "http://" + ln.Addr().String(), served: make(chan struct{})}
	s.ending, s.end = context.WithCancel(context.Background())
	s.changed = sync.NewCond(&s.mu)
	s.client = newClient(o.Timeout)
	s.webhooks, s.hurry = o.Webhooks, make(chan struct{})
	s.random, s.kinds = rand.New(rand.NewPCG(o.Seed, 0)), make(map[string]int)
	s.forget()
	s.http = &http.Server{Handler: s.routes(), ReadHeaderTimeout: 10 * time.Second}
	go func() {
		defer close(s.served)
		_ = s.http.Serve(ln) // ends with Close
	}()
	s.open.Go(s.tick)
	return s, nil
}

// URL is where it listens: the client's base.
func (s *Server) URL() string { return s.url }

// Close ends it, and every request and delivery under way.
func (s *Server) Close() {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.closed = true
	s.mu.Unlock()
	s.end()
	_ = s.http.Close() // a listener that does not close: nothing to do
	<-s.served
	s.open.Wait()
	s.client.CloseIdleConnections()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed.Broadcast()
}

// Reset makes it as it was at its start: it forgets every object, event and
// Idempotency-Key, what waits to be delivered, and every fault.
func (s *Server) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget()
}

// forget is Reset for who holds the lock.
func (s *Server) forget() {
	s.state = state{byID: make(map[string]identified), answers: make(map[string]*answer)}
	s.seedCatalogue()
	s.trouble, s.since, s.declines, s.delivery = Trouble{}, 0, 0, DeliveryFaults{}
	s.clear()
}

// Forget drops what is stored with Idempotency-Keys, as Stripe may after 24 h.
func (s *Server) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, a := range s.answers {
		if a.status != 0 {
			delete(s.answers, key)
		}
	}
}

// routes is the API, and what steers it under /_sim/.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	for pattern, h := range map[string]handler{
		"/":                       nil,
		"POST /v1/customers":      (*call).createCustomer,
		"GET /v1/customers":       (*call).listCustomers,
		"GET /v1/customers/{id}":  show[Customer],
		"POST /v1/customers/{id}": (*call).updateCustomer,

		"GET /v1/products/{id}": show[Product],
		"POST /v1/prices":       (*call).createPrice,
		"GET /v1/prices":        (*call).listPrices,
		"GET /v1/prices/{id}":   show[Price],

		"POST /v1/payment_methods":               (*call).createMethod,
		"GET /v1/payment_methods":                (*call).listMethods,
		"GET /v1/payment_methods/{id}":           show[PaymentMethod],
		"POST /v1/payment_methods/{id}/attach":   (*call).attachMethod,
		"POST /v1/payment_methods/{id}/detach":   (*call).detachMethod,
		"GET /v1/customers/{id}/payment_methods": (*call).listMethods,

		"POST /v1/payment_intents":     (*call).createIntent,
		"GET /v1/payment_intents":      (*call).listIntents,
		"GET /v1/payment_intents/{id}": show[PaymentIntent],
		"GET /v1/charges":              (*call).listCharges,
		"GET /v1/charges/{id}":         show[Charge],

		"POST /v1/subscriptions":        (*call).createSubscription,
		"GET /v1/subscriptions":         (*call).listSubscriptions,
		"GET /v1/subscriptions/{id}":    show[Subscription],
		"POST /v1/subscriptions/{id}":   (*call).updateSubscription,
		"DELETE /v1/subscriptions/{id}": (*call).cancelSubscription,
		"GET /v1/invoices":              (*call).listInvoices,
		"GET /v1/invoices/{id}":         show[Invoice],
		"POST /v1/invoices/{id}/pay":    (*call).payInvoice,
		"POST /v1/invoices/{id}/void":   (*call).voidInvoice,
		"GET /v1/invoice_payments":      (*call).listPayments,
		"GET /v1/invoice_payments/{id}": show[InvoicePayment],

		"POST /v1/refunds":      (*call).createRefund,
		"GET /v1/refunds":       (*call).listRefunds,
		"GET /v1/refunds/{id}":  show[Refund],
		"GET /v1/disputes":      (*call).listDisputes,
		"GET /v1/disputes/{id}": show[Dispute],
		"GET /v1/events":        (*call).listEvents,
		"GET /v1/events/{id}":   show[Event],

		"POST /v1/test_helpers/test_clocks":              (*call).createClock,
		"GET /v1/test_helpers/test_clocks/{id}":          show[TestClock],
		"POST /v1/test_helpers/test_clocks/{id}/advance": (*call).advanceClock,
		"DELETE /v1/test_helpers/test_clocks/{id}":       (*call).deleteClock,
	} {
		mux.HandleFunc(pattern, s.serve(h))
	}
	for pattern, h := range map[string]handler{
		"GET /_sim/faults":               (*call).showFaults,
		"POST /_sim/faults":              (*call).setFaults,
		"DELETE /_sim/faults":            (*call).endFaults,
		"POST /_sim/reset":               (*call).reset,
		"POST /_sim/disputes":            (*call).openDispute,
		"POST /_sim/disputes/{id}/close": (*call).closeDispute,
		"POST /_sim/events/{id}/deliver": (*call).deliverEvent,
	} {
		mux.HandleFunc(pattern, s.steer(h))
	}
	return mux
}
