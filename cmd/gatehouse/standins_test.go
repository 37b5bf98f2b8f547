package main

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"gatehouse/internal/mail/mailtest"
	"gatehouse/internal/stripe/sim"
)

// outside is whom nodes call: a mail server and Stripe, played by stand-ins
// that outlive the nodes and remember.
type outside struct {
	mail             *mailtest.Server
	stripe           *sim.Server
	toMail, toStripe *link
}

func newOutside(t testing.TB) *outside {
	t.Helper()
	o := &outside{mail: mailtest.Start(), stripe: sim.Start()}
	t.Cleanup(o.mail.Close)
	t.Cleanup(o.stripe.Close)
	o.toMail = newLink(t, o.mail.Addr())
	o.toStripe = newLink(t, strings.TrimPrefix(o.stripe.URL(), "http://"))
	return o
}

// useMail and useStripe are the variables of a node that calls them.
func (o *outside) useMail() []string {
	return []string{"GATEHOUSE_SMTP_URL=smtp://" + o.toMail.addr, "GATEHOUSE_MAIL_FROM=Gatehouse <support@gatehouse.dev>"}
}

func (o *outside) useStripe() []string {
	return []string{"GATEHOUSE_STRIPE_API_BASE=http://" + o.toStripe.addr, "GATEHOUSE_STRIPE_API_KEY=sk_test_standin"}
}

func (o *outside) use() []string { return append(o.useMail(), o.useStripe()...) }

// verdict is what is wrong with customers and what was done for them.
type verdict struct {
	customers     int
	lost, doubled []string
	repeated      int // mails of a Message-ID that came before, which is allowed
	mails         int // different ones
	atStripe      int // customers there
}

// fail fails the test for what was lost or doubled, and tells some of it.
func (v verdict) fail(t testing.TB) {
	t.Helper()
	const some = 10
	for i, text := range v.lost[:min(some, len(v.lost))] {
		t.Errorf("lost, %d of %d: %s", i+1, len(v.lost), text)
	}
	for i, text := range v.doubled[:min(some, len(v.doubled))] {
		t.Errorf("doubled, %d of %d: %s", i+1, len(v.doubled), text)
	}
}

