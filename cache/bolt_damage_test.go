package cache

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"keystile/keys"
)

// damageable returns the content of a store with many pages, and its path.
func damageable(t *testing.T) (path string, content []byte) {
	path = storeFile(t)
	b := mustOpen(t, path, BoltOptions{PerAccount: 1000})
	for i := range 7 {
		mustAccount(t, b, fmt.Sprint("account-", i))
	}
	for i := range 120 {
		created, err := b.Create(t.Context(), keys.Draft{
			ID: keys.NewID(), Account: fmt.Sprint("account-", i%7), Rate: keys.Rate{PerSecond: 1, Burst: i + 1},
			Operation: keys.Operation{Key: fmt.Sprint(i)},
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Touch(t.Context(), map[keys.ID]keys.Use{created.Record.ID: {At: time.Now(), Mark: keys.Mark{1}}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, content
}

// survives opens a damaged store: that is an error that names the file, or a store
// that can be used. It returns whether it opened.
func survives(t *testing.T, path string, content []byte, what string) bool {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	opened := make(chan bool, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				t.Errorf("%s: panic: %v", what, p)
				opened <- false
			}
		}()
		opened <- useDamaged(t, path, what)
	}()
	select {
	case ok := <-opened:
		return ok
	case <-time.After(30 * time.Second):
		t.Fatalf("%s: hangs", what)
		return false
	}
}

// useDamaged does everything once with a store that may be damaged.
func useDamaged(t *testing.T, path, what string) bool {
	mirror := NewMirror()
	b, err := OpenBolt(path, BoltOptions{Mirror: mirror, PerAccount: 1000})
	if err != nil {
		if !strings.Contains(err.Error(), path) || mirror.Fresh() == nil {
			t.Errorf("%s: fresh %v, and the error does not name the file: %v", what, mirror.Fresh(), err)
		}
		return false
	}
	defer func() { _ = b.Close() }()
	ctx := t.Context()
	list, err := b.List(ctx, "")
	if err != nil || len(list) != mirror.Len() {
		t.Errorf("%s: %d records and %d in the mirror: %v", what, len(list), mirror.Len(), err)
	}
	if len(list) > 0 {
		at := list[rand.IntN(len(list))]
		_, _, err = b.Update(ctx, at.ID, func(r *keys.Record) error { r.Active = false; return nil })
		_, err2 := b.Delete(ctx, list[0].ID, nil)
		if err != nil || err2 != nil {
			t.Errorf("%s: %v, %v", what, err, err2)
		}
	}
	_, err = b.Create(ctx, keys.Draft{ID: keys.NewID(), Account: "account-3", Operation: keys.Operation{Key: "1"}})
	if err != nil && !strings.Contains(err.Error(), "operation") && !strings.Contains(err.Error(), "no such key") &&
		!strings.Contains(err.Error(), "idempotency") && !errors.Is(err, keys.ErrNoAccount) {
		t.Errorf("%s: %v", what, err)
	}
	return true
}

func TestTruncatedStoreIsAnErrorOrWorks(t *testing.T) {
	path, content := damageable(t)
	for size := 0; size < len(content); size += 1021 {
		opened := survives(t, path, content[:size], fmt.Sprintf("truncated to %d bytes", size))
		if opened && size > 0 && size < len(content)/2 {
			t.Errorf("a store truncated from %d to %d bytes was opened", len(content), size)
		}
	}
}

func TestFlippedBytesAreAnErrorOrTheStoreWorks(t *testing.T) {
	path, content := damageable(t)
	opened, tried := 0, 0
	flip := func(offset int, mask byte) {
		spoiled := append([]byte(nil), content...)
		spoiled[offset] ^= mask
		if tried++; survives(t, path, spoiled, fmt.Sprintf("byte %d flipped by %#x", offset, mask)) {
			opened++
		}
	}
	page := os.Getpagesize()
	for start := 0; start < len(content); start += page {
		for offset := range 32 { // the page's header and its first entry
			if content[start+8] != 0 || start < 2*page {
				flip(start+offset, 1<<(offset%8))
			}
		}
	}
	for offset := 0; offset < len(content); offset += 499 {
		flip(offset, 0xFF)
	}
	t.Logf("%d of %d damaged stores could be used", opened, tried)
	if opened == 0 || opened == tried {
		t.Error("the damage was all harmless, or none was")
	}
}

func TestMixedUpPagesAreAnErrorOrTheStoreWorks(t *testing.T) {
	path, content := damageable(t)
	random := rand.New(rand.NewPCG(1, 2))
	page := os.Getpagesize()
	pages := len(content) / page
	for i := range 300 {
		spoiled := append([]byte(nil), content...)
		from, to := random.IntN(pages)*page, random.IntN(pages)*page
		switch i % 3 {
		case 0:
			copy(spoiled[to:to+page], content[from:])
		case 1: // the page says that it is the one it replaces
			copy(spoiled[to+8:to+page], content[from+8:])
		case 2:
			for range 8 {
				spoiled[to+random.IntN(page)] = byte(random.Uint32())
			}
		}
		survives(t, path, spoiled, fmt.Sprintf("damage %d, page %d to %d", i, from/page, to/page))
	}
}

// TestPageThatLeadsToItselfIsAnError would end the process, stack exhausted, without
// verify.
func TestPageThatLeadsToItselfIsAnError(t *testing.T) {
	path, content := damageable(t)
	page, loops := os.Getpagesize(), 0
	for start := 2 * page; start < len(content); start += page {
		if content[start+8] != pageBranch {
			continue
		}
		loops++
		spoiled := append([]byte(nil), content...)
		copy(spoiled[start+pageHeader+8:], content[start:start+8]) // its first entry leads to its own id
		survives(t, path, spoiled, fmt.Sprintf("page %d leads to itself", start/page))
	}
	if loops == 0 {
		t.Error("the store has no branch page")
	}
}

// TestPageThatBeginsWithAnotherKeyThanLeadsToItIsAnError would have bbolt lead to a page
// twice at the next change, and use one that is not free.
func TestPageThatBeginsWithAnotherKeyThanLeadsToItIsAnError(t *testing.T) {
	path, content := damageable(t)
	used := usedPages(t, path)
	page, children := os.Getpagesize(), 0
	for start := 2 * page; start < len(content); start += page {
		if content[start+8] != pageBranch || !used[start/page] {
			continue
		}
		child := int(binary.NativeEndian.Uint64(content[start+pageHeader+8:])) * page // of the first entry
		if content[child+8] != pageLeaf {
			continue
		}
		children++
		spoiled := append([]byte(nil), content...)
		spoiled[child+pageHeader+8] ^= 1 // the length of its first key
		if survives(t, path, spoiled, fmt.Sprintf("page %d begins with another key", child/page)) {
			t.Errorf("page %d: the store was opened", child/page)
		}
	}
	if children == 0 {
		t.Error("the store has no page below a branch")
	}
}

// usedPages returns the pages of a store that are not free.
func usedPages(t *testing.T, path string) map[int]bool {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	used := map[int]bool{}
	err = db.View(func(tx *bbolt.Tx) error {
		for id := 0; ; id++ {
			page, err := tx.Page(id)
			if page == nil || err != nil {
				return err
			}
			used[id] = page.Type != "free"
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return used
}
