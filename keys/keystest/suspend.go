package keystest

import (
	"maps"
	"testing"
	"time"

	"keystile/keys"
)

func suspendClauses() []clause {
	return []clause{
		{"an inactive account suspends all its keys, and only them", suspendAll},
		{"a key of an inactive account can be changed, but stays suspended", suspendedChanged},
		{"a new key of an inactive account is suspended", suspendedFromBirth},
		{"watchers are told of each key that an account suspends", suspendWatched},
		{"a change of an account that leaves it active changes no key", suspendNothing},
		{"no key disagrees with its account after changes at once", suspendAtOnce},
	}
}

func suspendAll(t *testing.T, h Harness) {
	f := open(t, h)
	on, off, other := f.create("a", "on"), f.create("a", "off"), f.create("b", "on")
	off = f.update(off.ID, func(r *keys.Record) { r.Active = false })
	for _, active := range []bool{false, true} {
		f.clock.advance(time.Minute)
		account, receipt := f.setActive("a", active)
		list := f.list("a")
		versions := map[uint64]bool{account.Version: true}
		for i, before := range []keys.Record{on, off} {
			versions[list[i].Version] = true
			if list[i].Version <= max(on.Version, off.Version) || list[i].Version > receipt.Version {
				t.Errorf("the key went from version %d to %d; the receipt says %d", before.Version, list[i].Version, receipt.Version)
			}
			before.Suspended, before.Updated, before.Version = !active, f.clock.Now(), list[i].Version
			same(t, "key", list[i], before)
			same(t, "key of Get", f.get(before.ID), before)
			if grant := list[i].Grant(); grant.Active != (active && before.Active) {
				t.Errorf("active %v, key active %v: the grant says %v", active, before.Active, grant.Active)
			}
		}
		if len(versions) != 3 || receipt.Version != account.Version {
			t.Errorf("versions %v, the account has %d, the receipt %d", versions, account.Version, receipt.Version)
		}
		same(t, "keys of another account", f.list("b"), []keys.Record{other})
		on, off = list[0], list[1]
		f.reopen()
		same(t, "keys after reopening", f.list("a"), list)
	}
}

func suspendedChanged(t *testing.T, h Harness) {
	f := open(t, h)
	id := f.create("a", "x").ID
	f.setActive("a", false)
	got := f.update(id, func(r *keys.Record) { r.Name, r.Active, r.Suspended = "y", false, false })
	if !got.Suspended || got.Active || got.Name != "y" {
		t.Errorf("the changed key is %+v", got)
	}
	f.setActive("a", true)
	if got := f.get(id); got.Suspended || got.Active {
		t.Errorf("a key that was switched off is %+v when its account is active again", got)
	}
	before := f.get(id)
	same(t, "key that a change would suspend", f.update(id, func(r *keys.Record) { r.Suspended = true }), before)
}

func suspendedFromBirth(t *testing.T, h Harness) {
	f := open(t, h)
	f.setActive("a", false)
	got := f.create("a", "x")
	if !got.Active || !got.Suspended {
		t.Errorf("the new key is %+v", got)
	}
	same(t, "key of Get", f.get(got.ID), got)
	f.setActive("a", true)
	if got := f.get(got.ID); !got.Active || got.Suspended {
		t.Errorf("when its account is active again the key is %+v", got)
	}
}

func suspendWatched(t *testing.T, h Harness) {
	f := open(t, h)
	for range 5 {
		f.create("a", "")
	}
	f.create("b", "")
	w := watch(t.Context(), t, f)
	for _, active := range []bool{false, true} {
		f.setActive("a", active)
		awaitSet(t, w, grants(f.list("")), h.Immediate)
	}
	if changes, _ := w.get(); len(changes) != w.present+10 {
		t.Errorf("the watcher was told of %d changes, not of 10", len(changes)-w.present)
	}
	inOrder(t, w)
}

// awaitSet fails the test unless the watcher has this set: by now if at once, else within
// the patience of a test.
func awaitSet(t *testing.T, w *watched, want map[keys.ID]keys.Grant, atOnce bool) {
	t.Helper()
	deadline := time.After(patience)
	for !atOnce && !maps.Equal(w.set(), want) {
		_, more := w.get()
		if maps.Equal(w.set(), want) {
			break
		}
		select {
		case <-more:
		case <-deadline:
			atOnce = true
		}
	}
	same(t, "set of the watcher", w.set(), want)
}

func suspendNothing(t *testing.T, h Harness) {
	f := open(t, h)
	want := f.create("a", "x")
	f.updateAccount("a", func(a *keys.Account) { a.Limit, a.Name = 5, "Acme" })
	f.updateAccount("a", func(a *keys.Account) { a.Active = true })
	same(t, "key", f.get(want.ID), want)
}

func suspendAtOnce(t *testing.T, h Harness) {
	f := openLimit(t, h, 1000)
	w := watch(t.Context(), t, f)
	together(8, func(i int) {
		for n := range 10 {
			if i < 2 {
				f.setActive("a", (i+n)%2 == 0)
				continue
			}
			key := f.create("a", "")
			if n%3 == 0 {
				f.update(key.ID, func(r *keys.Record) { r.Active = false })
			}
		}
	})
	active := f.mustAccount("a").Active
	list := f.list("a")
	for _, key := range list {
		if key.Suspended == active {
			t.Errorf("the account is active: %v, its key suspended: %v", active, key.Suspended)
		}
	}
	awaitSet(t, w, grants(list), h.Immediate)
	inOrder(t, w)
}
