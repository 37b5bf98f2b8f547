package sim_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	stripego "github.com/stripe/stripe-go/v85"
	"github.com/stripe/stripe-go/v85/webhook"

	"gatehouse/internal/stripe/sim"
)

func TestDeliveriesAreStripes(t *testing.T) {
	r := newRig(t, nil)
	r.subscribe("", "pm_card_visa")
	r.quiet()
	all := r.Events()
	came := r.hook.requests()
	if len(came) != len(all) {
		t.Fatalf("%d deliveries of %d events", len(came), len(all))
	}
	for _, d := range came {
		e, err := webhook.ConstructEvent([]byte(d.body), d.header.Get("Stripe-Signature"), "whsec_test")
		if err != nil {
			t.Fatal(err)
		}
		if e.PendingWebhooks != 1 || e.Data == nil || e.Object != "event" {
			t.Errorf("%s", d.body)
		}
		if d.header.Get("Content-Type") != "application/json; charset=utf-8" || !strings.HasPrefix(d.header.Get("User-Agent"), "Stripe/1.0") {
			t.Errorf("%v", d.header)
		}
		if webhook.ValidatePayload([]byte(d.body), d.header.Get("Stripe-Signature"), "whsec_other") == nil {
			t.Error("another secret fits")
		}
	}
	for _, e := range all {
		if e.PendingWebhooks != 0 {
			t.Errorf("%s is pending", e.ID)
		}
	}
}

func TestDeliveryIsTriedAgainAndSignedAgain(t *testing.T) {
	var mu sync.Mutex
	now, seen := time.Now(), []sim.Delivery(nil)
	r := newRig(t, func(o *sim.Options) {
		o.Now = func() time.Time { // each signature has another time
			mu.Lock()
			defer mu.Unlock()
			now = now.Add(time.Second)
			return now
		}
		o.Delivered = func(d sim.Delivery) {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, d)
		}
	})
	r.hook.set(func(n int) int { return []int{500, 302, 204}[min(n, 3)-1] })
	r.post("/v1/customers")
	r.quiet()
	came := r.hook.requests()
	if len(came) != 3 || came[0].body != came[1].body || came[1].body != came[2].body {
		t.Fatalf("%+v", came)
	}
	signatures := make(map[string]bool)
	for _, d := range came {
		signature := d.header.Get("Stripe-Signature")
		signatures[signature] = true
		if err := webhook.ValidatePayload([]byte(d.body), signature, "whsec_test"); err != nil {
			t.Error(err)
		}
	}
	if len(signatures) != 3 {
		t.Errorf("the signatures are %v", signatures)
	}
	mu.Lock()
	defer mu.Unlock()
	for i, d := range seen {
		if d.Try != i+1 || d.Status != []int{500, 302, 204}[i] || d.OK() != (i == 2) || d.Type != "customer.created" || d.URL != r.hook.url || d.Err != nil || d.Event != r.Events()[0].ID {
			t.Errorf("try %d: %+v", i+1, d)
		}
	}
}

func TestDeliveryIsGivenUp(t *testing.T) {
	r := newRig(t, func(o *sim.Options) { o.GiveUp = 10 * time.Millisecond })
	r.hook.set(always(500))
	id := r.post("/v1/customers")
	r.quiet()
	if n := len(r.hook.requests()); n != 4 { // after 1, 2 and 4 ms; 8 more would be too many
		t.Errorf("%d tries, want 4", n)
	}
	e := r.Events()[0]
	if e.PendingWebhooks != 1 {
		t.Errorf("%+v", e)
	}
	if data := r.must("GET", "/v1/events", "delivery_success", "false")["data"].([]any); len(data) != 1 {
		t.Errorf("%v", data)
	}
	r.hook.set(always(200))
	r.post("/_sim/events/" + e.ID + "/deliver")
	r.quiet()
	if err := r.Deliver(e.ID); err != nil {
		t.Error(err)
	}
	r.quiet()
	if n := len(r.hook.requests()); n != 6 || r.Events()[0].PendingWebhooks != 0 {
		t.Errorf("%d deliveries of %s, want 6", n, id)
	}
	r.refused(404, "POST", "/_sim/events/evt_none/deliver")
	if r.Deliver("evt_none") == nil {
		t.Error("there is no such event")
	}
}

