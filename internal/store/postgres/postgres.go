package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"gatehouse/internal/account"
	"gatehouse/internal/billing"
	"gatehouse/internal/jobs"
	"gatehouse/internal/store/records"
	"gatehouse/internal/vending"
)

// Options say how a database is opened.
type Options struct {
	// URL is the database's, as libpq has it: postgres://user@host/name.
	URL string
	// Cluster is the name of the cluster that the database must belong to. The
	// first node that serves a database gives it its name. Empty: any.
	Cluster string
	// Serve is for nodes.
	Serve bool
	// Migrate brings the schema up to date. Without it an older schema is an
	// error.
	Migrate bool
	// Observe is told how long each call took, by its name; nil: nobody is.
	Observe func(call string, took time.Duration, err error)
	// Log is where the store says that the database fails, and that it works
	// again.
	Log *slog.Logger
}

// Store is an open database.
type Store struct {
	records.Calls
	pool    *pgxpool.Pool
	log     *slog.Logger
	observe func(string, time.Duration, error)
	// patience bounds a call, beside the lanes': an operator's command may take
	// longer than a request.
	patience time.Duration
	failing  atomic.Bool  // a call found the database away
	busyAt   atomic.Int64 // when no connection was free, in ns, as it was last said

	signUps  *lane[signUp, account.Customer]
	grants   *lane[vending.Order, vending.Granted]
	finished *lane[jobs.Job, struct{}]
	receipts *lane[billing.Receipt, bool]

	mu         sync.Mutex
	closed     bool
	turnstiles map[turnstileKey]*turnstile
}

const (
	// conns is how many connections a node has at most: the lanes' own, and some
	// for what is seldom. A database of N nodes sees N times as many. The URL's
	// pool_max_conns overrides it.
	conns = 16
	// acquireTimeout is how long a call waits for a connection where all are
	// busy or the server does not answer: then it fails fast.
	acquireTimeout = time.Second
	// connectTimeout bounds the making of one.
	connectTimeout = 2 * time.Second
	// rollbackTimeout bounds the undoing of what was refused.
	rollbackTimeout = time.Second
	// openTimeout bounds the first connection, of several hosts too.
	openTimeout = 5 * time.Second
	// lockTimeout is how long a statement waits for another's lock. Those that
	// are held as they should be take milliseconds.
	lockTimeout = 200 * time.Millisecond
	// commandTimeout bounds a call of an operator's command.
	commandTimeout = time.Minute
	// busyNews is how often it is said that no connection is free.
	busyNews = 10 * time.Second
	// patientLocks is how long a seldom one does: beside a purge, say.
	patientLocks = 2 * time.Second
)

// Open opens the database at o.URL. The caller closes it.
func Open(ctx context.Context, o Options) (*Store, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Observe == nil {
		o.Observe = func(string, time.Duration, error) {}
	}
	config, err := poolConfig(o.URL)
	if err != nil {
		return nil, err
	}
	if o.Migrate {
		if err := Up(ctx, o.URL); err != nil {
			return nil, err
		}
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	s := &Store{pool: pool, log: o.Log, observe: o.Observe, patience: callTimeout, turnstiles: make(map[turnstileKey]*turnstile)}
	s.Calls = records.NewCalls(runner{s})
	if !o.Serve {
		s.patience = commandTimeout
	}
	if err := reach(ctx, pool); err != nil {
		pool.Close()
		return nil, err
	}
	if err := s.join(ctx, o); err != nil {
		pool.Close()
		return nil, err
	}
	s.signUps = newLane(1, s.openGroup)
	s.grants = newLane(width, s.grantGroup)
	s.finished = newLane(1, s.finishGroup)
	s.receipts = newLane(1, s.takeInGroup)
	return s, nil
}

// reach makes the first connection, or says why there is none and where.
func reach(ctx context.Context, pool *pgxpool.Pool) error {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if err := pool.Ping(ctx); err != nil {
		return fmt.Errorf("open the database: %w", err)
	}
	return nil
}

// parseURL reads a URL, the pool's parameters too. Of several hosts the one that
// can be written is meant.
func parseURL(url string) (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, errors.New("the database's URL can't be read: want postgres://USER@HOST/NAME") // the error could hold a password
	}
	if c := config.ConnConfig; c.ValidateConnect == nil {
		c.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	return config, nil
}

// poolConfig is how a store connects. That commits are synchronous is ours to
// say; the rest may be the URL's.
func poolConfig(url string) (*pgxpool.Config, error) {
	config, err := parseURL(url)
	if err != nil {
		return nil, err
	}
	if !hasPoolSize(url) {
		config.MaxConns = conns
	}
	c := config.ConnConfig
	if c.ConnectTimeout == 0 || c.ConnectTimeout > connectTimeout {
		c.ConnectTimeout = connectTimeout
	}
	boundClosing(config)
	for name, value := range map[string]string{
		"application_name":   "gatehouse",
		"synchronous_commit": "on", // an acknowledged write is on the disk, and on a synchronous standby's
		"lock_timeout":       milliseconds(lockTimeout),
		// Where a node hangs in a transaction, others must not wait for it long.
		"idle_in_transaction_session_timeout": milliseconds(2 * callTimeout),
		// All that is asked often is a look-up by key. Plans are kept, and those
		// made while a table is new and small must fit it when it is large.
		"plan_cache_mode": "force_generic_plan", "enable_seqscan": "off", "jit": "off",
	} {
		if _, given := c.RuntimeParams[name]; !given || name == "synchronous_commit" {
			c.RuntimeParams[name] = value
		}
	}
	return config, nil
}

// boundClosing has connections that broke leave the pool soon. The driver hangs
// up in the background, and asks the server to cancel what ran: where nobody
// answers, each would keep its place in the pool for 15 s.
func boundClosing(config *pgxpool.Config) {
	config.BeforeClose = func(c *pgx.Conn) {
		if c.IsClosed() {
			_ = c.PgConn().Conn().Close()
		}
	}
	// Whatever is dialed is given up after connectTimeout, unless it has become
	// a connection of the pool's.
	dial := config.ConnConfig.DialFunc
	config.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, connectTimeout)
		defer cancel()
		c, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return c, c.SetDeadline(time.Now().Add(connectTimeout))
	}
	config.AfterConnect = func(_ context.Context, c *pgx.Conn) error { return c.PgConn().Conn().SetDeadline(time.Time{}) }
}

