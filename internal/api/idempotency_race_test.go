package api_test

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"testing"
)

// oneOf fails the test unless one of the answers is fresh, and each other one
// repeats it or says that it was under way.
func oneOf(t testing.TB, answers []answer) (first answer) {
	t.Helper()
	made := 0
	for _, got := range answers {
		if got.status < http.StatusBadRequest && got.header.Get("Idempotent-Replayed") == "" {
			first = got
			made++
		}
	}
	if made != 1 {
		t.Fatalf("%d of %d requests made something, want one", made, len(answers))
	}
	for _, got := range answers {
		switch {
		case got.status >= http.StatusBadRequest:
			got.refused(t, http.StatusConflict, "IDEMPOTENCY_CONFLICT")
		case got.header.Get("Idempotent-Replayed") != "":
			got.repeats(t, first)
		}
	}
	return first
}

// However many come at once under one key, one is carried out.
func TestManyAtOnceUnderOneKey(t *testing.T) {
	s := newServer(t, unlimited)
	for endpoint, post := range posts(t, s) {
		for _, n := range []int{30, 100} {
			t.Run(endpoint+" "+strconv.Itoa(n), func(t *testing.T) {
				before, text, k := s.effects(t), post.body(), under("many at once: "+strconv.Itoa(n))
				first := oneOf(t, s.atOnce(t, n, func(int) (answer, error) {
					return s.try(t.Context(), "POST", post.path, post.auth, document(text), k)
				}))
				s.send(t, "POST", post.path, post.auth, document(text), k).repeats(t, first)
				if made := s.effects(t).than(before); made != each[endpoint] {
					t.Errorf("made: %+v, want %+v", made, each[endpoint])
				}
			})
		}
	}
}

// The same where they come to several nodes, which know nothing of each other.
func TestNodesAtOnceUnderOneKey(t *testing.T) {
	ring := sealedBy(newRing(t))
	s := newServer(t, unlimited, ring)
	nodes := []*server{s, newServer(t, unlimited, ring, beside(s)), newServer(t, unlimited, ring, beside(s))}
	for endpoint, post := range posts(t, s) {
		t.Run(endpoint, func(t *testing.T) {
			for i := range 5 {
				before, text, k := s.effects(t), post.body(), under("at all nodes: "+strconv.Itoa(i)+".")
				first := oneOf(t, s.atOnce(t, 30, func(i int) (answer, error) {
					return nodes[i%len(nodes)].try(t.Context(), "POST", post.path, post.auth, document(text), k)
				}))
				for _, node := range nodes {
					node.send(t, "POST", post.path, post.auth, document(text), k).repeats(t, first)
				}
				if made := s.effects(t).than(before); made != each[endpoint] {
					t.Errorf("made: %+v, want %+v", made, each[endpoint])
				}
			}
		})
	}
}

// hold sends a request whose write waits until finish is called, which returns
// the answer; a test that ends early finishes it, too.
func (s *server) hold(t testing.TB, next chan around, path string, details ...detail) (finish func() answer) {
	t.Helper()
	reached, release, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	then(t, next, func(ctx context.Context, write func(context.Context) error) error {
		close(reached)
		<-release
		return write(ctx)
	})
	var got answer
	var err error
	go func() {
		defer close(done)
		got, err = s.try(context.WithoutCancel(t.Context()), "POST", path, details...)
	}()
	finish = sync.OnceValue(func() answer {
		close(release)
		<-done
		if err != nil {
			t.Error(err)
		}
		return got
	})
	t.Cleanup(func() { finish() })
	select {
	case <-reached:
	case <-done:
		t.Fatalf("answered without a write: %d %s (%v)", got.status, got.body, err)
	}
	return finish
}

// While a request is under way its key is taken, and no other one is.
func TestKeyOfARunningRequest(t *testing.T) {
	next := make(chan around, 1)
	s := newServer(t, unlimited, writes(next))
	all := posts(t, s)
	for endpoint, post := range all {
		t.Run(endpoint, func(t *testing.T) {
			before, text := s.effects(t), post.body()
			send := func(details ...detail) answer {
				return s.send(t, "POST", post.path, append(details, post.auth)...)
			}
			finish := s.hold(t, next, post.path, post.auth, document(text), under(onceKey))
			for range 3 {
				send(document(text), under(onceKey)).refused(t, http.StatusConflict, "IDEMPOTENCY_CONFLICT")
			}
			if made := s.effects(t).than(before); made != (effects{}) {
				t.Errorf("made under a key that is taken: %+v", made)
			}
			send(document(post.body()), under(onceKey+"0")).fresh(t)
			send(document(post.body())).fresh(t)
			first := finish().fresh(t)
			send(document(text), under(onceKey)).repeats(t, first)
		})
	}
}

// Of two nodes that have both begun, the one that writes later writes nothing.
func TestNodesThatHaveBothBegun(t *testing.T) {
	ring, next := sealedBy(newRing(t)), make(chan around, 1)
	slow := newServer(t, unlimited, ring, writes(next))
	quick := newServer(t, unlimited, ring, beside(slow))
	for endpoint, post := range posts(t, slow) {
		t.Run(endpoint, func(t *testing.T) {
			before, text := slow.effects(t), post.body()
			finish := slow.hold(t, next, post.path, post.auth, document(text), under(onceKey))
			first := quick.send(t, "POST", post.path, post.auth, document(text), under(onceKey)).fresh(t)
			finish().refused(t, http.StatusConflict, "IDEMPOTENCY_CONFLICT")
			slow.send(t, "POST", post.path, post.auth, document(text), under(onceKey)).repeats(t, first)
			if made := slow.effects(t).than(before); made != each[endpoint] {
				t.Errorf("made: %+v, want %+v", made, each[endpoint])
			}
		})
	}
}
