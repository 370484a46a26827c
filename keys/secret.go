package keys

import (
	"fmt"
	"hash/crc32"
	"log/slog"
	"regexp"
	"strings"
	"unsafe"
)

const (
	randomLength   = 43 // base62 characters; 62^43 > 2^256
	checksumLength = 6  // base62 characters; 62^6 > 2^32
	secretLength   = len(SecretPrefix) + idLength + 1 + randomLength + checksumLength

	secretIDStart     = len(SecretPrefix)
	secretRandomStart = secretIDStart + idLength + 1
	secretSumStart    = secretRandomStart + randomLength

	redacted = "[redacted]"
)

// Secret is a well-formed secret, made here or sent by a client. Whatever prints
// it (fmt, JSON, slog) writes "[redacted]"; only [Secret.Reveal] returns the
// text. The text is a string behind a pointer, because fmt cannot call the methods
// of an unexported field: there it writes strings and arrays out, and pointers to
// arrays and structs too for a verb that does not suit them. The zero Secret
// proves nothing.
type Secret struct{ text *string }

// NewSecret returns a secret for the key id, with 256 bits from crypto/rand.
func NewSecret(id ID) Secret {
	var b [secretLength]byte
	copy(b[:], SecretPrefix)
	copy(b[secretIDStart:], id[:])
	b[secretRandomStart-1] = '_'
	fillBase62(b[secretRandomStart:secretSumStart])
	sum := checksum(b[:secretSumStart])
	copy(b[secretSumStart:], sum[:])
	text := string(b[:])
	return Secret{&text}
}

// ParseSecret reads a secret as clients send it and verifies its checksum. Its
// error is a [*FormatError], and the Secret is zero then. It keeps s itself, not a
// copy, and is small enough to be inlined: a secret which does not leave its caller
// costs no allocation.
func ParseSecret(s string) (secret Secret, err error) {
	if err = secretMistake(s); err == nil {
		text := s
		secret.text = &text
	}
	return secret, err
}

// secretMistake returns what is wrong with s, or nil.
func secretMistake(s string) error {
	switch {
	case strings.HasPrefix(s, KeyPrefix):
		return errSecretIsKey
	case !strings.HasPrefix(s, SecretPrefix):
		return errSecretPrefix
	case len(s) < secretLength:
		return errSecretTruncated
	case len(s) > secretLength:
		return errSecretTooLong
	case s[secretRandomStart-1] != '_':
		return errSecretShape
	case !isBase62(s[secretIDStart:secretRandomStart-1]) || !isBase62(s[secretRandomStart:]):
		return errSecretAlphabet
	case !checksumHolds(s):
		return errSecretChecksum
	}
	return nil
}

// checksumHolds looks at the bytes of s where they are: crc32 calls through a
// variable, so that the compiler takes what it is given to escape, and a copy
// would be an allocation for each request. Nothing writes to them.
func checksumHolds(s string) bool {
	sum := checksum(unsafe.Slice(unsafe.StringData(s), secretSumStart))
	return string(sum[:]) == s[secretSumStart:]
}

var (
	errSecretIsKey     = &FormatError{"the secret is a key (kst_): a secret begins with kss_"}
	errSecretPrefix    = &FormatError{"the secret does not begin with kss_"}
	errSecretTruncated = &FormatError{"the secret is truncated: it has fewer than 76 characters"}
	errSecretTooLong   = &FormatError{"the secret is too long: it has more than 76 characters"}
	errSecretShape     = &FormatError{"the secret has no _ after the 22 characters that follow kss_"}
	errSecretAlphabet  = &FormatError{"the secret has a character other than 0-9, A-Z, a-z"}
	errSecretChecksum  = &FormatError{"the checksum of the secret is wrong: it was mistyped or damaged"}
)

// checksum is CRC-32 (IEEE) of what stands before it, as a big-endian base62 number.
func checksum(before []byte) [checksumLength]byte {
	sum := crc32.ChecksumIEEE(before)
	var digits [checksumLength]byte
	for i := checksumLength - 1; i >= 0; i-- {
		digits[i] = base62[sum%62]
		sum /= 62
	}
	return digits
}

// ID returns the id of the key that the secret belongs to; zero for a zero Secret.
func (s Secret) ID() ID {
	if s.text == nil {
		return ID{}
	}
	return ID([]byte((*s.text)[secretIDStart : secretIDStart+idLength]))
}

// Reveal returns the text of the secret: call it only to show a new secret once.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// String returns "[redacted]".
func (Secret) String() string { return redacted }

// GoString returns "[redacted]".
func (Secret) GoString() string { return redacted }

// Format writes "[redacted]" for every verb and flag.
func (Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// MarshalJSON returns "[redacted]" as a JSON string.
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalText returns "[redacted]".
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue returns "[redacted]".
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// secretShape is wider than SecretPattern: one that was cut off has all or most of
// its random characters, and the checksum is anybody's to compute. It takes all that
// follows, lest the begin of another secret be eaten and its rest stay. Tokens likewise.
var secretShape = regexp.MustCompile(SecretPrefix + `[0-9A-Za-z]{22}_[0-9A-Za-z_]+` +
	`|` + AccountTokenPrefix + `[0-9A-Za-z]{13}_[0-9A-Za-z_]+` +
	`|` + AdminTokenPrefix + `[0-9A-Za-z_]{16,}`)

// Redact returns s with everything that looks like a secret or a token, or the begin of
// one, replaced by "[redacted]", for text that strangers chose and that is about to be
// logged or sent back (a path, say).
func Redact(s string) string {
	if !strings.Contains(s, SecretPrefix) && !strings.Contains(s, AccountTokenPrefix) && !strings.Contains(s, AdminTokenPrefix) {
		return s
	}
	return secretShape.ReplaceAllLiteralString(s, redacted)
}
