// Package cache is where key records live while Keystile runs: [Mirror] holds what
// judging a request needs of every record in memory, [Bolt] keeps the records of one
// machine in one file, and [Redis] those of many machines in one server (protocol.md
// says how); both keep accounts, their tokens and the audit trail, too. Both export and
// import backups.
//
// A store feeds its Mirror: the whole set once with [Mirror.Load], then each change
// with [Mirror.Apply], in the order of versions and before the call that made the
// change returns. The proxy reads the Mirror alone, so a request never waits for
// a store, and an unknown key costs a look into a table.
//
// Not promised: the Mirror is not a cache with an expiry. It holds all records or,
// when that cannot be proved, says so in [Mirror.Fresh].
package cache

import (
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"keystile/keys"
)

var (
	errNotReached = fmt.Errorf("%w: it has not been reached since this process started", keys.ErrUnavailable)
	errNotLoaded  = fmt.Errorf("%w: its records are not loaded yet", keys.ErrUnavailable)
	errClosed     = fmt.Errorf("%w: it is closed", keys.ErrUnavailable)
)

// Observer is told of every change that a Mirror took, after the change can be
// read and before the call that brought it returns. present is false, and grant
// zero, when the key is gone. It must not block and must not call Apply, Load or
// Observe.
type Observer func(id keys.ID, grant keys.Grant, present bool)

// Mirror holds the grants of all records in memory. Get, Current, Fresh and the
// figures never wait, not even for a change in progress; changes wait for each
// other. Make one with [NewMirror].
type Mirror struct {
	table   atomic.Pointer[table]
	version atomic.Uint64
	fresh   freshness
	absent  keys.Grant // what Get returns of an unknown key

	mu        sync.Mutex // held by whoever changes something
	observers []Observer
}

// NewMirror returns an empty Mirror, which is not fresh until it is loaded.
func NewMirror() *Mirror {
	m := &Mirror{}
	m.table.Store(newTable())
	m.fresh.init(time.Now)
	return m
}

// Observe has every later change told to observer. Register observers before the
// Mirror is loaded, so that none misses a change.
func (m *Mirror) Observe(observer Observer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.observers = append(m.observers, observer)
}

// Get returns the grant of id and true; for an unknown id the zero Grant and false.
// The grant is the Mirror's own and never changes: a change of the record brings
// another. The caller must not change it either.
func (m *Mirror) Get(id keys.ID) (*keys.Grant, bool) {
	if n := m.table.Load().find(&id); n != nil {
		return &n.grant, true
	}
	return &m.absent, false
}

// Current reports whether the Mirror holds exactly this version of the key.
func (m *Mirror) Current(id keys.ID, version uint64) bool {
	n := m.table.Load().find(&id)
	return n != nil && n.grant.Version == version
}

// Fresh returns nil when the Mirror is known to hold the store's records, else an
// error that says why not and wraps [keys.ErrUnavailable]. With a store that is
// polled it may wait up to 300 ms for a poll, after the process was stopped.
func (m *Mirror) Fresh() error { return m.fresh.check() }

// Apply takes one change, unless its version is not higher than all before: then
// the Mirror has it already and nothing happens. A change without an id only moves
// the version. When Apply returns, Get answers by the change and every observer has been
// told.
func (m *Mirror) Apply(change keys.Change) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if change.Version <= m.version.Load() {
		return
	}
	if change.ID == (keys.ID{}) {
		m.version.Store(change.Version)
		return
	}
	if change.Deleted {
		m.table.Load().remove(&change.ID)
		change.Grant = keys.Grant{}
	} else {
		change.Grant.ID = change.ID
		m.table.Load().put(change.Grant)
	}
	m.version.Store(change.Version)
	m.tell(change.ID, change.Grant, !change.Deleted)
}

// Load replaces the whole set by grants, in any order, as the store had them at
// version. Whether they are fresh is for the store to say. Readers see the old set until
// all of the new one is there. An error from grants is returned, and the old set stays.
// Observers are told of every key that differs. A version lower than before is
// taken: whether a store may go back is for the caller to judge.
func (m *Mirror) Load(version uint64, grants iter.Seq2[keys.Grant, error]) error {
	next := newTable()
	for grant, err := range grants {
		if err != nil {
			return err
		}
		next.put(grant)
	}
	m.replace(version, next)
	return nil
}

// replace is Load with a table that is ready, and becomes the Mirror's own.
func (m *Mirror) replace(version uint64, next *table) {
	m.mu.Lock()
	defer m.mu.Unlock()
	previous := m.table.Swap(next)
	m.version.Store(version)
	if len(m.observers) > 0 {
		m.tellDifferences(previous, next)
	}
}

func (m *Mirror) tell(id keys.ID, grant keys.Grant, present bool) {
	for _, observe := range m.observers {
		observe(id, grant, present)
	}
}

func (m *Mirror) tellDifferences(previous, next *table) {
	for n := range previous.all() {
		if next.find(&n.grant.ID) == nil {
			m.tell(n.grant.ID, keys.Grant{}, false)
		}
	}
	for n := range next.all() {
		if old := previous.find(&n.grant.ID); old == nil || old.grant != n.grant {
			m.tell(n.grant.ID, n.grant, true)
		}
	}
}

// Len returns the number of keys.
func (m *Mirror) Len() int {
	t := m.table.Load()
	return int(t.active.Load() + t.inactive.Load())
}

// Counts returns the numbers of active and of inactive keys.
func (m *Mirror) Counts() (active, inactive int) {
	t := m.table.Load()
	return int(t.active.Load()), int(t.inactive.Load())
}

// Version returns the version of the last change the Mirror holds; 0: none.
func (m *Mirror) Version() uint64 { return m.version.Load() }

// Age returns how long ago the records were last proved to be the store's. It is
// always 0 with [Bolt], whose changes reach the Mirror before they are answered.
func (m *Mirror) Age() time.Duration { return m.fresh.age() }
