package cache

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"keystile/keys"
)

// decodeGrant reads of a record's text what judging a request needs. A start reads
// every record, so the form that encodeRest writes is read without encoding/json, which
// would be half of the time; what has another form is left to decodeText.
func decodeGrant(id keys.ID, text string) (keys.Grant, error) {
	f := form{rest: text, ok: true}
	grant := keys.Grant{ID: id, Version: f.number(64)}
	f.expect("\n")
	_ = f.number(64) // born
	f.expect("\n")
	grant.Account = f.until("\n")
	_ = f.until("\n") // name
	grant.Active = f.until("\n") == "1"
	f.expect(`{"created":"`)
	_ = f.until(`"`)
	f.expect(`,"updated":"`)
	_ = f.until(`"`)
	if f.optional(`,"rate":{"per_second":`) {
		grant.Rate = f.rate()
	}
	f.expect(`,"digests":[`)
	grant.Digests[0] = f.digest()
	f.expect(",")
	grant.Digests[1] = f.digest()
	if f.ok && f.rest == "]}" {
		return grant, nil
	}
	kept, err := decodeText(id, text)
	return kept.Grant(), err
}

// idOf reads the field of a record in the hash of all records.
func idOf(field string) (id keys.ID, err error) {
	if len(field) != len(id) {
		return id, fmt.Errorf("%q is no id", field)
	}
	copy(id[:], field)
	return id, nil
}

// form reads a text of one known form from left to right. Once something else is found,
// ok is false.
type form struct {
	rest string
	ok   bool
}

// rate reads what follows the name of its first field.
func (f *form) rate() (r keys.Rate) {
	var err error
	r.PerSecond, err = strconv.ParseFloat(f.until(`,"burst":`), 64)
	r.Burst = int(f.number(31))
	f.expect("}")
	f.ok = f.ok && err == nil
	return r
}

func (f *form) digest() (d keys.Digest) {
	f.expect(`{"sum":"`)
	var digits [2 * len(d.Sum)]byte
	text := f.until(`"`)
	copy(digits[:], text)
	_, err := hex.Decode(d.Sum[:], digits[:])
	f.ok = f.ok && err == nil && len(text) == len(digits)
	if f.optional(`,"until":`) {
		d.Until = int64(f.number(63))
	}
	if f.optional(`,"pepper":`) {
		d.Pepper = uint32(f.number(32))
	}
	f.expect(`,"scheme":`)
	d.Scheme = keys.Scheme(f.number(8))
	f.expect("}")
	return d
}

// expect passes over a part that has to come next.
func (f *form) expect(part string) { f.ok = f.optional(part) && f.ok }

// optional passes over a part, and reports whether it came next.
func (f *form) optional(part string) (found bool) {
	f.rest, found = strings.CutPrefix(f.rest, part)
	return found
}

// until returns what comes before the end, and passes over both.
func (f *form) until(end string) string {
	part, rest, found := strings.Cut(f.rest, end)
	f.rest, f.ok = rest, f.ok && found
	return part
}

// number reads the digits that come next as a number of so many bits.
func (f *form) number(bits int) uint64 {
	digits := 0
	for digits < len(f.rest) && '0' <= f.rest[digits] && f.rest[digits] <= '9' {
		digits++
	}
	n, err := strconv.ParseUint(f.rest[:digits], 10, bits)
	f.rest, f.ok = f.rest[digits:], f.ok && err == nil
	return n
}
