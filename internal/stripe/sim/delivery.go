package sim

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

const (
	atOnce   = 8               // deliveries under way
	heldFor  = 2 * time.Second // what waits to be shuffled
	skew     = 10 * time.Minute
	userName = "Stripe/1.0 (+https://stripe.com/docs/webhooks)"
)

// Delivery is one try of a delivery.
type Delivery struct {
	Event, Type, URL string
	Try              int // 1, 2, …
	Status           int // of the answer; 0: none
	Err              error
	Took             time.Duration
}

// OK says whether it was taken.
func (d Delivery) OK() bool { return d.Status >= 200 && d.Status < 300 }

// outbox is what is to be delivered.
type outbox struct {
	webhooks []string
	turn     int // of webhooks
	random   *rand.Rand
	queue    []*parcel     // to be sent as soon as may be
	held     []*parcel     // to be shuffled
	pending  int           // parcels that are not done with, wherever they are
	workers  int           // goroutines that empty the queue
	hurry    chan struct{} // closed to end all waits
	era      int           // one more with each reset
}

// parcel is an event on its way.
type parcel struct {
	event  *Event
	tries  int
	waited time.Duration
	era    int
}

// SetWebhooks changes where events go, from the next try on. None: new events
// are only listed.
func (s *Server) SetWebhooks(urls ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.webhooks = urls
}

// Quiet waits until nothing is to be delivered, be it delivered or given up.
func (s *Server) Quiet(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.changed.Broadcast()
	})
	defer stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.pending > 0 && !s.closed && ctx.Err() == nil {
		s.changed.Wait()
	}
	if s.pending == 0 {
		return nil
	}
	if s.closed {
		return fmt.Errorf("wait for deliveries: the stand-in is closed, %d were left", s.pending)
	}
	return fmt.Errorf("wait for deliveries, %d are left: %w", s.pending, ctx.Err())
}

// Flush sends at once what is held, delayed or between two tries, and is Quiet
// then.
func (s *Server) Flush(ctx context.Context) error {
	s.mu.Lock()
	s.release()
	s.rush()
	s.mu.Unlock()
	return s.Quiet(ctx)
}

// Deliver sends an event once more.
func (s *Server) Deliver(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.byID[id].(*Event)
	if !ok || s.closed || len(s.webhooks) == 0 {
		return fmt.Errorf("deliver %s: there is no such event, or nowhere to send it", id)
	}
	s.enqueue(e)
	return nil
}

func (c *call) deliverEvent() (any, *Failure) {
	e := named[Event](c)
	if len(c.webhooks) == 0 {
		c.form.refuse(invalid("", "", "There is no webhook to deliver to."))
	}
	if f := c.form.done(); f != nil {
		return nil, f
	}
	c.enqueue(e)
	return e, nil
}

// dispatch hands a new event to delivery.
func (s *Server) dispatch(e *Event) {
	if len(s.webhooks) == 0 {
		return
	}
	e.PendingWebhooks = 1
	if s.delivery.Drop > 0 && s.random.Float64() < s.delivery.Drop {
		return
	}
	for range max(1, s.delivery.Duplicate) {
		p := &parcel{event: e, era: s.era}
		s.pending++
		switch {
		case s.delivery.Reorder > 1:
			if s.held = append(s.held, p); len(s.held) == 1 {
				s.open.Go(s.holdOn)
			}
			if len(s.held) >= s.delivery.Reorder {
				s.release()
			}
		case s.delivery.Delay > 0:
			s.later(p, s.delivery.Delay)
		default:
			s.send(p)
		}
	}
}

// enqueue sends an event now.
func (s *Server) enqueue(e *Event) {
	s.pending++
	s.send(&parcel{event: e, era: s.era})
}

// release shuffles what is held and sends it.
func (s *Server) release() {
	held := s.held
	s.held = nil
	s.random.Shuffle(len(held), func(i, j int) { held[i], held[j] = held[j], held[i] })
	for _, p := range held {
		s.send(p)
	}
}

