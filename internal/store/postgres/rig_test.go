package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"gatehouse/internal/account"
	"gatehouse/internal/apikey"
	"gatehouse/internal/billing"
	"gatehouse/internal/fault"
	"gatehouse/internal/idempotency"
	"gatehouse/internal/jobs"
	"gatehouse/internal/ratelimit"
	"gatehouse/internal/store/postgres"
	"gatehouse/internal/store/postgres/pgtest"
)

const (
	// slowest is how long any call may take, whatever the database does: what
	// callers are promised, and some room for a busy machine.
	slowest = 5*time.Second + 500*time.Millisecond
	// recovery is how soon a store must serve again once its database does.
	recovery = 5 * time.Second
)

var perMinute = ratelimit.Limit{Count: 10, Window: time.Minute}

// ownServer is a server for a test that stops it, or whatever else others would
// not like.
func ownServer(t *testing.T, o pgtest.Options) *pgtest.Server {
	t.Helper()
	if _, err := pgtest.Find(); err != nil {
		t.Skip(err)
	}
	s, err := pgtest.New(o)
	must(t, err)
	closes(t, s)
	return s
}

// closes closes something when the test ends.
func closes(t *testing.T, c interface{ Close() error }) {
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
}

// databaseOn is a database with the schema in it, on a server.
func databaseOn(t *testing.T, s *pgtest.Server) (url string) {
	t.Helper()
	url, err := s.CreateDatabase(t.Context())
	must(t, err)
	must(t, postgres.Up(t.Context(), url))
	return url
}

