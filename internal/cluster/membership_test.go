package cluster_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"gatehouse/internal/cluster"
)

// named is a node whose id ends like those of UUIDs do.
func named(name, random string, limits map[string]string) cluster.Node {
	return cluster.Node{ID: "0199c0de-7a1e-7c3d-9b2f-" + random, Name: name, Version: "v1", Limits: limits}
}

var (
	nodeA = named("a", "aaaaaaaa0001", nil)
	nodeB = named("b", "bbbbbbbb0001", nil)
)

func wantState(t *testing.T, n *node, want cluster.State) {
	t.Helper()
	if diff := cmp.Diff(want, n.State()); diff != "" {
		t.Errorf("the state differs (-want +got):\n%s", diff)
	}
}

// wantLogged wants a text in n's log so often.
func wantLogged(t *testing.T, n *node, text string, times int) {
	t.Helper()
	if got := strings.Count(n.log.String(), text); got != times {
		t.Errorf("%q is logged %d times, want %d:\n%s", text, got, times, n.log)
	}
}

func TestNodesHaveIDsOfTheirOwn(t *testing.T) {
	limits := map[string]string{"api": "500/3600s"}
	seen := make(map[string]bool)
	for range 100 {
		n, err := cluster.NewNode("a", "v1", limits)
		if err != nil {
			t.Fatal(err)
		}
		if id, err := uuid.Parse(n.ID); err != nil || id.Version() != 7 || seen[n.ID] {
			t.Fatalf("the id is %q, %v, want a new UUIDv7", n.ID, err)
		}
		seen[n.ID] = true
		if diff := cmp.Diff(cluster.Node{ID: n.ID, Name: "a", Version: "v1", Limits: limits}, n); diff != "" {
			t.Errorf("the node differs (-want +got):\n%s", diff)
		}
	}
}

func TestNodeBeatsAtOnceAndThenOnEachTick(t *testing.T) {
	for name, h := range map[string]how{"well": well, "nothing arrives": cut, "no answer comes": mute, "the store hangs": hangs} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				n := startOver(t, &link{table: newTable(), how: h, there: 100 * time.Millisecond}, nodeA)
				after(4*cluster.Beat - time.Nanosecond)
				for i, at := range n.beats {
					if want := time.Duration(i) * cluster.Beat; at.Sub(begun) != want || n.bounds[i] >= cluster.Beat {
						t.Errorf("beat %d began after %s, bounded by %s", i, at.Sub(begun), n.bounds[i])
					}
				}
				if len(n.beats) != 4 || len(n.told) != 4 {
					t.Errorf("there were %d beats in 8 s, of which %d were told of", len(n.beats), len(n.told))
				}
			})
		})
	}
}

func TestNodesSeeEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newTable()
		a := start(t, d, nodeA)
		wantState(t, a, cluster.State{Node: "a", Fresh: true})
		c := start(t, d, named("c", "cccccccc0001", nil))
		b := start(t, d, nodeB)
		wantState(t, b, cluster.State{Node: "b", Others: []string{"a", "c"}, Fresh: true})
		after(cluster.Beat)
		wantState(t, a, cluster.State{Node: "a", Others: []string{"b", "c"}, Fresh: true})
		if told := a.told; told[0].Nodes() != 1 || told[1].Nodes() != 3 {
			t.Errorf("a's observer was told %+v", told)
		}
		wantLogged(t, a, `msg="a node has come" name=b id=`+nodeB.ID+" version=v1 nodes=3", 1)

		c.stop()
		<-c.done
		after(cluster.Beat)
		wantState(t, a, cluster.State{Node: "a", Others: []string{"b"}, Fresh: true})
		wantLogged(t, a, `msg="a node is gone" name=c`, 1)
		wantLogged(t, a, `msg="a node`, 3) // b and c came, and c went
	})
}

// A node that was killed, or can't reach the database, is gone to others
// within 8 s. One whose answers are lost is not.
func TestSilentNodeIsGone(t *testing.T) {
	for _, tt := range []struct {
		name string
		how  how
		gone bool
	}{
		{"nothing arrives", cut, true},
		{"the store hangs", hangs, true},
		{"no answer comes back", mute, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newTable()
				a, b := start(t, d, nodeA), start(t, d, nodeB)
				after(10 * time.Second)
				b.is(tt.how)
				both := cluster.State{Node: "a", Others: []string{"b"}, Fresh: true}
				after(cluster.Gone - cluster.Beat - time.Nanosecond)
				wantState(t, a, both)
				after(2*cluster.Beat + time.Nanosecond)
				if tt.gone {
					both.Others = nil
					wantLogged(t, a, `msg="a node is gone" name=b`, 1)
				}
				wantState(t, a, both)
				wantState(t, b, cluster.State{Node: "b"}) // it knows nothing any more
				if last := b.told[len(b.told)-1]; last.Fresh || last.Nodes() != 1 {
					t.Errorf("b's observer was last told %+v", last)
				}
				b.is(well)
				after(cluster.Beat)
				wantState(t, b, cluster.State{Node: "b", Others: []string{"a"}, Fresh: true})
			})
		})
	}
}