// holdOn releases what is held for too long.
func (s *Server) holdOn() {
	wait(s.ending.Done(), heldFor, nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.release()
}

// send puts a parcel at the end of the queue, which at most atOnce goroutines
// empty.
func (s *Server) send(p *parcel) {
	s.queue = append(s.queue, p)
	if s.workers < atOnce && !s.closed {
		s.workers++
		s.open.Go(s.work)
	}
}

// later sends a parcel in a while.
func (s *Server) later(p *parcel, d time.Duration) {
	hurry := s.hurry
	s.open.Go(func() {
		wait(s.ending.Done(), d, hurry)
		s.mu.Lock()
		defer s.mu.Unlock()
		if p.era != s.era {
			s.settle()
			return
		}
		s.send(p)
	})
}

// rush ends all waits.
func (s *Server) rush() {
	close(s.hurry)
	s.hurry = make(chan struct{})
}

// settle ends a parcel.
func (s *Server) settle() {
	if s.pending--; s.pending == 0 {
		s.changed.Broadcast()
	}
}

// clear drops all that is not under way.
func (s *Server) clear() {
	s.pending -= len(s.queue) + len(s.held) - 1
	s.queue, s.held = nil, nil
	s.settle()
	s.era++
	s.rush() // what waits sees that its time is over
}

// work sends what is queued.
func (s *Server) work() {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() { s.workers-- }()
	for len(s.queue) > 0 && !s.closed {
		p := s.queue[0]
		s.queue = s.queue[1:]
		s.try(p)
	}
}

// try sends a parcel once. The caller holds the lock, which is open meanwhile.
func (s *Server) try(p *parcel) {
	p.tries++
	d := Delivery{Event: p.event.ID, Type: p.event.Type, Try: p.tries}
	body, signature := s.seal(p.event)
	if len(s.webhooks) > 0 {
		d.URL = s.webhooks[s.turn%len(s.webhooks)]
		s.turn++
	}
	s.mu.Unlock()
	began := time.Now()
	d.Status, d.Err = s.post(d.URL, body, signature)
	d.Took = time.Since(began)
	if s.o.Delivered != nil {
		s.o.Delivered(d)
	}
	s.mu.Lock()
	pause := s.o.Retry << (p.tries - 1)
	switch {
	case d.OK():
		p.event.PendingWebhooks = 0
		s.settle()
	case p.era != s.era || pause <= 0 || p.waited+pause > s.o.GiveUp:
		s.settle()
	default:
		p.waited += pause
		s.later(p, pause)
	}
}

// seal is an event's body and its Stripe-Signature, as the faults want them.
func (s *Server) seal(e *Event) (body []byte, signature string) {
	body = marshal(e)
	if s.delivery.Thin {
		body = e.thin()
	}
	at := s.o.Now()
	if s.delivery.Stale {
		at = at.Add(-skew)
	}
	if s.delivery.Future {
		at = at.Add(skew)
	}
	secret := s.o.Secrets[0]
	if s.delivery.Forged {
		secret += "?"
	}
	signature = "t=" + strconv.FormatInt(at.Unix(), 10)
	if s.delivery.TwoSignatures {
		old := "an older secret"
		if len(s.o.Secrets) > 1 {
			old = s.o.Secrets[1]
		}
		signature += ",v1=" + sign(old, at, body)
	}
	return body, signature + ",v1=" + sign(secret, at, body)
}

// sign is one v1 of a signature. The key is the whole secret, whsec_ too.
func sign(secret string, at time.Time, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	fmt.Fprintf(mac, "%d.%s", at.Unix(), body)
	return hex.EncodeToString(mac.Sum(nil))
}

func (s *Server) post(url string, body []byte, signature string) (status int, err error) {
	r, err := http.NewRequestWithContext(s.ending, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	r.Header.Set("Content-Type", "application/json; charset=utf-8")
	r.Header.Set("User-Agent", userName)
	r.Header.Set("Stripe-Signature", signature)
	resp, err := s.client.Do(r)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // so that the connection is used again
	return resp.StatusCode, nil
}

// newClient is a client that follows no redirect, as Stripe does not.
func newClient(timeout time.Duration) *http.Client {
	return &http.Client{
		Transport:     &http.Transport{MaxIdleConnsPerHost: atOnce, IdleConnTimeout: 30 * time.Second},
		Timeout:       timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
