package cache

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"keystile/keys"
)

// asSchema1 takes away what schema 1 did not have. The oldest files had no deletions either.
func asSchema1(tx *bbolt.Tx) error {
	meta := tx.Bucket(bucketMeta)
	err := errors.Join(meta.Delete(metaHead), meta.Delete(metaAnchor), putNumber(meta, metaSchema, 1))
	for _, name := range buckets2 {
		err = errors.Join(err, tx.DeleteBucket(name))
	}
	return err
}

// TestFileOfSchema1GetsTheAccountsOfItsKeys opens a file as it was before there were
// accounts. One has an id that no account could be made with now.
func TestFileOfSchema1GetsTheAccountsOfItsKeys(t *testing.T) {
	path := storeFile(t)
	b := mustOpen(t, path, BoltOptions{PerAccount: 2})
	ours := mustCreate(t, b)
	theirs := mustMake(t, b, "theirs", "x", nil)
	odd := keys.Record{ID: keys.NewID(), Account: "an odd one", Name: "y", Active: true, Version: 2}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	raw(t, path, func(tx *bbolt.Tx) error {
		value, err := json.Marshal(stored{Record: odd, Born: 2})
		return errors.Join(err, asSchema1(tx), tx.Bucket(bucketRecords).Put(odd.ID[:], value), putName(tx, &odd))
	})
	mirror := NewMirror()
	b = mustOpen(t, path, BoltOptions{PerAccount: 2, Mirror: mirror})
	for _, want := range []keys.Record{ours, odd, theirs} {
		if g, _ := mirror.Get(want.ID); *g != want.Grant() {
			t.Errorf("the mirror has %v", g)
		}
		if _, err := b.Create(t.Context(), keys.Draft{ID: keys.NewID(), Account: want.Account}); err != nil {
			t.Errorf("another key in %q: %v", want.Account, err)
		}
	}
	accounts, err := b.Accounts(t.Context())
	if err != nil || len(accounts) != 3 || accounts[1].ID != "default" || accounts[1].Version != 0 || accounts[0].Version <= theirs.Version {
		t.Errorf("the accounts are %+v, %v", accounts, err)
	}
	page, err := b.Audit(t.Context(), 0, 10)
	if err != nil || len(page.Entries) != 5 || !strings.Contains(page.Entries[0].Text, `"principal":"keystile","account":"an odd one"`) {
		t.Errorf("the trail is %+v, %v", page, err)
	}
	if mirror.Version() != theirs.Version+5 { // two accounts, three keys
		t.Errorf("after version %d the mirror has %d", theirs.Version, mirror.Version())
	}
}

// TestSchemaRoseForSuspendedKeys is why older code, which knows of schema 1 alone, refuses
// a file of this one.
func TestSchemaRoseForSuspendedKeys(t *testing.T) {
	path := storeFile(t)
	if err := mustOpen(t, path, BoltOptions{}).Close(); err != nil {
		t.Fatal(err)
	}
	raw(t, path, func(tx *bbolt.Tx) error {
		if have := number(tx.Bucket(bucketMeta), metaSchema); have <= 1 {
			t.Errorf("the file is of schema %d", have)
		}
		return nil
	})
}

func TestInconsistentAccountsAreDamage(t *testing.T) {
	put := func(tx *bbolt.Tx, id string, change func(*keys.Account)) error {
		account, err := readAccount(tx, id)
		if change(&account); err != nil {
			return err
		}
		return putAccount(tx, &account)
	}
	for name, spoil := range map[string]func(*bbolt.Tx) error{
		"no account of a key": func(tx *bbolt.Tx) error { return tx.Bucket(bucketAccounts).Delete([]byte("a")) },
		"no default account":  func(tx *bbolt.Tx) error { return tx.Bucket(bucketAccounts).Delete([]byte("default")) },
		"key that is not suspended": func(tx *bbolt.Tx) error {
			return put(tx, "a", func(a *keys.Account) { a.Active = false })
		},
		"key that is suspended": func(tx *bbolt.Tx) error {
			return put(tx, "off", func(a *keys.Account) { a.Active = true })
		},
		"account that is newer": func(tx *bbolt.Tx) error {
			return put(tx, "b", func(a *keys.Account) { a.Version = 1 << 30 })
		},
		"account of another": func(tx *bbolt.Tx) error {
			accounts := tx.Bucket(bucketAccounts)
			return accounts.Put([]byte("c"), accounts.Get([]byte("b")))
		},
		"account that cannot be read": func(tx *bbolt.Tx) error { return tx.Bucket(bucketAccounts).Put([]byte("b"), []byte("{")) },
		"token of no account":         func(tx *bbolt.Tx) error { return tx.Bucket(bucketAccounts).Delete([]byte("b")) },
		"token that cannot be read":   func(tx *bbolt.Tx) error { return tx.Bucket(bucketTokens).Put([]byte("T"), []byte("{")) },
		"token without a name":        func(tx *bbolt.Tx) error { return tx.Bucket(bucketTokensOf).Delete(nameKey("b", "T")) },
		"name without a token":        func(tx *bbolt.Tx) error { return tx.Bucket(bucketTokens).Delete([]byte("T")) },
		"no bucket of the trail":      func(tx *bbolt.Tx) error { return tx.DeleteBucket(bucketAudit) },
		"head too short":              func(tx *bbolt.Tx) error { return tx.Bucket(bucketMeta).Put(metaHead, []byte("x")) },
		"anchor too short":            func(tx *bbolt.Tx) error { return tx.Bucket(bucketMeta).Put(metaAnchor, []byte("x")) },
	} {
		t.Run(name, func(t *testing.T) {
			path := storeFile(t)
			furnishAccounts(t, path)
			mustOpen(t, path, BoltOptions{Mirror: NewMirror()}).Close()
			raw(t, path, spoil)
			cannotOpen(t, path, BoltOptions{Mirror: NewMirror()}, "damaged", "backup")
		})
	}
}

