package cache

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
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
		"List":   func() error { _, err := m.List(ctx, "a"); return err },
		"all":    func() error { _, err := m.List(ctx, ""); return err },
		"Create": func() error { _, err := m.Create(ctx, newDraft("a", "")); return err },
		"Update": func() error { _, _, err := m.Update(ctx, id, switchOff); return err },
		"Delete": func() error { _, err := m.Delete(ctx, id, nil); return err },
		"Touch":  func() error { return m.Touch(ctx, map[keys.ID]time.Time{id: time.Now()}) },
	} {
		if err := call(); !errors.Is(err, keys.ErrUnavailable) || !errors.Is(err, errForeign) {
			m.t.Errorf("%s: %v", what, err)
		}
	}
}

// cannotOpen opens a store that must be refused with these words.
func cannotOpenRedis(t *testing.T, address string, amend func(*RedisOptions), words ...string) error {
	t.Helper()
	o := RedisOptions{Server: RedisServer{Addresses: []string{address}}, Mirror: NewMirror()}
	if amend != nil {
		amend(&o)
	}
	r, err := OpenRedis(t.Context(), o)
	if err == nil {
		_ = r.Close()
		t.Fatal("it was opened")
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q lacks %q", err, word)
		}
	}
	if errors.Is(err, keys.ErrUnavailable) {
		t.Errorf("%v: waiting mends nothing", err)
	}
	return err
}

// size returns how many names the server holds.
func (c *rawStore) size() int64 { return c.DBSize(context.Background()).Val() }

