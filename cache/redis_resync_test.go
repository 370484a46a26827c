package cache

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"keystile/cache/redistest"
	"keystile/keys"
)

// kinds are the servers that what follows runs on: one has a run_id, the other has not.
func kinds(t *testing.T, check func(t *testing.T, start func() string)) {
	t.Run("redis-server", func(t *testing.T) {
		t.Parallel()
		check(t, func() string { return startServer(t).Addr() })
	})
	t.Run("miniredis", func(t *testing.T) {
		t.Parallel()
		check(t, func() string { return miniredis.RunT(t).Addr() })
	})
}

// copyStore makes another server hold what this one does, as a replica does.
func (c *rawStore) copyStore(to string) *rawStore {
	c.t.Helper()
	other := look(c.t, to)
	names, err := c.Keys(context.Background(), "*").Result()
	if err != nil {
		c.t.Fatal(err)
	}
	for _, name := range names {
		c.copyName(other, name)
	}
	return other
}

func (c *rawStore) copyName(other *rawStore, name string) {
	c.t.Helper()
	switch kind := c.Type(context.Background(), name).Val(); kind {
	case "string":
		other.run("SET", name, c.run("GET", name), "PX", "600000")
	case "hash":
		args := []any{"HSET", name}
		for field, value := range c.HGetAll(context.Background(), name).Val() {
			args = append(args, field, value)
		}
		other.run(args...)
	case "stream":
		for _, m := range c.XRange(context.Background(), name, "-", "+").Val() {
			args := []any{"XADD", name, m.ID}
			for field, value := range m.Values {
				args = append(args, field, value)
			}
			other.run(args...)
		}
	default:
		c.t.Fatalf("%s is a %s", name, kind)
	}
}

// failover is a server with members, and another that takes over without what has
// happened since it was copied.
type failover struct {
	*testing.T
	proxy   *redistest.Proxy
	members []*member
	next    *rawStore
	address string // of next
}

// before starts a server and two members, lets prepare make keys, and copies it.
func before(t *testing.T, start func() string, prepare func(m *member)) *failover {
	first := start()
	f := &failover{T: t, proxy: redistest.NewProxy(t, first), address: start()}
	for range 2 {
		f.members = append(f.members, join(t, f.proxy.Addr(), nil))
	}
	prepare(f.members[0])
	for _, m := range f.members {
		m.sameSet(look(t, first))
	}
	f.next = look(t, first).copyStore(f.address)
	return f
}

// happen does to the first server what will be lost, and waits until all know it.
func (f *failover) happen(change func(m *member)) {
	f.Helper()
	version := f.members[0].mirror.Version()
	change(f.members[0])
	await(f, "all members know what will be lost", func() bool {
		return f.members[0].mirror.Version() > version && f.members[1].mirror.Version() == f.members[0].mirror.Version()
	})
}

// takeOver has the members find the next server, and waits until they serve from it.
func (f *failover) takeOver() {
	f.Helper()
	f.proxy.SetTarget(f.address)
	f.proxy.Disconnect()
	all := len(f.members)
	if !f.hasRun() {
		all = 1 // what one has asserted again may be all that the other misses
	}
	await(f, "the members have seen that the store went back", func() bool {
		return f.count(func(e *told) int { return min(1, e.resynced[ResyncWentBack]+e.resynced[ResyncDigest]) }) >= all
	})
	for _, m := range f.members {
		m.sameSet(f.next)
	}
	f.next.consistent()
}

// hasRun reports whether the servers say which they are.
func (f *failover) hasRun() bool {
	table := f.members[0].table
	table.mu.Lock()
	defer table.mu.Unlock()
	return table.run != ""
}

func (f *failover) count(what func(*told) int) (n int) {
	for _, m := range f.members {
		n += m.told.read(what)
	}
	return n
}

func ends(until time.Time) func(*keys.Record) error {
	return func(r *keys.Record) error {
		r.Digests[1] = r.Digests[0]
		r.Digests[1].Until = until.UnixMilli()
		r.Digests[0] = keys.Digest{Sum: keys.Sum{1}, Scheme: keys.SHA256}
		return nil
	}
}

