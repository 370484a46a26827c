package cache

import (
	"testing"
	"time"

	"keystile/keys"

	"go.etcd.io/bbolt"
)

func TestUsesSurviveAsBytesAndAsText(t *testing.T) {
	at := time.UnixMilli(1_800_000_000_456).UTC()
	for text, use := range map[string]keys.Use{
		"1800000000456":                  {At: at},
		"1800000000456 00000000000000ff": {At: at, Mark: keys.Mark{7: 0xff}},
		"1800000000456 ab00000000000000": {At: at, Mark: keys.Mark{0xab}},
	} {
		if got := useText(use); got != text || parseUse(text) != use {
			t.Errorf("%v is %q, read as %v", use, got, parseUse(text))
		}
		if got := decodeUse(encodeUse(use)); got != use {
			t.Errorf("%v is read as %v", use, got)
		}
	}
	if useText(keys.Use{}) != "" {
		t.Error("no use is kept as one")
	}
}

func TestUsesThatCannotBeReadAreNone(t *testing.T) {
	for _, text := range []string{"", " ", "x", "0x12", " 00000000000000ff"} {
		if got := parseUse(text); got != (keys.Use{}) {
			t.Errorf("%q is read as %v", text, got)
		}
	}
	for _, text := range []string{"5 ", "5 zz", "5 00", "5 00000000000000ff00", "5 00000000000000ff ff"} {
		if got := parseUse(text); got != (keys.Use{At: time.UnixMilli(5).UTC()}) {
			t.Errorf("%q is read as %v", text, got)
		}
	}
	for _, n := range []int{0, 7, 9, 15, 17} {
		if got := decodeUse(make([]byte, n)); got != (keys.Use{}) {
			t.Errorf("%d bytes are read as %v", n, got)
		}
	}
}

// A file from before marks were kept has the time alone.
func TestUsesOfAnOlderFileAreReadWithoutASecret(t *testing.T) {
	b := mustOpen(t, storeFile(t), BoltOptions{})
	record := mustMake(t, b, "default", "a", nil)
	at := time.UnixMilli(1_800_000_000_456).UTC()
	if err := b.db.Update(func(tx *bbolt.Tx) error {
		return putNumber(tx.Bucket(bucketUsed), record.ID[:], uint64(at.UnixMilli()))
	}); err != nil {
		t.Fatal(err)
	}
	for _, use := range []keys.Use{{At: at}, {At: at.Add(time.Millisecond), Mark: record.Digests[0].Mark()}} {
		if err := b.Touch(t.Context(), map[keys.ID]keys.Use{record.ID: use}); err != nil {
			t.Fatal(err)
		}
		if got := mustList(t, b)[0].LastUsed; got != use {
			t.Errorf("got %v, want %v", got, use)
		}
	}
}

func TestLaterUseWinsInAnImport(t *testing.T) {
	for _, kind := range kindsOfStore() {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			source, target := kind.open(t, storeOptions{}), kind.open(t, storeOptions{})
			record := mustMake(t, source, "default", "a", nil)
			mustImport(t, target, export(t, source), ImportOptions{})
			at, mark := time.UnixMilli(1_800_000_000_456).UTC(), record.Digests[0].Mark()
			touch := func(s keys.Store, at time.Time) {
				t.Helper()
				if err := s.Touch(t.Context(), map[keys.ID]keys.Use{record.ID: {At: at, Mark: mark}}); err != nil {
					t.Fatal(err)
				}
			}
			touch(target, at)
			for _, c := range []struct {
				name string
				at   time.Time
				want keys.Use
			}{
				{"sooner", at.Add(-time.Second), keys.Use{At: at, Mark: mark}},
				{"later", at.Add(time.Second), keys.Use{At: at.Add(time.Second)}}, // by which secret is not in a backup
			} {
				for range 3 { // above the target's version
					mustUpdate(t, source, record.ID, func(r *keys.Record) { r.Name += c.name })
				}
				touch(source, c.at)
				report := mustImport(t, target, export(t, source), ImportOptions{})
				if got := mustList(t, target)[0].LastUsed; got != c.want || report.Updated != 1 {
					t.Errorf("%s: got %v, want %v; %+v", c.name, got, c.want, report)
				}
			}
		})
	}
}
