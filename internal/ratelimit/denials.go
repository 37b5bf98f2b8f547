package ratelimit

import (
	"hash/maphash"
	"sync"
	"time"
)

const (
	// shards keep a storm from many addresses off one lock.
	shards = 16
	// perShard bounds the memory: 16 × 4,096 keys of under 200 bytes are
	// about 12 MiB. Forgetting one only costs a question to the store.
	perShard = 4096
)

// denials is a node's memory of refused keys and of until when they are.
type denials struct {
	seed   maphash.Seed
	shards [shards]denialShard
}

type denialShard struct {
	mu    sync.RWMutex
	until map[string]time.Time // with a monotonic reading
}

func newDenials() *denials { return &denials{seed: maphash.MakeSeed()} }

func (d *denials) shard(key string) *denialShard {
	return &d.shards[maphash.String(d.seed, key)%shards]
}

// left is how much longer key is refused; zero or less when it is not.
func (d *denials) left(key string, now time.Time) time.Duration {
	s := d.shard(key)
	s.mu.RLock()
	until, ok := s.until[key]
	s.mu.RUnlock()
	if !ok {
		return 0
	}
	return until.Sub(now)
}

func (d *denials) remember(key string, now time.Time, wait time.Duration) {
	s := d.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.until == nil {
		s.until = make(map[string]time.Time)
	}
	if _, known := s.until[key]; !known && len(s.until) >= perShard {
		s.makeRoom(now)
	}
	s.until[key] = now.Add(wait)
}

// makeRoom drops what has expired and, where that is little, arbitrary others
// until a quarter of the places is free: so it runs once in a thousand times.
func (s *denialShard) makeRoom(now time.Time) {
	for key, until := range s.until {
		if !until.After(now) {
			delete(s.until, key)
		}
	}
	for key := range s.until {
		if len(s.until) <= perShard*3/4 {
			return
		}
		delete(s.until, key)
	}
}
