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

// denial is how long a key is refused, on the node's monotonic clock, as two
// bounds of when its place frees: the store decided between the time it was
// asked and the time it answered.
type denial struct {
	earliest time.Time // until then it is certain
	latest   time.Time // what a client is told to wait for
}

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
	if !ok || !now.Before(known.earliest) {
		return 0
	}
	return known.latest.Sub(now)
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
	s.denied[key] = denial{earliest: asked.Add(wait), latest: answered.Add(wait)}
}

// makeRoom drops what has expired and, where that is little, arbitrary others
// until a quarter of the places is free: so it runs once in a thousand times.
func (s *denialShard) makeRoom(now time.Time) {
	for key, known := range s.denied {
		if !known.earliest.After(now) {
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
