package ratelimit

import (
	"hash/maphash"
	"sync"
	"time"
)

const (
	// shards keep a storm from many addresses off one lock.
	shards = 16
	// perShard bounds the memory: 16 × 2,048 keys of under 200 bytes are some
	// 6 MiB a policy. Forgetting one only costs a question to the store.
	perShard = 2048
)

// denials is a node's memory of refused keys and of until when they are.
type denials struct {
	seed   maphash.Seed
	shards [shards]denialShard
}

type denialShard struct {
	mu     sync.RWMutex
	denied map[string]denial
}

// denial is a refusal by the store, on the node's monotonic clock. The store
// decided between the time it was asked and the time it answered, so the place
// frees between asked and answered, each later by the wait: until the first
// the refusal is certain, and the second is what a client is told to wait for.
type denial struct {
	asked, answered time.Time
	wait            time.Duration
}

func (d denial) certainAt(now time.Time) bool { return now.Before(d.asked.Add(d.wait)) }

func newDenials() *denials { return &denials{seed: maphash.MakeSeed()} }

func (d *denials) shard(key string) *denialShard {
	return &d.shards[maphash.String(d.seed, key)%shards]
}

// left is how long a client of key should wait; zero when it is not certain
// that it is refused now.
func (d *denials) left(key string, now time.Time) time.Duration {
	s := d.shard(key)
	s.mu.RLock()
	known, ok := s.denied[key]
	s.mu.RUnlock()
	if !ok || !known.certainAt(now) {
		return 0
	}
	// Another's answer may have come after the caller read its clock.
	return known.wait - max(0, now.Sub(known.answered))
}

// remember keeps a refusal that the store was asked for and answered at these
// times, with that wait.
func (d *denials) remember(key string, asked, answered time.Time, wait time.Duration) {
	s := d.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.denied == nil {
		s.denied = make(map[string]denial)
	}
	if _, known := s.denied[key]; !known && len(s.denied) >= perShard {
		s.makeRoom(answered)
	}
	s.denied[key] = denial{asked, answered, wait}
}

// alias remembers under a further name what is known of key.
func (d *denials) alias(name, key string) {
	s := d.shard(key)
	s.mu.RLock()
	known, ok := s.denied[key]
	s.mu.RUnlock()
	if ok {
		d.remember(name, known.asked, known.answered, known.wait)
	}
}

// makeRoom drops what has expired and, where that is little, arbitrary others
// until a quarter of the places is free: so it runs once in a thousand times.
func (s *denialShard) makeRoom(now time.Time) {
	for key, known := range s.denied {
		if !known.certainAt(now) {
			delete(s.denied, key)
		}
	}
	for key := range s.denied {
		if len(s.denied) <= perShard*3/4 {
			return
		}
		delete(s.denied, key)
	}
}
