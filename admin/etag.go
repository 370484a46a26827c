package admin

import (
	"errors"
	"slices"
	"strconv"
	"strings"
)

// errVersionMismatch is returned into a store's transaction when If-Match does not hold.
var errVersionMismatch = errors.New("the record has another version")

// entityTags is a list of entity tags as If-Match and If-None-Match carry it (RFC 9110,
// 8.8.3). The zero value is no header.
type entityTags struct {
	sent   bool
	any    bool     // "*"
	strong []string // with their quotes
	weak   []string // with their quotes, without W/
}

// parseEntityTags reads all fields of the header name.
func parseEntityTags(name string, fields []string) (entityTags, error) {
	tags := entityTags{sent: len(fields) > 0}
	rest := strings.Trim(strings.Join(fields, ","), " \t,")
	if rest == "*" {
		tags.any = true
		return tags, nil
	}
	malformed := rest == "" && tags.sent
	for rest != "" && !malformed {
		var tag string
		weak := strings.HasPrefix(rest, "W/")
		tag, rest, malformed = cutQuoted(strings.TrimPrefix(rest, "W/"))
		tags.add(tag, weak)
		rest = strings.TrimLeft(rest, " \t,")
	}
	if malformed {
		return tags, badRequest.problem(name + ` must be * or entity tags with their quotes, such as "7"`)
	}
	return tags, nil
}

// cutQuoted cuts the quoted text off the start of s.
func cutQuoted(s string) (quoted, rest string, malformed bool) {
	inner, found := strings.CutPrefix(s, `"`)
	end := strings.IndexByte(inner, '"')
	if !found || end < 0 {
		return "", "", true
	}
	return s[:end+2], inner[end+1:], false
}

// check returns errVersionMismatch unless the tags, of If-Match, allow a change of the
// version. A weak tag never does (RFC 9110, 13.1.1).
func (t entityTags) check(version uint64) error {
	if !t.sent || t.any || slices.Contains(t.strong, entityTag(version)) {
		return nil
	}
	return errVersionMismatch
}

// has reports whether the tags, of If-None-Match, name tag. Weak ones do as well
// (RFC 9110, 13.1.2).
func (t entityTags) has(tag string) bool {
	return t.any || slices.Contains(t.strong, tag) || slices.Contains(t.weak, tag)
}

func (t *entityTags) add(tag string, weak bool) {
	if weak {
		t.weak = append(t.weak, tag)
	} else {
		t.strong = append(t.strong, tag)
	}
}

// entityTag returns the strong entity tag of a version.
func entityTag(version uint64) string { return `"` + strconv.FormatUint(version, 10) + `"` }