// node is a store of the test's.
func node(t *testing.T, url string) *postgres.Store {
	t.Helper()
	s := openStore(t, postgres.Options{URL: url, Serve: true})
	closes(t, s)
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// isAway says whether an error is the one of a database that can't be reached,
// with a time after which to ask again.
func isAway(err error) bool {
	f, ok := errors.AsType[*fault.Error](err)
	return ok && f.Kind == fault.Unavailable && f.RetryAfter > 0
}

func wantAway(t testing.TB, err error) {
	t.Helper()
	if !isAway(err) {
		t.Errorf("error is %v, want fault.Unavailable", err)
	}
}

// ends fails unless a call ends within a time.
func ends(t testing.TB, within time.Duration, call func() error) error {
	t.Helper()
	began := time.Now()
	err := call()
	if took := time.Since(began); took > within {
		t.Errorf("a call took %v, more than %v: %v", took, within, err)
	}
	return err
}

// eventually tries f until it succeeds and returns how long that took. It must
// within a time.
func eventually(t testing.TB, within time.Duration, f func() error) time.Duration {
	t.Helper()
	began, again := time.Now(), time.NewTicker(10*time.Millisecond)
	defer again.Stop()
	for {
		err := f()
		took := time.Since(began)
		if took > within {
			t.Fatalf("it took more than %v: %v", within, err)
		}
		if err == nil {
			return took
		}
		<-again.C
	}
}

// pause waits; it returns early when ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// ask reads one value on a connection of its own.
func ask[T any](t testing.TB, url, question string, args ...any) (answer T) {
	t.Helper()
	c, err := pgx.Connect(context.Background(), url)
	must(t, err)
	err = c.QueryRow(context.Background(), question, args...).Scan(&answer)
	must(t, errors.Join(err, c.Close(context.Background())))
	return answer
}

// takes takes a place and returns whether there was one.
func takes(t testing.TB, s *postgres.Store, limit ratelimit.Limit, key string) bool {
	t.Helper()
	d, err := s.Take(t.Context(), ratelimit.Onboarding, limit, key)
	must(t, err)
	return d.Admitted
}

// fill takes all places of a key.
func fill(t testing.TB, s *postgres.Store, key string) {
	t.Helper()
	for range perMinute.Count {
		if !takes(t, s, perMinute, key) {
			t.Fatalf("%s is full already", key)
		}
	}
}

// serves says whether a store reads and writes.
func serves(t testing.TB, s *postgres.Store) error {
	t.Helper()
	if err := s.Ping(t.Context()); err != nil {
		return err
	}
	_, err := s.Take(t.Context(), ratelimit.AuthFailure, perMinute, uuid.NewString())
	return err
}

// newOpening is somebody's sign-up.
func newOpening(t testing.TB, email string) (account.Opening, apikey.Presented) {
	t.Helper()
	at := time.Now().UTC().Truncate(time.Microsecond)
	id, err := uuid.NewV7()
	must(t, err)
	secret, issue, err := apikey.NewIssue(apikey.Live, "default", at, time.Time{})
	must(t, err)
	presented, ok := apikey.Parse(secret.Reveal())
	if !ok {
		t.Fatal("a generated key does not parse")
	}
	return account.Opening{
		Customer: account.Customer{
			ID: id.String(), Name: "Ada", Email: email, Source: "direct", Plan: billing.Trial,
			TrialFixesLimit: 5, CreditBalance: 5, CreatedAt: at,
		},
		CanonicalEmail: email, Key: issue,
		Grant: billing.Entry{
			ID: uuid.NewString(), Number: 1, Amount: 5, BalanceAfter: 5,
			Source: billing.TrialSignUp, Reference: billing.SignUpReference(id.String()), CreatedAt: at,
		},
		Jobs: []jobs.Kind{jobs.WelcomeMail, jobs.StripeCustomer},
	}, presented
}

// keep keeps the customer's id as the answer to a request under a key.
func keep(key string) *idempotency.Once[account.Customer] {
	r := idempotency.NewRequest("test", "POST", "/", key, []byte(key))
	return &idempotency.Once[account.Customer]{Request: r, Seal: func(c account.Customer) (idempotency.Outcome, error) {
		o := idempotency.Outcome{Request: r, Status: 201}
		o.Body.KeyID, o.Body.Bytes = "key-1", []byte(c.ID)
		return o, nil
	}}
}

// isRunning says whether a request was refused since its outcome is there.
func isRunning(err error) bool {
	f, ok := errors.AsType[*fault.Error](err)
	return ok && f.Code == "IDEMPOTENCY_CONFLICT"
}

// signUps are sign-ups by several callers while something happens, every other
// one under an Idempotency-Key, each of another address.
type signUps struct {
	mu       sync.Mutex
	attempts []attempt
}

type attempt struct {
	account.Opening
	keep *idempotency.Once[account.Customer] // nil: without a key
	err  error
}

// run signs up by n callers until ctx ends.
func (u *signUps) run(ctx context.Context, t *testing.T, s *postgres.Store, n int) {
	var callers sync.WaitGroup
	for range n {
		callers.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				email := uuid.NewString() + "@example.dev"
				a := attempt{}
				a.Opening, _ = newOpening(t, email)
				if i%2 == 0 {
					a.keep = keep(email)
				}
				a.err = ends(t, slowest, func() error { return s.Open(context.WithoutCancel(ctx), a.Opening, a.keep) })
				u.mu.Lock()
				u.attempts = append(u.attempts, a)
				u.mu.Unlock()
				if a.err != nil {
					wantAway(t, a.err)
					pause(ctx, 20*time.Millisecond)
				}
			}
		})
	}
	callers.Wait()
}

// verify fails unless those acknowledged are there once and the others at most
// once, each with all or nothing; then it signs up all again, as clients do, and
// nothing is doubled by that.
func (u *signUps) verify(t *testing.T, s *postgres.Store, url string) {
	t.Helper()
	acknowledged := 0
	for _, a := range u.attempts {
		_, err := s.Customer(t.Context(), a.ID)
		f, missing := errors.AsType[*fault.Error](err)
		missing = missing && f.Kind == fault.NotFound
		if a.err == nil {
			acknowledged++
		}
		switch {
		case a.err == nil && missing:
			t.Errorf("%s was acknowledged and is lost", a.Email)
		case err != nil && !missing:
			t.Fatal(err)
		}
		again := s.Open(t.Context(), a.Opening, a.keep)
		if wantRunning := a.keep != nil && !missing; again != nil && !wantRunning || wantRunning && !isRunning(again) {
			t.Errorf("%s, missing: %t, signs up again: %v", a.Email, missing, again)
		}
		if a.keep == nil {
			continue
		}
		if o, found, err := s.Outcome(t.Context(), a.keep.Request.ID); err != nil || !found || string(o.Body.Bytes) != a.ID {
			t.Errorf("the outcome of %s is %+v, %t, %v", a.Email, o, found, err)
		}
	}
	if acknowledged == 0 || acknowledged == len(u.attempts) {
		t.Errorf("%d of %d were acknowledged: nothing was tested", acknowledged, len(u.attempts))
	}
	n := len(u.attempts)
	want := fmt.Sprint(n, n, n, 2*n)
	ids := make([]string, 0, n)
	for _, a := range u.attempts {
		ids = append(ids, a.ID)
	}
	got := ask[string](t, url, `SELECT concat_ws(' ', (SELECT count(*) FROM customers WHERE id = ANY($1)), (SELECT count(*) FROM api_keys WHERE customer_id = ANY($1)),
		(SELECT count(*) FROM ledger_entries WHERE customer_id = ANY($1)), (SELECT count(*) FROM jobs WHERE subject = ANY($1)))`, ids)
	if got != want {
		t.Errorf("customers, keys, entries, jobs are %s, want %s", got, want)
	}
	t.Logf("%d of %d sign-ups were acknowledged", acknowledged, n)
}

