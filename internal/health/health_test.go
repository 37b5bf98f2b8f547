package health_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/health"
)

var errAway = errors.New("connection refused")

// store is what a checker asks. It can fail, and it can be slow.
type store struct {
	asked   atomic.Int64
	failing atomic.Bool
	latency atomic.Int64 // a duration
	// held, when it is there, keeps an answer until it is closed; entered is
	// told of each question first.
	held, entered chan struct{}
}

func (s *store) Ping(ctx context.Context) error {
	s.asked.Add(1)
	if s.held != nil {
		s.entered <- struct{}{}
		<-s.held
	}
	if d := time.Duration(s.latency.Load()); d > 0 {
		select {
		case <-time.After(d):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if s.failing.Load() {
		return errAway
	}
	return nil
}

// hold makes answers wait until release, which is called with the first
// question on its way.
func (s *store) hold() {
	s.held, s.entered = make(chan struct{}), make(chan struct{}, 100)
}

func (s *store) release() { close(s.held) }

func newChecker(s *store) *health.Checker {
	return health.New(health.Facts{Version: "v1", Mode: "live", Node: "a", Driver: "sqlite", Off: []string{"api"}}, s.Ping)
}

func TestNodeIsAsItsStore(t *testing.T) {
	for _, tt := range []struct {
		name    string
		failing bool
		want    health.Status
	}{
		{"the store answers", false, health.OK},
		{"the store is away", true, health.Unavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &store{}
				s.failing.Store(tt.failing)
				s.latency.Store(int64(1500 * time.Microsecond))
				c := newChecker(s)
				<-time.After(90*time.Second + 999*time.Millisecond)
				got := c.Report()
				want := health.Report{
					Status: tt.want, Version: "v1", Mode: "live", Node: "a", Uptime: 91,
					Clustering:  health.Clustering{Status: "healthy", NodeCount: 1, CurrentNode: "a", ConnectedNodes: []string{}},
					Database:    health.Database{Status: tt.want, Driver: "sqlite", LatencyMS: 1.5},
					RateLimiter: health.RateLimiter{Status: tt.want, Running: true, Backend: "sqlite", Off: []string{"api"}, Differing: []string{}},
					Jobs:        health.Jobs{Status: tt.want},
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("Report differs (-want +got):\n%s", diff)
				}
				if ready := c.Ready(); ready == tt.failing {
					t.Errorf("Ready() = %t", ready)
				}
			})
		})
	}
}

// A backlog is not an illness; work that nobody begins is. It degrades a node
// that answers, and hides no worse.
func TestOverdueJobsDegradeANode(t *testing.T) {
	for _, tt := range []struct {
		name            string
		oldest, overdue time.Duration
		failing         bool
		want            health.Status
	}{
		{"one is tried for days", 48 * time.Hour, time.Second, false, health.OK},
		{"nobody works", 11 * time.Minute, 10*time.Minute + time.Second, false, health.Degraded},
		{"nobody works, and the store is away", 11 * time.Minute, 11 * time.Minute, true, health.Unavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &store{}
			s.failing.Store(tt.failing)
			c := health.New(health.Facts{Jobs: func() (int, time.Duration, time.Duration) { return 7, tt.oldest, tt.overdue }}, s.Ping)
			got := c.Report()
			if want := (health.Jobs{Status: tt.want, Queued: 7, OldestSeconds: int64(tt.oldest.Seconds())}); got.Jobs != want || got.Status != tt.want {
				t.Errorf("%+v, of a node that is %s", got.Jobs, got.Status)
			}
		})
	}
}

