package keys

import (
	"encoding/hex"
	"fmt"
	"time"
)

// Scheme says how a digest was made. The zero Scheme marks an empty place.
type Scheme uint8

const (
	// SHA256 is SHA-256 over id, a zero byte and the 43 random characters.
	SHA256 Scheme = 1
	// HMACSHA256 is HMAC-SHA-256 (RFC 2104) of the same, keyed with a pepper.
	HMACSHA256 Scheme = 2
)

// Sum is the value of a digest. In text it is hexadecimal.
type Sum [32]byte

// MarshalText returns the sum in hexadecimal.
func (s Sum) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(s[:])), nil }

// UnmarshalText reads 64 hexadecimal digits.
func (s *Sum) UnmarshalText(text []byte) error {
	if hex.DecodedLen(len(text)) != len(s) {
		return fmt.Errorf("a digest has %d characters, not %d", hex.EncodedLen(len(s)), len(text))
	}
	_, err := hex.Decode(s[:], text)
	return err
}

// Digest is what a store keeps of a secret: enough to recognise it, not enough to
// make it. The zero Digest matches nothing.
type Digest struct {
	Sum    Sum    `json:"sum"`
	Until  int64  `json:"until,omitempty"`  // Unix milliseconds from which it matches nothing; 0: no end
	Pepper uint32 `json:"pepper,omitempty"` // number of the pepper (see Peppers); 0: none
	Scheme Scheme `json:"scheme"`
}

// EndBy ends the digest at a time in Unix milliseconds (0: none), unless it ends sooner.
func (d *Digest) EndBy(until int64) {
	if until != 0 && (d.Until == 0 || until < d.Until) {
		d.Until = until
	}
}

// ended reports whether the digest is empty or its time is over at now.
func (d *Digest) ended(now time.Time) bool {
	return d.Scheme == 0 || d.Until != 0 && now.UnixMilli() >= d.Until
}
