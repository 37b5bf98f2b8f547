package email_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/internal/account/email"
	"gatehouse/internal/fault"
)

// resolver answers MX look-ups by a function and knows no address at all. It
// keeps the names it was asked for.
type resolver struct {
	mx func(ctx context.Context, name string) ([]*net.MX, error)

	mu    sync.Mutex
	asked []string
}

func (r *resolver) LookupMX(ctx context.Context, name string) ([]*net.MX, error) {
	r.mu.Lock()
	r.asked = append(r.asked, name)
	r.mu.Unlock()
	return r.mx(ctx, name)
}

func (r *resolver) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}

func (r *resolver) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.asked)
}

// outcomes is an Observe that keeps what it heard.
type outcomes struct {
	mu    sync.Mutex
	heard []string
}

func (o *outcomes) observe(outcome string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.heard = append(o.heard, outcome)
}

func (o *outcomes) want(t testing.TB, want ...string) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	if !slices.Equal(o.heard, want) {
		t.Errorf("outcomes %q, want %q", o.heard, want)
	}
}

func works(context.Context, string) ([]*net.MX, error) {
	return []*net.MX{{Host: "mail.acme.com."}}, nil
}

func isNull(context.Context, string) ([]*net.MX, error) {
	return []*net.MX{{Host: "."}}, nil
}

func isDown(context.Context, string) ([]*net.MX, error) {
	return nil, errors.New("network is unreachable")
}

func hangs(ctx context.Context, _ string) ([]*net.MX, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestMXRemembers(t *testing.T) {
	tests := []struct {
		name    string
		mx      func(context.Context, string) ([]*net.MX, error)
		keep    time.Duration
		outcome string
		reason  string
	}{
		{"a domain that works", works, time.Hour, email.Accepted, ""},
		{"a domain without mail", isNull, 5 * time.Minute, email.Refused, fault.NoMailServer},
		{"a resolver that is down", isDown, 5 * time.Second, email.Unknown, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			r, o := &resolver{mx: tt.mx}, &outcomes{}
			m := email.NewMX(r, email.MXOptions{Now: func() time.Time { return now }, Observe: o.observe})
			check := func(lookups int) {
				t.Helper()
				if got := reason(t, m.Check(t.Context(), "acme.com")); got != tt.reason {
					t.Errorf("reason %q, want %q", got, tt.reason)
				}
				if got := r.count(); got != lookups {
					t.Errorf("%d look-ups, want %d", got, lookups)
				}
			}
			check(1)
			now = now.Add(tt.keep - 1)
			check(1)
			now = now.Add(1)
			check(2)
			o.want(t, tt.outcome, tt.outcome, tt.outcome)
		})
	}
}

func TestMXRemembersNoMoreThanItsBound(t *testing.T) {
	m := email.NewMX(&resolver{mx: works}, email.MXOptions{})
	for i := range email.MaxKnown + 100 {
		if err := m.Check(t.Context(), fmt.Sprintf("acme%d.com", i)); err != nil {
			t.Fatal(err)
		}
	}
	if got := m.Known(); got != email.MaxKnown {
		t.Errorf("%d domains remembered, want %d", got, email.MaxKnown)
	}
}

func TestMXAsksForAbsoluteNames(t *testing.T) {
	r := &resolver{mx: works}
	if err := email.NewMX(r, email.MXOptions{}).Check(t.Context(), "acme.com"); err != nil {
		t.Fatal(err)
	}
	if want := []string{"acme.com."}; !slices.Equal(r.asked, want) {
		t.Errorf("asked for %q, want %q", r.asked, want)
	}
}

func TestMXPassesAfterTheTimeout(t *testing.T) {
	for _, tt := range []struct{ set, want time.Duration }{{0, 2 * time.Second}, {time.Minute, time.Minute}} {
		synctest.Test(t, func(t *testing.T) {
			o := &outcomes{}
			m := email.NewMX(&resolver{mx: hangs}, email.MXOptions{Timeout: tt.set, Observe: o.observe})
			start := time.Now()
			if err := m.Check(t.Context(), "acme.com"); err != nil {
				t.Errorf("Check = %v, want it to pass", err)
			}
			if took := time.Since(start); took != tt.want { // of the bubble's clock, so exact
				t.Errorf("it took %v, want %v", took, tt.want)
			}
			o.want(t, email.Unknown)
		})
	}
}

func TestMXSharesALookup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := make(chan struct{})
		r, o := &resolver{mx: func(ctx context.Context, name string) ([]*net.MX, error) {
			select {
			case <-answer:
				return works(ctx, name)
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}}, &outcomes{}
		m := email.NewMX(r, email.MXOptions{Observe: o.observe})

		first, hangUp := context.WithCancel(t.Context())
		defer hangUp()
		var checks sync.WaitGroup
		check := func(ctx context.Context) {
			if err := m.Check(ctx, "acme.com"); err != nil {
				t.Errorf("Check = %v", err)
			}
		}
		checks.Go(func() { check(first) })
		synctest.Wait() // the first is asking
		for range 49 {
			checks.Go(func() { check(t.Context()) })
		}
		synctest.Wait() // the others wait for it
		hangUp()
		synctest.Wait() // which its end does not change
		close(answer)
		checks.Wait()

		if got := r.count(); got != 1 {
			t.Errorf("%d look-ups, want 1", got)
		}
		o.want(t, slices.Repeat([]string{email.Accepted}, 50)...)
	})
}

func TestMXBoundsItsLookups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, o := &resolver{mx: hangs}, &outcomes{}
		m := email.NewMX(r, email.MXOptions{Observe: o.observe})
		check := func(domain string) {
			if err := m.Check(t.Context(), domain); err != nil {
				t.Errorf("Check(%q) = %v, want it to pass", domain, err)
			}
		}
		var checks sync.WaitGroup
		for i := range email.MaxLookups {
			checks.Go(func() { check(fmt.Sprintf("acme%d.com", i)) })
		}
		synctest.Wait() // all places are taken
		check("late.com")
		o.want(t, email.Busy)
		if got := r.count(); got != email.MaxLookups {
			t.Errorf("%d look-ups, want %d", got, email.MaxLookups)
		}

		checks.Wait() // they time out, and their places are free
		r.mx = isNull
		if got := reason(t, m.Check(t.Context(), "late.com")); got != fault.NoMailServer {
			t.Errorf("reason %q: what was not asked was remembered", got)
		}
	})
}
