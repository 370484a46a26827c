package keys

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"hash"
	"sync"
	"time"
)

// MinPepperLength is the least number of bytes of a pepper.
const MinPepperLength = 32

const (
	// pepperCheckText is what the pepper check signs.
	pepperCheckText = "keystile-pepper-check"
	// messageLength is that of what a digest is made of: id, zero byte, random characters.
	messageLength = idLength + 1 + randomLength
)

var (
	// ErrPepperShort is returned by NewPeppers for a pepper below MinPepperLength.
	ErrPepperShort = errors.New("a pepper needs at least 32 bytes")
	// ErrPepperTwice is returned by NewPeppers when two peppers are equal.
	ErrPepperTwice = errors.New("the same pepper is listed twice")
)

// Peppers makes and matches digests. A pepper is a secret of the operator that
// never enters a store: who steals the store alone cannot test guesses. The first
// pepper signs new digests, all verify old ones. The zero value (and nil) has none
// and signs with plain SHA-256. Safe for concurrent use.
type Peppers struct{ list []*pepper }

// pepper is one secret with its HMAC states ready for use.
type pepper struct {
	number uint32
	check  Sum
	macs   sync.Pool // of *mac
}

// mac is a keyed HMAC with its own room for what goes in and out: hash.Hash is an
// interface, so that the compiler takes its arguments to escape to the heap.
type mac struct {
	hash    hash.Hash
	message [messageLength]byte
	sum     Sum
}

// NewPeppers returns Peppers that sign with the first of secrets and verify with
// all. Errors: [ErrPepperShort], [ErrPepperTwice].
func NewPeppers(secrets ...[]byte) (*Peppers, error) {
	peppers := &Peppers{}
	for _, secret := range secrets {
		if len(secret) < MinPepperLength {
			return nil, ErrPepperShort
		}
		p := newPepper(append([]byte(nil), secret...))
		if peppers.find(p.number) != nil {
			return nil, ErrPepperTwice
		}
		peppers.list = append(peppers.list, p)
	}
	return peppers, nil
}

func newPepper(secret []byte) *pepper {
	p := &pepper{macs: sync.Pool{New: func() any { return &mac{hash: hmac.New(sha256.New, secret)} }}}
	p.check = p.sum([]byte(pepperCheckText))
	p.number = binary.BigEndian.Uint32(p.check[:])
	return p
}

// sum returns HMAC-SHA-256 of message, which has at most messageLength bytes.
func (p *pepper) sum(message []byte) Sum {
	m := p.macs.Get().(*mac)
	m.hash.Reset()
	m.hash.Write(m.message[:copy(m.message[:], message)])
	m.hash.Sum(m.sum[:0])
	sum := m.sum
	p.macs.Put(m)
	return sum
}

// Check returns what a store keeps so that a process with another pepper notices
// before it refuses every key: HMAC-SHA-256 of "keystile-pepper-check" under the
// pepper that signs, or the zero Sum without one.
func (p *Peppers) Check() Sum {
	if s := p.signer(); s != nil {
		return s.check
	}
	return Sum{}
}

// Checks returns the checks of all peppers, the one that signs first.
func (p *Peppers) Checks() (checks []Sum) {
	for _, have := range p.all() {
		checks = append(checks, have.check)
	}
	return checks
}

// Knows reports whether one of the peppers has this check. The zero check is known
// to everybody: records without a pepper can always be verified.
func (p *Peppers) Knows(check Sum) bool {
	if check == (Sum{}) {
		return true
	}
	for _, have := range p.all() {
		if subtle.ConstantTimeCompare(have.check[:], check[:]) == 1 {
			return true
		}
	}
	return false
}

// Digest returns the digest that a store keeps of secret, without an end.
func (p *Peppers) Digest(secret Secret) Digest {
	d := Digest{Scheme: SHA256}
	if s := p.signer(); s != nil {
		d.Scheme, d.Pepper = HMACSHA256, s.number
	}
	d.Sum = p.sum(d, secret)
	return d
}

// Match returns the digest of grant that secret proves at the time now, and
// whether there is one. Pass the zero Grant for an unknown id: the answer is false,
// and the work that of a key whose digests are as the signing pepper (or, without
// one, SHA-256) makes them. Comparison takes constant time. It does not look at
// Active, which is for the caller to judge afterwards.
func (p *Peppers) Match(grant *Grant, secret Secret, now time.Time) (Digest, bool) {
	if secret.text == nil {
		return Digest{}, false
	}
	matched, proved := Digest{}, false
	var last Digest // what sum was computed with
	var sum Sum
	for _, d := range grant.Digests {
		if d.Scheme == 0 {
			d = p.dummy(last)
		}
		if d.Scheme != last.Scheme || d.Pepper != last.Pepper {
			sum, last = p.sum(d, secret), d
		}
		equal := subtle.ConstantTimeCompare(sum[:], d.Sum[:]) == 1
		if equal && p.verifies(d) && !d.ended(now) && grant.ID == secret.ID() {
			matched, proved = d, true
		}
	}
	return matched, proved
}

// dummy stands for an empty place: the scheme of last, so that nothing is computed
// twice, or of the signer; its zero sum equals no SHA-256 anybody can find.
func (p *Peppers) dummy(last Digest) Digest {
	if last.Scheme != 0 {
		return Digest{Scheme: last.Scheme, Pepper: last.Pepper}
	}
	if s := p.signer(); s != nil {
		return Digest{Scheme: HMACSHA256, Pepper: s.number}
	}
	return Digest{Scheme: SHA256}
}

// verifies reports whether d is of a known scheme and, with a pepper, of one listed.
func (p *Peppers) verifies(d Digest) bool {
	return d.Scheme == SHA256 || d.Scheme == HMACSHA256 && p.find(d.Pepper) != nil
}

// sum computes the sum of secret as d says. What it cannot verify it works on all
// the same, with plain SHA-256.
func (p *Peppers) sum(d Digest, secret Secret) Sum {
	var message [messageLength]byte
	text := *secret.text
	copy(message[:], text[secretIDStart:secretIDStart+idLength])
	copy(message[idLength+1:], text[secretRandomStart:secretSumStart])
	if d.Scheme == HMACSHA256 {
		if pepper := p.find(d.Pepper); pepper != nil {
			return pepper.sum(message[:])
		}
	}
	return sha256.Sum256(message[:])
}

func (p *Peppers) signer() *pepper {
	if all := p.all(); len(all) > 0 {
		return all[0]
	}
	return nil
}

func (p *Peppers) find(number uint32) *pepper {
	for _, have := range p.all() {
		if have.number == number {
			return have
		}
	}
	return nil
}

func (p *Peppers) all() []*pepper {
	if p == nil {
		return nil
	}
	return p.list
}
