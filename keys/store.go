package keys

import (
	"context"
	"errors"
	"fmt"
	"time"
)

var (
	// ErrNotFound is returned for an id that has no record.
	ErrNotFound = errors.New("no such key")
	// ErrNameTaken is returned when another key of the account has the name.
	ErrNameTaken = errors.New("another key of the account has this name")
	// ErrOperationReused is returned when an operation's key comes with another request.
	ErrOperationReused = errors.New("the idempotency key was used for another request")
	// ErrOverlap is returned by Rotate while the secret before the present one works.
	ErrOverlap = errors.New("the previous secret has not ended yet")
	// ErrUnavailable is returned, wrapped, when the store cannot be asked or has not
	// confirmed that it kept the change.
	ErrUnavailable = errors.New("the key store cannot be reached")
)

// LimitError is returned by Create when the account has all the keys it may have.
type LimitError struct{ Limit int }

// Error names the limit.
func (e *LimitError) Error() string {
	return fmt.Sprintf("the account has reached its limit of %d keys", e.Limit)
}

// OperationLifetime is how long a store remembers an Operation.
const OperationLifetime = 24 * time.Hour

// Operation makes a Create repeatable: a second one with the same Key returns the
// record of the first. The zero Operation is none.
type Operation struct {
	// Key is the caller's Idempotency-Key, with the principal it is scoped to.
	Key string
	// Request is a digest of what was asked; it tells a repetition from a reuse.
	Request [32]byte
}

// Draft is a key that is to be created.
type Draft struct {
	ID      ID
	Account string
	// Name is normalized by the caller; empty: the first free "API key N".
	Name      string
	Digest    Digest
	Rate      Rate
	Operation Operation
}

// Created is the outcome of Create.
type Created struct {
	Record  Record
	Receipt Receipt
	// Replayed says that an earlier Create with the same Operation made the record:
	// the draft's own id and digest were not used.
	Replayed bool
}

// Receipt says how far a change has reached.
type Receipt struct {
	// Version is the version of the changed record; for a deletion, of the store.
	Version uint64
	Pending []Pending
	// Replicas says how many replicas have the change where any are wanted; fewer than
	// wanted is not everywhere.
	Replicas Replicas
}

// Everywhere reports whether no proxy starts another request under the old record.
func (r Receipt) Everywhere() bool {
	return len(r.Pending) == 0 && r.Replicas.Have >= r.Replicas.Want
}

// Replicas counts the replicas of the store's server that have a change.
type Replicas struct{ Want, Have int }

// Pending is a proxy that has not confirmed a change.
type Pending struct {
	Proxy string
	// EffectiveBy is when the proxy will refuse requests at the latest, by itself; zero:
	// nobody can say.
	EffectiveBy time.Time
}

// Store keeps records. Implementations are safe for concurrent use, return copies
// and durably keep what they have acknowledged; package keystest states the
// contract as tests. Every change gets one new version, higher than all before, and one
// entry in the store's [Trail], as that of the context's [Actor].
// Errors other than those named are wrapped [ErrUnavailable], but for a Draft without
// an id or a proper account, which is a mistake of the caller.
type Store interface {
	// Get returns the record of id, or [ErrNotFound].
	Get(ctx context.Context, id ID) (Record, error)
	// List returns the records of account, newest last; all records for "".
	List(ctx context.Context, account string) ([]Record, error)
	// Create keeps a new, active record. The limit of keys and the uniqueness of names
	// are checked in the same transaction, as is that the account exists: [*LimitError],
	// [ErrNameTaken], [ErrNoAccount], [ErrOperationReused]; [ErrNotFound] when a repeated
	// Operation's key was deleted.
	Create(ctx context.Context, draft Draft) (Created, error)
	// Update passes the record to change, which must be pure as it may run more than
	// once, and keeps what it leaves. Only Name (normalized), Active, Rate and Digests
	// may change; a change that changes nothing gets no new version. An error of
	// change is returned as it is and nothing is kept. [ErrNotFound], [ErrNameTaken].
	Update(ctx context.Context, id ID, change func(*Record) error) (Record, Receipt, error)
	// Delete removes the record for ever, unless check (nil: none) returns an error,
	// which is returned as it is. [ErrNotFound].
	Delete(ctx context.Context, id ID, check func(Record) error) (Receipt, error)
	// Touch keeps when keys were last used, to the millisecond, and by which secret; the
	// latest time wins. Unknown ids are passed over.
	Touch(ctx context.Context, used map[ID]Use) error
	// Watch calls apply for every present record, in any order, and returns; from then on
	// apply is called for each change, in the order of versions, until ctx is done.
	// apply must not block and must not call the store.
	Watch(ctx context.Context, apply func(Change)) error
	// Close releases the store. Further calls return errors.
	Close() error
}