func TestRevocationThatTheStoreLostIsAssertedAgain(t *testing.T) {
	for name, c := range map[string]struct {
		revoke  func(m *member, id keys.ID)
		revoked func(g keys.Grant, present bool) bool
	}{
		"deleted":      {func(m *member, id keys.ID) { m.mustDelete(id) }, func(_ keys.Grant, present bool) bool { return !present }},
		"switched off": {func(m *member, id keys.ID) { m.mustUpdate(id, switchOff) }, func(g keys.Grant, _ bool) bool { return !g.Active }},
		"its digest taken away": {
			func(m *member, id keys.ID) { m.mustUpdate(id, withdraw) },
			func(g keys.Grant, _ bool) bool { return g.Digests == [2]keys.Digest{} },
		},
		"its digest given an end": {
			func(m *member, id keys.ID) { m.mustUpdate(id, ends(time.UnixMilli(1_900_000_000_000))) },
			func(g keys.Grant, _ bool) bool { return g.Digests[0].Until == 1_900_000_000_000 },
		},
	} {
		t.Run(name, func(t *testing.T) {
			kinds(t, func(t *testing.T, start func() string) {
				var key, other keys.Record
				f := before(t, start, func(m *member) { key, other = m.mustCreate("a"), m.mustCreate("a") })
				f.happen(func(m *member) { c.revoke(m, key.ID) })
				highest := f.members[0].mirror.Version()
				f.takeOver()
				for _, m := range f.members {
					if g, present := m.mirror.Get(key.ID); !c.revoked(g, present) {
						t.Errorf("after the failover the key is %+v, %v", g, present)
					}
					if !m.admits(other.ID) {
						t.Error("a key that nobody touched is refused")
					}
				}
				if n := f.count(reassertions); n != 1 {
					t.Errorf("%d re-assertions counted", n)
				}
				if f.hasRun() && f.count(alarms) < 2 {
					t.Error("no alarm")
				}
				if v, _ := strconv.ParseUint(f.next.hash("meta")["version"], 10, 64); v < highest {
					t.Errorf("the store's version is %d, that of what it lost %d", v, highest)
				}
			})
		})
	}
}

// TestRevocationIsAssertedAgainAlthoughTheKeyWasChangedMeanwhile has an administrator
// rename the key at the new server, before any process that knows of the revocation
// has found it.
func TestRevocationIsAssertedAgainAlthoughTheKeyWasChangedMeanwhile(t *testing.T) {
	for name, revoke := range map[string]func(m *member, id keys.ID){
		"deleted":               func(m *member, id keys.ID) { m.mustDelete(id) },
		"switched off":          func(m *member, id keys.ID) { m.mustUpdate(id, switchOff) },
		"its digest taken away": func(m *member, id keys.ID) { m.mustUpdate(id, withdraw) },
	} {
		for _, changes := range []int{1, 5} {
			t.Run(fmt.Sprintf("%s, %d changes", name, changes), func(t *testing.T) {
				kinds(t, func(t *testing.T, start func() string) {
					var key keys.Record
					f := before(t, start, func(m *member) { key = m.mustCreate("a") })
					f.happen(func(m *member) { revoke(m, key.ID) })
					ignorant := join(t, f.address, inHaste)
					for i := range changes {
						ignorant.mustUpdate(key.ID, rename(fmt.Sprint("renamed ", i)))
					}
					f.takeOver()
					for _, m := range append(f.members, ignorant) {
						await(t, "the key is revoked again", func() bool { return !m.admits(key.ID) })
					}
				})
			})
		}
	}
}

func TestActivationThatTheStoreLostIsNotAssertedAgain(t *testing.T) {
	kinds(t, func(t *testing.T, start func() string) {
		var key keys.Record
		f := before(t, start, func(m *member) {
			key = m.mustCreate("a")
			m.mustUpdate(key.ID, switchOff)
		})
		f.happen(func(m *member) { m.mustUpdate(key.ID, switchOn) })
		highest := f.members[0].mirror.Version()
		f.takeOver()
		if v, _ := strconv.ParseUint(f.next.hash("meta")["version"], 10, 64); v < highest {
			t.Errorf("the store's version is %d, that of what it lost %d", v, highest)
		}
		for _, m := range f.members {
			if m.admits(key.ID) {
				t.Error("a key whose activation was lost is active")
			}
		}
		if n := f.count(reassertions); n != 0 {
			t.Errorf("%d re-assertions counted", n)
		}
	})
}