func hasPoolSize(url string) bool {
	c, err := pgconn.ParseConfig(url)
	return err == nil && c.RuntimeParams["pool_max_conns"] != ""
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// Close finishes what has queued and closes the connections.
func (s *Store) Close() error {
	s.mu.Lock()
	s.closed = true
	all := s.turnstiles
	s.mu.Unlock()
	for _, t := range all {
		t.close()
	}
	s.signUps.close()
	s.grants.close()
	s.finished.close()
	s.receipts.close()
	s.pool.Close()
	return nil
}

// InUse is how many of the pool's connections are busy.
func (s *Store) InUse() int { return int(s.pool.Stat().AcquiredConns()) }

// Ping says whether the database can be read and written.
func (s *Store) Ping(ctx context.Context) error {
	return s.call(ctx, "ping", func(ctx context.Context, c *pgxpool.Conn) error {
		var readOnly string
		err := c.QueryRow(ctx, "SELECT current_setting('transaction_read_only') FROM cluster").Scan(&readOnly)
		if err == nil && readOnly != "off" {
			err = errors.New("the database can't be written: it is read-only")
		}
		return err
	})
}

// call runs something on a connection of its own, bounded in time, and tells
// the observer.
func (s *Store) call(ctx context.Context, name string, run func(context.Context, *pgxpool.Conn) error) error {
	start := time.Now()
	err := s.away(s.connected(ctx, run))
	s.observe(name, time.Since(start), err)
	return err
}

func (s *Store) connected(ctx context.Context, run func(context.Context, *pgxpool.Conn) error) error {
	ctx, cancel := undisturbed(ctx)
	defer cancel()
	c, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	defer c.Release()
	asked := ctx
	ctx, cancel = context.WithTimeout(ctx, s.patience)
	defer cancel()
	err = run(ctx, c)
	switch {
	case err == nil || !c.Conn().IsClosed():
		s.works()
	case asked.Err() == nil: // otherwise its caller had no more time, which says nothing of the database
		s.fails(err)
	}
	return err
}

// undisturbed has the deadline of a context and not its end. A client that hangs
// up would cost the connection that its query runs on, and look like a database
// that is away; so would a node that stops.
func undisturbed(ctx context.Context) (context.Context, context.CancelFunc) {
	apart := context.WithoutCancel(ctx)
	if end, ok := ctx.Deadline(); ok {
		return context.WithDeadline(apart, end)
	}
	return apart, func() {}
}

// acquire gets a connection, or fails fast.
func (s *Store) acquire(ctx context.Context) (*pgxpool.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, acquireTimeout)
	defer cancel()
	c, err := s.pool.Acquire(ctx)
	if err == nil {
		return c, nil
	}
	if stat := s.pool.Stat(); errors.Is(err, context.DeadlineExceeded) && stat.AcquiredConns()+stat.IdleConns() > 0 {
		if now, last := time.Now().UnixNano(), s.busyAt.Load(); now-last > int64(busyNews) && s.busyAt.CompareAndSwap(last, now) {
			s.log.WarnContext(ctx, "all connections to the database are busy", "connections", stat.MaxConns())
		}
	} else {
		s.fails(err)
	}
	return nil, fmt.Errorf("get a connection: %w", err)
}

// fails says that the database is away, if that is news.
func (s *Store) fails(err error) {
	if !s.failing.Swap(true) {
		s.log.Error("the database is away", "err", err)
	}
}

// works says that it is back, if it was away.
func (s *Store) works() {
	if s.failing.Load() && s.failing.Swap(false) {
		s.log.Info("the database is back")
	}
}

func inTx(ctx context.Context, c *pgxpool.Conn, o pgx.TxOptions, run func(pgx.Tx) error) (err error) {
	tx, err := c.BeginTx(ctx, o)
	if err != nil {
		return err
	}
	if err := run(tx); err != nil {
		// Where that fails, the pool throws the connection away, which ends
		// the transaction as well.
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
		defer cancel()
		_ = tx.Rollback(last)
		return err
	}
	return tx.Commit(ctx)
}
