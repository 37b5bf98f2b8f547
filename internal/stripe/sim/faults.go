package sim

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Fault is what a request meets.
type Fault int

// The faults. Failed and Refused are answers that Stripe stores with the key
// and replays until [Server.Forget]; Lost and Cut come after the work is done;
// the others come before it.
const (
	None         Fault = iota
	Limited            // 429 with Retry-After: 1
	Failed             // 500
	Unavailable        // 503
	Refused            // 400, as of a card; its message quotes the address
	Unauthorized       // 401, which quotes a part of the key
	Hang               // no answer until the client goes; its key is in use meanwhile
	Garbage            // 200 with HTML
	Cut                // half of the answer
	Lost               // no answer, and the connection is closed
	Redirect           // 307 to the same place
	Endless            // 200 and spaces without end
	Slow               // Trouble's Wait before the work, which is done also when the client has gone
)

// faultNames are the faults as /_sim/faults has them.
var faultNames = []string{"none", "limited", "failed", "unavailable", "refused", "unauthorized", "hang", "garbage", "cut", "lost", "redirect", "endless", "slow"}

// Trouble says which requests meet a fault.
type Trouble struct {
	Fault Fault
	Every int           // every n-th request from now on; 0 is 1
	Times int           // so many requests, then none; 0: without end
	Path  string        // only requests whose path begins so count and meet it
	Wait  time.Duration // of Slow; 0 is 1 s
}

// DeliveryFaults is what becomes of deliveries. What is drawn is drawn by
// Options.Seed.
type DeliveryFaults struct {
	Duplicate     int           // each event is sent so many times; 0 is 1
	Reorder       int           // events wait until there are so many, or for 2 s, and are then shuffled
	Delay         time.Duration // before the first try
	Drop          float64       // the share of events that is never sent
	TwoSignatures bool          // an older secret's signature stands before the right one
	Stale         bool          // signed 10 minutes ago
	Future        bool          // signed in 10 minutes
	Forged        bool          // signed with another secret
	Thin          bool          // the body is a v2.core.event
	// APIVersion is what new events are rendered in, such as 2022-11-15.
	APIVersion string
}

// troubles are the faults of a server.
type troubles struct {
	trouble  Trouble
	since    int // requests since trouble was set, of those that it is for
	requests int
	kinds    map[string]int // of requests, by the kind of object
	hanging  int
	declines int
	delivery DeliveryFaults
}

// Set changes what requests meet from now on; the zero Trouble ends it.
func (s *Server) Set(t Trouble) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trouble, s.since = t, 0
}

// SetDelivery changes what becomes of deliveries from now on, tries that are
// still to come included.
func (s *Server) SetDelivery(f DeliveryFaults) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.delivery = f
}

// Decline has the next n charges declined, whatever their card.
func (s *Server) Decline(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.declines = n
}

// Requests is how many requests came to the API.
func (s *Server) Requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

// RequestsTo is how many of them were to objects of a kind, such as
// /v1/customers.
func (s *Server) RequestsTo(kind string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kinds[kind]
}

// kindOf is the first two parts of a path: the rest may be anything.
func kindOf(path string) string {
	parts := strings.SplitN(path, "/", 4)
	return strings.Join(parts[:min(3, len(parts))], "/")
}

// Hanging is how many requests hang now; each has its key in use.
func (s *Server) Hanging() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hanging
}

// arrive counts a request and says what it meets, and which one it is.
func (s *Server) arrive(path string) (fault Fault, number int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return None, 0, false
	}
	s.open.Add(1)
	s.requests++
	s.kinds[kindOf(path)]++
	if !strings.HasPrefix(path, s.trouble.Path) {
		return None, s.requests, true
	}
	s.since++
	every := cmp.Or(s.trouble.Every, 1)
	if s.since%every != 0 || s.trouble.Times > 0 && s.since/every > s.trouble.Times {
		return None, s.requests, true
	}
	return s.trouble.Fault, s.requests, true
}

func (c *call) showFaults() (any, *Failure) {
	if f := c.form.done(); f != nil {
		return nil, f
	}
	d := c.delivery
	return tree{
		"fault": faultNames[c.trouble.Fault], "every": c.trouble.Every, "times": c.trouble.Times, "path": c.trouble.Path, "wait": c.trouble.Wait.String(),
		"decline": c.declines, "duplicate": d.Duplicate, "reorder": d.Reorder, "delay": d.Delay.String(), "drop": d.Drop,
		"two_signatures": d.TwoSignatures, "stale": d.Stale, "future": d.Future, "forged": d.Forged, "thin": d.Thin, "api_version": d.APIVersion,
	}, nil
}

// setFaults changes the faults that are named, and answers with all.
func (c *call) setFaults() (any, *Failure) {
	f, t, d := c.form, c.trouble, c.delivery
	if name := f.text("fault"); name != "" {
		i := slices.Index(faultNames, name)
		if i < 0 {
			f.refuse(invalid("fault", "", "Unknown fault "+name+": want one of "+strings.Join(faultNames, ", ")))
		}
		t = Trouble{Fault: Fault(max(i, 0))}
	}
	t.Every, t.Times = int(f.number("every", int64(t.Every))), int(f.number("times", int64(t.Times)))
	t.Path = cmp.Or(f.text("path"), t.Path)
	t.Wait = f.duration("wait", t.Wait)
	declines := int(f.number("decline", int64(c.declines)))
	d.Duplicate, d.Reorder = int(f.number("duplicate", int64(d.Duplicate))), int(f.number("reorder", int64(d.Reorder)))
	d.Delay = f.duration("delay", d.Delay)
	if text := f.text("drop"); text != "" {
		share, err := strconv.ParseFloat(text, 64)
		if err != nil || !(share >= 0 && share <= 1) {
			f.refuse(invalid("drop", "", "Invalid share "+text+": want 0 to 1"))
		}
		d.Drop = share
	}
	d.TwoSignatures, d.Stale, d.Future = f.flag("two_signatures", d.TwoSignatures), f.flag("stale", d.Stale), f.flag("future", d.Future)
	d.Forged, d.Thin = f.flag("forged", d.Forged), f.flag("thin", d.Thin)
	if f.has("api_version") {
		if d.APIVersion = f.text("api_version"); d.APIVersion != "" && !IsVersion(d.APIVersion) {
			f.refuse(invalid("api_version", "", "Invalid version "+d.APIVersion+": want one such as "+Version+" or 2022-11-15"))
		}
	}
	if wrong := f.done(); wrong != nil {
		return nil, wrong
	}
	if t != c.trouble {
		c.since = 0
	}
	c.trouble, c.declines, c.delivery = t, declines, d
	return c.showFaults()
}

func (c *call) endFaults() (any, *Failure) {
	if f := c.form.done(); f != nil {
		return nil, f
	}
	c.trouble, c.since, c.declines, c.delivery = Trouble{}, 0, 0, DeliveryFaults{}
	return c.showFaults()
}

func (c *call) reset() (any, *Failure) {
	if f := c.form.done(); f != nil {
		return nil, f
	}
	c.forget()
	return tree{"reset": true}, nil
}
