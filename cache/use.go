package cache

import (
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"keystile/keys"
)

// A use is kept as its time in Unix milliseconds and then, where it is known, the mark of
// the secret: in a file as 8 bytes, or 16, in Redis as text with a blank between. Nothing
// that is kept is a key that was never used, and so is what cannot be read.

func encodeUse(u keys.Use) []byte {
	value := binary.BigEndian.AppendUint64(nil, uint64(u.At.UnixMilli()))
	if u.Mark != (keys.Mark{}) {
		value = append(value, u.Mark[:]...)
	}
	return value
}

func decodeUse(value []byte) (u keys.Use) {
	if len(value) == 8 || len(value) == 8+len(u.Mark) {
		u.At = time.UnixMilli(int64(binary.BigEndian.Uint64(value))).UTC()
		copy(u.Mark[:], value[8:])
	}
	return u
}

// useText is "" for a key that was never used.
func useText(u keys.Use) string {
	if u.At.IsZero() {
		return ""
	}
	text := strconv.FormatInt(u.At.UnixMilli(), 10)
	if u.Mark != (keys.Mark{}) {
		text += " " + hex.EncodeToString(u.Mark[:])
	}
	return text
}

func parseUse(text string) (u keys.Use) {
	millis, mark, _ := strings.Cut(text, " ")
	at, err := strconv.ParseInt(millis, 10, 64)
	if err != nil {
		return keys.Use{}
	}
	if known, err := hex.DecodeString(mark); err == nil && len(known) == len(u.Mark) {
		u.Mark = keys.Mark(known)
	}
	u.At = time.UnixMilli(at).UTC()
	return u
}
