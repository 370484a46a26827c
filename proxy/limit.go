package proxy

import (
	"cmp"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"keystile/keys"
)

// limiters holds one token bucket for each key that has a rate. Strangers never
// reach it, so it is bounded by the number of real keys.
type limiters struct {
	standard keys.Rate
	shards   [64]limiterShard
}

type limiterShard struct {
	mu   sync.Mutex
	keys map[keys.ID]*limiter
}

// limiter is a bucket and the rate it was made with.
type limiter struct {
	rate   keys.Rate
	bucket *rate.Limiter
}

func (l *limiters) init(standard keys.Rate) {
	l.standard = standard
	for i := range l.shards {
		l.shards[i].keys = make(map[keys.ID]*limiter)
	}
}

// take takes one request from the bucket of the key; otherwise it returns how long
// to wait for the next.
func (l *limiters) take(g *keys.Grant, now time.Time) (wait time.Duration) {
	limit := cmp.Or(g.Rate, l.standard)
	if limit == (keys.Rate{}) {
		return 0
	}
	s := &l.shards[shardOf(g.ID, len(l.shards))]
	s.mu.Lock()
	defer s.mu.Unlock()
	have := s.keys[g.ID]
	if have == nil || have.rate != limit {
		have = &limiter{limit, rate.NewLimiter(rate.Limit(limit.PerSecond), limit.Burst)}
		s.keys[g.ID] = have
	}
	reserved := have.bucket.ReserveN(now, 1)
	if wait = reserved.DelayFrom(now); wait > 0 {
		reserved.CancelAt(now)
	}
	return wait
}

// forget drops the bucket of a deleted key.
func (l *limiters) forget(id keys.ID) {
	s := &l.shards[shardOf(id, len(l.shards))]
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.keys, id)
}
