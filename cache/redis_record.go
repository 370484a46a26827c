package cache

import (
	"crypto/sha1"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"keystile/keys"
)

// sumModulus bounds the digest of a set; see protocol.md.
const sumModulus = 1 << 48

// rest is what the scripts do not look at of a record.
type rest struct {
	Created time.Time      `json:"created"`
	Updated time.Time      `json:"updated"`
	Rate    keys.Rate      `json:"rate,omitzero"`
	Digests [2]keys.Digest `json:"digests"`
}

// encodeRest returns the last part of a record's text. It has no line break.
func encodeRest(r *keys.Record) (string, error) {
	text, err := json.Marshal(rest{r.Created, r.Updated, r.Rate, r.Digests})
	return string(text), err
}

// decodeText reads a record's text: version, born, account, name, active, rest, one a
// line. The error does not repeat it.
func decodeText(id keys.ID, text string) (stored, error) {
	parts := strings.SplitN(text, "\n", 6)
	if len(parts) != 6 {
		return stored{}, fmt.Errorf("the record of %s cannot be read", id)
	}
	var tail rest
	err := json.Unmarshal([]byte(parts[5]), &tail)
	version, err1 := strconv.ParseUint(parts[0], 10, 64)
	born, err2 := strconv.ParseUint(parts[1], 10, 64)
	if errors.Join(err, err1, err2) != nil {
		return stored{}, fmt.Errorf("the record of %s cannot be read", id)
	}
	return stored{Born: born, Record: keys.Record{
		ID: id, Version: version, Account: parts[2], Name: parts[3],
		Active: parts[4] == "1" || parts[4] == "3", Suspended: parts[4] == "2" || parts[4] == "3",
		Created: tail.Created, Updated: tail.Updated, Rate: tail.Rate, Digests: tail.Digests,
	}}, nil
}

// decodeField reads a record from a field of the hash and its text.
func decodeField(field, text string) (stored, error) {
	id, err := idOf(field)
	if err != nil {
		return stored{}, err
	}
	return decodeText(id, text)
}

// textSum is what a record's text adds to the digest of the set.
func textSum(text string) uint64 {
	sum := sha1.Sum([]byte(text))
	return binary.BigEndian.Uint64(sum[:8]) >> 16
}

// parseNumber reads a number that a script wrote; what is none is 0.
func parseNumber(text string) uint64 {
	n, _ := strconv.ParseUint(text, 10, 64)
	return n
}

// replica is what this process knows of the set beside the Mirror: what each record
// adds to the digest. Only the follower uses it.
type replica struct {
	sums   map[keys.ID]uint64
	digest uint64
}

func (r *replica) init() { r.sums = make(map[keys.ID]uint64) }

// put notes the text of a record; "" for a deletion.
func (r *replica) put(id keys.ID, text string) {
	r.digest += sumModulus - r.sums[id]
	if text == "" {
		delete(r.sums, id)
	} else {
		sum := textSum(text)
		r.sums[id] = sum
		r.digest += sum
	}
	r.digest %= sumModulus
}

// logEntry is one entry of the change log.
type logEntry struct {
	before, version uint64
	digest          uint64  // of the whole set before
	id              keys.ID // zero: the entry only moves the version
	text            string  // "": deleted
	at              int64   // Unix milliseconds by the server's clock
}

// decodeEntry reads an entry as a script returns it: its id, and its fields in pairs.
func decodeEntry(raw any) (logEntry, error) {
	pair, ok := raw.([]any)
	if !ok || len(pair) != 2 {
		return logEntry{}, errors.New("an entry of the log is not a pair")
	}
	name, _ := pair[0].(string)
	values, _ := pair[1].([]any)
	number, _, _ := strings.Cut(name, "-")
	e := logEntry{version: parseNumber(number)}
	for i := 0; i+1 < len(values); i += 2 {
		field, _ := values[i].(string)
		value, _ := values[i+1].(string)
		switch field {
		case "p":
			e.before = parseNumber(value)
		case "d":
			e.digest = parseNumber(value)
		case "i":
			if copied := copy(e.id[:], value); copied != 0 && (copied != len(e.id) || len(value) != len(e.id)) {
				return logEntry{}, errors.New("an entry of the log has no proper id")
			}
		case "t":
			e.text = value
		case "m":
			e.at = int64(parseNumber(value))
		}
	}
	if e.version == 0 || e.version <= e.before {
		return logEntry{}, errors.New("an entry of the log has no proper version")
	}
	return e, nil
}

// change returns the entry as a change; of an entry that only moves the version, one
// without an id.
func (e *logEntry) change() (keys.Change, error) {
	change := keys.Change{Version: e.version, ID: e.id}
	switch {
	case e.id == keys.ID{}:
	case e.text == "":
		change.Deleted = true
	default:
		grant, err := decodeGrant(e.id, e.text)
		if err != nil {
			return change, err
		}
		change.Grant = grant
	}
	return change, nil
}
