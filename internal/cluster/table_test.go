package cluster_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/internal/cluster"
)

var errAway = errors.New("connection refused")

// table is the nodes' rows, in a database whose clock is its own. Its lock
// guards its links too.
type table struct {
	mu   sync.Mutex
	off  time.Duration // the database's clock, less that of the bubble
	rows map[string]row
}

type row struct {
	node  cluster.Node
	heard time.Time
}

func newTable() *table { return &table{rows: make(map[string]row)} }

func (d *table) now() time.Time { return time.Now().Add(d.off) }

// step moves the database's clock.
func (d *table) step(by time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.off += by
}

func (d *table) has(id string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ok := d.rows[id]
	return ok
}

// How a link is.
type how int

const (
	well  how = iota
	cut       // nothing arrives
	mute      // all arrives, and no answer comes back
	hangs     // nothing arrives, and who asks waits for as long as he may
)

// link is one node's way to the database.
type link struct {
	*table
	how         how
	there, back time.Duration   // what the ways take
	beats       []time.Time     // when each was asked for
	bounds      []time.Duration // how long it might take
	told        []cluster.State // what the observer was told
}

func (l *link) is(h how) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.how = h
}

// reach takes the way there, does what is to be done, and takes the way back.
func (l *link) reach(ctx context.Context, do func()) error {
	l.mu.Lock()
	h, there, back := l.how, l.there, l.back
	l.mu.Unlock()
	switch h {
	case cut:
		return errAway
	case hangs:
		<-ctx.Done()
		return ctx.Err()
	}
	if !pass(ctx, there) {
		return ctx.Err()
	}
	l.mu.Lock()
	do()
	l.mu.Unlock()
	if !pass(ctx, back) {
		return ctx.Err()
	}
	if h == mute {
		return errAway
	}
	return nil
}

// Beat implements cluster.Store.
func (l *link) Beat(ctx context.Context, n cluster.Node) (v cluster.View, err error) {
	l.mu.Lock()
	l.beats = append(l.beats, time.Now())
	deadline, _ := ctx.Deadline()
	l.bounds = append(l.bounds, time.Until(deadline))
	l.mu.Unlock()
	err = l.reach(ctx, func() {
		v.Now = l.now()
		l.rows[n.ID] = row{n, v.Now}
		for _, r := range l.rows {
			if v.Now.Sub(r.heard) < cluster.Gone {
				v.Nodes = append(v.Nodes, r.node)
			}
		}
	})
	if err != nil {
		return cluster.View{}, err
	}
	return v, nil
}

// Leave implements cluster.Store.
func (l *link) Leave(ctx context.Context, id string) error {
	return l.reach(ctx, func() { delete(l.rows, id) })
}

// node is a running membership.
type node struct {
	*cluster.Membership
	*link
	log  *logs
	stop func()
	done chan struct{}
}

// start runs a node of a table in a bubble; the test's end ends it.
func start(t *testing.T, d *table, self cluster.Node) *node {
	t.Helper()
	return startOver(t, &link{table: d}, self)
}

func startOver(t *testing.T, l *link, self cluster.Node) *node {
	t.Helper()
	n := &node{link: l, log: new(logs), done: make(chan struct{})}
	n.Membership = cluster.New(l, self, func(s cluster.State) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.told = append(l.told, s)
	}, slog.New(slog.NewTextHandler(n.log, nil)))
	var ctx context.Context
	ctx, n.stop = context.WithCancel(t.Context())
	go func() {
		defer close(n.done)
		n.Run(ctx)
	}()
	t.Cleanup(func() { n.stop(); <-n.done })
	synctest.Wait() // the first beat has begun
	return n
}

// pass lets time go by; false when ctx ended first.
func pass(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// after lets time go by, and then lets all do what is due.
func after(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// logs is a log that may be read while it is written.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
