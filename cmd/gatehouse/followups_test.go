package main

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse/internal/mail/mailtest"
	"gatehouse/internal/stripe/sim"
)

var crashKills = flag.Int("crash.kills", 12, "how often TestCrashFollowUps kills the node")

// TestCrashFollowUps kills the node again and again while clients sign up and
// make and rotate keys, each trying one request, with its Idempotency-Key,
// until it is answered; and counts what was lost and what was done twice, in
// the database and outside.
func TestCrashFollowUps(t *testing.T) {
	t.Parallel()
	needLinux(t)
	seed := *crashSeed
	for seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("once more: go test ./cmd/gatehouse -v -run '^%s$' -crash.seed=%d -crash.kills=%d", t.Name(), seed, *crashKills)
	r := &followRun{t: t, outside: newOutside(t), database: newDatabase(t), changed: make(chan struct{}), stop: make(chan struct{})}
	random := rand.New(rand.NewPCG(seed, 1))
	r.start()
	var clients sync.WaitGroup
	for w := range 8 {
		own := rand.New(rand.NewPCG(random.Uint64(), uint64(w)))
		clients.Go(func() {
			for r.mayBegin() {
				r.customer(own)
			}
		})
	}
	end := sync.OnceFunc(func() { close(r.stop) })
	defer func() { // also where a node does not start
		r.wrong.Store(true)
		end()
		clients.Wait()
	}()
	killed := make(map[string]int)
	for range *crashKills {
		moment, came := r.kill(random)
		killed[moment]++
		if r.wrong.Load() {
			t.FailNow()
		}
		r.start()
		if !came {
			t.Errorf("the moment did not come: %s", moment)
			break // and see what is lost
		}
	}
	r.outside.trouble(mailtest.None, sim.Trouble{})
	end()
	clients.Wait()
	if r.wrong.Load() {
		t.FailNow()
	}
	r.awaitIdle()
	lost := r.checkPromises()
	r.current().drain()
	if o := finish(t, gatehouse(t, "admin", "ledger", "verify", databaseFlag(r.database))); o.code != exitOK {
		t.Errorf("admin ledger verify: exit code %d, %s%s", o.code, o.stdout, o.stderr)
	}
	v := r.outside.judge(t, r.database)
	v.lost = append(v.lost, lost...)
	v.doubled = append(v.doubled, r.checkKeys()...)
	if v.customers != len(r.customers) {
		v.doubled = append(v.doubled, fmt.Sprintf("%d customers are there, %d were acknowledged", v.customers, len(r.customers)))
	}
	v.fail(t)
	t.Logf("killed: %v", killed)
	t.Logf("| kills | customers | acknowledged | of these repeated | mails | Stripe customers | lost | doubled | repeated mails |")
	t.Logf("| %d | %d | %d | %d | %d | %d | %d | %d | %d |", *crashKills, v.customers, r.acked.Load(), r.replays.Load(), v.mails, v.atStripe, len(v.lost), len(v.doubled), v.repeated)
}

// trouble sets what calls meet.
func (o *outside) trouble(mail mailtest.Fault, stripe sim.Trouble) {
	o.mail.Fault(mail)
	o.stripe.Set(stripe)
}

// followRun is what the clients know, and the node of the moment.
type followRun struct {
	t        *testing.T
	outside  *outside
	database string
	jobs     func() int

	fresh          atomic.Int64 // customers begun
	sent           atomic.Int64 // requests
	acked, replays atomic.Int64 // requests that succeeded; those answered again
	wrong          atomic.Bool
	stop           chan struct{} // closed when nobody is to begin any more

	mu        sync.Mutex
	n         *node
	changed   chan struct{} // closed when there is another node, or more may begin
	begun     int           // customers since letBegin
	customers []*promised
}

// promised is what one customer was told.
type promised struct {
	signUp call
	source string
	once   string      // the sign-up's Idempotency-Key
	keys   []issuedKey // those that must work
	rows   int         // keys that were ever made
}

type issuedKey struct{ ID, Text string }

// start serves, and lets the clients know.
func (r *followRun) start() {
	n := startNodeWith(r.t, r.outside.use(), r.database)
	if r.jobs == nil {
		r.jobs = jobsIn(r.t, r.database)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n = n
	r.tell()
}

// tell wakes the clients up. Its caller holds the lock.
func (r *followRun) tell() {
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *followRun) current() *node {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.n
}

// perKill is how many customers begin before a kill. It is more than any moment
// waits for, and bounds what is left to do in the end.
const perKill = 120

// letBegin lets so many more customers begin.
func (r *followRun) letBegin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begun = 0
	r.tell()
}

