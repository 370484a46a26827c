package keys

import (
	"math"
	"time"
)

// DefaultAccount owns the keys that are made without naming an account. It always exists.
const DefaultAccount = "default"

// Rate is a limit on requests: a token bucket that holds Burst requests and gains
// PerSecond each second. The zero Rate says nothing: the default applies.
type Rate struct {
	PerSecond float64 `json:"per_second"`
	Burst     int     `json:"burst"`
}

// Valid reports whether the rate is zero, or positive and finite with room for at
// least one request.
func (r Rate) Valid() bool {
	if r == (Rate{}) {
		return true
	}
	return r.PerSecond > 0 && !math.IsInf(r.PerSecond, 0) && r.Burst >= 1 && r.Burst <= math.MaxInt32
}

// Record is what a store keeps of a key. It holds digests, never the secret.
type Record struct {
	ID      ID     `json:"key"`
	Account string `json:"account"`
	Name    string `json:"name"`
	Active  bool   `json:"active"`
	// Suspended says that the account is inactive. The store sets it for all keys of an
	// account at once; nothing else does.
	Suspended bool      `json:"suspended,omitempty"`
	Created   time.Time `json:"created"`
	Updated   time.Time `json:"updated"`
	// Version is the store's global version at the record's last change. It only rises.
	Version uint64 `json:"version"`
	// Rate limits this key alone; zero: the default of the configuration.
	Rate Rate `json:"rate,omitzero"`
	// Digests has the present secret's digest first, and room for the one before it.
	Digests [2]Digest `json:"digests"`
	// LastUsed is when a request with this key was last admitted, and by which secret;
	// zero: never. It is kept beside the record: it changes neither Version nor Updated.
	LastUsed Use `json:"-"`
}

// Rotate puts next in the place of the present digest, which goes on for the overlap, unless
// it ends sooner; without one it is dropped, and the digest before it keeps its own end.
// There is no room for a third: [ErrOverlap] for an overlap while the one before matches.
func (r *Record) Rotate(next Digest, overlap time.Duration, now time.Time) error {
	if overlap > 0 {
		if !r.Digests[1].ended(now) {
			return ErrOverlap
		}
		if r.Digests[0].Scheme != 0 { // else there is nothing to go on
			r.Digests[1] = r.Digests[0]
			r.Digests[1].EndBy(now.Add(overlap).UnixMilli())
		}
	}
	r.Digests[0] = next
	return nil
}

// OverlapEnd returns when the digest before the present one ends; zero: it has ended, or
// has no end.
func (r *Record) OverlapEnd(now time.Time) time.Time {
	if previous := r.Digests[1]; previous.Until != 0 && !previous.ended(now) {
		return time.UnixMilli(previous.Until)
	}
	return time.Time{}
}

// EndOverlap ends the digest before the present one.
func (r *Record) EndOverlap() { r.Digests[1] = Digest{} }

// Grant returns the part of the record that judging a request needs.
func (r *Record) Grant() Grant {
	return Grant{
		ID: r.ID, Account: r.Account, Active: r.Active && !r.Suspended,
		Digests: r.Digests, Rate: r.Rate, Version: r.Version,
	}
}

// Grant is what judging a request needs of a record, and nothing more, so that a
// million of them stay small. The zero Grant admits nobody.
type Grant struct {
	ID      ID
	Active  bool
	Account string
	Digests [2]Digest
	Rate    Rate
	Version uint64
}

// Admits reports whether a request that has proved the digest before may still go
// on under this grant at the time now.
func (g *Grant) Admits(proved Digest, now time.Time) bool {
	if !g.Active {
		return false
	}
	for _, d := range g.Digests {
		if d.Sum == proved.Sum && d.Scheme == proved.Scheme && !d.ended(now) {
			return true
		}
	}
	return false
}

// Change is one step in the history of a store.
type Change struct {
	// Version is the store's version after the change.
	Version uint64
	// ID says whose key changed.
	ID ID
	// Grant holds from now on; for a deletion it is zero.
	Grant Grant
	// Deleted marks a deletion.
	Deleted bool
}
