// Package keys says what an API key is: its public id, its secret and the
// digests kept of it, its name, the record a store keeps, the account that owns it,
// the audit trail of all changes, and the contract every store meets. It does no I/O.
//
// A key is the public half ("kst_" and the id). A secret is the half that proves
// it ("kss_", the same id, 256 random bits and a checksum), so that one string is
// enough for clients that send a single api_key. A [Record] is what a store
// keeps; a [Grant] is the part of it that judging a request needs. An [Account] owns
// keys, and calls the admin API by its tokens. Each change is an [Entry] of the
// store's [Trail], which holds no secret, token or digest.
//
// Not promised: the checksum of a secret authenticates nothing. It refuses typing
// mistakes and junk before any hashing, and lets leak scanners match exactly. Nor does a
// trail prove anything against whoever can write all of it, unless a [Link] of it is kept
// elsewhere.
package keys

import (
	"crypto/rand"
	"strings"
)

const (
	// KeyPrefix begins every key, the public half of a credential.
	KeyPrefix = "kst_"
	// SecretPrefix begins every secret.
	SecretPrefix = "kss_"
	// AdminTokenPrefix begins the administrator token where Keystile made it.
	AdminTokenPrefix = "kat_"
	// AccountTokenPrefix begins every token of an account.
	AccountTokenPrefix = "kac_"
	// SecretPattern is the regular expression by which leak scanners find secrets.
	SecretPattern = `kss_[0-9A-Za-z]{22}_[0-9A-Za-z]{49}`

	idLength  = 22 // base62 characters; 62^22 > 2^130
	keyLength = len(KeyPrefix) + idLength
	base62    = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

// ID is the identity of a key: 22 base62 characters with at least 128 random
// bits. It is public and safe to log. The zero ID belongs to no key.
type ID [idLength]byte

// NewID returns a random ID from crypto/rand.
func NewID() ID {
	var id ID
	fillBase62(id[:])
	return id
}

// ParseKey reads a key as clients send it ("kst_" and 22 base62 characters).
// Its error is a [*FormatError].
func ParseKey(key string) (ID, error) {
	var id ID
	switch {
	case strings.HasPrefix(key, SecretPrefix):
		return id, errKeyIsSecret
	case !strings.HasPrefix(key, KeyPrefix):
		return id, errKeyPrefix
	case len(key) < keyLength:
		return id, errKeyTruncated
	case len(key) > keyLength:
		return id, errKeyTooLong
	case !isBase62(key[len(KeyPrefix):]):
		return id, errKeyAlphabet
	}
	copy(id[:], key[len(KeyPrefix):])
	return id, nil
}

// String returns the key: "kst_" and the id.
func (id ID) String() string { return KeyPrefix + string(id[:]) }

// MarshalText returns the key, as String does.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what MarshalText wrote. Its error is a [*FormatError].
func (id *ID) UnmarshalText(text []byte) error {
	parsed, err := ParseKey(string(text))
	if err == nil {
		*id = parsed
	}
	return err
}

// FormatError says why a key or a secret is not well formed, in words for the
// person who sent it. It never contains what was sent.
type FormatError struct{ reason string }

// Error returns the reason as a sentence without a full stop.
func (e *FormatError) Error() string { return e.reason }

var (
	errKeyIsSecret  = &FormatError{"the key is a secret (kss_): a key begins with kst_"}
	errKeyPrefix    = &FormatError{"the key does not begin with kst_"}
	errKeyTruncated = &FormatError{"the key is truncated: it has fewer than 26 characters"}
	errKeyTooLong   = &FormatError{"the key is too long: it has more than 26 characters"}
	errKeyAlphabet  = &FormatError{"the key has a character other than 0-9, A-Z, a-z after kst_"}
)

// fillBase62 fills dst with random base62 characters. Bytes of 248 and above are
// drawn again, so that every character is equally likely (248 is 4 x 62).
func fillBase62(dst []byte) {
	var random [64]byte
	for n := 0; n < len(dst); {
		_, _ = rand.Read(random[:]) // never fails: crypto/rand ends the process instead
		for _, b := range random {
			if b < 248 && n < len(dst) {
				dst[n] = base62[b%62]
				n++
			}
		}
	}
}

func isBase62(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z') {
			return false
		}
	}
	return true
}
