package cache

import (
	"errors"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"keystile/keys"
)

// grant returns a grant of id with a version.
func grant(id keys.ID, version uint64) keys.Grant {
	return keys.Grant{
		ID: id, Account: "default", Active: true, Version: version,
		Digests: [2]keys.Digest{{Scheme: keys.SHA256}},
	}
}

func set(id keys.ID, version uint64) keys.Change {
	return keys.Change{Version: version, ID: id, Grant: grant(id, version)}
}

// sequence yields grants without an error.
func sequence(grants ...keys.Grant) iter.Seq2[keys.Grant, error] {
	return func(yield func(keys.Grant, error) bool) {
		for _, g := range grants {
			if !yield(g, nil) {
				return
			}
		}
	}
}

// loaded returns a Mirror that holds grants.
func loaded(t testing.TB, version uint64, grants ...keys.Grant) *Mirror {
	t.Helper()
	m := NewMirror()
	if err := m.Load(version, sequence(grants...)); err != nil {
		t.Fatal(err)
	}
	return m
}

// observed is one call of an Observer.
type observed struct {
	ID      keys.ID
	Grant   keys.Grant
	Present bool
}

func observe(m *Mirror) *[]observed {
	var all []observed
	m.Observe(func(id keys.ID, g keys.Grant, present bool) { all = append(all, observed{id, g, present}) })
	return &all
}

func TestMirrorAnswersByTheLastChange(t *testing.T) {
	m, id := loaded(t, 0), keys.NewID()
	if _, ok := m.Get(id); ok {
		t.Error("an empty mirror has a key")
	}
	m.Apply(set(id, 3))
	if g, ok := m.Get(id); !ok || *g != grant(id, 3) || m.Version() != 3 || m.Len() != 1 {
		t.Errorf("after a change: %v %v, version %d, %d keys", g, ok, m.Version(), m.Len())
	}
	m.Apply(keys.Change{Version: 7, ID: id, Deleted: true})
	if g, ok := m.Get(id); ok || *g != (keys.Grant{}) || m.Version() != 7 || m.Len() != 0 {
		t.Errorf("after a deletion: %v %v, version %d, %d keys", g, ok, m.Version(), m.Len())
	}
}

func TestMirrorTakesOnlyHigherVersions(t *testing.T) {
	a, b := keys.NewID(), keys.NewID()
	m := loaded(t, 5, grant(a, 5))
	told := observe(m)
	m.Apply(keys.Change{Version: 5, ID: a, Deleted: true})
	m.Apply(set(a, 4))
	m.Apply(set(b, 2))
	if g, _ := m.Get(a); g.Version != 5 || m.Len() != 1 || m.Version() != 5 || len(*told) != 0 {
		t.Errorf("an old change was taken: %v, %d keys, version %d, told %v", g, m.Len(), m.Version(), *told)
	}
	m.Apply(set(b, 6))
	m.Apply(keys.Change{Version: 7, ID: b, Deleted: true})
	m.Apply(set(b, 6))
	if _, ok := m.Get(b); ok {
		t.Error("a deleted key came back by an old change")
	}
	m.Apply(keys.Change{Version: 9})
	if m.Version() != 9 || m.Len() != 1 || len(*told) != 2 {
		t.Errorf("a change without a key does more than move the version: %d, %d keys, told %v", m.Version(), m.Len(), *told)
	}
}

func TestMirrorIsCurrentForExactlyOneVersion(t *testing.T) {
	id := keys.NewID()
	m := loaded(t, 1, grant(id, 1))
	first, _ := m.Get(id)
	if !m.Current(id, first.Version) {
		t.Error("the grant that was just read is not current")
	}
	m.Apply(set(id, 2))
	second, _ := m.Get(id)
	if m.Current(id, first.Version) || !m.Current(id, second.Version) {
		t.Error("after a change the old grant is current, or the new one is not")
	}
	m.Apply(keys.Change{Version: 3, ID: id, Deleted: true})
	if m.Current(id, second.Version) || m.Current(keys.ID{}, 0) || m.Current(keys.NewID(), 0) {
		t.Error("an absent grant is current")
	}
}

