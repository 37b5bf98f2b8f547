package main

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"gatehouse/internal/store/postgres/pgtest"
)

// TestDatabaseAwayAtStart: a node that finds no database does not wait for one.
// It says so and exits, and who supervises it starts it again.
func TestDatabaseAwayAtStart(t *testing.T) {
	t.Parallel()
	began := time.Now()
	for name, database := range map[string]string{
		"nobody listens":       "postgres://gatehouse@127.0.0.1:1/gatehouse?sslmode=disable",
		"there is no such one": pgtest.Need(t).URL("nothing"),
	} {
		refused(t, database, nil, nil, exitFailed, "gatehouse: ", "database")
		c := gatehouse(t, "serve", "--listen=127.0.0.1:0", "--admin-listen=off")
		c.Env = append(c.Env, masterKey, "GATEHOUSE_DATABASE="+strings.Replace(database, "gatehouse@", "gatehouse:geheim@", 1))
		if o := finish(t, c); o.code != exitFailed || strings.Contains(o.stderr, "geheim") {
			t.Errorf("%s: exit code %d, want %d and no password: %s", name, o.code, exitFailed, o.stderr)
		}
	}
	if took := time.Since(began); took > patience/2 {
		t.Errorf("it took %s", took)
	}
}

// TestDatabaseAway takes the database from nodes that serve, in ways of which
// some are noticed only by waiting: they refuse what they can't do, forget
// nothing, and are back soon after it is.
func TestDatabaseAway(t *testing.T) {
	t.Parallel()
	needLinux(t)
	t.Run("it stops", func(t *testing.T) {
		t.Parallel()
		if _, err := pgtest.Find(); err != nil {
			t.Skip(err)
		}
		pg, err := pgtest.New(pgtest.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := pg.Close(); err != nil {
				t.Error(err)
			}
		})
		database, err := pg.CreateDatabase(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		databaseAway(t, database, func() error { return pg.Stop("fast") }, pg.Start)
	})
	t.Run("it can't be reached", func(t *testing.T) {
		t.Parallel()
		database := newPostgres(t)
		proxy := pgtest.NewProxy(t, pgtest.Need(t).Addr())
		databaseAway(t, proxy.Through(database),
			func() error { proxy.Enabled(false); return nil },
			func() error { proxy.Enabled(true); return nil })
	})
	t.Run("it does not answer", func(t *testing.T) {
		t.Parallel()
		database := newPostgres(t)
		proxy := pgtest.NewProxy(t, pgtest.Need(t).Addr())
		databaseAway(t, proxy.Through(database),
			func() error { proxy.Toxic("mute", "timeout", map[string]any{"timeout": 0}); return nil },
			func() error { proxy.Remove("mute"); return nil })
	})
}

// refusesWithin is how long a node may take to say that its database is away.
const refusesWithin = 8 * time.Second

func databaseAway(t *testing.T, database string, away, back func() error) {
	t.Helper()
	n := startNode(t, database)
	n.faulty = true // it says so
	client, hot := n.client(loopback(1)), n.client(loopback(2))
	before := mustSignUp(t, client, n.url, "before@customers.dev")
	for i := range signUpLimit {
		mustSignUp(t, hot, n.url, fmt.Sprintf("full-%d@customers.dev", i))
	}
	if c := signUp(hot, n.url, "full@customers.dev"); c.status != http.StatusTooManyRequests {
		t.Fatalf("the eleventh sign-up: %d, want 429", c.status)
	}
	if err := away(); err != nil {
		t.Fatal(err)
	}
	c := signUp(hot, n.url, "full@customers.dev")
	if c.status != http.StatusTooManyRequests || c.received.Sub(c.sent) > time.Second {
		t.Errorf("a refusal that is remembered: %d after %s, want 429 at once", c.status, c.received.Sub(c.sent))
	}
	for _, ask := range []struct {
		what string
		call func() call
	}{
		{"sign-up", func() call { return signUp(client, n.url, "away@customers.dev") }},
		{"sign-up under a key", func() call { return signUpOnce(client, n.url, "away-once@customers.dev", "a-key-for-the-outage") }},
		{"account", func() call { return do(client, http.MethodGet, n.url+"/api/v1/account", before.key, "") }},
	} {
		c := ask.call()
		wantUnavailable(t, ask.what, c)
		if wait, err := strconv.Atoi(c.header.Get("Retry-After")); err != nil || wait < 1 {
			t.Errorf("%s: Retry-After %q, want whole seconds", ask.what, c.header.Get("Retry-After"))
		}
		if took := c.received.Sub(c.sent); took > refusesWithin {
			t.Errorf("%s was refused after %s, want %s at most", ask.what, took, refusesWithin)
		}
	}
	for path, want := range map[string]int{
		"/livez": http.StatusOK, "/readyz": http.StatusServiceUnavailable,
		"/health": http.StatusServiceUnavailable, "/api/health": http.StatusServiceUnavailable,
	} {
		if c := do(client, http.MethodGet, n.url+path, "", ""); c.status != want {
			t.Errorf("%s: %d %s, want %d", path, c.status, c.body, want)
		}
	}
	h := n.health(client)
	if h.Status != "unavailable" || h.Database.Status != "unavailable" || h.RateLimiter.Status != "unavailable" {
		t.Errorf("/health: %+v, want that all is unavailable", h)
	}
	if err := back(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	n.within(backWithin, "it is ready again", func() bool {
		return do(client, http.MethodGet, n.url+"/readyz", "", "").status == http.StatusOK
	})
	for i := 0; ; i++ {
		c := signUp(n.client(loopback(10+i)), n.url, fmt.Sprintf("back-%d@customers.dev", i))
		if c.status == http.StatusCreated {
			break
		}
		if time.Since(began) > backWithin {
			t.Fatalf("a sign-up %s after the database's return: %d %s", time.Since(began), c.status, c.body)
		}
	}
	t.Logf("it served again after %s", time.Since(began).Round(time.Millisecond))
	checkKey(t, client, n.url, before)
	if c := signUpOnce(client, n.url, "away-once@customers.dev", "a-key-for-the-outage"); c.status != http.StatusCreated {
		t.Errorf("the sign-up that was refused, again: %d %s, want 201", c.status, c.body)
	}
	if c := signUp(hot, n.url, "full@customers.dev"); c.status != http.StatusTooManyRequests {
		t.Errorf("the window that was full before: %d, want 429", c.status)
	}
	n.within(leaveSeen, "it is in touch with its cluster again", func() bool { h := n.health(client); return h.Status == "ok" && h.code == http.StatusOK })
	n.drain()
}
