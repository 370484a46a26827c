package keystest

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"keystile/keys"
)

func watchClauses() []clause {
	return []clause{
		{"watch gives every present record", watchPresent},
		{"watch gives every change in the order of versions", watchChanges},
		{"watchers at once have the same set as the store", watchAtOnce},
		{"watch stops when its context is done", watchStops},
		{"watch sees changes of another handle", watchOtherHandle},
	}
}

// watched is what one watcher was told.
type watched struct {
	mu      sync.Mutex
	changes []keys.Change
	present int           // how many of them had come when Watch returned
	more    chan struct{} // closed, and made anew, with each change
}

// watch watches the store until ctx is done.
func watch(ctx context.Context, t testing.TB, store keys.Store) *watched {
	t.Helper()
	w := &watched{more: make(chan struct{})}
	if err := store.Watch(ctx, w.add); err != nil {
		t.Fatalf("Watch: %v", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.present = len(w.changes)
	return w
}

func (w *watched) add(c keys.Change) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.changes = append(w.changes, c)
	close(w.more)
	w.more = make(chan struct{})
}

func (w *watched) get() ([]keys.Change, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.changes), w.more
}

// has reports whether the watcher was told of version: by now if at once, else
// within the patience of a test.
func (w *watched) has(version uint64, atOnce bool) bool {
	deadline := time.After(patience)
	for {
		changes, more := w.get()
		if slices.ContainsFunc(changes, func(c keys.Change) bool { return c.Version == version }) {
			return true
		}
		if atOnce {
			return false
		}
		select {
		case <-more:
		case <-deadline:
			return false
		}
	}
}

// set returns what the changes come to.
func (w *watched) set() map[keys.ID]keys.Grant {
	changes, _ := w.get()
	set := map[keys.ID]keys.Grant{}
	for _, c := range changes {
		if c.Deleted {
			delete(set, c.ID)
		} else {
			set[c.ID] = c.Grant
		}
	}
	return set
}

func grants(records []keys.Record) map[keys.ID]keys.Grant {
	set := map[keys.ID]keys.Grant{}
	for _, record := range records {
		set[record.ID] = record.Grant()
	}
	return set
}

func watchPresent(t *testing.T, h Harness) {
	f := open(t, h)
	for range 5 {
		f.create("a", "")
	}
	f.delete(f.list("a")[1].ID)
	f.update(f.list("a")[1].ID, func(r *keys.Record) { r.Active = false })
	w := watch(t.Context(), t, f)
	changes, _ := w.get()
	if len(changes) != 4 {
		t.Errorf("Watch gave %d records, want 4", len(changes))
	}
	for _, c := range changes {
		record := f.get(c.ID)
		same(t, "change", c, keys.Change{Version: record.Version, ID: c.ID, Grant: record.Grant()})
	}
}

func watchChanges(t *testing.T, h Harness) {
	f := open(t, h)
	w := watch(t.Context(), t, f)
	var want []keys.Change
	told := func(c keys.Change) {
		t.Helper()
		want = append(want, c)
		if !w.has(c.Version, h.Immediate) {
			t.Fatalf("the watcher was not told of version %d", c.Version)
		}
	}
	for range 3 {
		x := f.create("a", "x")
		told(keys.Change{Version: x.Version, ID: x.ID, Grant: x.Grant()})
		x = f.update(x.ID, func(r *keys.Record) { r.Active = false })
		told(keys.Change{Version: x.Version, ID: x.ID, Grant: x.Grant()})
		f.update(x.ID, func(*keys.Record) {})
		touch(t, f, map[keys.ID]keys.Use{x.ID: {At: f.clock.Now()}})
		told(keys.Change{Version: f.delete(x.ID).Version, ID: x.ID, Deleted: true})
	}
	changes, _ := w.get()
	same(t, "changes", changes, want)
}

func watchAtOnce(t *testing.T, h Harness) {
	f := openLimit(t, h, 1000)
	for range 10 {
		f.create("a", "")
	}
	f.accounts("c")
	var watchers [6]*watched
	together(2*len(watchers), func(i int) {
		if i%2 == 0 {
			watchers[i/2] = watch(t.Context(), t, f)
			return
		}
		for range 5 {
			record := f.create("b", "")
			f.update(record.ID, func(r *keys.Record) { r.Active = false })
			f.delete(f.create("b", "").ID)
		}
	})
	last := f.create("c", "").Version
	for _, w := range watchers {
		if !w.has(last, h.Immediate) {
			t.Fatal("a watcher was not told of the last change")
		}
		same(t, "set of the watcher", w.set(), grants(f.list("")))
		inOrder(t, w)
	}
}

// inOrder fails the test unless the versions rose from the end of the snapshot on.
func inOrder(t *testing.T, w *watched) {
	t.Helper()
	var highest uint64
	changes, _ := w.get()
	for i, c := range changes {
		if i >= w.present && c.Version <= highest {
			t.Errorf("after version %d the watcher was told of %d", highest, c.Version)
		}
		highest = max(highest, c.Version)
	}
}

func watchStops(t *testing.T, h Harness) {
	f := open(t, h)
	ctx, cancel := context.WithCancel(t.Context())
	stopped, going := watch(ctx, t, f), watch(t.Context(), t, f)
	f.create("a", "")
	cancel()
	before, _ := stopped.get()
	last := f.create("a", "").Version
	if !going.has(last, h.Immediate) {
		t.Error("the other watcher stopped too")
	}
	if after, _ := stopped.get(); len(after) != len(before) {
		t.Error("a watcher was told of a change after its context was done")
	}
	if err := f.Watch(ctx, func(keys.Change) {}); err == nil {
		t.Error("Watch with a context that is done returned no error")
	}
}

func watchOtherHandle(t *testing.T, h Harness) {
	if h.OneHandle != "" {
		t.Skip(h.OneHandle)
	}
	f := open(t, h)
	other := h.Open(t, f.dir, f.o)
	t.Cleanup(func() { _ = other.Close() })
	w := watch(t.Context(), t, other)
	id := f.create("a", "").ID
	f.update(id, func(r *keys.Record) { r.Active = false })
	last := f.create("a", "").Version
	if !w.has(last, false) {
		t.Fatal("the watcher was not told of a change of another handle")
	}
	same(t, "set of the watcher", w.set(), grants(f.list("")))
}
