package cache

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"keystile/cache/redistest"
	"keystile/keys"
)

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

func asItIs(*keys.Record) error { return nil }

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
		was     func(*keys.Record) error
		revoke  func(m *member, id keys.ID)
		revoked func(g *keys.Grant, present bool) bool
	}{
		"deleted":      {asItIs, func(m *member, id keys.ID) { m.mustDelete(id) }, func(_ *keys.Grant, present bool) bool { return !present }},
		"switched off": {asItIs, func(m *member, id keys.ID) { m.mustUpdate(id, switchOff) }, func(g *keys.Grant, _ bool) bool { return !g.Active }},
		"its digest taken away": {
			asItIs,
			func(m *member, id keys.ID) { m.mustUpdate(id, withdraw) },
			func(g *keys.Grant, _ bool) bool { return g.Digests == [2]keys.Digest{} },
		},
		"its old secret ended early": {
			ends(time.UnixMilli(1_900_000_000_000)),
			func(m *member, id keys.ID) {
				m.mustUpdate(id, func(r *keys.Record) error { r.EndOverlap(); return nil })
			},
			func(g *keys.Grant, _ bool) bool { return g.Digests[0].Scheme != 0 && g.Digests[1] == keys.Digest{} },
		},
		"its digest given an end": {
			asItIs,
			func(m *member, id keys.ID) { m.mustUpdate(id, ends(time.UnixMilli(1_900_000_000_000))) },
			func(g *keys.Grant, _ bool) bool { return g.Digests[0].Until == 1_900_000_000_000 },
		},
	} {
		t.Run(name, func(t *testing.T) {
			kinds(t, func(t *testing.T, start func() string) {
				var key, other keys.Record
				f := before(t, start, func(m *member) {
					key, other = m.mustCreate(keys.DefaultAccount), m.mustCreate(keys.DefaultAccount)
					m.mustUpdate(key.ID, c.was)
				})
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
					f := before(t, start, func(m *member) { key = m.mustCreate(keys.DefaultAccount) })
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
			key = m.mustCreate(keys.DefaultAccount)
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
		f := before(t, start, func(m *member) { old, deleted = m.mustCreate(keys.DefaultAccount), m.mustCreate(keys.DefaultAccount) })
		f.happen(func(m *member) { lost = m.mustCreate(keys.DefaultAccount) })
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
			off, renamed = m.mustCreate(keys.DefaultAccount), m.mustCreate(keys.DefaultAccount)
			m.mustUpdate(off.ID, switchOff)
		})
		f.happen(func(m *member) { m.mustCreate(keys.DefaultAccount) })
		there := join(t, f.address, inHaste)
		created := there.mustCreate(keys.DefaultAccount)
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

// TestWatchersLearnOfAResync sees deletions and changes, in the order of versions.
func TestWatchersLearnOfAResync(t *testing.T) {
	kinds(t, func(t *testing.T, start func() string) {
		var gone, off keys.Record
		f := before(t, start, func(m *member) { gone, off = m.mustCreate(keys.DefaultAccount), m.mustCreate(keys.DefaultAccount) })
		watched := make(chan keys.Change, 100)
		if err := f.members[1].Watch(t.Context(), func(c keys.Change) { watched <- c }); err != nil {
			t.Fatal(err)
		}
		f.happen(func(m *member) { m.mustCreate(keys.DefaultAccount) })
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
			all = append(all, m.mustCreate(keys.DefaultAccount).ID)
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
