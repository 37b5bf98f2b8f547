package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"gatehouse/internal/ratelimit"
	"gatehouse/internal/store/postgres"
)

const limitCallers = 64

// workload is what is asked for in a turn, which is shorter than the window: no
// place frees, so that what a key was given can be counted.
type workload struct {
	name  string
	keys  int64
	limit int
	held  int // places taken before the turn, of each key
	nodes int
	// callers at once, over all nodes; 0: limitCallers.
	callers int
}

var workloads = []workload{
	{"distinct keys", 1_000_000, 10, 0, 1, 0},
	{"100 hot keys", 100, 10, 0, 1, 0},
	{"one hot key", 1, 10, 0, 1, 0},
	{"limit 500, 400 held", 2000, 500, 400, 1, 0},
	{"limit 1,000, 800 held", 1000, 1000, 800, 1, 0},
	{"distinct keys, 192 callers", 1_000_000, 10, 0, 1, 192},
	{"distinct keys, 192 callers on three nodes", 1_000_000, 10, 0, 3, 192},
	{"one hot key, 192 callers on three nodes", 1, 10, 0, 3, 192},
	{"limit 1,000, 800 held, 192 callers on three nodes", 1000, 1000, 800, 3, 192},
}

func (w workload) key(n int64) string { return "k" + strconv.FormatInt(n*7919%w.keys, 10) }

func (w workload) window() ratelimit.Limit { return ratelimit.Limit{Count: w.limit, Window: time.Hour} }

// drive asks for so long and returns the decisions a second. That a key was
// given more than its limit is an error.
func (w workload) drive(ctx context.Context, takers []taker, length time.Duration) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	var n atomic.Int64
	given := make([]atomic.Int32, w.keys)
	callers := cmp.Or(w.callers, limitCallers)
	errs := make([]error, callers)
	var wg sync.WaitGroup
	start := time.Now()
	for caller := range callers {
		wg.Go(func() {
			for ctx.Err() == nil && errs[caller] == nil {
				i := n.Add(1)
				d, err := takers[caller%len(takers)].Take(context.WithoutCancel(ctx), ratelimit.Onboarding, w.window(), w.key(i))
				if d.Admitted && int(given[i*7919%w.keys].Add(1)) > w.limit-w.held {
					err = fmt.Errorf("%s was given more than %d", w.key(i), w.limit)
				}
				errs[caller] = err
			}
		})
	}
	wg.Wait()
	return float64(n.Load()) / time.Since(start).Seconds(), errors.Join(errs...)
}

// fillWindows makes the places that are held before a turn, in both layouts.
func (w workload) fillWindows(ctx context.Context, c *pgx.Conn) error {
	if w.held == 0 {
		return nil
	}
	_, err1 := c.Exec(ctx, `INSERT INTO rate_windows SELECT 'onboarding', 'k' || k, array_agg(now_us() - 1000000 + i ORDER BY i), 1
		FROM generate_series(0, $1::bigint - 1) AS k, generate_series(1, $2::int) AS i GROUP BY k`, w.keys, w.held)
	_, err2 := c.Exec(ctx, "INSERT INTO stamps SELECT 'k' || k, i, now_us() - 1000000 + i FROM generate_series(0, $1::bigint - 1) AS k, generate_series(1, $2::int) AS i", w.keys, w.held)
	_, err3 := c.Exec(ctx, "INSERT INTO heads SELECT 'k' || k, $2, now_us() FROM generate_series(0, $1::bigint - 1) AS k", w.keys, w.held)
	_, err4 := c.Exec(ctx, "VACUUM ANALYZE rate_windows, stamps, heads")
	return errors.Join(err1, err2, err3, err4)
}

// layouts are what is compared: by name, takers for so many nodes, and how to
// close them.
func layouts(ctx context.Context, url string, n int) (map[string][]taker, func() error, error) {
	stores, err := nodes(ctx, url, n)
	if err != nil {
		return nil, nil, err
	}
	pool, err := pgxpool.New(ctx, url+"&pool_max_conns=16&plan_cache_mode=force_generic_plan&enable_seqscan=off&jit=off")
	if err != nil {
		return nil, nil, errors.Join(err, closeAll(stores))
	}
	all := map[string][]taker{"naive": {naive{pool}}}
	var byRows []*rows
	for _, s := range stores {
		r := newRows(ctx, pool)
		byRows = append(byRows, r)
		all["store"], all["rows"] = append(all["store"], taker(s)), append(all["rows"], taker(r))
	}
	return all, func() error {
		for _, r := range byRows {
			r.close()
		}
		pool.Close()
		return closeAll(stores)
	}, nil
}