func TestOneFailureIsNoNews(t *testing.T) {
	for _, h := range []how{cut, mute, hangs} {
		synctest.Test(t, func(t *testing.T) {
			d := newTable()
			a, b := start(t, d, nodeA), start(t, d, nodeB)
			after(cluster.Beat)
			b.is(h)
			after(cluster.Beat)
			b.is(well)
			for range 4 {
				wantState(t, a, cluster.State{Node: "a", Others: []string{"b"}, Fresh: true})
				wantState(t, b, cluster.State{Node: "b", Others: []string{"a"}, Fresh: true})
				after(cluster.Beat / 2)
			}
			wantLogged(t, a, "is gone", 0)
		})
	}
}

func TestNewsIsFreshForThreeBeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startOver(t, &link{table: newTable(), there: 500 * time.Millisecond, back: 500 * time.Millisecond}, nodeA)
		wantState(t, n, cluster.State{Node: "a"}) // the first beat is on its way
		after(time.Second)                        // and read the database's clock half a second ago
		n.is(cut)
		after(cluster.Gone - 500*time.Millisecond - time.Nanosecond)
		wantState(t, n, cluster.State{Node: "a", Fresh: true})
		after(time.Nanosecond)
		wantState(t, n, cluster.State{Node: "a"})
	})
}

func TestFailureIsLoggedWhenItBeginsAndEnds(t *testing.T) {
	const (
		fails = `level=WARN msg="the node's heartbeat fails: it is tried again" every=2s err=`
		works = `level=INFO msg="the node's heartbeat works again"`
	)
	for _, h := range []how{cut, mute, hangs} {
		synctest.Test(t, func(t *testing.T) {
			n := startOver(t, &link{table: newTable(), how: h}, nodeA)
			for outage := range 2 {
				after(time.Minute)
				wantLogged(t, n, fails, outage+1)
				wantLogged(t, n, works, outage)
				n.is(well)
				after(time.Minute)
				wantLogged(t, n, works, outage+1)
				n.is(h)
			}
		})
	}
}

func TestDifferingLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newTable()
		a := start(t, d, named("a", "aaaaaaaa0001", map[string]string{"onboarding": "10/60s", "api": "500/3600s", "old": "1/1s"}))
		same := start(t, d, named("b", "bbbbbbbb0001", map[string]string{"onboarding": "10/60s", "api": "500/3600s", "new": "off"}))
		after(cluster.Beat)
		wantState(t, a, cluster.State{Node: "a", Others: []string{"b"}, Fresh: true})
		wantLogged(t, a, "limit", 0)

		other := start(t, d, named("c", "cccccccc0001", map[string]string{"onboarding": "off", "api": "5/1s", "new": "2/1s"}))
		after(3 * cluster.Beat)
		differing := []string{"api", "new", "onboarding"}
		wantState(t, a, cluster.State{Node: "a", Others: []string{"b", "c"}, Fresh: true, Differing: differing})
		wantState(t, same, cluster.State{Node: "b", Others: []string{"a", "c"}, Fresh: true, Differing: differing})
		wantState(t, other, cluster.State{Node: "c", Others: []string{"a", "b"}, Fresh: true, Differing: differing})
		const differs = `level=WARN msg="a rate limit differs between nodes" policy=`
		wantLogged(t, a, differs, 3)
		wantLogged(t, a, differs+`onboarding limits="map[a:10/60s b:10/60s c:off]"`, 1)
		wantLogged(t, a, differs+`new limits="map[b:off c:2/1s]"`, 1)

		other.stop()
		after(2 * cluster.Beat)
		wantState(t, a, cluster.State{Node: "a", Others: []string{"b"}, Fresh: true})
		const again = `level=INFO msg="a rate limit is the same on all nodes again" policy=`
		wantLogged(t, a, again, 3)
		wantLogged(t, a, again+"api", 1)
		wantLogged(t, a, differs, 3)
	})
}

func TestNodesOfOneNameAreToldApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newTable()
		first := start(t, d, named("web", "aaaaaaaa0001", nil))
		start(t, d, named("db", "cccccccc0001", nil))
		second := start(t, d, named("web", "bbbbbbbb0001", nil))
		after(cluster.Beat)
		wantState(t, first, cluster.State{Node: "web#aaaaaaaa", Others: []string{"db", "web#bbbbbbbb"}, Fresh: true})
		wantState(t, second, cluster.State{Node: "web#bbbbbbbb", Others: []string{"db", "web#aaaaaaaa"}, Fresh: true})
		wantLogged(t, first, `msg="a node has come" name=web#bbbbbbbb`, 1)
		second.stop()
		after(cluster.Beat)
		wantState(t, first, cluster.State{Node: "web", Others: []string{"db"}, Fresh: true})
		start(t, d, cluster.Node{ID: "short", Name: "db"})
		after(cluster.Beat)
		wantState(t, first, cluster.State{Node: "web", Others: []string{"db#cccccccc", "db#short"}, Fresh: true})
	})
}