func TestNobodyAndSlownessAreFailures(t *testing.T) {
	held := make(chan struct{})
	defer close(held)
	errs := make(chan error, 8)
	r := newRig(t, func(o *sim.Options) {
		o.Timeout, o.GiveUp = 20*time.Millisecond, time.Nanosecond
		o.Delivered = func(d sim.Delivery) { errs <- d.Err }
	})
	r.hook.set(func(int) int { <-held; return 200 })
	r.post("/v1/customers")
	r.quiet()
	if err := <-errs; !errors.Is(err, context.DeadlineExceeded) && !strings.Contains(fmt.Sprint(err), "Timeout") {
		t.Errorf("a slow endpoint: %v", err)
	}
	r.SetWebhooks("http://127.0.0.1:1/")
	r.post("/v1/customers")
	r.quiet()
	if err := <-errs; err == nil {
		t.Error("nobody there: no error")
	}
	r.SetWebhooks()
	r.post("/v1/customers")
	r.quiet()
	if e := r.Events()[2]; e.PendingWebhooks != 0 {
		t.Errorf("%+v", e)
	}
	if r.Deliver(r.Events()[2].ID) == nil {
		t.Error("it is delivered nowhere")
	}
}

func TestTriesGoRoundTheNodes(t *testing.T) {
	other := newEndpoint(t)
	r := newRig(t, func(o *sim.Options) { o.Webhooks = append(o.Webhooks, other.url) })
	other.set(always(503))
	for range 6 {
		r.post("/v1/customers")
	}
	r.quiet()
	if ok := len(r.hook.requests()); ok != 6 { // each once, whatever the other said
		t.Errorf("%d deliveries came through, want 6", ok)
	}
	if n := len(other.requests()); n < 3 {
		t.Errorf("the other node was tried %d times, want half of all", n)
	}
}

func TestDeliveryBlocksNoCallAndIsBounded(t *testing.T) {
	held := make(chan struct{})
	r := newRig(t, nil)
	var mu sync.Mutex
	under, most, full := 0, 0, make(chan struct{})
	r.hook.set(func(int) int {
		mu.Lock()
		if under++; under > most {
			if most = under; most == 8 {
				close(full)
			}
		}
		mu.Unlock()
		<-held
		mu.Lock()
		defer mu.Unlock()
		under--
		return 200
	})
	for range 30 {
		r.post("/v1/customers")
	}
	<-full
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Quiet(ctx); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "30 are left") {
		t.Errorf("it is quiet: %v", err)
	}
	close(held)
	r.quiet()
	mu.Lock()
	defer mu.Unlock()
	if n := len(r.hook.requests()); n != 30 || most != 8 {
		t.Errorf("%d deliveries, at most %d at once; want 30 and 8", n, most)
	}
}

func TestDuplicates(t *testing.T) {
	r := newRig(t, nil)
	r.SetDelivery(sim.DeliveryFaults{Duplicate: 3})
	r.post("/v1/customers")
	r.quiet()
	came := r.hook.events(t)
	if len(came) != 3 || came[0].ID != came[1].ID || came[1].ID != came[2].ID {
		t.Errorf("%d came", len(came))
	}
}

