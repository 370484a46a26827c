package cache

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"keystile/keys"
)

// DefaultPerAccount is how many keys an account may have when the options do not say
// it.
const DefaultPerAccount = 10

// BoltOptions says how a Bolt works. The zero value is usable.
type BoltOptions struct {
	// Mirror is loaded before OpenBolt returns, and has every later change before the
	// call that made it returns. nil: none.
	Mirror *Mirror
	// PerAccount is how many keys an account may have that has no limit of its own; 0:
	// DefaultPerAccount.
	PerAccount int
	// AuditKeep is how many entries of the audit trail are kept; 0: keys.DefaultAuditKeep.
	AuditKeep int
	// Peppers are the peppers in use; nil: none. The file remembers a check of the one
	// that signs.
	Peppers *keys.Peppers
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	// Log is told what an operator should know; nil: nobody.
	Log *slog.Logger
}

// Bolt is a [keys.Store], with its accounts and its audit trail, in one file, for one
// process. Every change is on the disk (fsync), in the Mirror and with every watcher
// before its call returns; so a receipt never has anything pending. Open one with
// [OpenBolt].
type Bolt struct {
	path       string
	db         *bbolt.DB
	mirror     *Mirror
	perAccount int
	auditKeep  int
	peppers    *keys.Peppers
	now        func() time.Time
	log        *slog.Logger
	commit     func(*bbolt.Tx) error // (*bbolt.Tx).Commit, but for tests

	// mu makes commit, mirror and watchers one step, so that versions reach them in
	// order. (bbolt's own OnCommit runs after bbolt's lock is gone.)
	mu       sync.Mutex
	closed   bool
	watchers []*watcher
	purged   []byte // the last operation looked at for its expiry
}

var (
	_ keys.Store    = (*Bolt)(nil)
	_ keys.Accounts = (*Bolt)(nil)
	_ keys.Trail    = (*Bolt)(nil)
)

// watcher is one call of Watch that is not over.
type watcher struct {
	ctx   context.Context
	apply func(keys.Change)
	stop  func() bool // forgets the wait for the end of ctx
}

// Get returns the record of id, or [keys.ErrNotFound].
func (b *Bolt) Get(ctx context.Context, id keys.ID) (keys.Record, error) {
	var record keys.Record
	err := b.view(ctx, "reading a key", func(tx *bbolt.Tx) error {
		kept, err := readRecord(tx, id)
		record = kept.Record
		return err
	})
	return record, err
}

// List returns the records of account in the order they were created; all for "".
func (b *Bolt) List(ctx context.Context, account string) ([]keys.Record, error) {
	var found []stored
	err := b.view(ctx, "listing keys", func(tx *bbolt.Tx) (err error) {
		if account == "" {
			found, err = allRecords(tx)
		} else {
			found, err = recordsOf(tx, account)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return inOrder(found), nil
}

// view runs read in a transaction that sees one moment of the store. doing says
// what for, in an error.
func (b *Bolt) view(ctx context.Context, doing string, read func(*bbolt.Tx) error) error {
	if ctx.Err() != nil {
		return unavailable(doing, ctx.Err())
	}
	return unavailable(doing, b.db.View(read))
}

// step is one transaction that may change something.
type step struct {
	*bbolt.Tx
	now       time.Time
	actor     keys.Actor
	auditKeep int
	dirty     bool          // there is something to keep
	changes   []keys.Change // what the mirror and the watchers are told, in order
}

// write runs one step, commits it and tells everybody. doing says what for, in an
// error. Whatever write panics with, no lock and no transaction stays open.
func (b *Bolt) write(ctx context.Context, doing string, run func(*step) error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return errClosed
	}
	if ctx.Err() != nil {
		return unavailable(doing, ctx.Err())
	}
	tx, err := b.db.Begin(true)
	if err != nil {
		return unavailable(doing, err)
	}
	defer func() { _ = tx.Rollback() }() // does nothing after a commit
	s := b.step(ctx, tx)
	if err := run(s); err != nil {
		return unavailable(doing, err)
	}
	if !s.dirty {
		return nil
	}
	if err := b.commit(tx); err != nil {
		b.settle(s, tx)
		return fmt.Errorf("%w: %s: keeping the change: %w", keys.ErrUnavailable, doing, err)
	}
	b.tell(s.changes)
	return nil
}

// step returns a step that is recorded as the actor's of ctx.
func (b *Bolt) step(ctx context.Context, tx *bbolt.Tx) *step {
	return &step{
		Tx: tx, now: b.now().UTC().Truncate(time.Millisecond),
		actor: keys.ActorOf(ctx), auditKeep: b.auditKeep,
	}
}

// settle handles a commit that failed. Mostly the file is as it was. But when only
// the last fsync failed, the file may have the change: whoever reads the store now
// sees it, so the mirror must, though the caller is told that it is not certain.
func (b *Bolt) settle(s *step, tx *bbolt.Tx) {
	_ = tx.Rollback()
	if len(s.changes) == 0 {
		return
	}
	var version uint64
	err := b.db.View(func(tx *bbolt.Tx) error {
		version = storeVersion(tx)
		return nil
	})
	if err == nil && version == s.changes[len(s.changes)-1].Version {
		b.tell(s.changes)
	}
}

// tell brings each change to the mirror, whose observers run, then, if it is one of a key,
// to the watchers.
func (b *Bolt) tell(changes []keys.Change) {
	for _, change := range changes {
		if b.mirror != nil {
			b.mirror.Apply(change)
		}
		if change.ID == (keys.ID{}) {
			continue
		}
		for _, w := range b.watchers {
			if w.ctx.Err() == nil {
				w.apply(change)
			}
		}
	}
}

// Watch calls apply for every present record, then for each change before the call
// that made it returns, until ctx is done.
func (b *Bolt) Watch(ctx context.Context, apply func(keys.Change)) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	err := b.view(ctx, "watching keys", func(tx *bbolt.Tx) error {
		return eachRecord(tx, func(kept stored) error {
			apply(keys.Change{Version: kept.Version, ID: kept.ID, Grant: kept.Grant()})
			return nil
		})
	})
	if err != nil {
		return err
	}
	w := &watcher{ctx: ctx, apply: apply}
	w.stop = context.AfterFunc(ctx, func() { b.forget(w) })
	b.watchers = append(b.watchers, w)
	return nil
}

func (b *Bolt) forget(w *watcher) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.watchers = slices.DeleteFunc(b.watchers, func(have *watcher) bool { return have == w })
}

// Close releases the file. The Mirror keeps its records but is no longer fresh.
func (b *Bolt) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return errClosed
	}
	b.closed = true
	if b.mirror != nil {
		b.mirror.fresh.set(proof{why: errClosed})
	}
	for _, w := range b.watchers {
		w.stop()
	}
	b.watchers = nil
	return unavailable("closing "+b.path, b.db.Close())
}

// unavailable wraps err with what was being done, unless it is nil or one of those
// that the contract names or a caller's function returned.
func unavailable(doing string, err error) error {
	var asItIs *ownError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &asItIs):
		return asItIs.error
	case errors.Is(err, keys.ErrUnavailable):
		return err
	}
	return fmt.Errorf("%w: %s: %w", keys.ErrUnavailable, doing, err)
}

// ownError marks an error that is returned to the caller as it is.
type ownError struct{ error }

func own(err error) error {
	if err == nil {
		return nil
	}
	return &ownError{err}
}