// A beat that is on its way when the node stops comes before its leave, not
// after it.
func TestNodeLeavesLast(t *testing.T) {
	for _, takes := range []time.Duration{0, 700 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			d := newTable()
			n := startOver(t, &link{table: d, there: takes}, nodeA)
			n.stop()
			<-n.done
			after(time.Hour)
			if d.has(nodeA.ID) || len(n.beats) != 1 {
				t.Errorf("after %d beats the row is there: %t", len(n.beats), d.has(nodeA.ID))
			}
			wantLogged(t, n, "level=WARN", 0)
		})
	}
}

func TestNodeThatCannotLeaveEndsSoon(t *testing.T) {
	for _, h := range []how{cut, mute, hangs} {
		synctest.Test(t, func(t *testing.T) {
			n := start(t, newTable(), nodeA)
			n.is(h)
			stopped := time.Now()
			n.stop()
			<-n.done
			if took := time.Since(stopped); took >= cluster.Beat {
				t.Errorf("it took %s to end", took)
			}
			wantLogged(t, n, `level=WARN msg="the node could not leave the cluster: it counts as there for some seconds"`, 1)
		})
	}
}

func TestNodeThatIsStoppedBeforeItStartsDoesNotBeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &link{table: newTable()}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		cluster.New(l, nodeA, func(cluster.State) {}, nil).Run(ctx)
		if len(l.beats) > 0 {
			t.Error("it beats")
		}
	})
}

func TestTimeIsTheDatabases(t *testing.T) {
	for _, off := range []time.Duration{-5 * time.Minute, 0, 5 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			d := newTable()
			d.step(off)
			n := startOver(t, &link{table: d, there: 300 * time.Millisecond, back: 300 * time.Millisecond}, nodeA)
			if got := n.Now(); !got.Equal(time.Now()) {
				t.Errorf("before the first beat it is %s", got)
			}
			after(600 * time.Millisecond) // the way there and back
			for i := range 100 {
				if i == 50 {
					n.is(cut) // and still knows the time
				}
				if got, want := n.Now(), time.Now().Add(off); !got.Equal(want) {
					t.Fatalf("the database's clock says %s, the node %s", want, got)
				}
				after(170 * time.Millisecond)
			}
		})
	}
}

// When the database's clock steps, Now does at the next beat; until then it
// goes on as before.
func TestTimeAcrossAStepOfTheDatabasesClock(t *testing.T) {
	for _, by := range []time.Duration{-2 * time.Minute, 2 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			d := newTable()
			n := start(t, d, nodeA)
			after(cluster.Beat / 2)
			d.step(by)
			after(cluster.Beat/2 - time.Nanosecond)
			if got, want := n.Now(), time.Now(); !got.Equal(want) {
				t.Errorf("before the beat it is %s, want %s", got, want)
			}
			after(time.Nanosecond)
			for range 3 {
				if got, want := n.Now(), time.Now().Add(by); !got.Equal(want) {
					t.Errorf("after the beat it is %s, want %s", got, want)
				}
				after(cluster.Beat)
			}
			wantState(t, n, cluster.State{Node: "a", Fresh: true}) // that is by the node's own clock
		})
	}
}

// The middle between question and answer is taken for when the clock was read.
func TestTimeIsWrongByHalfOfWhatABeatTookAtMost(t *testing.T) {
	for _, tt := range []struct{ there, back, wrong time.Duration }{
		{0, 0, 0},
		{0, time.Second, -time.Second / 2},
		{time.Second, 0, time.Second / 2},
		{300 * time.Millisecond, 100 * time.Millisecond, 100 * time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			n := startOver(t, &link{table: newTable(), there: tt.there, back: tt.back}, nodeA)
			after(tt.there + tt.back)
			if got := time.Until(n.Now()); got != tt.wrong {
				t.Errorf("%s there and %s back make it wrong by %s, want %s", tt.there, tt.back, got, tt.wrong)
			}
		})
	}
}

func TestNoClusterIsANodeAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var none *cluster.Membership
		if got := none.Now(); !got.Equal(time.Now()) {
			t.Errorf("it is %s", got)
		}
		if got := none.State(); got.Nodes() != 1 || got.Fresh {
			t.Errorf("the state is %+v", got)
		}
	})
}

// For the race detector.
func TestAllMayAskWhileTheNodeBeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newTable()
		a := start(t, d, nodeA)
		start(t, d, nodeB)
		var askers sync.WaitGroup
		for range 4 {
			askers.Go(func() {
				for range 500 {
					if a.Now().IsZero() || a.State().Node != "a" || a.State().Nodes() > 2 {
						t.Error("it is told nonsense")
					}
					<-time.After(10 * time.Millisecond)
				}
			})
		}
		askers.Wait()
	})
}

func BenchmarkNow(b *testing.B) {
	l := &link{table: newTable()}
	ctx, cancel := context.WithCancel(b.Context())
	m := cluster.New(l, nodeA, func(cluster.State) { cancel() }, nil)
	m.Run(ctx) // one beat
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			_ = m.Now()
		}
	})
}