// benchLimits compares layouts of the limiter's windows, and Redis, in turns.
func benchLimits(ctx context.Context, o options) error {
	c, err := o.startPostgres()
	if err != nil {
		return err
	}
	r, err := startRedis(ctx, o)
	if err != nil {
		return errors.Join(err, c.Close())
	}
	for _, w := range workloads {
		if err = compareLayouts(ctx, o, c, r, w); err != nil {
			break
		}
	}
	if err == nil {
		err = compareDenied(ctx, o, c, r)
	}
	return errors.Join(err, r.stop(), c.Close())
}

func compareLayouts(ctx context.Context, o options, c cluster, r redisServer, w workload) error {
	rates, ratios, wal := make(map[string][]float64), make(map[string][]float64), make(map[string][]float64)
	for range o.rounds {
		turn, err := w.turn(ctx, o, c, wal)
		if err != nil {
			return err
		}
		if w.held == 0 && w.callers == 0 {
			if turn["redis"], err = r.drive(ctx, w, o.slice); err != nil {
				return err
			}
		}
		for name, rate := range turn {
			rates[name], ratios[name] = append(rates[name], rate), append(ratios[name], turn["store"]/rate)
		}
	}
	fmt.Printf("%s:", w.name)
	for _, name := range []string{"store", "rows", "naive", "redis"} {
		switch {
		case rates[name] == nil:
			continue
		case name != "store":
			fmt.Printf("; %s %s, store by it %s", name, spread("%.0f", rates[name]), spread("%.2f", ratios[name]))
		default:
			fmt.Printf(" store %s/s", spread("%.0f", rates[name]))
		}
		if wal[name] != nil {
			fmt.Printf(", %s B of log a decision", spread("%.0f", wal[name]))
		}
	}
	fmt.Println()
	return nil
}

