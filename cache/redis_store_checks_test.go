package cache

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"keystile/cache/redistest"
	"keystile/keys"
)

// openRefused returns the error of a store that must be refused. OpenRedis also succeeds
// when the server could not be asked in time, so it is tried three times; nil: it was
// opened each time.
func openRefused(t *testing.T, o RedisOptions) error {
	t.Helper()
	for range 3 {
		r, err := OpenRedis(t.Context(), o)
		if err != nil {
			return err
		}
		_ = r.Close()
	}
	return nil
}

// cannotOpenRedis opens a store that must be refused with these words.
func cannotOpenRedis(t *testing.T, address string, amend func(*RedisOptions), words ...string) error {
	t.Helper()
	o := RedisOptions{Server: RedisServer{Addresses: []string{address}}, Mirror: NewMirror()}
	if amend != nil {
		amend(&o)
	}
	err := openRefused(t, o)
	if err == nil {
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

func TestEvictingServerIsRefusedBeforeAnythingIsWritten(t *testing.T) {
	for _, policy := range []string{"allkeys-lru", "volatile-ttl"} {
		server := startServer(t, "maxmemory 100mb", "maxmemory-policy "+policy)
		err := cannotOpenRedis(t, server.Addr(), nil, "evict", policy, "noeviction")
		if !errors.Is(err, ErrSettings) {
			t.Errorf("%v is not known as a matter of settings", err)
		}
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
	key := m.mustCreate(keys.DefaultAccount)
	everywhere := func() bool {
		return m.mustUpdate(key.ID, func(r *keys.Record) error { r.Active = !r.Active; return nil }).Everywhere()
	}
	await(t, "everywhere from the start", everywhere)
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

// TestFullServerRefusesChangesAndTheRecordsLapse: there is no room, in memory or on disk: nothing is acknowledged, nobody
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
			key := m.mustCreate(keys.DefaultAccount)
			c.fill(t, server)
			if _, _, err := m.Update(t.Context(), key.ID, switchOff); !errors.Is(err, keys.ErrUnavailable) {
				t.Errorf("Update: %v", err)
			}
			if _, err := m.Create(t.Context(), newDraft(keys.DefaultAccount, "")); !errors.Is(err, keys.ErrUnavailable) {
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
			join(t, primary.Addr(), nil).mustCreate(keys.DefaultAccount)
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
	key := allowed.mustCreate(keys.DefaultAccount)
	unfenced := func(p keys.Pending) bool { return strings.Contains(p.Proxy, "not fenced") }
	if receipt := allowed.mustUpdate(key.ID, switchOff); !slices.ContainsFunc(receipt.Pending, unfenced) {
		t.Errorf("the receipt says %+v", receipt)
	}
	proxy.Disconnect() // the process that was there before finds out with its next check
	await(t, "who was not asked says everywhere no more", func() bool {
		return !before.mustUpdate(key.ID, func(r *keys.Record) error { r.Active = !r.Active; return nil }).Everywhere()
	})

	primary.Must("CONFIG", "SET", "min-replicas-to-write", "1")
	fenced := join(t, primary.Addr(), unhurried)
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
		const staleness = 3 * patience // so long that no successor waits for it by chance
		address, dir := start(), t.TempDir()
		killed := join(t, address, func(o *RedisOptions) {
			o.StateFile, o.Name, o.MaxStaleness = filepath.Join(dir, "state"), "killed", staleness
		})
		m := join(t, address, func(o *RedisOptions) { o.ReceiptDeadline = 100 * time.Millisecond })
		key := m.mustCreate(keys.DefaultAccount)
		killed.sameSet(look(t, address))
		crashed := time.Now()
		killed.crash()
		toggle := func(r *keys.Record) error { r.Active = !r.Active; return nil }
		var receipt keys.Receipt
		await(t, "all others have applied a change", func() bool {
			if receipt = m.mustUpdate(key.ID, toggle); receipt.Everywhere() {
				t.Fatal("nobody knows that the process is dead, and the receipt says everywhere")
			}
			return len(receipt.Pending) == 1 && receipt.Pending[0].Proxy == "killed"
		})
		// Its row is looked at every second, and once more for the receipt.
		if by := receipt.Pending[0].EffectiveBy; by.Before(crashed.Add(staleness-patience)) || by.After(time.Now().Add(staleness+staleness/100)) {
			t.Errorf("it is effective in %v, with a max_staleness of %v", time.Until(by), staleness)
		}
		restarted := enter(t, address, remembering(dir))
		m.o.ReceiptDeadline = patience // whatever the machine is doing
		if receipt := m.mustUpdate(key.ID, toggle); !receipt.Everywhere() {
			t.Errorf("with the successor there: %+v", receipt)
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
	m := join(t, address, unhurried)
	key := m.mustCreate(keys.DefaultAccount)
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
	key := m.mustCreate(keys.DefaultAccount)
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
		draft := newDraft(keys.DefaultAccount, "name")
		draft.Operation = keys.Operation{Key: "once"}
		first, err := m.Create(t.Context(), draft)
		if err != nil {
			t.Fatal(err)
		}
		m.mustUpdate(first.Record.ID, rename("another"))
		if _, err := m.Create(t.Context(), newDraft(keys.DefaultAccount, "name")); err != nil {
			t.Fatal(err)
		}
		again := newDraft(keys.DefaultAccount, "name")
		again.Operation = draft.Operation
		created, err := m.Create(t.Context(), again)
		if err != nil || !created.Replayed || created.Record.ID != first.Record.ID || created.Record.Name != "another" {
			t.Errorf("replayed: %+v, %v", created, err)
		}
	})
}

// TestServerThatComesBackWithWrongSettingsIsToldInTheLog: that it was away was told before,
// and does not say what to do now.
func TestServerThatComesBackWithWrongSettingsIsToldInTheLog(t *testing.T) {
	peppers, err := keys.NewPeppers(bytes.Repeat([]byte("a"), keys.MinPepperLength))
	if err != nil {
		t.Fatal(err)
	}
	with := startServer(t)
	join(t, with.Addr(), func(o *RedisOptions) { o.Peppers = peppers })
	for words, server := range map[string]*redistest.Server{
		"set maxmemory-policy noeviction": startServer(t, "maxmemory 100mb", "maxmemory-policy allkeys-lru"),
		ErrPepperMismatch.Error():         with,
	} {
		link := redistest.NewProxy(t, server.Addr())
		link.SetMode(redistest.Cut)
		var log lines
		m := enter(t, link.Addr(), func(o *RedisOptions) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
		await(t, "that it is away is told", func() bool { return log.count("store_unreachable") == 1 })
		link.SetMode(redistest.Pass)
		await(t, "what is wrong is told: "+words, func() bool { return log.count(words) > 0 })
		m.polls(3)
		if n := log.count("store_unreachable"); n != 2 || m.mirror.Fresh() == nil {
			t.Errorf("%q: %d failures were told, fresh: %v", words, n, m.mirror.Fresh())
		}
	}
}
