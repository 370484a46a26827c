package keystest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"keystile/keys"
)

func updateClauses() []clause {
	return []clause{
		{"an update keeps what may change and says when", updateKeeps},
		{"an update cannot change what is fixed", updateFixed},
		{"an update that changes nothing gets no version", updateNothing},
		{"an update cannot take another key's name", updateName},
		{"an error of change is returned as it is and nothing is kept", updateError},
		{"a panic of change keeps nothing and holds nothing up", updatePanic},
		{"updates at once lose nothing", updatesAtOnce},
		{"of 20 rotations with an overlap at once one is done", rotationsAtOnce},
		{"every change gets a version of its own, higher than those before", versionsRise},
		{"what was returned or passed out is a copy", copies},
	}
}

func updateKeeps(t *testing.T, h Harness) {
	f := open(t, h)
	want := f.create("a", "x")
	f.clock.advance(time.Minute)
	digests := [2]keys.Digest{draft("", "").Digest, want.Digests[0]}
	digests[1].Until = f.clock.Now().UnixMilli()
	got := f.update(want.ID, func(r *keys.Record) {
		same(t, "record passed to change", *r, want)
		r.Name, r.Active, r.Rate, r.Digests = "y", false, keys.Rate{PerSecond: 1, Burst: 2}, digests
	})
	if got.Version <= want.Version {
		t.Errorf("the version went from %d to %d", want.Version, got.Version)
	}
	want.Name, want.Active, want.Rate, want.Digests = "y", false, keys.Rate{PerSecond: 1, Burst: 2}, digests
	want.Version, want.Updated = got.Version, f.clock.Now()
	same(t, "record of Update", got, want)
	same(t, "record of Get", f.get(want.ID), want)
	same(t, "List", f.list("a"), []keys.Record{want})
}

func updateFixed(t *testing.T, h Harness) {
	f := open(t, h)
	want := f.create("a", "x")
	spoil := func(r *keys.Record) {
		r.ID, r.Account, r.Version = keys.NewID(), "b", 1<<40
		r.Created, r.Updated, r.LastUsed = time.Time{}, time.Time{}, keys.Use{At: f.clock.Now(), Mark: keys.Mark{1}}
	}
	f.clock.advance(time.Second)
	same(t, "record of Update", f.update(want.ID, spoil), want)
	got := f.update(want.ID, func(r *keys.Record) { spoil(r); r.Active = false })
	want.Active, want.Version, want.Updated = false, got.Version, f.clock.Now()
	same(t, "record of Update", got, want)
	same(t, "all records", f.list(""), []keys.Record{want})
	if next := f.create("a", ""); next.Version <= want.Version || next.Version >= 1<<40 {
		t.Errorf("the next version is %d", next.Version)
	}
}

func updateNothing(t *testing.T, h Harness) {
	f := open(t, h)
	want := f.create("a", "x")
	f.clock.advance(time.Second)
	got := f.update(want.ID, func(r *keys.Record) { r.Name, r.Active = "x", true })
	same(t, "record of Update", got, want)
	same(t, "record of Get", f.get(want.ID), want)
}

func updateName(t *testing.T, h Harness) {
	f := open(t, h)
	x, y := f.create("a", "x"), f.create("a", "y")
	f.create("b", "z")
	_, _, err := f.Update(t.Context(), x.ID, func(r *keys.Record) error {
		r.Name, r.Active = "y", false
		return nil
	})
	refused(t, "Update", err, keys.ErrNameTaken)
	same(t, "the record that was refused", f.get(x.ID), x)
	f.update(x.ID, func(r *keys.Record) { r.Name = "z" })
	f.update(y.ID, func(r *keys.Record) { r.Name = "x" })
	f.create("a", "y")
	same(t, "names", f.names("a"), []string{"z", "x", "y"})
}

func updateError(t *testing.T, h Harness) {
	f := open(t, h)
	want := f.create("a", "x")
	mine := fmt.Errorf("wrapped: %w", keys.ErrNotFound)
	_, _, err := f.Update(t.Context(), want.ID, func(r *keys.Record) error {
		r.Active, r.Name = false, "y"
		return mine
	})
	if err != mine { // the same value is the promise
		t.Errorf("Update returned %v", err)
	}
	same(t, "record", f.get(want.ID), want)
	f.create("a", "y")
}