func TestKeyThatTheStoreLostIsGoneAndCounted(t *testing.T) {
	kinds(t, func(t *testing.T, start func() string) {
		var old, lost, deleted keys.Record
		f := before(t, start, func(m *member) { old, deleted = m.mustCreate("a"), m.mustCreate("a") })
		f.happen(func(m *member) { lost = m.mustCreate("a") })
		join(t, f.address, inHaste).mustDelete(deleted.ID) // there it is known why it is gone
		f.takeOver()
		for _, m := range f.members {
			if m.admits(lost.ID) || m.admits(deleted.ID) || !m.admits(old.ID) {
				t.Error("the wrong keys are admitted")
			}
			if n := m.told.read(losses); n != 1 {
				t.Errorf("%d lost keys counted", n)
			}
		}
	})
}

// TestWhatTheNewServerDecidedSinceHolds does not let knowledge that is merely old win.
func TestWhatTheNewServerDecidedSinceHolds(t *testing.T) {
	kinds(t, func(t *testing.T, start func() string) {
		var off, renamed keys.Record
		f := before(t, start, func(m *member) {
			off, renamed = m.mustCreate("a"), m.mustCreate("a")
			m.mustUpdate(off.ID, switchOff)
		})
		f.happen(func(m *member) { m.mustCreate("b") })
		there := join(t, f.address, inHaste)
		created := there.mustCreate("a")
		there.mustUpdate(renamed.ID, rename("there"))
		if f.hasRun() { // else it is not known where the histories parted, and inactive wins
			there.mustUpdate(off.ID, switchOn)
		}
		f.takeOver()
		m := f.members[1]
		if f.hasRun() && (!m.admits(off.ID) || !m.admits(created.ID)) {
			t.Error("what the new server decided was undone")
		}
		if record, err := m.Get(t.Context(), renamed.ID); err != nil || record.Name != "there" {
			t.Errorf("the name is %q, %v", record.Name, err)
		}
	})
}

// TestEqualVersionsWithDifferentContentInactiveWins gives the store another content
// under the version that the members have.
func TestEqualVersionsWithDifferentContentInactiveWins(t *testing.T) {
	kinds(t, func(t *testing.T, start func() string) {
		address := start()
		m := join(t, address, nil)
		c := look(t, address)
		off, on := m.mustCreate("a"), m.mustCreate("a")
		m.mustUpdate(off.ID, switchOff)
		m.sameSet(c)
		c.tamper(off.ID, line(4, "1"))
		await(t, "inactive wins over the store's active", func() bool { return m.told.read(reassertions) == 1 })
		m.sameSet(c)
		if g, _ := m.mirror.Get(off.ID); g.Active {
			t.Error("the key is active")
		}
		c.tamper(on.ID, line(4, "0"))
		await(t, "the store's inactive wins", func() bool { return m.told.read(resyncs(ResyncDigest)) == 2 })
		m.sameSet(c)
		if g, _ := m.mirror.Get(on.ID); g.Active || m.told.read(reassertions) != 1 {
			t.Error("an activation was asserted again")
		}
		c.consistentButForTheLog()
	})
}

// consistentButForTheLog is for tests that have tampered with records.
func (c *rawStore) consistentButForTheLog() {
	c.t.Helper()
	if got := digestOf(c.hash("records")); strconv.FormatUint(got, 10) != c.hash("meta")["digest"] {
		c.t.Errorf("the digest of the set is %d, meta says %s", got, c.hash("meta")["digest"])
	}
}

// TestRecordThatWasTamperedWithIsNeverServed changes a record but not the digest: no
// set can be proved to be the store's, by nobody.
func TestRecordThatWasTamperedWithIsNeverServed(t *testing.T) {
	kinds(t, func(t *testing.T, start func() string) {
		address := start()
		m := join(t, address, nil)
		key := m.mustCreate("a")
		m.mustUpdate(key.ID, switchOff)
		c := look(t, address)
		text := c.hash("records")[string(key.ID[:])]
		c.run("HSET", "{keystile}:records", string(key.ID[:]), line(4, "1")(text))
		late := enter(t, address, nil)
		await(t, "the new process has tried to load the set", func() bool { return late.told.read(failures) >= 3 })
		if late.mirror.Fresh() == nil || late.mirror.Len() != 0 || m.admits(key.ID) {
			t.Error("a record that nobody has written is served")
		}
	})
}

