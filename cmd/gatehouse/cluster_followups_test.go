package main

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"gatehouse/internal/jobs"
	"gatehouse/internal/mail/mailtest"
	"gatehouse/internal/stripe/sim"
)

// TestClusterFollowUps has three nodes work the same jobs off, and kills one
// after the other amid their calls: each customer has one mail and one Stripe
// customer in the end.
func TestClusterFollowUps(t *testing.T) {
	t.Parallel()
	needLinux(t)
	seed := *clusterSeed
	for seed == 0 {
		seed = rand.Uint64()
	}
	kills := max(4, *clusterSeconds/4)
	t.Logf("once more: go test ./cmd/gatehouse -v -run '^%s$' -cluster.seed=%d -cluster.seconds=%d", t.Name(), seed, *clusterSeconds)
	database := newPostgres(t)
	turn := movableClock(t, database)
	o := newOutside(t)
	r := &clusterRun{
		cluster: newCluster(t, 3, database, o.use()), random: rand.New(rand.NewPCG(seed, 3)),
		known: make(map[string]told), stop: make(chan struct{}),
	}
	var clients sync.WaitGroup
	end := sync.OnceFunc(func() { close(r.stop); clients.Wait() })
	defer end()
	for w := range 4 {
		random := rand.New(rand.NewPCG(r.random.Uint64(), uint64(w)))
		clients.Go(func() {
			r.paced(25*time.Millisecond, func() {
				i := r.fresh.Add(1)
				r.insist(random, ownAddress(i), fmt.Sprintf("followed-%d@customers.dev", i), fmt.Sprintf("followed-customer-%d", i))
			})
		})
	}
	// As long as nobody is killed and nothing fails, nothing is done twice.
	calm := time.Now().Add(2 * time.Second)
	r.places[0].alive().until("they have worked for a while", func() bool { return time.Now().After(calm) })
	mails, ids := o.mail.Messages(), make(map[string]bool)
	for _, m := range mails {
		ids[m.MessageID()] = true
	}
	if len(ids) != len(mails) || len(mails) == 0 {
		t.Errorf("%d mails with %d different ids were sent before anything was killed", len(mails), len(ids))
	}
	for range kills {
		r.killAmidCalls(o)
		r.start()
	}
	end()
	o.trouble(mailtest.None, sim.Trouble{})
	// What the killed had begun is due when their leases end. That is a minute,
	// which need not be waited for.
	left := jobsIn(t, database)
	n := r.places[0].alive()
	begun := left()
	for step := range 20 {
		turn(jobs.Lease)
		soon := time.Now().Add(2 * time.Second)
		n.until("the jobs are done, or it takes long", func() bool { return left() == 0 || time.Now().After(soon) })
		if left() == 0 {
			t.Logf("%d jobs were left, and done after %d turns of the clock", begun, step+1)
			break
		}
	}
	r.drain()
	v := o.judge(t, database)
	v.fail(t)
	if v.customers != len(r.kept) {
		t.Errorf("%d customers are there, %d were acknowledged", v.customers, len(r.kept))
	}
	for _, what := range r.strange {
		t.Error(what)
	}
	t.Logf("| kills | customers | answered again | mails | Stripe customers | lost | doubled | repeated mails |")
	t.Logf("| %d | %d | %d | %d | %d | %d | %d | %d |", kills, v.customers, r.repeats, v.mails, v.atStripe, len(v.lost), len(v.doubled), v.repeated)
}

// killAmidCalls kills a node when some node calls Stripe or the mail server, or
// is answered.
func (r *clusterRun) killAmidCalls(o *outside) {
	r.t.Helper()
	p := r.places[r.random.IntN(len(r.places))]
	n := p.alive()
	stripe, mail := sim.Trouble{Every: 1 + r.random.IntN(4), Times: 6}, mailtest.None
	if r.random.IntN(3) == 0 {
		stripe.Fault = sim.Lost
	}
	if r.random.IntN(4) == 0 {
		mail = mailtest.Drop
	}
	o.trouble(mail, stripe)
	asks, pieces := r.random.IntN(2) == 0, 20+r.random.IntN(200)
	way := []*link{o.toMail, o.toStripe}[r.random.IntN(2)]
	var mu sync.Mutex
	way.watch.Store(new(func(asked bool) {
		mu.Lock()
		defer mu.Unlock()
		if asked == asks {
			if pieces--; pieces == 0 {
				n.kill()
			}
		}
	}))
	select {
	case <-n.exited:
	case <-time.After(5 * time.Second):
		n.kill()
	}
	way.watch.Store(nil)
}

// movableClock makes an empty database go by a clock that can be turned ahead.
func movableClock(t *testing.T, database string) (turn func(time.Duration)) {
	t.Helper()
	if o := finish(t, gatehouse(t, "migrate", "up", databaseFlag(database))); o.code != exitOK {
		t.Fatal(o.stderr)
	}
	db := openSQL(t, database)
	do := func(statement string) {
		t.Helper()
		if _, err := db.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	do(`CREATE TABLE turned (us bigint);
		INSERT INTO turned VALUES (0);
		CREATE OR REPLACE FUNCTION now_us() RETURNS bigint LANGUAGE sql VOLATILE
		AS 'SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint + us FROM turned'`)
	return func(d time.Duration) {
		t.Helper()
		do(fmt.Sprintf("UPDATE turned SET us = us + %d", d.Microseconds()))
	}
}