func updatePanic(t *testing.T, h Harness) {
	f := open(t, h)
	want := f.create("a", "x")
	done := make(chan struct{})
	go func() {
		defer close(done)
		panics(t, func() error {
			_, _, err := f.Update(t.Context(), want.ID, func(r *keys.Record) error {
				r.Active = false
				panic("change")
			})
			return err
		})
		panics(t, func() error {
			_, err := f.Delete(t.Context(), want.ID, func(keys.Record) error { panic("check") })
			return err
		})
		same(t, "record", f.get(want.ID), want)
		f.create("a", "y")
		f.reopen()
		same(t, "names", f.names("a"), []string{"x", "y"})
	}()
	select {
	case <-done:
	case <-time.After(patience):
		f.hangs.Store(true)
		t.Fatal("the store hangs after a panic of change")
	}
}

// panics runs a call that panics or returns an error.
func panics(t *testing.T, call func() error) {
	defer func() { _ = recover() }()
	if err := call(); err == nil {
		t.Error("a call whose function panicked returned no error")
	}
}

func updatesAtOnce(t *testing.T, h Harness) {
	f := open(t, h)
	id := f.create("a", "x").ID
	together(8, func(int) {
		for range 10 {
			f.update(id, func(r *keys.Record) { r.Rate = keys.Rate{PerSecond: 1, Burst: r.Rate.Burst + 1} })
		}
	})
	if got := f.get(id).Rate.Burst; got != 80 {
		t.Errorf("after 80 increments the value is %d", got)
	}
}

func rotationsAtOnce(t *testing.T, h Harness) {
	f := open(t, h)
	before := f.create("a", "x")
	var kept [20]*keys.Digest
	together(len(kept), func(i int) {
		next := draft("", "").Digest
		_, _, err := f.Update(t.Context(), before.ID, func(r *keys.Record) error {
			return r.Rotate(next, time.Hour, f.clock.Now())
		})
		if err == nil {
			kept[i] = &next
		} else {
			refused(t, "Update", err, keys.ErrOverlap)
		}
	})
	done := slices.DeleteFunc(kept[:], func(d *keys.Digest) bool { return d == nil })
	if len(done) != 1 {
		t.Fatalf("%d rotations were done", len(done))
	}
	want := [2]keys.Digest{*done[0], before.Digests[0]}
	want[1].EndBy(f.clock.Now().Add(time.Hour).UnixMilli())
	same(t, "digests", f.get(before.ID).Digests, want)
}

func versionsRise(t *testing.T, h Harness) {
	f := openLimit(t, h, 1000)
	var mu sync.Mutex
	var all []uint64
	together(6, func(i int) {
		var mine []uint64
		for range 8 {
			record := f.create("a", "")
			updated := f.update(record.ID, func(r *keys.Record) { r.Active = false })
			mine = append(mine, record.Version, updated.Version)
			if i%2 == 0 {
				mine = append(mine, f.delete(record.ID).Version)
			}
		}
		if !slices.IsSorted(mine) {
			t.Errorf("versions did not rise: %v", mine)
		}
		mu.Lock()
		defer mu.Unlock()
		all = append(all, mine...)
	})
	slices.Sort(all)
	if len(slices.Compact(slices.Clone(all))) != len(all) {
		t.Errorf("versions were given twice: %v", all)
	}
}

func copies(t *testing.T, h Harness) {
	f := open(t, h)
	want := f.create("a", "x")
	var kept *keys.Record
	_, _, err := f.Update(t.Context(), want.ID, func(r *keys.Record) error {
		kept = r
		return errors.New("no change")
	})
	if err == nil {
		t.Error("Update returned no error")
	}
	list := f.list("a")
	kept.Active, list[0].Active = false, false
	kept.Digests, list[0].Digests = [2]keys.Digest{}, [2]keys.Digest{}
	same(t, "record of Get", f.get(want.ID), want)
	same(t, "List", f.list("a"), []keys.Record{want})
}