func TestObserversAreToldAfterTheSwapAndBeforeApplyReturns(t *testing.T) {
	m, id := loaded(t, 0), keys.NewID()
	var seen []keys.Grant
	m.Observe(func(id keys.ID, g keys.Grant, present bool) {
		if now, ok := m.Get(id); ok != present || *now != g {
			t.Errorf("told of %v, but Get says %v", g, now)
		}
		seen = append(seen, g)
	})
	m.Apply(set(id, 1))
	m.Apply(keys.Change{Version: 2, ID: id, Deleted: true, Grant: grant(id, 2)})
	if diff := cmp.Diff([]keys.Grant{grant(id, 1), {}}, seen); diff != "" {
		t.Error(diff)
	}
}

func TestMirrorIsFreshOnlyWhileLoaded(t *testing.T) {
	m := NewMirror()
	if err := m.Fresh(); !errors.Is(err, keys.ErrUnavailable) {
		t.Errorf("before it is loaded: %v", err)
	}
	broken := errors.New("broken")
	half := func(yield func(keys.Grant, error) bool) {
		_ = yield(grant(keys.NewID(), 1), nil) && yield(keys.Grant{}, broken)
	}
	if err := m.Load(1, half); !errors.Is(err, broken) || m.Fresh() == nil || m.Len() != 0 || m.Version() != 0 {
		t.Errorf("after half a load: %v, fresh %v, %d keys", err, m.Fresh(), m.Len())
	}
	if err := m.Load(1, sequence()); err != nil || m.Age() != 0 {
		t.Errorf("after a load: %v, fresh %v", err, m.Fresh())
	}
	m.fresh.set(proof{why: errClosed})
	if !errors.Is(m.Fresh(), errClosed) {
		t.Errorf("after it has expired: %v", m.Fresh())
	}
}

func TestLoadReplacesTheSetAndTellsTheDifferences(t *testing.T) {
	same, changed, gone, fresh := keys.NewID(), keys.NewID(), keys.NewID(), keys.NewID()
	m := loaded(t, 9, grant(same, 1), grant(changed, 2), grant(gone, 3))
	told := observe(m)
	if err := m.Load(5, sequence(grant(fresh, 5), grant(changed, 4), grant(same, 1))); err != nil {
		t.Fatal(err)
	}
	got := map[keys.ID]observed{}
	for _, o := range *told {
		got[o.ID] = o
	}
	want := map[keys.ID]observed{
		gone:    {ID: gone},
		changed: {changed, grant(changed, 4), true},
		fresh:   {fresh, grant(fresh, 5), true},
	}
	if diff := cmp.Diff(want, got); diff != "" || len(*told) != len(want) {
		t.Errorf("told %d times: %s", len(*told), diff)
	}
	if _, ok := m.Get(gone); ok || m.Len() != 3 || m.Version() != 5 {
		t.Errorf("%d keys, version %d", m.Len(), m.Version())
	}
}

func TestAccountNamesAreKeptOnce(t *testing.T) {
	m := loaded(t, 0)
	var ids []keys.ID
	for i := range 100 {
		g := grant(keys.NewID(), uint64(i+1))
		g.Account = fmt.Sprint("account ", i%4)
		m.Apply(keys.Change{Version: g.Version, ID: g.ID, Grant: g})
		ids = append(ids, g.ID)
	}
	accounts := m.table.Load().accounts
	if len(accounts) != 4 || accounts["account 0"].keys != 25 {
		t.Errorf("accounts: %v", accounts)
	}
	for i, id := range ids {
		m.Apply(keys.Change{Version: uint64(200 + i), ID: id, Deleted: true})
	}
	if len(accounts) != 0 {
		t.Errorf("names without a key: %v", accounts)
	}
}

// TestMirrorDoesWhatAMapDoes runs random changes over few keys with few hashes.
func TestMirrorDoesWhatAMapDoes(t *testing.T) {
	ids := make([]keys.ID, 40)
	for i := range ids {
		ids[i] = keys.NewID()
	}
	rapid.Check(t, func(t *rapid.T) {
		m, want := NewMirror(), map[keys.ID]keys.Grant{}
		for version := range uint64(rapid.IntRange(1, 300).Draw(t, "changes")) {
			change := set(rapid.SampledFrom(ids).Draw(t, "key"), version+1)
			change.Grant.Active = rapid.Bool().Draw(t, "active")
			if change.Deleted = rapid.IntRange(0, 2).Draw(t, "deleted") == 0; change.Deleted {
				delete(want, change.ID)
			} else {
				want[change.ID] = change.Grant
			}
			m.Apply(change)
		}
		sameAsMap(t, m, ids, want)
	})
}