// What the others are like degrades a node that answers, and hides no worse.
func TestClusterIsTold(t *testing.T) {
	apart := []string{"api", "onboarding"}
	for _, tt := range []struct {
		name                 string
		seen                 health.Cluster
		failing              bool
		cluster              string
		whole, limiter, work health.Status
	}{
		{"alone", health.Cluster{Fresh: true}, false, "healthy", health.OK, health.OK, health.OK},
		{"of three", health.Cluster{Others: []string{"b", "c"}, Fresh: true}, false, "healthy", health.OK, health.OK, health.OK},
		{"its heartbeat fails", health.Cluster{}, false, "degraded", health.Degraded, health.OK, health.OK},
		{"limits differ", health.Cluster{Others: []string{"b"}, Fresh: true, Differing: apart}, false, "degraded", health.Degraded, health.Degraded, health.OK},
		{"the store is away", health.Cluster{}, true, "degraded", health.Unavailable, health.Unavailable, health.Unavailable},
		{"limits differ, and the store is away", health.Cluster{Fresh: true, Differing: apart}, true, "degraded", health.Unavailable, health.Unavailable, health.Unavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &store{}
			s.failing.Store(tt.failing)
			tt.seen.Node = "a#1a2b3c4d"
			got := health.New(health.Facts{Node: "a", Cluster: func() health.Cluster { return tt.seen }}, s.Ping).Report()
			want := health.Clustering{
				Enabled: true, Status: tt.cluster, NodeCount: len(tt.seen.Others) + 1,
				CurrentNode: "a#1a2b3c4d", ConnectedNodes: append([]string{}, tt.seen.Others...),
			}
			if diff := cmp.Diff(want, got.Clustering); diff != "" {
				t.Errorf("clustering differs (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(append([]string{}, tt.seen.Differing...), got.RateLimiter.Differing); diff != "" {
				t.Errorf("what differs is told otherwise (-want +got):\n%s", diff)
			}
			if got.Status != tt.whole || got.RateLimiter.Status != tt.limiter || got.Jobs.Status != tt.work || got.Node != "a" {
				t.Errorf("node %s is %s, its limiter %s, its jobs %s", got.Node, got.Status, got.RateLimiter.Status, got.Jobs.Status)
			}
		})
	}
}

// In the first quarter of a second only one of many questions reaches the
// store; what it said then is told to all.
func TestAnswerIsPassedOnWhileItIsFresh(t *testing.T) {
	const fresh = 250 * time.Millisecond
	for _, failing := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := &store{}
			s.failing.Store(failing)
			s.latency.Store(int64(10 * time.Millisecond))
			c := newChecker(s)
			c.Ready()
			s.failing.Store(!failing)
			<-time.After(fresh - time.Nanosecond)
			if ready, well := c.Ready(), c.Report().Status == health.OK; ready == failing || well == failing || s.asked.Load() != 1 {
				t.Errorf("just before the answer's end: ready %t, well %t, asked %d times, want the first answer", ready, well, s.asked.Load())
			}
			<-time.After(time.Nanosecond)
			if ready := c.Ready(); ready != failing || s.asked.Load() != 2 {
				t.Errorf("at the answer's end: ready %t, asked %d times, want a second answer", ready, s.asked.Load())
			}
		})
	}
}

func TestConcurrentCallersShareOneQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{}
		s.hold()
		c := newChecker(s)
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if !c.Ready() {
					t.Error("a caller is told that the node is not ready")
				}
				if got := c.Report().Status; got != health.OK {
					t.Errorf("a caller is told %s", got)
				}
			})
		}
		<-s.entered
		for range 100 {
			runtime.Gosched() // the bubble's clock stands still meanwhile
		}
		s.release()
		wg.Wait()
		if n := s.asked.Load(); n != 1 {
			t.Errorf("the store was asked %d times, want 1", n)
		}
	})
}

func TestStoreThatHangsIsNotWaitedForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{}
		s.latency.Store(int64(time.Hour))
		c := newChecker(s)
		start := time.Now()
		got := c.Report()
		if took := time.Since(start); took != 2*time.Second || got.Status != health.Unavailable {
			t.Errorf("after %s it is %s, want unavailable after 2 s", took, got.Status)
		}
		if got.Database.LatencyMS != 2000 {
			t.Errorf("the latency is told as %v ms, want 2000", got.Database.LatencyMS)
		}
		s.latency.Store(0)
		if c.Ready() {
			t.Error("the store is asked again at once, however slow it was")
		}
		<-time.After(250 * time.Millisecond)
		if !c.Ready() {
			t.Error("the node is not ready once the store is back")
		}
	})
}

func TestDrainingNodeIsNotReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{}
		c := newChecker(s)
		if c.IsDraining() || !c.Ready() {
			t.Fatal("a node drains from its start")
		}
		c.Draining()
		c.Draining()
		if c.Ready() || !c.IsDraining() {
			t.Error("a node that drains is ready")
		}
		if got := c.Report().Status; got != health.OK {
			t.Errorf("a node that drains is %s: it still serves", got)
		}
		<-time.After(time.Hour)
		if c.Ready() {
			t.Error("a drain ends")
		}
	})
}

func TestDrainIsSeenAtOnceThoughTheStoreHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{}
		s.hold()
		c := newChecker(s)
		early := make(chan bool, 1)
		go func() { early <- c.Ready() }()
		synctest.Wait() // it waits for the store, and all others behind it
		c.Draining()
		if c.Ready() {
			t.Error("a node that drains is ready")
		}
		s.release()
		if <-early {
			t.Error("who asked before the drain and is answered in it is told that the node is ready")
		}
	})
}
