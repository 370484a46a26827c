package proxy

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"keystile/keys"
)

// The states of a flight. Whoever moves it out of waiting decides its fate.
const (
	flightWaiting int32 = iota // judged, without an upstream connection
	flightStarted              // has a connection: it may be written
	flightEnded                // a change came first: nothing may be written
)

var (
	errSuperseded = errors.New("the key was changed before the request reached the upstream")
	errRevoked    = errors.New("the key or its secret was ended while its request was being answered")
	errDraining   = errors.New("the proxy is shutting down")
)

// flight is a judged request, from before its record is read once more until its
// answer has been sent.
type flight struct {
	id     keys.ID
	proved keys.Digest
	state  atomic.Int32
	cancel context.CancelCauseFunc
}

// start marks the flight as started, for its first connection or another, and reports
// whether no change had ended it before.
func (f *flight) start() bool {
	return f.state.CompareAndSwap(flightWaiting, flightStarted) || !f.ended()
}

// end ends the flight if it has not started, and reports whether it did.
func (f *flight) end(cause error) bool {
	ended := f.state.CompareAndSwap(flightWaiting, flightEnded)
	if ended {
		f.cancel(cause)
	}
	return ended
}

// ended reports whether a change ended the flight before it started.
func (f *flight) ended() bool { return f.state.Load() == flightEnded }

// flights is the table of requests in flight, by key, and remembers when each key was last
// used, and by which secret. It is split in shards, because every admitted request touches
// it.
type flights struct {
	shards [64]flightShard
	count  atomic.Int64
}

type flightShard struct {
	mu   sync.Mutex
	rows map[keys.ID]map[*flight]struct{}
	used map[keys.ID]keys.Use
	_    [64]byte // keeps neighbours out of this shard's cache line
}

func (t *flights) init() {
	for i := range t.shards {
		t.shards[i].rows = make(map[keys.ID]map[*flight]struct{})
		t.shards[i].used = make(map[keys.ID]keys.Use)
	}
}

// shardOf spreads ids, which are random, over n shards (a power of two).
func shardOf(id keys.ID, n int) int {
	return int(binary.LittleEndian.Uint32(id[:])*0x9E3779B1>>16) & (n - 1)
}

func (t *flights) shard(id keys.ID) *flightShard { return &t.shards[shardOf(id, len(t.shards))] }

func (t *flights) enter(id keys.ID, proved keys.Digest, cancel context.CancelCauseFunc) *flight {
	f := &flight{id: id, proved: proved, cancel: cancel}
	s := t.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	row := s.rows[id]
	if row == nil {
		row = make(map[*flight]struct{}, 1)
		s.rows[id] = row
	}
	row[f] = struct{}{}
	t.count.Add(1)
	return f
}

func (t *flights) leave(f *flight) {
	s := t.shard(f.id)
	s.mu.Lock()
	defer s.mu.Unlock()
	row := s.rows[f.id]
	delete(row, f)
	if len(row) == 0 {
		delete(s.rows, f.id)
	}
	t.count.Add(-1)
}

// changed ends the flights of id that grant no longer admits: those that wait always,
// those that have started where cut says so.
func (t *flights) changed(id keys.ID, grant keys.Grant, now time.Time, cut bool) {
	s := t.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	for f := range s.rows[id] {
		if !grant.Admits(f.proved, now) && !f.end(errSuperseded) && cut {
			f.cancel(errRevoked)
		}
	}
}

// use remembers that the key was used, by the digest that was proved.
func (t *flights) use(id keys.ID, at time.Time, proved keys.Digest) {
	s := t.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used[id] = keys.Use{At: at, Mark: proved.Mark()}
}

func (t *flights) takeUsed() map[keys.ID]keys.Use {
	all := make(map[keys.ID]keys.Use)
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		for id, use := range s.used {
			all[id] = use
		}
		clear(s.used)
		s.mu.Unlock()
	}
	return all
}

// cancelGrace is how long cancelled requests may take to leave the table.
const cancelGrace = time.Second

// drain waits for the table to be empty, or for ctx; then it cancels what is left
// and waits a little longer.
func (t *flights) drain(ctx context.Context) {
	if t.wait(ctx) {
		return
	}
	t.cancelAll(errDraining)
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelGrace)
	defer cancel()
	t.wait(grace)
}

// wait reports whether the table was empty before ctx was done.
func (t *flights) wait(ctx context.Context) bool {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for t.count.Load() > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

func (t *flights) cancelAll(cause error) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		for _, row := range s.rows {
			for f := range row {
				f.cancel(cause)
			}
		}
		s.mu.Unlock()
	}
}
