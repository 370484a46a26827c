package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.etcd.io/bbolt"
)

// Whoever may write the store's file edits it while nobody serves it; the keys are served
// all the same, and the trail says what happened to it.
func TestAnEntryEditedOrRemovedInTheStoreIsFoundByTheCommand(t *testing.T) {
	const sound = "; entries 1 to 2 are one chain: compare the rest with a backup of the store, or the logs\n"
	for name, c := range map[string]struct {
		tamper func(audit *bbolt.Bucket) error
		want   string
	}{
		"edited": {func(audit *bbolt.Bucket) error {
			return audit.Put(entryKey(3), bytes.Replace(audit.Get(entryKey(3)), []byte("administrator"), []byte("account:innocent"), 1))
		}, "the audit trail was changed: entry 3, or its hash, is not as it was written" + sound},
		"no JSON": {func(audit *bbolt.Bucket) error {
			return audit.Put(entryKey(3), append(bytes.Clone(audit.Get(entryKey(3))), '"'))
		}, "the audit trail was changed: entry 3 cannot be read" + sound},
		"removed": {func(audit *bbolt.Bucket) error { return audit.Delete(entryKey(3)) }, "the audit trail was changed: entry 3 is missing: entry 4 comes instead" + sound},
		"tail cut": {func(audit *bbolt.Bucket) error {
			return errors.Join(audit.Delete(entryKey(3)), audit.Delete(entryKey(4)))
		}, "the audit trail was changed: entry 3 is missing, and all after it up to the head, entry 4" + sound},
	} {
		t.Run(name, func(t *testing.T) {
			p := serveWithToken(t)
			for _, args := range [][]string{{"create", "shop"}, {"disable", "shop"}, {"enable", "shop"}, {"create", "other"}} {
				if code, _, said := keysAt(t, p.admin, args...); code != 0 {
					t.Fatalf("%q: %s", args, said)
				}
			}
			code, out, said := commandAt(t, p.admin, "audit", "verify")
			if code != 0 || !strings.HasPrefix(out, "verified 4 entries: ") {
				t.Fatalf("before: exit code %d, %q, %q", code, out, said)
			}
			p.signal(t, syscall.SIGTERM)
			p.wait(t)
			editTrail(t, p, c.tamper)
			p = startServe(t, newSample(t).URL, command{folder: p.folder, env: []string{tokenVariable + "=" + aToken}})
			if code, out, said := commandAt(t, p.admin, "audit", "verify"); code != 1 || out != "" || said != c.want {
				t.Errorf("exit code %d, %q, %q", code, out, said)
			}
			if code, _, said := keysAt(t, p.admin, "create"); code != 0 {
				t.Errorf("a change: %s", said)
			}
		})
	}
}

func entryKey(number uint64) []byte { return binary.BigEndian.AppendUint64(nil, number) }

// editTrail changes the entries in the file of a process that has ended.
func editTrail(t *testing.T, p *process, tamper func(*bbolt.Bucket) error) {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(p.folder, "data", "keystile.db"), 0o600, &bbolt.Options{Timeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Update(func(tx *bbolt.Tx) error { return tamper(tx.Bucket([]byte("audit"))) }); err != nil {
		t.Fatal(err)
	}
}
