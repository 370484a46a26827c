package cache

import (
	"fmt"
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

// TestEqualVersionsWithDifferentContentInactiveWins gives the store another content
// under the version that the members have.
func TestEqualVersionsWithDifferentContentInactiveWins(t *testing.T) {
	kinds(t, func(t *testing.T, start func() string) {
		address := start()
		m := join(t, address, nil)
		c := look(t, address)
		off, on := m.mustCreate(keys.DefaultAccount), m.mustCreate(keys.DefaultAccount)
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
		key := m.mustCreate(keys.DefaultAccount)
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
		revoked, revived := other.mustCreate(keys.DefaultAccount), other.mustCreate(keys.DefaultAccount)
		other.mustUpdate(revived.ID, switchOff)
		behind.sameSet(look(t, address))
		proxy.SetMode(redistest.Cut)
		other.mustUpdate(revoked.ID, switchOff)
		other.mustUpdate(revived.ID, switchOn)
		for range 5 {
			other.mustCreate(keys.DefaultAccount)
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
		key := other.mustCreate(keys.DefaultAccount)
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
		key := other.mustCreate(keys.DefaultAccount)
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
	key := m.mustCreate(keys.DefaultAccount)
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
			ids = append(ids, writer.mustCreate(keys.DefaultAccount).ID)
		}
		over, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			churn(writer, ids, over)
		}()
		for range 5 {
			m := join(t, address, nil)
			if n := m.told.read(func(e *told) int { return len(e.resynced) }); n != 1 {
				t.Errorf("%d causes for a resync", n)
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
				created, err = m.Create(m.t.Context(), newDraft(keys.DefaultAccount, ""))
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
// records are always a little behind, and yet proved time after time.
func TestSteadyChangesKeepNobodyFromProvingItsSet(t *testing.T) {
	address := startServer(t).Addr()
	m := join(t, address, nil)
	writer := join(t, address, inHaste)
	over := make(chan struct{})
	var churning sync.WaitGroup
	for range 3 {
		ids := []keys.ID{writer.mustCreate(keys.DefaultAccount).ID, writer.mustCreate(keys.DefaultAccount).ID, writer.mustCreate(keys.DefaultAccount).ID}
		churning.Go(func() { churn(writer, ids, over) })
	}
	began, proved, proofs := m.mirror.Version(), time.Time{}, 0
	await(t, "the set was proved time after time", func() bool {
		if now := m.mirror.fresh.state.Load().proved; now != proved {
			proved = now
			proofs++
		}
		return proofs > 20 && m.mirror.Version() > began+1000
	})
	close(over)
	churning.Wait()
	t.Logf("%d changes were made", m.mirror.Version()-began)
}