func TestDropsAndShufflesAreTheSeeds(t *testing.T) {
	run := func(seed uint64) (dropped string, moved int) {
		r := newRig(t, func(o *sim.Options) { o.Seed = seed })
		r.SetDelivery(sim.DeliveryFaults{Drop: 0.3})
		for i := range 40 {
			r.post("/v1/customers", "name", fmt.Sprint(i))
		}
		r.quiet()
		for _, e := range r.Events() {
			dropped += fmt.Sprint(e.PendingWebhooks)
		}
		if n := strings.Count(dropped, "1"); n == 0 || n == 40 || len(r.hook.requests()) != 40-n {
			t.Errorf("dropped %s, %d came", dropped, len(r.hook.requests()))
		}
		const many = 60
		before := len(r.hook.requests())
		r.SetDelivery(sim.DeliveryFaults{Reorder: many})
		for i := range many {
			if len(r.hook.requests()) != before {
				t.Error("it comes before there are enough")
			}
			r.post("/v1/customers", "name", fmt.Sprint(i))
		}
		r.quiet()
		for place, e := range r.hook.events(t)[before:] {
			was, err := strconv.Atoi(decode[stripego.Customer](t, e.Data.Raw).Name)
			if err != nil {
				t.Fatal(err)
			}
			moved += max(place-was, was-place)
		}
		moved /= many
		r.post("/v1/customers")
		if err := r.Flush(t.Context()); err != nil { // also fewer, when asked
			t.Error(err)
		}
		if n := len(r.hook.requests()); n != before+many+1 {
			t.Errorf("%d came, want %d", n, before+many+1)
		}
		return dropped, moved
	}
	dropped, moved := run(7)
	if again, _ := run(7); again != dropped {
		t.Errorf("the same seed drops %s, then %s", dropped, again)
	}
	if other, _ := run(8); other == dropped {
		t.Errorf("another seed drops the same: %s", other)
	}
	if moved < 12 { // a third of all by chance; eight senders alone would be at most some places off
		t.Errorf("events come %d places off, want them shuffled", moved)
	}
}

func TestDelayedAndWaitingDeliveriesAreFlushed(t *testing.T) {
	r := newRig(t, func(o *sim.Options) { o.Retry = time.Hour })
	r.SetDelivery(sim.DeliveryFaults{Delay: time.Hour})
	r.post("/v1/customers")
	if n := len(r.hook.requests()); n != 0 {
		t.Errorf("%d came", n)
	}
	if err := r.Flush(t.Context()); err != nil || len(r.hook.requests()) != 1 {
		t.Errorf("%d came, %v", len(r.hook.requests()), err)
	}
	r.SetDelivery(sim.DeliveryFaults{})
	failed := make(chan struct{}, 1)
	r.hook.set(func(n int) int {
		if n == 2 {
			failed <- struct{}{}
			return 500
		}
		return 200
	})
	r.post("/v1/customers")
	<-failed
	for r.Events()[1].PendingWebhooks != 0 { // Flush may come before the sender knows of its failure
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		_ = r.Flush(ctx)
		cancel()
	}
	if n := len(r.hook.requests()); n != 3 {
		t.Errorf("%d came, want 3", n)
	}
}