// judge holds a database against the stand-ins: each customer has keys, the
// credits of its sign-up once, one Stripe customer and one welcome mail, which
// may have come twice; a load test's has neither. No job is left.
func (o *outside) judge(t testing.TB, database string) (v verdict) {
	t.Helper()
	lost := func(format string, args ...any) { v.lost = append(v.lost, fmt.Sprintf(format, args...)) }
	doubled := func(format string, args ...any) { v.doubled = append(v.doubled, fmt.Sprintf(format, args...)) }
	mails := make(map[string]map[string]int) // by address and Message-ID
	for _, m := range o.mail.Messages() {
		to := strings.Trim(strings.Join(m.To, " "), "<>")
		if mails[to] == nil {
			mails[to] = make(map[string]int)
		}
		mails[to][m.MessageID()]++
	}
	atStripe := make(map[string][]sim.Customer) // by our id
	for _, c := range o.stripe.Customers() {
		v.atStripe++
		atStripe[c.Metadata["gatehouse_customer_id"]] = append(atStripe[c.Metadata["gatehouse_customer_id"]], c)
	}
	db := openSQL(t, database)
	rows, err := db.Query(`SELECT id, email, coalesce(stripe_customer_id, ''), load_test, credit_balance,
		(SELECT count(*) FROM api_keys WHERE customer_id = c.id),
		(SELECT count(*) FROM ledger_entries WHERE customer_id = c.id),
		(SELECT coalesce(sum(amount), 0) FROM ledger_entries WHERE customer_id = c.id) FROM customers c`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var id, email, stripeID string
		var loadTest bool
		var balance, keys, entries, sum int
		if err := rows.Scan(&id, &email, &stripeID, &loadTest, &balance, &keys, &entries, &sum); err != nil {
			t.Fatal(err)
		}
		v.customers++
		letters, made := mails[email], atStripe[id]
		delete(mails, email)
		delete(atStripe, id)
		if keys == 0 || entries != 1 || sum != 5 || balance != 5 {
			lost("%s has %d keys, %d ledger entries of %d credits and a balance of %d", email, keys, entries, sum, balance)
		}
		v.mails += len(letters)
		for _, times := range letters {
			v.repeated += times - 1
		}
		if loadTest {
			if len(letters) > 0 || len(made) > 0 {
				doubled("%s is a load test's and has %d mails and %d Stripe customers", email, len(letters), len(made))
			}
			continue
		}
		switch len(letters) {
		case 0:
			lost("%s has no mail", email)
		case 1:
		default:
			doubled("%s has mails of %d Message-IDs", email, len(letters))
		}
		switch {
		case len(made) > 1:
			doubled("%s has %d Stripe customers", email, len(made))
		case len(made) == 0:
			lost("%s has no Stripe customer", email)
		case made[0].ID != stripeID || made[0].Email != email:
			lost("%s is noted as %q, and Stripe has %s for %s", email, stripeID, made[0].ID, made[0].Email)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	for email := range mails {
		doubled("%q has mail and is no customer", email)
	}
	for id := range atStripe {
		doubled("a Stripe customer of %q, who is no customer", id)
	}
	left, err := column(db, "SELECT kind || ' of ' || subject || CASE WHEN dead_at IS NULL THEN ' waits' ELSE ' is dead' END || ' after ' || tries || ' tries: ' || reason FROM jobs")
	if err != nil {
		t.Fatal(err)
	}
	for _, job := range left {
		lost("a job: %s", job)
	}
	return v
}

// jobsIn counts the jobs in a database that are not dead, beside its node.
func jobsIn(t testing.TB, database string) func() int {
	t.Helper()
	db := openSQL(t, database)
	return func() (n int) {
		t.Helper()
		if err := db.QueryRow("SELECT count(*) FROM jobs WHERE dead_at IS NULL").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
}

// link is the way from nodes to a stand-in: a proxy that a test can close, cut
// and watch.
type link struct {
	t            testing.TB
	addr, target string
	// watch is called for each piece of traffic before it is passed on, and
	// before an end is: asked says that it comes from the node.
	watch   atomic.Pointer[func(asked bool)]
	running sync.WaitGroup

	mu    sync.Mutex
	ln    net.Listener // nil: closed, so that nodes are refused
	conns map[net.Conn]bool
}

// newLink makes a link on an address of its own: what calls 127.0.0.1 takes
// ports there, and one that is closed for a while might be gone.
func newLink(t testing.TB, target string) *link {
	t.Helper()
	l := &link{t: t, addr: "127.9.0.1:0", target: target, conns: make(map[net.Conn]bool)}
	l.open()
	t.Cleanup(func() {
		l.close()
		l.running.Wait()
	})
	return l
}

// open lets nodes connect.
func (l *link) open() {
	l.t.Helper()
	ln, err := new(net.ListenConfig).Listen(context.Background(), "tcp", l.addr)
	if err != nil {
		l.t.Fatalf("open a link: %v", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.addr, l.ln = ln.Addr().String(), ln
	l.running.Go(func() { l.accept(ln) })
}

// close refuses who connects, and cuts.
func (l *link) close() {
	l.mu.Lock()
	if l.ln != nil {
		_ = l.ln.Close() // nothing to do about it
		l.ln = nil
	}
	l.mu.Unlock()
	l.cut()
}

// cut closes what is open.
func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		_ = c.Close() // both its ends find out
	}
}

func (l *link) accept(ln net.Listener) {
	for {
		near, err := ln.Accept()
		if err != nil {
			return
		}
		far, err := dialer("").Dial("tcp", l.target)
		if err != nil {
			_ = near.Close() // the node sees a server that hangs up
			continue
		}
		l.mu.Lock()
		l.conns[near], l.conns[far] = true, true
		if l.ln != ln { // closed meanwhile
			_ = near.Close()
		}
		l.mu.Unlock()
		l.running.Go(func() { l.pass(far, near, true) })
		l.running.Go(func() { l.pass(near, far, false) })
	}
}

func (l *link) pass(to, from net.Conn, asked bool) {
	piece := make([]byte, 32<<10)
	for {
		n, err := from.Read(piece)
		if watch := l.watch.Load(); watch != nil {
			(*watch)(asked)
		}
		if _, werr := to.Write(piece[:n]); err != nil || werr != nil {
			break
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range []net.Conn{to, from} {
		_ = c.Close() // the other direction ends with it
		delete(l.conns, c)
	}
}
