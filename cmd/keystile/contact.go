package main

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"keystile/cache"
)

// contact is what readiness tells of a store that is reached over a network. The zero
// value says nothing.
type contact struct {
	mu         sync.Mutex
	begun      bool      // there is such a store
	loaded     bool      // the records were read once
	failing    time.Time // since when no poll has succeeded; zero: the last one did
	rolledBack bool      // the store is not the one remembered
	last       error     // of the last poll
}

func (c *contact) polled(err error, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.begun, c.last = true, err
	switch {
	case err == nil:
		c.failing, c.rolledBack = time.Time{}, false
	case c.failing.IsZero():
		c.failing = now
	}
}

func (c *contact) resynced() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.loaded = true
}

func (c *contact) wentBack() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rolledBack = true
}

// explain replaces the reason why the records are not fresh by one that says more,
// where there is one. It tells nothing of the server: readiness needs no token.
func (c *contact) explain(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err == nil || !c.begun:
		return err
	case c.rolledBack:
		return fmt.Errorf("store_rollback: the server does not hold the store that it held before; the log says what to do")
	case errors.Is(c.last, cache.ErrPepperMismatch):
		return fmt.Errorf("store_pepper: %w", cache.ErrPepperMismatch)
	case errors.Is(c.last, cache.ErrSettings):
		return fmt.Errorf("store_settings: %w; the log says why", cache.ErrSettings)
	case !c.failing.IsZero():
		return fmt.Errorf("store_unreachable: the key store cannot be followed since %s; the log says why", c.failing.UTC().Format(time.RFC3339))
	case !c.loaded:
		return fmt.Errorf("loading: the records of the key store are being read")
	}
	return err
}

// eventsTo counts what happens to a store, and tells readiness.
func eventsTo(m *storeMetrics, c *contact) cache.RedisEvents {
	return cache.RedisEvents{
		Applied: func(lag time.Duration) { m.lag.Observe(lag.Seconds()) },
		Polled: func(took time.Duration, err error) {
			m.polls.Observe(took.Seconds())
			if err != nil {
				m.failed.Inc()
			}
			c.polled(err, time.Now())
		},
		Resynced: func(cause cache.ResyncCause) {
			m.resyncs.WithLabelValues(string(cause)).Inc()
			c.resynced()
		},
		Reasserted: m.reasserted.Inc,
		Lost:       func(keys int) { m.lost.Add(float64(keys)) },
		RolledBack: func() {
			m.rollbacks.Inc()
			c.wentBack()
		},
	}
}
