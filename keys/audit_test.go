package keys_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"keystile/keys"
)

// trail returns a trail of n entries.
func trail(t *testing.T, n int) []keys.SealedEntry {
	t.Helper()
	var at keys.Link
	var all []keys.SealedEntry
	for i := range n {
		entry := keys.Entry{Action: keys.KeyCreated, Account: "default", After: &keys.State{Name: fmt.Sprint("<", i, ">")}}
		sealed, next, err := keys.Seal(at, entry)
		if err != nil {
			t.Fatal(err)
		}
		at = next
		all = append(all, sealed)
	}
	return all
}

// follow returns where a trail ends, or what is wrong with it.
func follow(entries []keys.SealedEntry) (at keys.Link, err error) {
	for _, e := range entries {
		if _, err := at.Follow(e); err != nil {
			return at, err
		}
	}
	return at, nil
}

func TestTrailThatWasNotChangedIsFollowed(t *testing.T) {
	all := trail(t, 5)
	at, err := follow(all)
	if want := (keys.Link{Number: 5, Hash: all[4].Hash}); err != nil || at != want {
		t.Errorf("followed to %v, %v; want %v", at, err, want)
	}
}

func TestEveryEditOfATrailIsNoticed(t *testing.T) {
	edits := map[string]func([]keys.SealedEntry) []keys.SealedEntry{
		"an entry is removed": func(e []keys.SealedEntry) []keys.SealedEntry { return slices.Delete(e, 2, 3) },
		"an entry is edited": func(e []keys.SealedEntry) []keys.SealedEntry {
			e[2].Text = strings.Replace(e[2].Text, `"default"`, `"another"`, 1)
			return e
		},
		"an entry is edited and sealed again": func(e []keys.SealedEntry) []keys.SealedEntry {
			sealed, _, _ := keys.Seal(keys.Link{Number: 2, Hash: e[1].Hash}, keys.Entry{Action: keys.KeyDeleted})
			e[2] = sealed
			return e
		},
		"two entries change places": func(e []keys.SealedEntry) []keys.SealedEntry {
			e[2], e[3] = e[3], e[2]
			return e
		},
		"an entry stands twice":   func(e []keys.SealedEntry) []keys.SealedEntry { return slices.Insert(e, 3, e[2]) },
		"an entry is not JSON":    func(e []keys.SealedEntry) []keys.SealedEntry { e[2].Text = "{"; return e },
		"the first is removed":    func(e []keys.SealedEntry) []keys.SealedEntry { return e[1:] },
		"a hash is another one's": func(e []keys.SealedEntry) []keys.SealedEntry { e[2].Hash = e[1].Hash; return e },
	}
	for name, edit := range edits {
		if at, err := follow(edit(trail(t, 5))); !errors.Is(err, keys.ErrTrail) {
			t.Errorf("%s: followed to %v, %v", name, at, err)
		}
	}
}

func TestAccountsWithAnIdThatAPathCannotCarryAreNone(t *testing.T) {
	for id, want := range map[string]bool{
		"default": true, "Acme-2.eu": true, "jo+x@example.com": true, strings.Repeat("a", 64): true,
		"": false, ".": false, "..": false, "-a": false, "a/b": false, "a b": false, "a\n": false, "\u00e9": false, "a%2f": false,
		strings.Repeat("a", 65): false,
	} {
		if got := keys.ValidAccount(id); got != want {
			t.Errorf("ValidAccount(%q) = %v, want %v", id, got, want)
		}
	}
}
