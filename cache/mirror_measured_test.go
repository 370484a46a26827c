//go:build !race

package cache

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"keystile/keys"
)

func TestMeasuredReadingTheMirrorAllocatesNothing(t *testing.T) {
	m, ids := filled(t, 1000)
	m.fresh.renew(time.Now(), time.Hour) // as a store that is polled does
	unknown := keys.NewID()
	i := 0
	if n := testing.AllocsPerRun(1000, func() {
		i++
		g, _ := m.Get(ids[i%len(ids)])
		_, _ = m.Get(unknown)
		if !m.Current(g.ID, g.Version) || m.Fresh() != nil {
			t.Error("a present key is not current, or the mirror not fresh")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// heap returns the bytes of live objects.
func heap() uint64 {
	var s runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}

func TestMeasuredBytesPerKey(t *testing.T) {
	for _, size := range []int{200_000, 1_000_000} {
		ids := make([]keys.ID, size)
		for i := range ids {
			ids[i] = keys.NewID()
		}
		before := heap()
		m := loaded(t, 0)
		for i, id := range ids {
			g := grant(id, uint64(i+1))
			g.Account = fmt.Sprint("account ", i/10)
			m.Apply(keys.Change{Version: g.Version, ID: id, Grant: g})
		}
		each := (heap() - before) / uint64(size)
		t.Logf("%d keys: %d bytes each", size, each)
		if each > 220 {
			t.Errorf("%d keys take %d bytes each, more than 220", size, each)
		}
		runtime.KeepAlive(m)
		runtime.KeepAlive(ids)
	}
}

// TestMeasuredCostOfAChange counts what Apply allocates at two sizes. The greater
// includes the growth of the table, which no single change must pay for.
func TestMeasuredCostOfAChange(t *testing.T) {
	small, large := changeBytes(t, 1000), changeBytes(t, 500_000)
	t.Logf("a change allocates %d bytes at 1,000 keys and %d at 500,000", small, large)
	if large > 2*small {
		t.Errorf("a change allocates %d bytes at 500,000 keys, %d at 1,000", large, small)
	}
}

// changeBytes returns what a change allocates in the mean, when two of four add a key
// (so that the table grows), one switches and one deletes one.
func changeBytes(t *testing.T, size int) uint64 {
	const rounds = 1000
	m, ids := filled(t, size)
	version := m.Version()
	apply := func(c keys.Change) {
		version++
		c.Version, c.Grant.Version = version, version
		m.Apply(c)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range rounds {
		apply(set(keys.NewID(), 0))
		apply(set(keys.NewID(), 0))
		apply(set(ids[i], 0))
		apply(keys.Change{ID: ids[i], Deleted: true})
	}
	runtime.ReadMemStats(&after)
	return (after.TotalAlloc - before.TotalAlloc) / (4 * rounds)
}

// TestMeasuredTimeOfGetAndApply compares with a plain map, turn by turn: on a shared
// machine reading a random place in memory takes 100 ns or 500. On a quiet one, Get
// takes 200 ns.
func TestMeasuredTimeOfGetAndApply(t *testing.T) {
	m, ids := filled(t, 1_000_000)
	plain := make(map[keys.ID]*keys.Grant, len(ids))
	for n := range m.table.Load().all() {
		plain[n.grant.ID] = &n.grant
	}
	rand.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	ids = ids[:200_000]
	get := func(id keys.ID) *keys.Grant { g, _ := m.Get(id); return g }
	look := func(id keys.ID) *keys.Grant { return plain[id] }
	ours, theirs := time.Hour, time.Hour
	for range 7 {
		ours, theirs = min(ours, perRead(t, ids, get)), min(theirs, perRead(t, ids, look))
	}
	start := time.Now()
	for i := range 10_000 {
		m.Apply(set(keys.NewID(), uint64(2_000_000+i)))
	}
	change := time.Since(start) / 10_000
	t.Logf("among 1,000,000 keys: Get %v, a map without locks %v; Apply %v", ours, theirs, change)
	if slow(ours, theirs) || change > time.Millisecond {
		t.Errorf("Get takes %v (a map %v), Apply %v (at most 1ms)", ours, theirs, change)
	}
}

// slow reports whether a read takes more than 300 ns and, on a machine that is slow just
// now, more than three quarters of what a map takes: usual are two fifths.
func slow(ours, theirs time.Duration) bool {
	return ours > 300*time.Nanosecond && ours > theirs*3/4
}

// perRead returns how long one read takes, of all ids in their order. What is looked at
// of a grant lies far enough apart that all of it has to come from memory.
func perRead(t *testing.T, ids []keys.ID, read func(keys.ID) *keys.Grant) time.Duration {
	start := time.Now()
	for _, id := range ids {
		if g := read(id); g.Version == 0 || g.Digests[0].Scheme == 0 {
			t.Fatal("missing, or without a digest")
		}
	}
	return time.Since(start) / time.Duration(len(ids))
}
