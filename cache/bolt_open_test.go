package cache

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"keystile/keys"
)

// storeFile returns the path of a store that does not exist yet.
func storeFile(t testing.TB) string { return filepath.Join(t.TempDir(), "keys.db") }

func mustOpen(t testing.TB, path string, o BoltOptions) *Bolt {
	t.Helper()
	b, err := OpenBolt(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func mustCreate(t testing.TB, b *Bolt) keys.Record {
	t.Helper()
	created, err := b.Create(t.Context(), keys.Draft{ID: keys.NewID(), Account: "default"})
	if err != nil {
		t.Fatal(err)
	}
	return created.Record
}

func mustAccount(t testing.TB, store keys.Accounts, id string) {
	t.Helper()
	if _, _, err := store.CreateAccount(t.Context(), keys.Account{ID: id}); err != nil {
		t.Fatal(err)
	}
}

// cannotOpen fails the test unless opening path is one sentence that has all words.
func cannotOpen(t *testing.T, path string, o BoltOptions, words ...string) error {
	t.Helper()
	b, err := OpenBolt(path, o)
	if err == nil {
		_ = b.Close()
		t.Fatalf("%s was opened", path)
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("the error has more than one line: %v", err)
	}
	for _, word := range append(words, path) {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the error does not have %q: %v", word, err)
		}
	}
	if o.Mirror != nil && o.Mirror.Fresh() == nil {
		t.Error("the mirror is fresh")
	}
	return err
}

// raw does something to the file as bbolt sees it.
func raw(t *testing.T, path string, do func(tx *bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(do), db.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestNewStoreIsForItsOwnerAlone(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "data", "deep")
	path := filepath.Join(directory, "keys.db")
	mirror := NewMirror()
	mustOpen(t, path, BoltOptions{Mirror: mirror})
	for name, want := range map[string]os.FileMode{path: 0o600, directory: os.ModeDir | 0o700} {
		info, err := os.Stat(name)
		if err != nil || info.Mode() != want {
			t.Errorf("%s: mode %v, %v", name, info.Mode(), err)
		}
	}
	if mirror.Fresh() != nil || mirror.Len() != 0 {
		t.Errorf("mirror: %v, %d keys", mirror.Fresh(), mirror.Len())
	}
}

func TestReopenedStoreFillsTheMirror(t *testing.T) {
	path, first := storeFile(t), NewMirror()
	b := mustOpen(t, path, BoltOptions{Mirror: first})
	record := mustCreate(t, b)
	gone := mustCreate(t, b)
	if _, err := b.Delete(t.Context(), gone.ID, nil); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := first.Fresh(); !errors.Is(err, errClosed) {
		t.Errorf("after Close the mirror says %v", err)
	}
	second := NewMirror()
	mustOpen(t, path, BoltOptions{Mirror: second})
	if g, _ := second.Get(record.ID); *g != record.Grant() || second.Len() != 1 || second.Version() != 3 {
		t.Errorf("mirror: %v, %d keys, version %d", g, second.Len(), second.Version())
	}
}

func TestStoreInUseIsASentence(t *testing.T) {
	path := storeFile(t)
	b := mustOpen(t, path, BoltOptions{})
	cannotOpen(t, path, BoltOptions{Mirror: NewMirror()}, "another process is using it")
	mustCreate(t, b)
}

func TestLooseModeIsASentence(t *testing.T) {
	path := storeFile(t)
	if err := mustOpen(t, path, BoltOptions{}).Close(); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []os.FileMode{0o604, 0o640, 0o620, 0o602} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		cannotOpen(t, path, BoltOptions{}, "chmod 600 "+path)
	}
	if err := os.Chmod(path, 0o400|0o200); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, path, BoltOptions{})
}

func TestWrongPathIsASentence(t *testing.T) {
	directory := t.TempDir()
	cannotOpen(t, directory, BoltOptions{}, "not a regular file")
	file := filepath.Join(directory, "file")
	if err := os.WriteFile(file, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	cannotOpen(t, filepath.Join(file, "keys.db"), BoltOptions{}, "is a file, not a directory")
}

func TestForeignFileIsASentence(t *testing.T) {
	path := storeFile(t)
	if err := os.WriteFile(path, bytes.Repeat([]byte("not a store "), 5000), 0o600); err != nil {
		t.Fatal(err)
	}
	cannotOpen(t, path, BoltOptions{}, "not a key store")
	other := storeFile(t)
	raw(t, other, func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket([]byte("somebody else's"))
		return err
	})
	if err := os.Chmod(other, 0o600); err != nil {
		t.Fatal(err)
	}
	cannotOpen(t, other, BoltOptions{}, "not a key store")
}