func TestSignaturesOfFaults(t *testing.T) {
	secret := "whsec_test"
	for _, tt := range []struct {
		name   string
		faults sim.DeliveryFaults
		fits   bool // within stripe-go's tolerance, which has none for the future
		signed bool // whatever its time
		age    time.Duration
	}{
		{"none", sim.DeliveryFaults{}, true, true, 0},
		{"two", sim.DeliveryFaults{TwoSignatures: true}, true, true, 0},
		{"stale", sim.DeliveryFaults{Stale: true}, false, true, 10 * time.Minute},
		{"future", sim.DeliveryFaults{Future: true}, true, true, -10 * time.Minute},
		{"forged", sim.DeliveryFaults{Forged: true}, false, false, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, func(o *sim.Options) { o.Secrets = []string{secret, "whsec_older"} })
			r.SetDelivery(tt.faults)
			r.post("/v1/customers")
			r.quiet()
			d := r.hook.requests()[0]
			signature := d.header.Get("Stripe-Signature")
			if err := webhook.ValidatePayload([]byte(d.body), signature, secret); (err == nil) != tt.fits {
				t.Errorf("%s: %v", signature, err)
			}
			if err := webhook.ValidatePayloadIgnoringTolerance([]byte(d.body), signature, secret); (err == nil) != tt.signed {
				t.Errorf("%s: %v", signature, err)
			}
			var at int64
			if _, err := fmt.Sscanf(signature, "t=%d,", &at); err != nil {
				t.Fatal(err)
			}
			if age := time.Since(time.Unix(at, 0)) - tt.age; age < -time.Minute || age > time.Minute {
				t.Errorf("signed at %d: %s off", at, age)
			}
			parts := strings.Split(signature, ",v1=")
			if two := tt.faults.TwoSignatures; two != (len(parts) == 3) {
				t.Errorf("%s", signature)
			} else if two && webhook.ValidatePayload([]byte(d.body), parts[0]+",v1="+parts[1], "whsec_older") != nil {
				t.Errorf("the first signature of %s is not the older secret's", signature)
			}
		})
	}
}

func TestThinEvents(t *testing.T) {
	r := newRig(t, nil)
	r.SetDelivery(sim.DeliveryFaults{Thin: true})
	id := r.post("/v1/customers")
	r.quiet()
	d := r.hook.requests()[0]
	signature := d.header.Get("Stripe-Signature")
	if _, err := webhook.ConstructEvent([]byte(d.body), signature, "whsec_test"); err == nil {
		t.Error("it is no thin event to stripe-go")
	}
	n, err := r.api.ParseEventNotification([]byte(d.body), signature, "whsec_test")
	if err != nil {
		t.Fatal(err)
	}
	e := n.GetEventNotification()
	if e.Type != "v1.customer.created" || e.ID == r.Events()[0].ID || e.Reason == nil {
		t.Errorf("%+v", e)
	}
	if !strings.Contains(d.body, `"related_object":{"id":"`+id+`","type":"customer","url":"/v1/customers/`+id+`"}`) || !strings.Contains(d.body, `"snapshot_event":"`+r.Events()[0].ID+`"`) {
		t.Errorf("%s", d.body)
	}
}

func TestCloseEndsDeliveries(t *testing.T) {
	held, came := make(chan struct{}), make(chan struct{}, 8)
	defer close(held)
	r := newRig(t, func(o *sim.Options) { o.Retry = time.Hour })
	r.hook.set(func(int) int { came <- struct{}{}; <-held; return 200 })
	r.post("/v1/customers")
	<-came
	quiet := make(chan error)
	go func() { quiet <- r.Quiet(t.Context()) }()
	r.Close()
	if err := <-quiet; err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("it is quiet: %v", err)
	}
}

func TestResetForgets(t *testing.T) {
	r := newRig(t, func(o *sim.Options) { o.Retry = time.Hour })
	r.SetDelivery(sim.DeliveryFaults{Delay: time.Hour})
	r.Set(sim.Trouble{Fault: sim.Limited, Path: "/v1/charges"})
	customer := r.post("/v1/customers")
	r.must("POST", "/_sim/reset")
	r.quiet()
	if n := len(r.Customers()) + len(r.Events()) + len(r.hook.requests()); n != 0 {
		t.Errorf("%d customers, events and deliveries are left", n)
	}
	r.refused(404, "GET", "/v1/customers/"+customer)
	r.must("GET", "/v1/charges")
	r.must("GET", "/v1/prices/price_pro")
	r.SetDelivery(sim.DeliveryFaults{Reorder: 9})
	r.post("/v1/customers")
	r.Reset()
	r.quiet()
	r.post("/v1/customers")
	r.quiet()
	if kinds := r.hook.events(t); len(kinds) != 1 {
		t.Errorf("%d deliveries, want 1", len(kinds))
	}
}