func sameAsMap(t *rapid.T, m *Mirror, ids []keys.ID, want map[keys.ID]keys.Grant) {
	active, inactive := 0, 0
	for _, id := range ids {
		wanted, present := want[id]
		if g, ok := m.Get(id); ok != present || *g != wanted {
			t.Fatalf("%s: %v %v, want %v", id, g, ok, wanted)
		}
		switch {
		case present && wanted.Active:
			active++
		case present:
			inactive++
		}
	}
	if a, i := m.Counts(); a != active || i != inactive || m.Len() != len(want) {
		t.Fatalf("counts %d and %d, %d keys; want %d and %d", a, i, m.Len(), active, inactive)
	}
	nodes := 0
	for range m.table.Load().all() {
		nodes++
	}
	if nodes != len(want) {
		t.Fatalf("the table has %d nodes for %d keys", nodes, len(want))
	}
}

// TestReadersNeverMissAPresentKey reads keys that stay, while others come and go and
// the table splits its buckets.
func TestReadersNeverMissAPresentKey(t *testing.T) {
	for round := range 20 {
		stay := make([]keys.ID, 50)
		m := loaded(t, 0)
		for i := range stay {
			stay[i] = keys.NewID()
			m.Apply(set(stay[i], uint64(i+1)))
		}
		var over atomic.Bool
		var wait sync.WaitGroup
		for range 2 {
			wait.Go(func() { readSteadily(t, m, stay, &over) })
		}
		version, others := m.Version(), make([]keys.ID, 3000)
		for i := range others {
			others[i] = keys.NewID()
			m.Apply(set(others[i], version+1))
			m.Apply(set(stay[i%len(stay)], version+2))
			if version += 2; i%3 == 2 {
				version++
				m.Apply(keys.Change{Version: version, ID: others[i-1], Deleted: true})
			}
		}
		over.Store(true)
		wait.Wait()
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
}

// readSteadily reads until it is over: every key is there, and its version, read
// again, never goes back.
func readSteadily(t *testing.T, m *Mirror, stay []keys.ID, over *atomic.Bool) {
	last := make([]uint64, len(stay))
	for !over.Load() {
		for i, id := range stay {
			g, ok := m.Get(id)
			if !ok || g.ID != id || g.Version < last[i] {
				t.Errorf("a present key: %v %v after version %d", ok, g.Version, last[i])
				return
			}
			last[i] = g.Version
		}
	}
}

// TestNothingOldIsReadAfterApplyReturns has a reader ask after each change of a
// writer whether it is there.
func TestNothingOldIsReadAfterApplyReturns(t *testing.T) {
	m, id := loaded(t, 0), keys.NewID()
	var applied atomic.Uint64
	done := make(chan struct{})
	const last = 19_999
	go func() {
		defer close(done)
		for least := uint64(0); least < last; {
			least = applied.Load()
			if g, _ := m.Get(id); g.Version < least {
				t.Errorf("after version %d was applied, %d was read", least, g.Version)
				return
			}
		}
	}()
	for version := uint64(1); version <= last; version += 2 {
		m.Apply(set(id, version))
		applied.Store(version)
		m.Apply(set(keys.NewID(), version+1))
	}
	<-done
}

func BenchmarkMirrorGet(b *testing.B) {
	for _, size := range []int{10_000, 1_000_000} {
		m, ids := filled(b, size)
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, ok := m.Get(ids[i*7919%size]); !ok {
					b.Fatal("missing")
				}
			}
		})
	}
}

// filled returns a Mirror with size keys of ten to an account, and their ids in
// random order.
func filled(t testing.TB, size int) (*Mirror, []keys.ID) {
	t.Helper()
	m, ids := NewMirror(), make([]keys.ID, size)
	err := m.Load(uint64(size), func(yield func(keys.Grant, error) bool) {
		for i := range ids {
			ids[i] = keys.NewID()
			g := grant(ids[i], uint64(i+1))
			g.Account = fmt.Sprint("account ", i/10)
			if !yield(g, nil) {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return m, ids
}
