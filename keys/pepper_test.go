package keys

import (
	"bytes"
	"errors"
	"hash"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var noPepper *Peppers

// at is a moment with a fraction of a millisecond, which must not matter.
var at = time.Unix(1_800_000_000, 123_456_789)

func testPepper(fill byte) []byte { return bytes.Repeat([]byte{fill}, MinPepperLength) }

func TestFirstPepperSignsAndAllVerify(t *testing.T) {
	older, newer := peppersOf(t, testPepper(1)), peppersOf(t, testPepper(2))
	both := peppersOf(t, testPepper(2), testPepper(1))
	secret := NewSecret(NewID())
	if both.Digest(secret) != newer.Digest(secret) || both.Check() != newer.Check() {
		t.Error("the first pepper does not sign")
	}
	if both.Digest(secret) == older.Digest(secret) {
		t.Error("two peppers give one digest")
	}
	for _, digest := range []Digest{noPepper.Digest(secret), older.Digest(secret), newer.Digest(secret)} {
		if !matches(both, secret, digest) {
			t.Errorf("a digest of scheme %d, pepper %d is not verified after rotation", digest.Scheme, digest.Pepper)
		}
	}
}

func TestDigestOfAMissingPepperNeverMatches(t *testing.T) {
	secret := NewSecret(NewID())
	digest := peppersOf(t, testPepper(1)).Digest(secret)
	plain := noPepper.Digest(secret)
	for name, peppers := range map[string]*Peppers{"none": nil, "zero": {}, "another": peppersOf(t, testPepper(2))} {
		if matches(peppers, secret, digest) {
			t.Errorf("%s: the digest of a pepper that is not listed matched", name)
		}
		disguised := Digest{Sum: plain.Sum, Scheme: HMACSHA256, Pepper: digest.Pepper}
		if matches(peppers, secret, disguised) {
			t.Errorf("%s: a plain sum passed for one of a pepper that is not listed", name)
		}
	}
}

func TestDigestOfAnUnknownSchemeNeverMatches(t *testing.T) {
	secret := NewSecret(NewID())
	peppers := peppersOf(t, testPepper(1))
	for _, digest := range []Digest{noPepper.Digest(secret), peppers.Digest(secret)} {
		for _, scheme := range []Scheme{0, 3, 255} {
			digest.Scheme = scheme
			if matches(peppers, secret, digest) || matches(nil, secret, digest) {
				t.Errorf("a digest of scheme %d matched", scheme)
			}
		}
	}
}

func TestPeppersKnowTheirOwnChecksOnly(t *testing.T) {
	one, two := peppersOf(t, testPepper(1)), peppersOf(t, testPepper(2))
	both := peppersOf(t, testPepper(2), testPepper(1))
	if one.Check() == two.Check() || one.Check() == (Sum{}) {
		t.Error("checks do not tell peppers apart")
	}
	for name, c := range map[string]struct {
		peppers *Peppers
		check   Sum
		want    bool
	}{
		"own":                  {one, one.Check(), true},
		"another":              {one, two.Check(), false},
		"first of two":         {both, two.Check(), true},
		"second of two":        {both, one.Check(), true},
		"none, of a pepper":    {nil, one.Check(), false},
		"none, of none":        {nil, noPepper.Check(), true},
		"pepper, of none":      {one, Sum{}, true},
		"zero value, of none":  {&Peppers{}, Sum{}, true},
		"zero value, of other": {&Peppers{}, one.Check(), false},
	} {
		if got := c.peppers.Knows(c.check); got != c.want {
			t.Errorf("%s: Knows returned %v", name, got)
		}
	}
}

func TestShortAndRepeatedPeppersAreRefused(t *testing.T) {
	long := testPepper(1)
	for name, c := range map[string]struct {
		secrets [][]byte
		want    error
	}{
		"nil":                         {[][]byte{nil}, ErrPepperShort},
		"31 bytes":                    {[][]byte{long[1:]}, ErrPepperShort},
		"second short":                {[][]byte{long, long[1:]}, ErrPepperShort},
		"twice":                       {[][]byte{long, testPepper(2), long}, ErrPepperTwice},
		"equal once padded with 0":    {[][]byte{long, append(testPepper(1), 0)}, ErrPepperTwice},
		"32 bytes":                    {[][]byte{long}, nil},
		"two":                         {[][]byte{long, testPepper(2)}, nil},
		"longer than a block":         {[][]byte{bytes.Repeat(long, 3)}, nil},
		"none":                        {nil, nil},
		"one is the other's begin":    {[][]byte{long, append(testPepper(1), 1)}, nil},
		"the same bytes, other order": {[][]byte{append(testPepper(1), 2), append([]byte{2}, long...)}, nil},
	} {
		peppers, err := NewPeppers(c.secrets...)
		if !errors.Is(err, c.want) || (peppers == nil) != (err != nil) {
			t.Errorf("%s: %v, %v, want %v", name, peppers, err, c.want)
		}
	}
}

func TestPeppersKeepTheirOwnCopy(t *testing.T) {
	mine := testPepper(1)
	peppers, secret := peppersOf(t, mine), NewSecret(NewID())
	clear(mine)
	first := peppers.list[0]
	first.macs = sync.Pool{New: first.macs.New} // as after a garbage collection
	if peppers.Digest(secret) != peppersOf(t, testPepper(1)).Digest(secret) {
		t.Error("a change to the caller's bytes changed the pepper")
	}
}

// Pooled HMAC states are shared by all requests: what one leaves behind must not
// reach another.
func TestPeppersAreSafeForConcurrentUse(t *testing.T) {
	peppers := peppersOf(t, testPepper(1), testPepper(2))
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 500 {
				secret, other := NewSecret(NewID()), NewSecret(NewID())
				digest := peppers.Digest(secret)
				if !matches(peppers, secret, digest) || matches(peppers, other, digest) || !peppers.Knows(peppers.Check()) {
					t.Error("wrong answer under concurrency")
					return
				}
			}
		})
	}
	all.Wait()
}