func TestLogThatNoLongerReachesBackLeadsToAResync(t *testing.T) {
	kinds(t, func(t *testing.T, start func() string) {
		address := start()
		proxy := redistest.NewProxy(t, address)
		behind, other := join(t, proxy.Addr(), nil), join(t, address, inHaste)
		revoked, revived := other.mustCreate("a"), other.mustCreate("a")
		other.mustUpdate(revived.ID, switchOff)
		behind.sameSet(look(t, address))
		proxy.SetMode(redistest.Cut)
		other.mustUpdate(revoked.ID, switchOff)
		other.mustUpdate(revived.ID, switchOn)
		for range 5 {
			other.mustCreate("a")
		}
		look(t, address).run("XTRIM", "{keystile}:log", "MAXLEN", "2")
		proxy.SetMode(redistest.Pass)
		await(t, "the set was read again", func() bool { return behind.told.read(resyncs(ResyncGap)) == 1 })
		behind.sameSet(look(t, address))
		if behind.admits(revoked.ID) || !behind.admits(revived.ID) {
			t.Error("the member does not hold what was decided meanwhile")
		}
		if n := behind.told.read(reassertions) + behind.told.read(losses) + behind.told.read(alarms); n != 0 {
			t.Error("a log that was trimmed was taken for a loss")
		}
	})
}

func TestMoreEntriesThanOnePollTakesAreAllApplied(t *testing.T) {
	kinds(t, func(t *testing.T, start func() string) {
		address := start()
		proxy := redistest.NewProxy(t, address)
		behind, other := join(t, proxy.Addr(), nil), join(t, address, inHaste)
		proxy.SetMode(redistest.Cut)
		key := other.mustCreate("a")
		for i := range 2*pollEntries + 10 {
			other.mustUpdate(key.ID, rename(fmt.Sprint(i)))
		}
		proxy.SetMode(redistest.Pass)
		behind.sameSet(look(t, address))
		if n := behind.told.read(func(e *told) int { return len(e.resynced) }); n != 1 { // the start alone
			t.Errorf("the log was enough, yet %d causes for a resync", n)
		}
	})
}

// TestHintsAreReasonsToPollAndNothingElse loses, doubles, forges and reorders them.
func TestHintsAreReasonsToPollAndNothingElse(t *testing.T) {
	kinds(t, func(t *testing.T, start func() string) {
		address := start()
		m, other := join(t, address, nil), join(t, address, nil)
		c := look(t, address)
		key := other.mustCreate("a")
		for _, hint := range []string{"", "0", "1", "-7", "18446744073709551615", "999999999", "delete everything", key.ID.String(), "2", "1", "1"} {
			c.run("PUBLISH", "{keystile}:hint", hint)
		}
		m.sameSet(c)
		if !m.admits(key.ID) || m.told.read(func(e *told) int { return len(e.resynced) }) != 1 {
			t.Error("a forged hint was believed")
		}
	})
}

// TestChangeReachesEverybodyWithoutAnyHint changes the store by hand: nobody is told.
func TestChangeReachesEverybodyWithoutAnyHint(t *testing.T) {
	address := startServer(t).Addr()
	m := join(t, address, nil)
	key := m.mustCreate("a")
	c := look(t, address)
	m.sameSet(c)
	polls := m.told.read(func(e *told) int { return e.polls })
	await(t, "no hint is on its way any more", func() bool { return m.told.read(func(e *told) int { return e.polls }) > polls+2 })
	before := m.mirror.Version()
	text := line(0, fmt.Sprint(before+1))(line(4, "0")(c.hash("records")[string(key.ID[:])]))
	c.run("EVAL", `
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('HSET', KEYS[2], 'version', ARGV[3], 'digest', ARGV[4])
redis.call('XADD', KEYS[3], ARGV[3] .. '-0', 'p', ARGV[5], 'd', ARGV[6], 'i', ARGV[1], 't', ARGV[2], 'm', '1')
return 1`, "3",
		"{keystile}:records", "{keystile}:meta", "{keystile}:log",
		string(key.ID[:]), text, fmt.Sprint(before+1), fmt.Sprint(digestOf(map[string]string{"": text})), fmt.Sprint(before), c.hash("meta")["digest"])
	await(t, "the next poll finds it", func() bool { return !m.admits(key.ID) })
}

func TestSnapshotOfASetThatChangesMeanwhileIsTheStores(t *testing.T) {
	kinds(t, func(t *testing.T, start func() string) {
		address := start()
		writer := join(t, address, inHaste)
		var ids []keys.ID
		for range 300 {
			ids = append(ids, writer.mustCreate("a").ID)
		}
		over, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			churn(writer, ids, over)
		}()
		for range 5 {
			m := join(t, address, nil)
			if len(m.told.resynced) != 1 {
				t.Errorf("resyncs: %v", m.told.resynced)
			}
		}
		close(over)
		<-stopped
		join(t, address, nil).sameSet(look(t, address))
	})
}

