package keys

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// MaxNameLength is the greatest number of characters (code points) of a name.
const MaxNameLength = 64

// NameError says why a name is not acceptable, in words for whoever chose it.
type NameError struct{ reason string }

// Error returns the reason as a sentence without a full stop.
func (e *NameError) Error() string { return e.reason }

var (
	errNameEmpty     = &NameError{"the name is empty: it needs 1 to 64 characters"}
	errNameTooLong   = &NameError{"the name is too long: it may have at most 64 characters"}
	errNameEncoding  = &NameError{"the name is not valid UTF-8"}
	errNameCharacter = &NameError{"the name has a control, line-breaking or text-direction character"}
)

// NormalizeName returns name as it is kept and compared: trimmed of white space
// and in Unicode Normalization Form C (UAX #15). Its error is a [*NameError].
func NormalizeName(name string) (string, error) {
	if len(name) > 16*MaxNameLength { // bounds the work before normalizing
		return "", errNameTooLong
	}
	if !utf8.ValidString(name) {
		return "", errNameEncoding
	}
	name = norm.NFC.String(strings.TrimSpace(name))
	switch {
	case name == "":
		return "", errNameEmpty
	case utf8.RuneCountInString(name) > MaxNameLength:
		return "", errNameTooLong
	case strings.ContainsFunc(name, forbiddenInName):
		return "", errNameCharacter
	}
	return name, nil
}

// forbiddenInName reports characters that break a line or make text read in
// another order than it is stored (UAX #9).
func forbiddenInName(r rune) bool {
	return unicode.In(r, unicode.Cc, unicode.Zl, unicode.Zp, unicode.Bidi_Control)
}

// DefaultName returns the first free name of the form "API key N", N from 1.
func DefaultName(taken func(name string) bool) string {
	for n := 1; ; n++ {
		if name := "API key " + strconv.Itoa(n); !taken(name) {
			return name
		}
	}
}
