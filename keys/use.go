package keys

import "time"

// Use is the last time that a request with a key was admitted. The zero Use is none.
type Use struct {
	At time.Time
	// Mark is that of the digest which was proved; zero: not known.
	Mark Mark
}

// Mark tells the secrets of one key apart: it is the begin of a digest's sum, and as little
// a secret. Two digests have the same one with a probability of 2^-64.
type Mark [8]byte

// Mark returns the mark of the digest.
func (d Digest) Mark() Mark { return Mark(d.Sum[:]) }

// LastSecret says which of the two secrets was proved at the last use: "present" or
// "previous"; "" when that is not known, or it was one that the record has no more.
func (r *Record) LastSecret() string {
	if r.LastUsed.Mark == (Mark{}) {
		return ""
	}
	for i, name := range [...]string{"present", "previous"} {
		if d := r.Digests[i]; d.Scheme != 0 && d.Mark() == r.LastUsed.Mark {
			return name
		}
	}
	return ""
}