// The cost must not tell strangers which keys exist, so hashes are counted. The
// pooled HMACs make them: others are put in their place, which count.
func TestUnknownKeyCostsAsManyHashesAsAKnownOne(t *testing.T) {
	id := NewID()
	secret, wrong := NewSecret(id), NewSecret(id)
	peppers := peppersOf(t, testPepper(1), testPepper(2))
	digest, older := peppers.Digest(secret), peppers.Digest(NewSecret(id))
	oldPepper := peppersOf(t, testPepper(2)).Digest(secret)
	ended := digest
	ended.Until = 1
	sums := countSums(peppers)
	for _, c := range []struct {
		name    string
		grant   Grant
		secret  Secret
		matches bool
	}{
		{"unknown key", Grant{}, secret, false},
		{"known key", Grant{ID: id, Digests: [2]Digest{digest}}, secret, true},
		{"wrong secret", Grant{ID: id, Digests: [2]Digest{digest}}, wrong, false},
		{"two digests, first", Grant{ID: id, Digests: [2]Digest{digest, older}}, secret, true},
		{"two digests, second", Grant{ID: id, Digests: [2]Digest{older, digest}}, secret, true},
		{"only a second digest", Grant{ID: id, Digests: [2]Digest{{}, digest}}, secret, true},
		{"digest of an old pepper", Grant{ID: id, Digests: [2]Digest{oldPepper}}, secret, true},
		{"ended", Grant{ID: id, Digests: [2]Digest{ended}}, secret, false},
		{"no digest", Grant{ID: id}, secret, false},
		{"another id", Grant{ID: NewID(), Digests: [2]Digest{digest}}, secret, false},
	} {
		sums.Store(0)
		if _, proved := peppers.Match(&c.grant, c.secret, at); proved != c.matches {
			t.Errorf("%s: Match returned %v", c.name, proved)
		}
		if n := sums.Load(); n != 1 {
			t.Errorf("%s: %d hashes, want 1", c.name, n)
		}
	}
}

// countSums makes peppers count the sums they make.
func countSums(peppers *Peppers) *atomic.Int64 {
	sums := new(atomic.Int64)
	for _, p := range peppers.list {
		keyed := p.macs.New
		p.macs = sync.Pool{New: func() any {
			m := keyed().(*mac)
			m.hash = &countingHash{m.hash, sums}
			return m
		}}
	}
	return sums
}

type countingHash struct {
	hash.Hash
	sums *atomic.Int64
}

func (c *countingHash) Sum(b []byte) []byte {
	c.sums.Add(1)
	return c.Hash.Sum(b)
}

// matches reports whether secret proves digest, alone and in the second place.
func matches(peppers *Peppers, secret Secret, digest Digest) bool {
	_, first := peppers.Match(&Grant{ID: secret.ID(), Digests: [2]Digest{digest}}, secret, at)
	_, second := peppers.Match(&Grant{ID: secret.ID(), Digests: [2]Digest{{}, digest}}, secret, at)
	return first || second
}
