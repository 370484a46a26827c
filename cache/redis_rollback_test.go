package cache

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"keystile/cache/redistest"
	"keystile/keys"
)

// briefly is a max_staleness that a test can wait for.
const briefly = 1500 * time.Millisecond

func shortLived(o *RedisOptions) { o.MaxStaleness = briefly }

// remembering gives the options a state file in the folder.
func remembering(dir string) func(*RedisOptions) {
	return func(o *RedisOptions) { o.StateFile, o.MaxStaleness = filepath.Join(dir, "state"), briefly }
}

// refuses fails the test unless the calls of the store are all refused as unavailable
// because the store is not the one that was there.
func (m *member) refuses(id keys.ID) {
	m.t.Helper()
	ctx := m.t.Context()
	for what, call := range map[string]func() error{
		"Get":    func() error { _, err := m.Get(ctx, id); return err },
		"List":   func() error { _, err := m.List(ctx, keys.DefaultAccount); return err },
		"all":    func() error { _, err := m.List(ctx, ""); return err },
		"Create": func() error { _, err := m.Create(ctx, newDraft(keys.DefaultAccount, "")); return err },
		"Update": func() error { _, _, err := m.Update(ctx, id, switchOff); return err },
		"Delete": func() error { _, err := m.Delete(ctx, id, nil); return err },
		"Touch":  func() error { return m.Touch(ctx, map[keys.ID]keys.Use{id: {At: time.Now()}}) },
	} {
		if err := call(); !errors.Is(err, keys.ErrUnavailable) || !errors.Is(err, errForeign) {
			m.t.Errorf("%s: %v", what, err)
		}
	}
}

// size returns how many names the server holds.
func (c *rawStore) size() int64 { return c.DBSize(context.Background()).Val() }

func TestFlushedStoreIsAnAlarmAndNeverAnEmptySet(t *testing.T) {
	kinds(t, func(t *testing.T, start func() string) {
		address, dir := start(), t.TempDir()
		m, other := join(t, address, remembering(dir)), join(t, address, shortLived)
		key := m.mustCreate(keys.DefaultAccount)
		c := look(t, address)
		other.sameSet(c)
		over := make(chan struct{})
		var load sync.WaitGroup
		for _, m := range []*member{m, other} {
			load.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-over:
						return
					default:
					}
					_, err := m.Create(t.Context(), newDraft(keys.DefaultAccount, ""))
					if err != nil && !errors.Is(err, keys.ErrUnavailable) {
						t.Errorf("Create: %v", err)
					}
				}
			})
		}
		await(t, "the load is on", func() bool { return m.mirror.Len() > 10 })
		flushed := time.Now()
		c.run("FLUSHALL")
		for _, m := range []*member{m, other} {
			await(t, "the alarm", func() bool { return m.told.read(alarms) == 1 })
			await(t, "the records lapse", func() bool { return m.mirror.Fresh() != nil })
			if late := time.Since(flushed); late > briefly+10*time.Second {
				t.Errorf("the records lapsed %v after the store was gone", late)
			}
			if err := m.mirror.Fresh(); !errors.Is(err, keys.ErrUnavailable) {
				t.Errorf("Fresh: %v", err)
			}
			m.refuses(key.ID)
			if grant, present := m.mirror.Get(key.ID); !present || !grant.Active {
				t.Error("the records were dropped for a store that is empty")
			}
		}
		close(over)
		load.Wait()
		m.crash()
		again := enter(t, address, remembering(dir))
		await(t, "a process that remembers the store is alarmed", func() bool { return again.told.read(alarms) == 1 })
		again.refuses(key.ID)
		if n := c.size(); n != 0 {
			t.Errorf("%d names were written into what is not the store", n)
		}
		if n := other.told.read(alarms); n != 1 {
			t.Errorf("%d alarms for one loss", n)
		}
	})
}

// rollback is a server with an old copy of its files.
type rollback struct {
	*testing.T
	server *redistest.Server
	old    string
}

func newRollback(t *testing.T) *rollback {
	return &rollback{t, redistest.Start(t, redistest.Options{AppendOnly: "always"}), t.TempDir()}
}

const files = "appendonlydir"

