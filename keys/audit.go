package keys

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Actor says who asks for a change, for the audit trail. The zero Actor is Keystile itself.
type Actor struct {
	// Principal is "administrator", or "account:" and the id of an account; empty: "keystile".
	Principal string
	// Token is the id of the account's token; empty: another way.
	Token string
	// Peer is the address from which the request came.
	Peer      string
	RequestID string
}

type actorKey struct{}

// WithActor returns a context whose changes are recorded as the actor's.
func WithActor(ctx context.Context, a Actor) context.Context {
	return context.WithValue(ctx, actorKey{}, a)
}

// ActorOf returns the actor of a context.
func ActorOf(ctx context.Context) Actor {
	a, _ := ctx.Value(actorKey{}).(Actor)
	if a.Principal == "" {
		a.Principal = "keystile"
	}
	return a
}

// Action is what a change did.
type Action string

// The actions of an audit trail.
const (
	KeyCreated     Action = "key.create"
	KeyUpdated     Action = "key.update"
	KeyRotated     Action = "key.rotate" // an update that changed the present secret
	KeyDeleted     Action = "key.delete"
	AccountCreated Action = "account.create"
	AccountUpdated Action = "account.update"
	AccountDeleted Action = "account.delete"
	TokenCreated   Action = "token.create"
	TokenDeleted   Action = "token.delete"
)

// Entry is one change in the audit trail. It never holds a secret, a token or a digest.
type Entry struct {
	// Number counts the entries of a store from 1.
	Number uint64    `json:"number"`
	Time   time.Time `json:"time"`
	Action Action    `json:"action"`
	// Principal, Token, Peer and RequestID are those of the Actor.
	Principal string `json:"principal"`
	Token     string `json:"token,omitempty"`
	Peer      string `json:"peer,omitempty"`
	RequestID string `json:"request_id,omitempty"`
	// Account and Subject say what was changed: the subject is a key, or a token's id; empty:
	// the account.
	Account string `json:"account"`
	Subject string `json:"subject,omitempty"`
	// Version is the store's version after the change.
	Version uint64 `json:"version"`
	// Before and After are nil where there was nothing, or nothing is left.
	Before *State `json:"before,omitempty"`
	After  *State `json:"after,omitempty"`
	// Keys are those that were deleted with their account.
	Keys []string `json:"keys,omitempty"`
}

// State is what an Entry shows of a key, an account or a token.
type State struct {
	Name   string `json:"name,omitempty"`
	Active bool   `json:"active"` // of a token: true
	Rate   Rate   `json:"rate,omitzero"`
	// PreviousValidUntil is until when a key's secret before the present one works; zero:
	// it has ended, or has no end.
	PreviousValidUntil time.Time `json:"previous_valid_until,omitzero"`
	Limit              int       `json:"limit,omitempty"` // of an account; 0: the store's PerAccount
}

// KeyState returns what an Entry shows of a key at the time now.
func KeyState(r *Record, now time.Time) *State {
	s := &State{Name: r.Name, Active: r.Active, Rate: r.Rate}
	if end := r.OverlapEnd(now); !end.IsZero() {
		s.PreviousValidUntil = end.UTC()
	}
	return s
}

// AccountState returns what an Entry shows of an account.
func AccountState(a *Account) *State {
	return &State{Name: a.Name, Active: a.Active, Limit: a.Limit}
}

// TokenState returns what an Entry shows of a token.
func TokenState(t *AccountToken) *State { return &State{Name: t.Name, Active: true} }

// UpdateAction returns what an update of a key did.
func UpdateAction(before, after *Record) Action {
	if before.Digests[0] != after.Digests[0] {
		return KeyRotated
	}
	return KeyUpdated
}

// Link is where an audit trail has got to: the number of an entry and its hash, which is
// over all entries before it too. The zero Link is the beginning.
type Link struct {
	Number uint64 `json:"number"`
	Hash   Sum    `json:"hash"`
}

// SealedEntry is an entry as a trail keeps it: the JSON text of an Entry, and the hash of
// its Link.
type SealedEntry struct {
	Text string
	Hash Sum
}

// Seal makes e, whose number it sets, the entry after previous. The hash is SHA-256 over
// the hash before it in hexadecimal, a line feed, and the text.
func Seal(previous Link, e Entry) (SealedEntry, Link, error) {
	e.Number = previous.Number + 1
	text, err := json.Marshal(e)
	if err != nil {
		return SealedEntry{}, previous, fmt.Errorf("an audit entry: %w", err)
	}
	sealed := SealedEntry{Text: string(text), Hash: sealHash(previous.Hash, string(text))}
	return sealed, Link{e.Number, sealed.Hash}, nil
}

func sealHash(previous Sum, text string) Sum {
	return sha256.Sum256([]byte(hex.EncodeToString(previous[:]) + "\n" + text))
}

// ErrTrail is returned, wrapped, for an audit trail that was changed.
var ErrTrail = errors.New("the audit trail was changed")

// Follow checks that the entry is the next one of a trail and was not changed, and moves
// the link to it. Its error is [ErrTrail], wrapped with the number.
func (l *Link) Follow(s SealedEntry) (Entry, error) {
	var e Entry
	number := l.Number + 1
	switch err := json.Unmarshal([]byte(s.Text), &e); {
	case err != nil:
		return e, fmt.Errorf("%w: entry %d cannot be read", ErrTrail, number)
	case e.Number != number:
		return e, fmt.Errorf("%w: entry %d is missing: entry %d comes instead", ErrTrail, number, e.Number)
	case sealHash(l.Hash, s.Text) != s.Hash:
		return e, fmt.Errorf("%w: entry %d, or its hash, is not as it was written", ErrTrail, number)
	}
	*l = Link{number, s.Hash}
	return e, nil
}

// DefaultAuditKeep is how many entries a store keeps when the options do not say it.
const DefaultAuditKeep = 100_000

// TrailPage is a part of an audit trail, of one moment.
type TrailPage struct {
	// Anchor is the last entry that was trimmed; zero: none was.
	Anchor Link
	// Head is the last entry of the trail.
	Head    Link
	Entries []SealedEntry
}

// Trail is the record of all changes, one entry a change, written in its transaction. Only
// the newest entries are kept. A chain of hashes shows that one was removed or edited, and
// the head, which the store keeps beside it, that the last ones were cut off; who can write
// all of that can write another trail, unless a Link of it is kept elsewhere.
type Trail interface {
	// Audit returns at most limit entries with numbers above after, oldest first.
	Audit(ctx context.Context, after uint64, limit int) (TrailPage, error)
}