func TestFlushedStoreIsAnAlarmAndNeverAnEmptySet(t *testing.T) {
	kinds(t, func(t *testing.T, start func() string) {
		address, dir := start(), t.TempDir()
		m, other := join(t, address, remembering(dir)), join(t, address, shortLived)
		key := m.mustCreate("a")
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
					_, err := m.Create(t.Context(), newDraft("load", ""))
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
	off, deleted, kept := m.mustCreate("a"), m.mustCreate("a"), m.mustCreate("a")
	r.keep()
	m.mustUpdate(off.ID, switchOff)
	m.mustDelete(deleted.ID)
	m.mustCreate("a") // will be lost
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
	off := m.mustCreate("a")
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
	newcomer.mustCreate("b")
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
	off := m.mustCreate("a")
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

func TestEvictingServerIsRefusedBeforeAnythingIsWritten(t *testing.T) {
	for _, policy := range []string{"allkeys-lru", "volatile-ttl"} {
		server := startServer(t, "maxmemory 100mb", "maxmemory-policy "+policy)
		cannotOpenRedis(t, server.Addr(), nil, "evict", policy, "noeviction")
		if n := look(t, server.Addr()).size(); n != 0 {
			t.Errorf("%d names were written", n)
		}
	}
	join(t, startServer(t, "maxmemory-policy allkeys-lru").Addr(), nil) // without maxmemory nothing is evicted
}

// TestSettingsThatGetWorseEndEverywhere lets a server begin to evict while it serves.
func TestSettingsThatGetWorseEndEverywhere(t *testing.T) {
	server := startServer(t)
	proxy := redistest.NewProxy(t, server.Addr())
	m := join(t, proxy.Addr(), nil)
	key := m.mustCreate("a")
	everywhere := func() bool {
		return m.mustUpdate(key.ID, func(r *keys.Record) error { r.Active = !r.Active; return nil }).Everywhere()
	}
	if !everywhere() {
		t.Fatal("not everywhere from the start")
	}
	server.Must("CONFIG", "SET", "maxmemory", "100mb", "maxmemory-policy", "allkeys-lru")
	proxy.Disconnect() // a new connection is checked at once
	await(t, "nothing is everywhere any more", func() bool { return !everywhere() })
	m.serves()
	server.Must("CONFIG", "SET", "maxmemory-policy", "noeviction")
	proxy.Disconnect()
	await(t, "everywhere again", everywhere)
}

func TestServerWithoutAnAppendOnlyFileIsAWarning(t *testing.T) {
	for _, appendOnly := range []string{"", "everysec"} {
		server := redistest.Start(t, redistest.Options{AppendOnly: appendOnly})
		var text bytes.Buffer
		m := join(t, server.Addr(), func(o *RedisOptions) { o.Log = slog.New(slog.NewTextHandler(&text, nil)) })
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		warned := strings.Count(text.String(), "appendonly yes")
		if want := map[string]int{"": 1, "everysec": 0}[appendOnly]; warned != want {
			t.Errorf("appendfsync %q: %d warnings in %s", appendOnly, warned, text.String())
		}
	}
}

// TestFullServer has no room, in memory or on disk: nothing is acknowledged, nobody
// believes what it cannot prove, and all is well once there is room.
func TestFullServerRefusesChangesAndTheRecordsLapse(t *testing.T) {
	for _, c := range []struct {
		name       string
		lines      []string
		fill, free func(t *testing.T, s *redistest.Server)
	}{
		{
			"memory", nil,
			func(_ *testing.T, s *redistest.Server) { s.Must("CONFIG", "SET", "maxmemory", "1") },
			func(_ *testing.T, s *redistest.Server) { s.Must("CONFIG", "SET", "maxmemory", "0") },
		},
		{"disk", []string{"save 3600 1", "enable-protected-configs local"}, breakSaving, mendSaving},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := startServer(t, c.lines...)
			dir := t.TempDir()
			join(t, server.Addr(), remembering(dir)).crash()
			m := join(t, server.Addr(), shortLived)
			key := m.mustCreate("a")
			c.fill(t, server)
			if _, _, err := m.Update(t.Context(), key.ID, switchOff); !errors.Is(err, keys.ErrUnavailable) {
				t.Errorf("Update: %v", err)
			}
			if _, err := m.Create(t.Context(), newDraft("a", "")); !errors.Is(err, keys.ErrUnavailable) {
				t.Errorf("Create: %v", err)
			}
			await(t, "the records lapse", func() bool { return m.mirror.Fresh() != nil })
			late := enter(t, server.Addr(), remembering(dir)) // not an error: it may pass
			await(t, "a new process tries", func() bool { return late.told.read(failures) >= 2 })
			if m.mirror.Fresh() == nil || late.mirror.Fresh() == nil {
				t.Error("records are fresh that cannot be")
			}
			c.free(t, server)
			m.serves()
			late.serves()
			if !m.admits(key.ID) {
				t.Error("a change that was refused is there")
			}
			m.mustUpdate(key.ID, switchOff)
		})
	}
}

// breakSaving takes the folder away into which the server saves, as a full disk would.
func breakSaving(t *testing.T, s *redistest.Server) {
	gone := filepath.Join(s.Dir(), "gone")
	if err := os.Mkdir(gone, 0o700); err != nil {
		t.Fatal(err)
	}
	s.Must("CONFIG", "SET", "dir", gone)
	if err := os.Remove(gone); err != nil {
		t.Fatal(err)
	}
	save(t, s, "err")
}

func mendSaving(t *testing.T, s *redistest.Server) {
	s.Must("CONFIG", "SET", "dir", s.Dir())
	save(t, s, "ok")
}

func save(t *testing.T, s *redistest.Server, status string) {
	_, _ = s.Command("BGSAVE") // it may say at once that it cannot
	await(t, "the server has saved: "+status, func() bool {
		info := s.Must("INFO", "persistence")
		return infoField(info, "rdb_last_bgsave_status") == status && infoField(info, "rdb_bgsave_in_progress") == "0"
	})
}

func TestReplicaIsRefused(t *testing.T) {
	for _, filled := range []bool{false, true} {
		primary := startServer(t)
		if filled {
			join(t, primary.Addr(), nil).mustCreate("a")
		}
		replica := redistest.Start(t, redistest.Options{ReplicaOf: primary})
		cannotOpenRedis(t, replica.Addr(), nil, "replica", "name the primary")
	}
}

func TestUnfencedPrimaryIsRefusedOrNeverEverywhere(t *testing.T) {
	primary := startServer(t)
	proxy := redistest.NewProxy(t, primary.Addr())
	before := join(t, proxy.Addr(), func(o *RedisOptions) { o.Name = "before" })
	redistest.Start(t, redistest.Options{ReplicaOf: primary})
	cannotOpenRedis(t, primary.Addr(), nil, "min-replicas-to-write", "allow_unfenced")

	allowed := join(t, primary.Addr(), func(o *RedisOptions) { o.AllowUnfenced = true })
	key := allowed.mustCreate("a")
	if receipt := allowed.mustUpdate(key.ID, switchOff); receipt.Everywhere() || !strings.Contains(receipt.Pending[0].Proxy, "not fenced") {
		t.Errorf("the receipt says %+v", receipt)
	}
	proxy.Disconnect() // the process that was there before finds out with its next check
	await(t, "who was not asked says everywhere no more", func() bool {
		return !before.mustUpdate(key.ID, func(r *keys.Record) error { r.Active = !r.Active; return nil }).Everywhere()
	})

	primary.Must("CONFIG", "SET", "min-replicas-to-write", "1")
	fenced := join(t, primary.Addr(), nil)
	if receipt := fenced.mustUpdate(key.ID, func(r *keys.Record) error { r.Active = !r.Active; return nil }); !receipt.Everywhere() {
		t.Errorf("on a fenced primary: %+v", receipt)
	}
}

func TestAnotherPepperIsRefusedByRedisToo(t *testing.T) {
	address := startServer(t).Addr()
	peppers := func(secrets ...string) func(*RedisOptions) {
		var all [][]byte
		for _, s := range secrets {
			all = append(all, bytes.Repeat([]byte(s), keys.MinPepperLength))
		}
		p, err := keys.NewPeppers(all...)
		if err != nil {
			t.Fatal(err)
		}
		return func(o *RedisOptions) { o.Peppers = p }
	}
	join(t, address, peppers("a"))
	for name, amend := range map[string]func(*RedisOptions){"another": peppers("b"), "none": nil, "two others": peppers("b", "c")} {
		if err := cannotOpenRedis(t, address, amend); !errors.Is(err, ErrPepperMismatch) {
			t.Errorf("%s: %v", name, err)
		}
	}
	join(t, address, peppers("b", "a"))
	if err := cannotOpenRedis(t, address, peppers("a")); !errors.Is(err, ErrPepperMismatch) {
		t.Errorf("after the pepper was replaced: %v", err)
	}
}

func TestStateFileIsForOneProcess(t *testing.T) {
	address, dir := startServer(t).Addr(), t.TempDir()
	m := join(t, address, remembering(dir))
	cannotOpenRedis(t, address, remembering(dir), filepath.Join(dir, "state"), "another process")
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	join(t, address, remembering(dir))
}

func TestStateFileThatCannotBeReadIsASentence(t *testing.T) {
	address, path := startServer(t).Addr(), filepath.Join(t.TempDir(), "state")
	if err := os.WriteFile(path, []byte(`{"store":`), 0o600); err != nil {
		t.Fatal(err)
	}
	cannotOpenRedis(t, address, func(o *RedisOptions) { o.StateFile = path }, path, "keystile store accept")
}

func TestProcessThatWasKilledIsWaitedForUnlessItsSuccessorIsThere(t *testing.T) {
	kinds(t, func(t *testing.T, start func() string) {
		address, dir := start(), t.TempDir()
		killed := join(t, address, func(o *RedisOptions) {
			o.StateFile, o.Name, o.MaxStaleness = filepath.Join(dir, "state"), "killed", 3*time.Second
		})
		m := join(t, address, func(o *RedisOptions) { o.ReceiptDeadline = 100 * time.Millisecond })
		key := m.mustCreate("a")
		killed.sameSet(look(t, address))
		killed.crash()
		toggle := func(r *keys.Record) error { r.Active = !r.Active; return nil }
		receipt := m.mustUpdate(key.ID, toggle)
		if receipt.Everywhere() || len(receipt.Pending) != 1 || receipt.Pending[0].Proxy != "killed" {
			t.Fatalf("nobody knows that the process is dead, and the receipt says %+v", receipt)
		}
		if left := time.Until(receipt.Pending[0].EffectiveBy); left < 2*time.Second || left > 3100*time.Millisecond {
			t.Errorf("it is effective in %v, with a max_staleness of 3s", left)
		}
		restarted := enter(t, address, remembering(dir))
		m.o.ReceiptDeadline = patience // whatever the machine is doing
		began := time.Now()
		if receipt := m.mustUpdate(key.ID, toggle); !receipt.Everywhere() || time.Since(began) > 2500*time.Millisecond {
			t.Errorf("after %v, with the successor there: %+v", time.Since(began), receipt)
		}
		restarted.serves()
		if rows := look(t, address).hash("proxies"); len(rows) != 2 {
			t.Errorf("the table has %d rows: %v", len(rows), rows)
		}
	})
}

func TestProcessThatLapsedIsNotWaitedFor(t *testing.T) {
	address := startServer(t).Addr()
	killed := join(t, address, func(o *RedisOptions) { o.Name, o.MaxStaleness = "killed", 500*time.Millisecond })
	m := join(t, address, nil)
	key := m.mustCreate("a")
	killed.crash()
	if receipt := m.mustUpdate(key.ID, switchOff); !receipt.Everywhere() {
		t.Errorf("the receipt says %+v", receipt)
	}
	await(t, "the row is taken out of the table", func() bool { return len(look(t, address).hash("proxies")) == 1 })
}

// TestChangeThatChangesNothingStillAwaitsTheReplicas asks again for what a replica that
// stands still lacks, on connections that have written nothing themselves.
func TestChangeThatChangesNothingStillAwaitsTheReplicas(t *testing.T) {
	primary := startServer(t, "min-replicas-to-write 1", "min-replicas-max-lag 60")
	replica := redistest.Start(t, redistest.Options{ReplicaOf: primary})
	replicated := func(o *RedisOptions) { o.WaitReplicas = 1 }
	m, other := join(t, primary.Addr(), replicated), join(t, primary.Addr(), replicated)
	key := m.mustCreate("a")
	var idle [3]*session // of before the change, which is what is asked next
	for i := range idle {
		var err error
		if idle[i], err = other.connect(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range idle {
		other.release(s, nil)
	}
	written := primary.Must("INFO", "replication")
	await(t, "the replica has acknowledged what was before", func() bool {
		_, now, _ := strings.Cut(infoField(primary.Must("INFO", "replication"), "slave0"), "offset=")
		acknowledged, _, _ := strings.Cut(now, ",")
		return parseNumber(acknowledged) >= parseNumber(infoField(written, "master_repl_offset"))
	})
	replica.Stop()
	for i, m := range []*member{m, other, m} {
		receipt := m.mustUpdate(key.ID, switchOff)
		if receipt.Everywhere() || receipt.Replicas != (keys.Replicas{Want: 1}) {
			t.Errorf("request %d, with the replica standing still: %+v", i, receipt)
		}
	}
	replica.Continue()
	await(t, "the replica has it", func() bool { return other.mustUpdate(key.ID, switchOff).Everywhere() })
}

// TestReplayedCreateNamesItsOwnKey has another key under the name of the one that is
// replayed.
func TestReplayedCreateNamesItsOwnKey(t *testing.T) {
	kinds(t, func(t *testing.T, start func() string) {
		m := join(t, start(), nil)
		draft := newDraft("a", "name")
		draft.Operation = keys.Operation{Key: "once"}
		first, err := m.Create(t.Context(), draft)
		if err != nil {
			t.Fatal(err)
		}
		m.mustUpdate(first.Record.ID, rename("another"))
		if _, err := m.Create(t.Context(), newDraft("a", "name")); err != nil {
			t.Fatal(err)
		}
		again := newDraft("a", "name")
		again.Operation = draft.Operation
		created, err := m.Create(t.Context(), again)
		if err != nil || !created.Replayed || created.Record.ID != first.Record.ID || created.Record.Name != "another" {
			t.Errorf("replayed: %+v, %v", created, err)
		}
	})
}