func (r *rollback) keep() {
	r.Helper()
	if err := os.CopyFS(filepath.Join(r.old, files), os.DirFS(filepath.Join(r.server.Dir(), files))); err != nil {
		r.Fatal(err)
	}
}

func (r *rollback) restore() {
	r.Helper()
	r.server.Kill()
	if err := os.RemoveAll(filepath.Join(r.server.Dir(), files)); err != nil {
		r.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(r.server.Dir(), files), os.DirFS(filepath.Join(r.old, files))); err != nil {
		r.Fatal(err)
	}
	r.server.Restart()
}

func TestOldDumpBringsNoRevokedKeyBackWhileAnyProcessKnows(t *testing.T) {
	r := newRollback(t)
	m, other := join(t, r.server.Addr(), nil), join(t, r.server.Addr(), nil)
	off, deleted, kept := m.mustCreate(keys.DefaultAccount), m.mustCreate(keys.DefaultAccount), m.mustCreate(keys.DefaultAccount)
	r.keep()
	m.mustUpdate(off.ID, switchOff)
	m.mustDelete(deleted.ID)
	m.mustCreate(keys.DefaultAccount) // will be lost
	await(t, "both know", func() bool { return other.mirror.Version() == m.mirror.Version() })
	r.restore()
	c := look(t, r.server.Addr())
	for _, m := range []*member{m, other} {
		await(t, "it is noticed", func() bool { return m.told.read(resyncs(ResyncWentBack)) == 1 })
		m.sameSet(c)
		if m.admits(off.ID) || m.admits(deleted.ID) || !m.admits(kept.ID) {
			t.Error("the wrong keys are admitted")
		}
		if n := m.told.read(alarms); n != 1 {
			t.Errorf("%d alarms", n)
		}
		if n := m.told.read(losses); n != 1 {
			t.Errorf("%d lost keys counted", n)
		}
	}
	if n := m.told.read(reassertions) + other.told.read(reassertions); n != 2 {
		t.Errorf("%d re-assertions counted", n)
	}
	c.consistent()
}

func TestOldDumpIsRefusedByAllWhoRememberMoreWhenNobodyIsLeft(t *testing.T) {
	r := newRollback(t)
	dir := t.TempDir()
	m := join(t, r.server.Addr(), remembering(dir))
	off := m.mustCreate(keys.DefaultAccount)
	r.keep()
	m.mustUpdate(off.ID, switchOff)
	m.sameSet(look(t, r.server.Addr()))
	m.crash()
	r.restore()

	again := enter(t, r.server.Addr(), remembering(dir))
	await(t, "the alarm", func() bool { return again.told.read(alarms) == 1 })
	again.refuses(off.ID)
	// A process that remembers nothing cannot know. It moves the store's version above the
	// one remembered, which is no reason for the other to believe it.
	newcomer := join(t, r.server.Addr(), nil)
	newcomer.mustCreate(keys.DefaultAccount)
	polls := again.told.read(failures)
	await(t, "it is still refused", func() bool { return again.told.read(failures) >= polls+3 })
	if again.mirror.Fresh() == nil {
		t.Fatal("a store that lacks what is remembered is served")
	}
	again.crash()
	if err := Accept(filepath.Join(dir, "state")); err != nil {
		t.Fatal(err)
	}
	join(t, r.server.Addr(), remembering(dir))
}

// TestLossThatOthersHaveMadeGoodKeepsNobodyOut restarts a process that remembers a
// version which was lost while another knew it.
func TestLossThatOthersHaveMadeGoodKeepsNobodyOut(t *testing.T) {
	r := newRollback(t)
	dir := t.TempDir()
	m, other := join(t, r.server.Addr(), remembering(dir)), join(t, r.server.Addr(), nil)
	off := m.mustCreate(keys.DefaultAccount)
	r.keep()
	m.mustUpdate(off.ID, switchOff)
	c := look(t, r.server.Addr())
	m.sameSet(c)
	other.sameSet(c)
	m.crash()
	r.restore()
	await(t, "the other has made it good", func() bool { return other.told.read(reassertions) == 1 })
	if join(t, r.server.Addr(), remembering(dir)).admits(off.ID) {
		t.Error("the revoked key is admitted")
	}
}
