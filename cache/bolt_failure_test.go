package cache

import (
	"errors"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"go.uber.org/goleak"

	"keystile/keys"
)

func switchOff(r *keys.Record) error { r.Active = false; return nil }

// TestMirrorHasTheChangeBeforeTheReplyAndBeforeTheWatchers asks from within the
// callbacks and at once after the call.
func TestMirrorHasTheChangeBeforeTheReplyAndBeforeTheWatchers(t *testing.T) {
	m := NewMirror()
	told := observe(m)
	b := mustOpen(t, storeFile(t), BoltOptions{Mirror: m})
	watched := 0
	err := b.Watch(t.Context(), func(c keys.Change) {
		if watched++; m.Version() != c.Version || len(*told) != watched {
			t.Errorf("the watcher was told of version %d while the mirror has %d", c.Version, m.Version())
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	record := mustCreate(t, b)
	if g, _ := m.Get(record.ID); !m.Current(record.ID, record.Version) || !g.Active {
		t.Errorf("after Create the mirror has %v", g)
	}
	if _, _, err := b.Update(t.Context(), record.ID, switchOff); err != nil {
		t.Fatal(err)
	}
	if g, _ := m.Get(record.ID); g.Active || m.Current(record.ID, record.Version) {
		t.Errorf("after Update the mirror has %v", g)
	}
	if _, err := b.Delete(t.Context(), record.ID, nil); err != nil {
		t.Fatal(err)
	}
	if _, ok := m.Get(record.ID); ok || watched != 3 {
		t.Errorf("after Delete the mirror has the key: %v; %d changes watched", ok, watched)
	}
}

// TestMirrorIsNeverBehindAReply switches a key from many sides.
func TestMirrorIsNeverBehindAReply(t *testing.T) {
	m := NewMirror()
	b := mustOpen(t, storeFile(t), BoltOptions{Mirror: m})
	record := mustCreate(t, b)
	done := make(chan struct{})
	for range 4 {
		go func() {
			defer func() { done <- struct{}{} }()
			for range 50 {
				_, receipt, err := b.Update(t.Context(), record.ID, func(r *keys.Record) error {
					r.Active = !r.Active
					return nil
				})
				if err != nil {
					t.Error(err)
				}
				if g, _ := m.Get(record.ID); g.Version < receipt.Version {
					t.Errorf("the reply says version %d, the mirror %d", receipt.Version, g.Version)
				}
			}
		}()
	}
	for range 4 {
		<-done
	}
	kept, err := b.Get(t.Context(), record.ID)
	if g, _ := m.Get(record.ID); err != nil || *g != kept.Grant() {
		t.Errorf("the mirror has %v, the store %v, %v", g, kept, err)
	}
}

// TestCommitThatFailsReachesNobody has every kind of change fail.
func TestCommitThatFailsReachesNobody(t *testing.T) {
	path, m := storeFile(t), NewMirror()
	b := mustOpen(t, path, BoltOptions{Mirror: m})
	record := mustCreate(t, b)
	told := observe(m)
	full := errors.New("the disk is full")
	b.commit = func(*bbolt.Tx) error { return full }
	_, create := b.Create(t.Context(), keys.Draft{ID: keys.NewID(), Account: "default"})
	_, _, update := b.Update(t.Context(), record.ID, switchOff)
	_, remove := b.Delete(t.Context(), record.ID, nil)
	touch := b.Touch(t.Context(), map[keys.ID]keys.Use{record.ID: {At: time.Now()}})
	for _, err := range []error{create, update, remove, touch} {
		if !errors.Is(err, keys.ErrUnavailable) || !errors.Is(err, full) {
			t.Errorf("the error is %v", err)
		}
	}
	list, err := b.List(t.Context(), "")
	if err != nil || len(list) != 1 || list[0] != record || !m.Current(record.ID, record.Version) || len(*told) != 0 {
		t.Errorf("the store has %v, %v; observers were told %v", list, err, *told)
	}
	b.commit = (*bbolt.Tx).Commit
	if next := mustCreate(t, b); next.Version != record.Version+1 {
		t.Errorf("after version %d comes %d", record.Version, next.Version)
	}
}

// TestChangeThatIsInTheFileIsInTheMirror has a commit reach the file and yet fail, as
// when the last fsync does: the caller is told that it is not certain, but readers of
// the store and of the mirror see the same.
func TestChangeThatIsInTheFileIsInTheMirror(t *testing.T) {
	m := NewMirror()
	b := mustOpen(t, storeFile(t), BoltOptions{Mirror: m})
	record := mustCreate(t, b)
	b.commit = func(tx *bbolt.Tx) error { return errors.Join(tx.Commit(), errors.New("fsync failed")) }
	if _, _, err := b.Update(t.Context(), record.ID, switchOff); !errors.Is(err, keys.ErrUnavailable) {
		t.Errorf("Update: %v", err)
	}
	kept, err := b.Get(t.Context(), record.ID)
	if g, _ := m.Get(record.ID); err != nil || kept.Active || *g != kept.Grant() {
		t.Errorf("the mirror has %v, the store %v, %v", g, kept, err)
	}
}

func TestOperationsThatExpiredAreDropped(t *testing.T) {
	now := time.Now()
	b := mustOpen(t, storeFile(t), BoltOptions{PerAccount: 1000, Now: func() time.Time { return now }})
	create := func(operation string) {
		t.Helper()
		d := keys.Draft{ID: keys.NewID(), Account: "default", Operation: keys.Operation{Key: operation}}
		if _, err := b.Create(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 50 {
		create(string(rune('A' + i)))
	}
	now = now.Add(keys.OperationLifetime)
	for range 30 {
		create("")
	}
	left := 0
	err := b.db.View(func(tx *bbolt.Tx) error {
		left = tx.Bucket(bucketOperations).Stats().KeyN
		return nil
	})
	if err != nil || left != 0 {
		t.Errorf("%d expired operations are left, %v", left, err)
	}
}

func TestDraftThatNoCallerShouldSendIsRefused(t *testing.T) {
	b := mustOpen(t, storeFile(t), BoltOptions{})
	for _, draft := range []keys.Draft{
		{Account: "default"},
		{ID: keys.NewID()},
		{ID: keys.NewID(), Account: "a\x00b"},
	} {
		if _, err := b.Create(t.Context(), draft); err == nil || errors.Is(err, keys.ErrUnavailable) {
			t.Errorf("Create(%+v): %v", draft, err)
		}
	}
}

func TestDefaultLimitIsTen(t *testing.T) {
	b := mustOpen(t, storeFile(t), BoltOptions{})
	for range 10 {
		mustCreate(t, b)
	}
	var limit *keys.LimitError
	_, err := b.Create(t.Context(), keys.Draft{ID: keys.NewID(), Account: "default"})
	if !errors.As(err, &limit) || limit.Limit != 10 {
		t.Errorf("the eleventh key: %v", err)
	}
}

func TestClosedStoreLeavesNothingRunning(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	b := mustOpen(t, storeFile(t), BoltOptions{Mirror: NewMirror()})
	for range 3 {
		if err := b.Watch(t.Context(), func(keys.Change) {}); err != nil {
			t.Fatal(err)
		}
	}
	mustCreate(t, b)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if len(b.watchers) != 0 {
		t.Errorf("%d watchers are left", len(b.watchers))
	}
}

func TestFileHasNoSecret(t *testing.T) {
	id := keys.NewID()
	secret := keys.NewSecret(id)
	path := storeFile(t)
	b := mustOpen(t, path, BoltOptions{})
	var none *keys.Peppers
	d := keys.Draft{ID: id, Account: "default", Digest: none.Digest(secret)}
	if _, err := b.Create(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	searchFile(t, path, id.String(), true)
	searchFile(t, path, secret.Reveal()[27:], false) // the random part
}