// wire is a network between a store and a server that loses what it is told to.
// toxiproxy knows no statements; this does.
type wire struct {
	t        *testing.T
	ln       net.Listener
	upstream string
	done     chan struct{}

	mu    sync.Mutex
	links map[*link]struct{}
	hole  bool                       // new connections are silent from the start
	watch func(l *link, sent []byte) // sees what goes to the server, before it goes
}

// link is one connection.
type link struct {
	client, server net.Conn
	mu             sync.Mutex
	lost           what
}

// what becomes of the answers.
type what int

const (
	nothing what = iota
	silence      // they are swallowed, and so is what is sent: nobody is told
	reset        // the connection breaks at the next one
)

func (l *link) lose(w what) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lost = w
}

func (l *link) losing() what {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost
}

func newWire(t *testing.T, upstream string) *wire {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	w := &wire{t: t, ln: ln, upstream: upstream, done: make(chan struct{}), links: make(map[*link]struct{})}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			running.Go(func() { w.carry(client) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		close(w.done)
		w.mu.Lock()
		for l := range w.links {
			_ = errors.Join(l.client.Close(), l.server.Close())
		}
		w.mu.Unlock()
		running.Wait()
	})
	return w
}

func (w *wire) through(url string) string {
	w.t.Helper()
	c, err := pgx.ParseConfig(url)
	must(w.t, err)
	return fmt.Sprintf("postgres://%s@%s/%s?sslmode=disable", c.User, w.ln.Addr(), c.Database)
}

// onSend has f see what is sent from here on.
func (w *wire) onSend(f func(*link, []byte)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.watch = f
}

// silence makes all connections that there are silent for good, and new ones
// while there is a hole.
func (w *wire) silence(hole bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hole = hole
	for l := range w.links {
		l.lose(silence)
	}
}

func (w *wire) carry(client net.Conn) {
	defer client.Close()
	server, err := new(net.Dialer).DialContext(context.WithoutCancel(w.t.Context()), "tcp", w.upstream)
	if err != nil {
		return
	}
	defer server.Close()
	l := &link{client: client, server: server}
	w.mu.Lock()
	w.links[l] = struct{}{}
	if w.hole {
		l.lose(silence)
	}
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		delete(w.links, l)
		w.mu.Unlock()
	}()
	var answers sync.WaitGroup
	answers.Go(func() {
		pump(client, server, func([]byte) bool {
			if l.losing() == reset {
				_ = client.(*net.TCPConn).SetLinger(0)
				_ = client.Close()
			}
			return l.losing() == nothing
		})
		if l.losing() != silence {
			_ = client.Close()
		}
	})
	pump(server, client, func(sent []byte) bool {
		w.mu.Lock()
		watch := w.watch
		w.mu.Unlock()
		if l.losing() != nothing {
			return false
		}
		if watch != nil {
			watch(l, sent)
		}
		return true
	})
	if l.losing() == silence { // the server does not hear of the end either
		<-w.done
	}
	_ = server.Close()
	answers.Wait()
}

// pump copies what may pass.
func pump(to, from net.Conn, passes func([]byte) bool) {
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		if n > 0 && passes(b[:n]) {
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// isTaken says whether a sign-up was refused for its address.
func isTaken(err error) bool {
	f, ok := errors.AsType[*fault.Error](err)
	return ok && f.Kind == fault.Invalid && len(f.Details) == 1 && f.Details[0].Reason == fault.AlreadyRegistered
}