// mayBegin waits for the right to sign up somebody new, and says whether there
// will be any.
func (r *followRun) mayBegin() bool {
	for !r.wrong.Load() {
		r.mu.Lock()
		r.begun++
		begun, changed := r.begun, r.changed
		r.mu.Unlock()
		select {
		case <-r.stop:
			return false
		default:
		}
		if begun <= perKill {
			return true
		}
		select {
		case <-changed:
		case <-r.stop:
			return false
		}
	}
	return false
}

// after is the node that follows n; nil when none does.
func (r *followRun) after(n *node) *node {
	tired := time.NewTimer(patience)
	defer tired.Stop()
	for {
		r.mu.Lock()
		now, changed := r.n, r.changed
		r.mu.Unlock()
		if now != n {
			return now
		}
		select {
		case <-changed:
		case <-r.stop:
			return nil
		case <-tired.C:
			return nil
		}
	}
}

// kill waits for a moment and kills the node at it, or without it when it does
// not come.
func (r *followRun) kill(random *rand.Rand) (moment string, came bool) {
	n, o := r.current(), r.outside
	var once sync.Once
	kill := func() { once.Do(n.kill) } // who comes second waits for it, too
	// Not so many in a row that the kind of job rests for long.
	stripe := sim.Trouble{Every: 1 + random.IntN(4), Times: 6}
	mail := mailtest.None
	if random.IntN(3) == 0 {
		stripe.Fault = sim.Lost
	}
	if random.IntN(4) == 0 {
		mail = mailtest.Drop
	}
	due := func() bool { return false } // something else kills it
	watch := func(l *link, when func(asked bool) bool) {
		l.watch.Store(new(func(asked bool) {
			if when(asked) {
				kill()
			}
		}))
	}
	// Something is done first, or the same few jobs would meet all the kills.
	letters, made := len(o.mail.Messages())+random.IntN(8), len(o.stripe.Customers())+random.IntN(8)
	sent, acked := r.sent.Load()+random.Int64N(80), r.acked.Load()+random.Int64N(80)
	switch random.IntN(8) {
	case 0:
		moment = "a call of Stripe is on its way"
		watch(o.toStripe, func(asked bool) bool { return asked && r.acked.Load() > acked })
	case 1, 2:
		moment = "Stripe has done it, and not answered"
		watch(o.toStripe, func(asked bool) bool { return !asked && len(o.stripe.Customers()) > made })
	case 3:
		moment, mail = "a word to the mail server is on its way", mailtest.None
		watch(o.toMail, func(asked bool) bool { return asked && r.acked.Load() > acked })
	case 4:
		moment = "the mail is taken, and not acknowledged"
		watch(o.toMail, func(asked bool) bool { return !asked && len(o.mail.Messages()) > letters })
	case 5:
		moment = "all that is outside hangs"
		mail, stripe = mailtest.Hang, sim.Trouble{Fault: sim.Hang}
		due = func() bool { return o.stripe.Hanging() > 0 && r.acked.Load() > acked }
	case 6:
		moment = "so many requests are sent"
		due = func() bool { return r.sent.Load() > sent }
	default:
		moment = "so many requests are answered"
		due = func() bool { return r.acked.Load() > acked }
	}
	o.trouble(mail, stripe)
	r.letBegin()
	came = r.awaitMoment(n, due)
	kill()
	o.toMail.watch.Store(nil)
	o.toStripe.watch.Store(nil)
	return moment, came
}

// awaitMoment waits until it is due, or the node has been killed.
func (r *followRun) awaitMoment(n *node, due func() bool) (came bool) {
	space, tired := time.NewTicker(time.Millisecond), time.NewTimer(workedOff)
	defer space.Stop()
	defer tired.Stop()
	for !due() && !r.wrong.Load() {
		select {
		case <-n.exited:
			return true
		case <-space.C:
		case <-tired.C:
			return false
		}
	}
	return true
}

// customer signs one up, and now and then makes a key and rotates it.
func (r *followRun) customer(random *rand.Rand) {
	i := int(r.fresh.Add(1))
	who := &promised{source: loopback(i), once: fmt.Sprintf("follow-up-customer-%d", i)}
	client := newClient(who.source)
	defer client.CloseIdleConnections()
	who.signUp = r.insist(func(base string) call {
		return signUpOnce(client, base, fmt.Sprintf("follow-up-%d@customers.dev", i), who.once)
	})
	if r.wrong.Load() {
		return
	}
	who.keys, who.rows = []issuedKey{{Text: who.signUp.key}}, 1
	r.mu.Lock()
	r.customers = append(r.customers, who)
	r.mu.Unlock()
	if random.IntN(3) > 0 {
		return
	}
	made := r.issue(client, who, "", "{}")
	if r.wrong.Load() || random.IntN(2) > 0 {
		return
	}
	who.keys = who.keys[:1] // a rotated one ends at once
	r.issue(client, who, "/"+made.ID+"/rotate", `{"grace_minutes": 0}`)
}