func TestNewerSchemaIsASentence(t *testing.T) {
	path := storeFile(t)
	if err := mustOpen(t, path, BoltOptions{}).Close(); err != nil {
		t.Fatal(err)
	}
	raw(t, path, func(tx *bbolt.Tx) error { return putNumber(tx.Bucket(bucketMeta), metaSchema, schema+1) })
	cannotOpen(t, path, BoltOptions{}, "newer version of Keystile", "schema 3")
}

func TestInconsistentStoreIsDamaged(t *testing.T) {
	for name, spoil := range map[string]func(*bbolt.Tx, keys.Record) error{
		"name without record": func(tx *bbolt.Tx, r keys.Record) error {
			return tx.Bucket(bucketRecords).Delete(r.ID[:])
		},
		"record without name": func(tx *bbolt.Tx, r keys.Record) error { return deleteName(tx, &r) },
		"record of another": func(tx *bbolt.Tx, r keys.Record) error {
			other := keys.NewID()
			return tx.Bucket(bucketRecords).Put(other[:], tx.Bucket(bucketRecords).Get(r.ID[:]))
		},
		"record that cannot be read": func(tx *bbolt.Tx, r keys.Record) error {
			return tx.Bucket(bucketRecords).Put(r.ID[:], []byte("{"))
		},
		"version that went back": func(tx *bbolt.Tx, _ keys.Record) error {
			return putNumber(tx.Bucket(bucketMeta), metaVersion, 0)
		},
		"no version":      func(tx *bbolt.Tx, _ keys.Record) error { return tx.Bucket(bucketMeta).Delete(metaVersion) },
		"missing bucket":  func(tx *bbolt.Tx, _ keys.Record) error { return tx.DeleteBucket(bucketUsed) },
		"pepper too long": func(tx *bbolt.Tx, _ keys.Record) error { return tx.Bucket(bucketMeta).Put(metaPepper, []byte("x")) },
	} {
		t.Run(name, func(t *testing.T) {
			path := storeFile(t)
			b := mustOpen(t, path, BoltOptions{})
			record := mustCreate(t, b)
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			raw(t, path, func(tx *bbolt.Tx) error { return spoil(tx, record) })
			cannotOpen(t, path, BoltOptions{Mirror: NewMirror()}, "damaged", "backup")
		})
	}
}

func TestAnotherPepperIsRefused(t *testing.T) {
	pepper := func(letters ...string) *keys.Peppers {
		var secrets [][]byte
		for _, letter := range letters {
			secrets = append(secrets, []byte(strings.Repeat(letter, keys.MinPepperLength)))
		}
		p, err := keys.NewPeppers(secrets...)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	path := storeFile(t)
	open := func(p *keys.Peppers) {
		t.Helper()
		if err := mustOpen(t, path, BoltOptions{Peppers: p}).Close(); err != nil {
			t.Fatal(err)
		}
	}
	refuse := func(p *keys.Peppers) {
		t.Helper()
		err := cannotOpen(t, path, BoltOptions{Peppers: p}, "the pepper does not match the one this store was written with")
		if !errors.Is(err, ErrPepperMismatch) {
			t.Errorf("%v is not ErrPepperMismatch", err)
		}
	}
	open(nil)
	open(pepper("a"))
	refuse(nil)
	refuse(pepper("b"))
	open(pepper("b", "a"))
	refuse(pepper("a")) // the store may have digests by b since
	open(pepper("b"))
}

func TestDamagedMetaPageIsLogged(t *testing.T) {
	path := storeFile(t)
	if err := mustOpen(t, path, BoltOptions{}).Close(); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	content[pageHeader+metaLength-1] ^= 1 // the checksum of the first meta page
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	mustOpen(t, path, BoltOptions{Log: slog.New(slog.NewTextHandler(&log, nil))})
	if !strings.Contains(log.String(), path) {
		t.Errorf("the log does not name the file: %q", log.String())
	}
}

// searchFile fails the test unless the file has text, or has not.
func searchFile(t *testing.T, path, text string, want bool) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(content, []byte(text)) != want {
		t.Errorf("%s contains the text: %v", path, !want)
	}
}