// churn creates, renames, switches and deletes until it is over.
func churn(m *member, ids []keys.ID, over chan struct{}) {
	for i := 0; ; i++ {
		select {
		case <-over:
			return
		default:
		}
		at := i % len(ids)
		var err error
		switch i % 3 {
		case 0:
			_, _, err = m.Update(m.t.Context(), ids[at], rename(fmt.Sprint(ids[at].String(), i)))
		case 1:
			_, _, err = m.Update(m.t.Context(), ids[at], func(r *keys.Record) error { r.Active = !r.Active; return nil })
		case 2:
			var created keys.Created
			if _, err = m.Delete(m.t.Context(), ids[at], nil); err == nil {
				created, err = m.Create(m.t.Context(), newDraft("a", ""))
				ids[at] = created.Record.ID
			}
		}
		if err != nil {
			m.t.Errorf("churning: %v", err)
			return
		}
	}
}

// TestSteadyChangesKeepNobodyFromProvingItsSet makes changes faster than polls come: the
// records are always a little behind, and yet proved.
func TestSteadyChangesKeepNobodyFromProvingItsSet(t *testing.T) {
	address := startServer(t).Addr()
	m := join(t, address, func(o *RedisOptions) { o.MaxStaleness = time.Second })
	writer := join(t, address, inHaste)
	over := make(chan struct{})
	var churning sync.WaitGroup
	for range 3 {
		ids := []keys.ID{writer.mustCreate("a").ID, writer.mustCreate("a").ID, writer.mustCreate("a").ID}
		churning.Go(func() { churn(writer, ids, over) })
	}
	began := m.mirror.Version()
	for until := time.Now().Add(2500 * time.Millisecond); time.Now().Before(until); {
		if err := m.mirror.Fresh(); err != nil {
			t.Errorf("under steady changes: %v", err)
			break
		}
	}
	close(over)
	churning.Wait()
	t.Logf("%d changes were made", m.mirror.Version()-began)
}

// TestWatchersLearnOfAResync sees deletions and changes, in the order of versions.
func TestWatchersLearnOfAResync(t *testing.T) {
	kinds(t, func(t *testing.T, start func() string) {
		var gone, off keys.Record
		f := before(t, start, func(m *member) { gone, off = m.mustCreate("a"), m.mustCreate("a") })
		watched := make(chan keys.Change, 100)
		if err := f.members[1].Watch(t.Context(), func(c keys.Change) { watched <- c }); err != nil {
			t.Fatal(err)
		}
		f.happen(func(m *member) { m.mustCreate("lost") })
		there := join(t, f.address, inHaste)
		there.mustDelete(gone.ID)
		there.mustUpdate(off.ID, switchOff)
		f.takeOver()
		f.members[1].crash() // nothing is told any more
		close(watched)
		last := map[keys.ID]keys.Change{}
		for c := range watched {
			last[c.ID] = c
		}
		if c := last[gone.ID]; !c.Deleted {
			t.Errorf("of the deleted key the watcher knows %+v", c)
		}
		if c := last[off.ID]; c.Deleted || c.Grant.Active {
			t.Errorf("of the key that was switched off the watcher knows %+v", c)
		}
		deleted := 0
		for _, c := range last {
			if c.Deleted {
				deleted++
			}
		}
		if deleted != 2 { // gone, and the lost one
			t.Errorf("%d deletions told", deleted)
		}
	})
}

func TestMoreRevocationsThanOnePageAreAssertedAgain(t *testing.T) {
	var all []keys.ID
	f := before(t, func() string { return startServer(t).Addr() }, func(m *member) {
		for range 150 {
			all = append(all, m.mustCreate("a").ID)
		}
	})
	f.happen(func(m *member) {
		for i, id := range all {
			if i%2 == 0 {
				m.mustDelete(id)
			} else {
				m.mustUpdate(id, switchOff)
			}
		}
	})
	f.takeOver()
	if n := f.count(reassertions); n != len(all) {
		t.Errorf("%d re-assertions counted, want each of %d once", n, len(all))
	}
	if slices.ContainsFunc(all, f.members[0].admits) || slices.ContainsFunc(all, f.members[1].admits) {
		t.Error("a revoked key is admitted")
	}
}