// issue asks for a key until there is one.
func (r *followRun) issue(client *http.Client, who *promised, path, body string) issuedKey {
	once := fmt.Sprintf("%s-key-%d", who.once, who.rows)
	c := r.insist(func(base string) call {
		return doOnce(client, http.MethodPost, base+"/api/v1/keys"+path, who.signUp.key, once, body)
	})
	var told struct {
		ID     string
		APIKey string `json:"api_key"`
	}
	if err := c.decode(&told); err != nil || told.APIKey == "" {
		r.fail("a new key: %d %s %v", c.status, c.body, err)
	}
	made := issuedKey{told.ID, told.APIKey}
	who.keys, who.rows = append(who.keys, made), who.rows+1
	return made
}

// insist sends a request to one node after the other until it succeeds.
func (r *followRun) insist(send func(base string) call) (c call) {
	for n := r.current(); !r.wrong.Load(); {
		r.sent.Add(1)
		c = send(n.url)
		switch {
		case c.status == http.StatusCreated:
			r.acked.Add(1)
			if c.header.Get("Idempotent-Replayed") != "" {
				r.replays.Add(1)
			}
			return c
		case c.answered():
			r.fail("lost: a request that was tried until it is answered: %d %s", c.status, c.body)
		default:
			if n = r.after(n); n == nil {
				r.fail("no answer, and no other node: %v", c.err)
			}
		}
	}
	return c
}

// fail ends the run: what follows from a broken promise tells nothing.
func (r *followRun) fail(format string, args ...any) {
	r.t.Helper()
	if !r.wrong.Swap(true) {
		r.t.Errorf(format, args...)
	}
}

// awaitIdle waits until all is done, and everybody says so. A job that many
// kills hit waits for its lease to end, and others for their next try.
func (r *followRun) awaitIdle() {
	n := r.current()
	const bound = 5 * time.Minute
	n.within(bound, "no job is left", func() bool { return r.jobs() == 0 })
	client := n.client("")
	n.within(bound, "/health and /metrics know of no job", func() bool {
		var told struct {
			Jobs struct{ Queued int }
		}
		c := do(client, http.MethodGet, n.url+"/health", "", "")
		return c.decode(&told) == nil && c.status == http.StatusOK && told.Jobs.Queued == 0 && n.metrics().sum("gatehouse_jobs") == 0
	})
}

// checkPromises returns what customers were told and is not so.
func (r *followRun) checkPromises() (lost []string) {
	base := r.current().url
	for _, who := range r.customers {
		client := newClient(who.source)
		for _, key := range who.keys {
			if status, id, err := accountOf(client, base, key.Text); err != nil || status != http.StatusOK || id != who.signUp.customerID {
				lost = append(lost, fmt.Sprintf("a key of customer %s: %d, customer %q, %v", who.signUp.customerID, status, id, err))
			}
		}
		c := signUpOnce(client, base, who.signUp.email, who.once)
		if c.status != http.StatusCreated || !bytes.Equal(c.body, who.signUp.body) || c.header.Get("Idempotent-Replayed") != "true" {
			lost = append(lost, fmt.Sprintf("the answer of %s, asked for again: %d, %v", who.signUp.email, c.status, c.err))
		}
		client.CloseIdleConnections()
	}
	return lost
}

// checkKeys returns whose keys are not as many as were asked for.
func (r *followRun) checkKeys() (doubled []string) {
	rows, err := column(openSQL(r.t, r.database), "SELECT customer_id || ' ' || count(*) FROM api_keys GROUP BY customer_id")
	if err != nil {
		r.t.Fatal(err)
	}
	have := make(map[string]string)
	for _, row := range rows {
		id, n, _ := strings.Cut(row, " ")
		have[id] = n
	}
	for _, who := range r.customers {
		if got, want := have[who.signUp.customerID], fmt.Sprint(who.rows); got != want {
			doubled = append(doubled, fmt.Sprintf("customer %s has %s keys and asked for %s", who.signUp.customerID, got, want))
		}
	}
	return doubled
}