// turn drives each layout once, on a new database, and adds what was logged.
func (w workload) turn(ctx context.Context, o options, c cluster, wal map[string][]float64) (rates map[string]float64, err error) {
	url, err := c.database(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	if _, err := conn.Exec(ctx, rowsSchema); err != nil {
		return nil, err
	}
	all, stop, err := layouts(ctx, url, w.nodes)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	rates = make(map[string]float64)
	for _, name := range []string{"store", "rows", "naive"} {
		if _, err := conn.Exec(ctx, "TRUNCATE rate_windows, stamps, heads"); err != nil {
			return nil, err
		}
		if err := w.fillWindows(ctx, conn); err != nil {
			return nil, err
		}
		_, before, err := walSince(ctx, conn, "0/0")
		if err != nil {
			return nil, err
		}
		if rates[name], err = w.drive(ctx, all[name], o.slice); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		logged, _, err := walSince(ctx, conn, before)
		if err != nil {
			return nil, err
		}
		wal[name] = append(wal[name], logged/rates[name]/o.slice.Seconds())
	}
	return rates, nil
}

// benchBloat has 5,000 keys asked for again and again, with windows that places
// leave all the time, for o.soak, and looks how large each layout's tables are.
func benchBloat(ctx context.Context, o options) error {
	c, err := o.startPostgres()
	if err != nil {
		return err
	}
	return errors.Join(bloat(ctx, o, c), c.Close())
}

func bloat(ctx context.Context, o options, c cluster) (err error) {
	url, err := c.database(ctx)
	if err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	if _, err := conn.Exec(ctx, rowsSchema); err != nil {
		return err
	}
	all, stop, err := layouts(ctx, url, 1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	limit := ratelimit.Limit{Count: 10, Window: time.Second}
	for _, layout := range []struct{ name, tables string }{{"store", "rate_windows"}, {"rows", "heads,stamps"}} {
		until, cancel := context.WithTimeout(ctx, o.soak)
		var n, admitted atomic.Int64
		var wg sync.WaitGroup
		for range limitCallers {
			wg.Go(func() {
				for until.Err() == nil {
					d, err := all[layout.name][0].Take(ctx, ratelimit.Onboarding, limit, "k"+strconv.FormatInt(n.Add(1)*7919%5000, 10))
					if err == nil && d.Admitted {
						admitted.Add(1)
					}
				}
			})
		}
		if r, ok := all[layout.name][0].(*rows); ok {
			for until.Err() == nil {
				time.Sleep(time.Second)
				if err := r.sweep(ctx, limit.Window); err != nil {
					cancel()
					return err
				}
			}
		}
		wg.Wait()
		cancel()
		fmt.Printf("%s: %d of %d admitted;", layout.name, admitted.Load(), n.Load())
		for table := range strings.SplitSeq(layout.tables, ",") {
			var rows, dead, hot, updates int64
			var size, index float64
			err := conn.QueryRow(ctx, `SELECT n_live_tup, n_dead_tup, n_tup_hot_upd, n_tup_upd, pg_table_size(relid) / 1048576.0, pg_indexes_size(relid) / 1048576.0
				FROM pg_stat_user_tables WHERE relname = $1`, table).Scan(&rows, &dead, &hot, &updates, &size, &index)
			if err != nil {
				return err
			}
			fmt.Printf(" %s: %d rows, %d dead, %d of %d updates HOT, table %.1f MiB, index %.1f MiB;", table, rows, dead, hot, updates, size, index)
		}
		fmt.Println()
	}
	return nil
}

// remembering is a node's limiter, which remembers denials, over the store.
type remembering struct{ *ratelimit.Limiter }

// Take implements taker.
func (r remembering) Take(ctx context.Context, _ ratelimit.Name, _ ratelimit.Limit, key string) (ratelimit.Decision, error) {
	return r.Limiter.Take(ctx, key)
}

// compareDenied is about requests that are refused, as nearly all are in a
// storm: of 100 keys, by a node that remembers, and by Redis.
func compareDenied(ctx context.Context, o options, c cluster, r redisServer) error {
	w := workload{keys: 100, limit: 10}
	var ours, theirs, ratios []float64
	for range o.rounds {
		url, err := c.database(ctx)
		if err != nil {
			return err
		}
		s, err := postgres.Open(ctx, postgres.Options{URL: url, Serve: true})
		if err != nil {
			return err
		}
		policy := ratelimit.Defaults()[0]
		policy.Limit = w.window()
		node := remembering{ratelimit.New(policy, s, func(ratelimit.Outcome) {})}
		mine, err := w.drive(ctx, []taker{node}, o.slice)
		if err := errors.Join(err, s.Close()); err != nil {
			return err
		}
		redis, err := r.drive(ctx, w, o.slice)
		if err != nil {
			return err
		}
		ours, theirs, ratios = append(ours, mine), append(theirs, redis), append(ratios, mine/redis)
	}
	fmt.Printf("refused, of 100 keys: node %s/s, redis %s/s, ratio %s\n", spread("%.0f", ours), spread("%.0f", theirs), spread("%.1f", ratios))
	return nil
}

// redisServer is a Redis of the measurement's own, which keeps nothing on disk,
// and a program that drives redis_rate on it.
type redisServer struct {
	cmd          *exec.Cmd
	addr, driver string
}

func startRedis(ctx context.Context, o options) (r redisServer, err error) {
	r.driver = filepath.Join(o.dir, "redis")
	build := exec.CommandContext(ctx, "go", "build", "-o", r.driver, ".")
	build.Dir = "bench/redis"
	if out, err := build.CombinedOutput(); err != nil {
		return r, fmt.Errorf("build the driver: %w: %s", err, out)
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return r, err
	}
	r.addr = l.Addr().String()
	if err := l.Close(); err != nil {
		return r, err
	}
	_, port, err := net.SplitHostPort(r.addr)
	if err != nil {
		return r, err
	}
	r.cmd = exec.CommandContext(ctx, "redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", o.dir)
	if err := r.cmd.Start(); err != nil {
		return r, fmt.Errorf("%w: apt-get install redis-server", err)
	}
	for range 100 {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", r.addr)
		if err == nil {
			return r, conn.Close()
		}
		time.Sleep(50 * time.Millisecond)
	}
	return r, errors.Join(errors.New("Redis does not answer"), r.stop()) //nolint:staticcheck // a name
}

func (r redisServer) stop() error {
	if err := r.cmd.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	return r.cmd.Wait()
}

// drive asks as workload.drive does.
func (r redisServer) drive(ctx context.Context, w workload, length time.Duration) (float64, error) {
	flush := exec.CommandContext(ctx, "redis-cli", "-p", r.addr[len("127.0.0.1:"):], "flushall")
	if out, err := flush.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("redis-cli: %w: %s", err, out)
	}
	cmd := exec.CommandContext(ctx, r.driver, "-addr", r.addr, "-callers", strconv.Itoa(limitCallers), "-keys", strconv.FormatInt(w.keys, 10),
		"-limit", strconv.Itoa(w.limit), "-length", length.String())
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, os.Stderr
	if err := cmd.Run(); err != nil {
		return 0, err
	}
	var rate float64
	_, err := fmt.Sscan(said.String(), &rate)
	return rate, err
}
