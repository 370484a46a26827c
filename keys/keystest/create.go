package keystest

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"keystile/keys"
)

func createClauses() []clause {
	return []clause{
		{"a created key is returned as it was asked for, active", createdAsAsked},
		{"an unknown key is not found", unknownNotFound},
		{"list has the newest last, also when the clock went back", newestLast},
		{"list of an account has only its keys", listOfAccount},
		{"a key without a name gets the first free default name", defaultNames},
		{"a name is unique within its account only", uniqueName},
		{"an id cannot be used twice", idTwice},
		{"a refused create changes nothing", refusedCreate},
	}
}

func createdAsAsked(t *testing.T, h Harness) {
	f := open(t, h)
	d := draft("a", "one")
	d.Rate = keys.Rate{PerSecond: 2.5, Burst: 7}
	created := f.mustCreate(d)
	want := keys.Record{
		ID: d.ID, Account: "a", Name: "one", Active: true,
		Created: f.clock.Now(), Updated: f.clock.Now(), Version: created.Record.Version,
		Rate: d.Rate, Digests: [2]keys.Digest{d.Digest},
	}
	same(t, "record of Create", created.Record, want)
	same(t, "record of Get", f.get(d.ID), want)
	same(t, "List", f.list(""), []keys.Record{want})
	if created.Receipt.Version != want.Version || want.Version == 0 || created.Replayed {
		t.Errorf("Create returned %+v", created)
	}
}

func unknownNotFound(t *testing.T, h Harness) {
	f := open(t, h)
	f.create("a", "")
	id := keys.NewID()
	_, err := f.Get(t.Context(), id)
	refused(t, "Get", err, keys.ErrNotFound)
	_, _, err = f.Update(t.Context(), id, func(*keys.Record) error {
		t.Error("Update called change without a record")
		return nil
	})
	refused(t, "Update", err, keys.ErrNotFound)
	_, err = f.Delete(t.Context(), id, func(keys.Record) error {
		t.Error("Delete called check without a record")
		return nil
	})
	refused(t, "Delete", err, keys.ErrNotFound)
}

func newestLast(t *testing.T, h Harness) {
	f := openLimit(t, h, 20)
	var want []string
	for i := range 20 {
		name := fmt.Sprintf("%x", 20-i)
		f.create("a", name)
		want = append(want, name)
		f.clock.advance(time.Duration(5-i) * time.Second)
	}
	f.update(f.list("a")[3].ID, func(r *keys.Record) { r.Active = false })
	same(t, "names of the account", f.names("a"), want)
	same(t, "all names", f.names(""), want)
}

func listOfAccount(t *testing.T, h Harness) {
	f := open(t, h)
	f.accounts("ab")
	for _, account := range []string{"a", "ab", "b", "a"} {
		f.create(account, "")
	}
	for account, want := range map[string]int{"a": 2, "ab": 1, "b": 1, "": 4, "nobody": 0} {
		list := f.list(account)
		if len(list) != want {
			t.Errorf("List(%q) has %d records, want %d", account, len(list), want)
		}
		for _, record := range list {
			if account != "" && record.Account != account {
				t.Errorf("List(%q) has a record of %q", account, record.Account)
			}
		}
	}
}

func defaultNames(t *testing.T, h Harness) {
	f := open(t, h)
	f.create("a", "API key 2")
	f.create("a", "")
	third := f.create("a", "")
	same(t, "names", f.names("a"), []string{"API key 2", "API key 1", "API key 3"})
	f.delete(f.list("a")[1].ID)
	f.update(third.ID, func(r *keys.Record) { r.Name = "API key 9" })
	f.create("a", "")
	f.create("a", "")
	f.create("b", "")
	same(t, "names after a deletion and a renaming", f.names("a"),
		[]string{"API key 2", "API key 9", "API key 1", "API key 3"})
	same(t, "names of the other account", f.names("b"), []string{"API key 1"})
}

func uniqueName(t *testing.T, h Harness) {
	f := open(t, h)
	first := f.create("a", "x")
	f.create("b", "x")
	f.create("a", "X")
	_, err := f.Create(t.Context(), draft("a", "x"))
	refused(t, "Create", err, keys.ErrNameTaken)
	f.update(first.ID, func(r *keys.Record) { r.Active = false })
	var kept atomic.Int32
	together(20, func(int) {
		switch _, err := f.Create(t.Context(), draft("a", "y")); {
		case err == nil:
			kept.Add(1)
		case !errors.Is(err, keys.ErrNameTaken):
			t.Errorf("Create: %v", err)
		}
	})
	if kept.Load() != 1 {
		t.Errorf("%d keys got the same name", kept.Load())
	}
	_, err = f.Create(t.Context(), draft("a", "x"))
	refused(t, "Create with the name of an inactive key", err, keys.ErrNameTaken)
}

func idTwice(t *testing.T, h Harness) {
	f := open(t, h)
	first := f.create("a", "x")
	again := draft("b", "y")
	again.ID = first.ID
	if _, err := f.Create(t.Context(), again); err == nil {
		t.Error("a second key got the same id")
	}
	same(t, "all records", f.list(""), []keys.Record{first})
}

func refusedCreate(t *testing.T, h Harness) {
	f := openLimit(t, h, 2)
	first := f.create("a", "x")
	_, err := f.Create(t.Context(), draft("a", "x"))
	refused(t, "Create", err, keys.ErrNameTaken)
	second := f.create("a", "y")
	if _, err := f.Create(t.Context(), draft("a", "z")); err == nil {
		t.Error("a third key was created")
	}
	same(t, "all records", f.list(""), []keys.Record{first, second})
}