// furnishAccounts makes a store with the accounts a, which has a key, b, which has the token
// T, and off, which is inactive and has a key.
func furnishAccounts(t *testing.T, path string) {
	t.Helper()
	b := mustOpen(t, path, BoltOptions{})
	mustMake(t, b, "a", "", nil)
	mustMake(t, b, "off", "", nil)
	haveAccount(t, b, "b")
	_, _, err := b.UpdateAccount(t.Context(), "off", func(a *keys.Account) error { a.Active = false; return nil })
	_, _, err2 := b.CreateToken(t.Context(), keys.AccountToken{ID: "T", Account: "b", Sum: keys.Sum{1}})
	if err := errors.Join(err, err2, b.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestChangedTrailIsLoggedAndKeysAreServed has the trail changed behind the store's back:
// to refuse the keys because of it would help nobody.
func TestChangedTrailIsLoggedAndKeysAreServed(t *testing.T) {
	entry := func(n byte) []byte { return []byte{0, 0, 0, 0, 0, 0, 0, n} }
	for name, spoil := range map[string]func(*bbolt.Tx) error{
		"first entry removed":  func(tx *bbolt.Tx) error { return tx.Bucket(bucketAudit).Delete(entry(1)) },
		"middle entry removed": func(tx *bbolt.Tx) error { return tx.Bucket(bucketAudit).Delete(entry(3)) },
		"last entry removed":   func(tx *bbolt.Tx) error { return tx.Bucket(bucketAudit).Delete(entry(7)) },
		"last entry another":   func(tx *bbolt.Tx) error { return tx.Bucket(bucketAudit).Put(entry(7), make([]byte, 40)) },
		"head gone":            func(tx *bbolt.Tx) error { return tx.Bucket(bucketMeta).Delete(metaHead) },
		"anchor moved": func(tx *bbolt.Tx) error {
			return putLink(tx, metaAnchor, keys.Link{Number: 2})
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := storeFile(t)
			furnishAccounts(t, path)
			var log bytes.Buffer
			o := BoltOptions{Mirror: NewMirror(), Log: slog.New(slog.NewTextHandler(&log, nil))}
			mustOpen(t, path, o).Close()
			if log.Len() > 0 {
				t.Errorf("a trail that nobody changed: %s", log.String())
			}
			raw(t, path, spoil)
			b := mustOpen(t, path, o)
			if !strings.Contains(log.String(), "trail") || !strings.Contains(log.String(), path) {
				t.Errorf("the log says %q", log.String())
			}
			mustCreate(t, b)
			if o.Mirror.Len() != 3 {
				t.Errorf("the mirror has %d keys", o.Mirror.Len())
			}
		})
	}
}

// TestTrailIsNotTrimmedPastAMissingEntry: an anchor that moved on would hide that it was
// removed too early.
func TestTrailIsNotTrimmedPastAMissingEntry(t *testing.T) {
	path := storeFile(t)
	furnishAccounts(t, path)
	raw(t, path, func(tx *bbolt.Tx) error { return tx.Bucket(bucketAudit).Delete([]byte{0, 0, 0, 0, 0, 0, 0, 3}) })
	b := mustOpen(t, path, BoltOptions{AuditKeep: 2})
	for range 3 {
		mustCreate(t, b)
	}
	page, err := b.Audit(t.Context(), 0, 100)
	if err != nil || page.Anchor.Number != 2 || page.Head.Number != 10 || len(page.Entries) != 7 {
		t.Fatalf("%+v, %v", page, err)
	}
	if _, err := page.Anchor.Follow(page.Entries[0]); !errors.Is(err, keys.ErrTrail) {
		t.Errorf("the entry after the anchor: %v", err)
	}
}
