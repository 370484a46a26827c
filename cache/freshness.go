package cache

import (
	"fmt"
	"sync/atomic"
	"time"

	"keystile/keys"
)

const (
	// pauseAfter is how long ago the last completed poll may have been sent before a
	// request waits for the next: the process may have been stopped since.
	pauseAfter = time.Second
	// pauseWait is how long a request waits at most.
	pauseWait = 300 * time.Millisecond
)

// freshness says whether the records can be proved to be the store's. A store in this
// process sets it once and for all; one that is polled renews it with each poll.
type freshness struct {
	now   func() time.Time
	state atomic.Pointer[proof]
}

// proof is what the last poll proved. It does not change: each poll makes another.
type proof struct {
	why     error // why the records cannot be proved fresh whatever the time; nil: see below
	forever bool  // they are fresh, whatever the time
	// proved is when the poll was sent that returned nothing new, and staleness is how
	// long it holds from then on.
	proved    time.Time
	staleness time.Duration
	polled    time.Time     // when the last completed poll was sent
	next      chan struct{} // closed when the next poll completes
}

func (f *freshness) init(now func() time.Time) {
	f.now = now
	f.state.Store(&proof{why: errNotLoaded, next: make(chan struct{})})
}

// set replaces the proof and wakes those who wait for the next.
func (f *freshness) set(next proof) {
	next.next = make(chan struct{})
	close(f.state.Swap(&next).next)
}

// completed notes a poll that was sent at the given time and did not prove the records
// fresh: it failed, or returned something new.
func (f *freshness) completed(sent time.Time) {
	next := *f.state.Load()
	next.polled = sent
	f.set(next)
}

// renew notes a poll, sent at the given time, that proved the records fresh.
func (f *freshness) renew(sent time.Time, staleness time.Duration) {
	f.set(proof{proved: sent, staleness: staleness, polled: sent})
}

// check returns nil when the records are fresh. It may wait for a poll (pauseWait at
// most), but only in a process that was stopped or whose polling has stopped.
func (f *freshness) check() error {
	var patience <-chan time.Time
	for {
		p := f.state.Load()
		switch {
		case p.why != nil:
			return p.why
		case p.forever:
			return nil
		}
		now := f.now()
		if elapsed(p.polled, now) <= pauseAfter {
			return p.at(now)
		}
		if patience == nil {
			patience = time.After(pauseWait)
		}
		select {
		case <-p.next:
		case <-patience:
			return fmt.Errorf("%w: no poll of the store has completed since %s", keys.ErrUnavailable, p.polled.UTC().Format(time.RFC3339))
		}
	}
}

// at returns nil if the proof holds at now.
func (p *proof) at(now time.Time) error {
	if age := elapsed(p.proved, now); age >= p.staleness {
		return fmt.Errorf("%w: its records were last proved fresh %s ago", keys.ErrUnavailable, age.Round(time.Millisecond))
	}
	return nil
}

// age returns how long ago the records were proved fresh; 0 where they always are.
func (f *freshness) age() time.Duration {
	p := f.state.Load()
	if p.forever || p.proved.IsZero() {
		return 0
	}
	return elapsed(p.proved, f.now())
}

// elapsed returns the time from one moment to another by the monotonic or by the wall
// clock, whichever says more: either may have stood still, or been set, meanwhile.
func elapsed(from, to time.Time) time.Duration {
	return max(to.Sub(from), to.Round(0).Sub(from.Round(0)))
}
