package keystest

import (
	"context"
	"testing"
	"time"

	"keystile/keys"
)

func lastingClauses() []clause {
	return []clause{
		{"reopening keeps records, versions, operations and last uses", reopenKeeps},
		{"reopening keeps both secrets of a rotation and the end of the old one", reopenKeepsRotation},
		{"a context that is done changes nothing", canceledContext},
		{"a closed store returns errors", closedStore},
	}
}

func reopenKeeps(t *testing.T, h Harness) {
	f := open(t, h)
	first := f.mustCreate(repeatable("a", "x", "op", 1))
	gone := f.create("a", "")
	f.update(f.create("b", "").ID, func(r *keys.Record) {
		r.Active, r.Rate = false, keys.Rate{PerSecond: 0.1, Burst: 3}
	})
	touch(t, f, map[keys.ID]keys.Use{first.Record.ID: {At: f.clock.Now(), Mark: keys.Mark{1}}})
	last := f.delete(gone.ID).Version
	want := f.list("")
	f.reopen()
	same(t, "all records", f.list(""), want)
	same(t, "record", f.get(first.Record.ID), want[0])
	same(t, "what a watcher is told", watch(t.Context(), t, f).set(), grants(want))
	if again := f.mustCreate(repeatable("a", "x", "op", 1)); !again.Replayed {
		t.Error("the operation was forgotten")
	}
	_, err := f.Create(t.Context(), repeatable("a", "x", "op", 2))
	refused(t, "Create", err, keys.ErrOperationReused)
	_, err = f.Create(t.Context(), draft("a", "x"))
	refused(t, "Create", err, keys.ErrNameTaken)
	if next := f.create("a", ""); next.Version <= last {
		t.Errorf("after version %d and a reopening comes %d", last, next.Version)
	}
}

func reopenKeepsRotation(t *testing.T, h Harness) {
	f := open(t, h)
	id := f.create("a", "x").ID
	for _, change := range []func(*keys.Record){
		func(r *keys.Record) { _ = r.Rotate(draft("", "").Digest, time.Hour, f.clock.Now()) },
		(*keys.Record).EndOverlap,
	} {
		want := f.update(id, change)
		f.reopen()
		same(t, "record", f.get(id), want)
		same(t, "what a watcher is told", watch(t.Context(), t, f).set(), grants([]keys.Record{want}))
	}
}

// calls returns one call of each method that can fail.
func calls(ctx context.Context, store keys.Store, id keys.ID) map[string]func() error {
	return map[string]func() error{
		"Get":    func() error { _, err := store.Get(ctx, id); return err },
		"List":   func() error { _, err := store.List(ctx, ""); return err },
		"Create": func() error { _, err := store.Create(ctx, draft("a", "")); return err },
		"Update": func() error {
			_, _, err := store.Update(ctx, id, func(r *keys.Record) error { r.Active = false; return nil })
			return err
		},
		"Delete": func() error { _, err := store.Delete(ctx, id, nil); return err },
		"Touch":  func() error { return store.Touch(ctx, map[keys.ID]keys.Use{id: {At: time.Now()}}) },
		"Watch":  func() error { return store.Watch(ctx, func(keys.Change) {}) },
	}
}

func canceledContext(t *testing.T, h Harness) {
	f := open(t, h)
	want := f.create("a", "x")
	w := watch(t.Context(), t, f)
	for name, call := range calls(canceled(t), f, want.ID) {
		refused(t, name, call(), keys.ErrUnavailable)
	}
	same(t, "all records", f.list(""), []keys.Record{want})
	if changes, _ := w.get(); len(changes) != 1 {
		t.Errorf("a watcher was told of %d changes", len(changes)-1)
	}
}

func closedStore(t *testing.T, h Harness) {
	f := open(t, h)
	want := f.create("a", "x")
	closed := f.Store
	f.reopen()
	for name, call := range calls(t.Context(), closed, want.ID) {
		refused(t, name, call(), keys.ErrUnavailable)
	}
	refused(t, "Close", closed.Close(), keys.ErrUnavailable)
	same(t, "all records", f.list(""), []keys.Record{want})
}
