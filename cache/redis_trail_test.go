package cache

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/redis/go-redis/v9"

	"keystile/cache/redistest"
	"keystile/keys"
)

// busy makes n changes of all sorts.
func (m *member) busy(n int) {
	var key keys.Record
	for i := range n {
		var err error
		switch i % 4 {
		case 0:
			var made keys.Created
			made, err = m.Create(m.t.Context(), newDraft(keys.DefaultAccount, []string{"", key.ID.String()}[i/4%2]))
			key = made.Record
		case 1:
			_, _, err = m.Update(m.t.Context(), key.ID, switchOff)
		case 2:
			_, _, err = m.UpdateAccount(m.t.Context(), keys.DefaultAccount, func(a *keys.Account) error { a.Name = key.ID.String(); return nil })
		case 3:
			_, err = m.Delete(m.t.Context(), key.ID, nil)
		}
		if err != nil {
			m.t.Errorf("change %d: %v", i, err)
			return
		}
	}
}

func TestTwoProcessesAtOnceMakeOneChain(t *testing.T) {
	kinds(t, func(t *testing.T, start func() string) {
		address := start()
		a, b := join(t, address, inHaste), join(t, address, inHaste)
		const each = 200
		var both sync.WaitGroup
		for _, m := range []*member{a, b} {
			for range 2 { // in each process too
				both.Go(func() { m.busy(each / 2) })
			}
		}
		both.Wait()
		c := look(t, address)
		entries := c.trail(b)
		if len(entries) != 2*each {
			t.Errorf("%d changes left %d entries", 2*each, len(entries))
		}
		byVersion := map[uint64]keys.Entry{}
		for _, e := range entries {
			byVersion[e.Version] = e
		}
		for _, change := range c.log() {
			e, there := byVersion[change.version]
			if change.before+1 == change.version && !there {
				t.Errorf("the change to version %d has no entry", change.version)
			}
			if change.id != (keys.ID{}) && e.Subject != change.id.String() {
				t.Errorf("version %d changed %s, the entry says %s", change.version, change.id, e.Subject)
			}
		}
		c.consistent()
		a.sameSet(c)
	})
}

// scriptCalls counts what a server has been asked to run.
func scriptCalls(server *redistest.Server) (n int) {
	for line := range strings.Lines(server.Must("INFO", "commandstats")) {
		if rest, found := strings.CutPrefix(line, "cmdstat_evalsha:calls="); found {
			_, _ = fmt.Sscanf(rest, "%d", &n)
		}
	}
	return n
}

// TestChangeWithoutAnotherProcessIsOneCall counts calls beside a store that polls nothing.
func TestChangeWithoutAnotherProcessIsOneCall(t *testing.T) {
	server := startServer(t)
	join(t, server.Addr(), nil).crash() // the store is there
	r, err := DialRedis(t.Context(), RedisOptions{
		Server: RedisServer{Addresses: []string{server.Addr()}}, ReceiptDeadline: 1, PerAccount: 1000,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	create := func() {
		draft := newDraft(keys.DefaultAccount, "")
		draft.Name = draft.ID.String()
		if _, err := r.Create(t.Context(), draft); err != nil {
			t.Fatal(err)
		}
	}
	create() // finds out where the trail has got to
	before := scriptCalls(server)
	for range 10 {
		create()
	}
	if n := scriptCalls(server) - before; n != 10 {
		t.Errorf("10 changes took %d calls", n)
	}
}

// TestHeadThatAnotherProcessMovedIsSealedAgain has another process change the store between
// the changes of one.
func TestHeadThatAnotherProcessMovedIsSealedAgain(t *testing.T) {
	kinds(t, func(t *testing.T, start func() string) {
		address := start()
		a, b := join(t, address, inHaste), join(t, address, inHaste)
		c := look(t, address)
		for i := range 5 {
			a.mustCreate(keys.DefaultAccount)
			b.mustCreate(keys.DefaultAccount)
			if n := len(c.trail(a)); n != 2*(i+1) {
				t.Errorf("after %d changes there are %d entries", 2*(i+1), n)
			}
		}
		// The version alone moves, too.
		s, err := a.acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.call(t.Context(), s, a.scripts.raise, nil, 1000); err != nil {
			t.Fatal(err)
		}
		a.release(s, nil)
		key := b.mustCreate(keys.DefaultAccount)
		if entries := c.trail(b); key.Version != 1001 || entries[len(entries)-1].Version != 1001 {
			t.Errorf("the key has version %d, its entry %d, want 1001", key.Version, entries[len(entries)-1].Version)
		}
	})
}

// TestEntrySealedForAnotherMomentIsNotKept calls the scripts as a process would whose
// request was on its way for long.
func TestEntrySealedForAnotherMomentIsNotKept(t *testing.T) {
	scripted(t, func(x *scriptTest) {
		id := anID()
		x.says(x.create("1", id, "one"), "done", "1")
		late := x.sealed(id, "1", "two", "1", "{}")
		x.says(x.update("2", id, "1", "one", "0"), "done", "2")
		names := []string{x.r.namesOf(keys.DefaultAccount), x.r.operationName("late")}
		head := x.store.hash("meta")["head"]
		x.unchanged("a late request", func() {
			x.says(x.call(x.r.scripts.update, names, late...), "conflict")
			late[6] = "2" // of the record as it is, but of the trail as it was
			x.says(x.call(x.r.scripts.update, names, late...), "moved", "2", head)
			late[0] = "2"
			x.says(x.call(x.r.scripts.update, names, late...), "moved", "2", head)
			late[0], late[1] = "1", head
			x.says(x.call(x.r.scripts.update, names, late...), "moved", "2", head)
		})
		late[0] = "2"
		x.unchanged("an entry whose number is taken", func() {
			if answer, err := x.r.call(x.Context(), x.s, x.r.scripts.update, names, late...); err == nil {
				x.Errorf("it is kept: %q", answer)
			}
		})
	})
}

func TestLostReplyOfAnyChangeLeavesOneEntry(t *testing.T) {
	server := startServer(t)
	proxy := redistest.NewProxy(t, server.Addr())
	m := join(t, proxy.Addr(), inHaste)
	onlook := join(t, server.Addr(), nil)
	c := look(t, server.Addr())
	ctx := t.Context()
	token := keys.AccountToken{ID: "T", Account: "acme", Sum: keys.Sum{1}}
	steps := []struct {
		sha string
		do  func() error
	}{
		{m.scripts.accountKeep.Hash(), func() error { _, _, err := m.CreateAccount(ctx, keys.Account{ID: "acme"}); return err }},
		{m.scripts.tokenCreate.Hash(), func() error { _, _, err := m.CreateToken(ctx, token); return err }},
		{m.scripts.create.Hash(), func() error { _, err := m.Create(ctx, newDraft("acme", "")); return err }},
		{m.scripts.accountKeep.Hash(), func() error {
			_, _, err := m.UpdateAccount(ctx, "acme", func(a *keys.Account) error { a.Active = false; return nil })
			return err
		}},
		{m.scripts.tokenDelete.Hash(), func() error { _, err := m.DeleteToken(ctx, "acme", "T"); return err }},
		{m.scripts.accountDelete.Hash(), func() error { _, err := m.DeleteAccount(ctx, "acme", true, nil); return err }},
	}
	for round := range 3 {
		for i, step := range steps {
			if round > 0 { // the server has the script: it is not sent as text
				proxy.LoseReplies(round, step.sha)
			}
			if err := step.do(); err != nil {
				t.Fatalf("round %d, step %d: %v", round, i, err)
			}
			if n := len(c.trail(onlook)); n != round*len(steps)+i+1 {
				t.Fatalf("round %d, step %d: %d entries", round, i, n)
			}
		}
	}
	if proxy.Lost() != 3*len(steps) {
		t.Errorf("%d replies were lost", proxy.Lost())
	}
	c.consistent()
	onlook.sameSet(c)
}

func TestTrailIsTrimmedAFewAtATimeAndLeavesItsAnchor(t *testing.T) {
	kinds(t, func(t *testing.T, start func() string) {
		address := start()
		generous := join(t, address, inHaste)
		c := look(t, address)
		generous.busy(60)
		all, err := generous.Audit(t.Context(), 0, 1000)
		if err != nil {
			t.Fatal(err)
		}
		mean := join(t, address, func(o *RedisOptions) { inHaste(o); o.AuditKeep = 5 })
		mean.mustCreate(keys.DefaultAccount)
		page, err := mean.Audit(t.Context(), 0, 1000)
		if err != nil || len(page.Entries) != 51 || page.Anchor != (keys.Link{Number: 10, Hash: all.Entries[9].Hash}) {
			t.Fatalf("one change left %d of 61 entries, anchor %d: %v", len(page.Entries), page.Anchor.Number, err)
		}
		c.trail(mean)
		mean.busy(10)
		if n := len(c.trail(mean)); n != 5 {
			t.Errorf("%d entries are kept, want 5", n)
		}
		generous.busy(8)
		if n := len(c.trail(mean)); n != 13 {
			t.Errorf("who keeps more has trimmed: %d are left", n)
		}
	})
}

func TestEditedOrRemovedEntryIsNoticed(t *testing.T) {
	address := startServer(t).Addr()
	m := join(t, address, inHaste)
	m.busy(20)
	c := look(t, address)
	c.trail(m)
	follow := func() error {
		page, err := m.Audit(t.Context(), 0, 1000)
		link := page.Anchor
		for _, sealed := range page.Entries {
			if _, wrong := link.Follow(sealed); wrong != nil {
				return wrong
			}
		}
		if link != page.Head {
			return keys.ErrTrail
		}
		return err
	}
	for what, tamper := range map[string]func(number int, sealed map[string]any) bool{
		"edited": func(number int, sealed map[string]any) bool {
			if number == 10 {
				sealed["t"] = strings.Replace(sealed["t"].(string), "keystile", "somebody", 1)
			}
			return true
		},
		"given another hash": func(number int, sealed map[string]any) bool {
			if number == 10 {
				sealed["h"] = "no hash"
			}
			return true
		},
		"removed": func(number int, _ map[string]any) bool { return number != 10 },
	} {
		was := c.replaceEntries(tamper)
		if err := follow(); !errors.Is(err, keys.ErrTrail) || !strings.Contains(err.Error(), "10") {
			t.Errorf("an entry was %s: %v", what, err)
		}
		c.writeEntries(was)
		c.trail(m)
	}
	c.replaceEntries(func(number int, _ map[string]any) bool { return number < 20 })
	if err := follow(); !errors.Is(err, keys.ErrTrail) {
		t.Errorf("the tail was cut: %v", err)
	}
}

// TestTrimmingHidesNoRemoval has the oldest entries removed behind everybody's back. A change
// that took what is left for all there was would make the trail whole again.
func TestTrimmingHidesNoRemoval(t *testing.T) {
	kinds(t, func(t *testing.T, start func() string) {
		address := start()
		m := join(t, address, func(o *RedisOptions) { inHaste(o); o.AuditKeep = 20 })
		m.busy(24)
		c := look(t, address)
		c.replaceEntries(func(number int, _ map[string]any) bool { return number > 12 })
		m.busy(4)
		page, err := m.Audit(t.Context(), 0, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if page.Anchor.Number != 4 || len(page.Entries) != 16 {
			t.Errorf("entries 5 to 12 were removed; then the anchor is %d, with %d entries", page.Anchor.Number, len(page.Entries))
		}
		if _, err := page.Anchor.Follow(page.Entries[0]); !errors.Is(err, keys.ErrTrail) {
			t.Errorf("the first entry that is left: %v", err)
		}
	})
}

// replaceEntries writes the trail again as keep changes it, without the entries that it
// refuses, and returns what it was.
func (c *rawStore) replaceEntries(keep func(number int, sealed map[string]any) bool) (was []redis.XMessage) {
	c.t.Helper()
	was, err := c.XRange(c.t.Context(), c.prefix+"audit", "-", "+").Result()
	if err != nil {
		c.t.Fatal(err)
	}
	var kept []redis.XMessage
	for _, m := range was {
		m.Values = maps.Clone(m.Values)
		if keep(int(parseNumber(strings.TrimSuffix(m.ID, "-0"))), m.Values) {
			kept = append(kept, m)
		}
	}
	c.writeEntries(kept)
	return was
}

func (c *rawStore) writeEntries(entries []redis.XMessage) {
	c.t.Helper()
	c.run("DEL", c.prefix+"audit")
	for _, m := range entries {
		c.run("XADD", c.prefix+"audit", m.ID, "h", m.Values["h"], "t", m.Values["t"])
	}
}

// TestReassertionIsInTheTrailAsKeystilesOwn has the store lose a revocation.
func TestReassertionIsInTheTrailAsKeystilesOwn(t *testing.T) {
	address := startServer(t).Addr()
	m := join(t, address, nil)
	c := look(t, address)
	by := keys.WithActor(t.Context(), keys.Actor{Principal: "administrator", Peer: "192.0.2.1", RequestID: "r"})
	made, err := m.Create(by, newDraft(keys.DefaultAccount, ""))
	if err != nil {
		t.Fatal(err)
	}
	m.mustUpdate(made.Record.ID, switchOff)
	m.sameSet(c)
	c.tamper(made.Record.ID, line(4, "1"))
	await(t, "the revocation is asserted again", func() bool { return m.told.read(reassertions) == 1 })
	entries := c.trail(m)
	first, last := entries[0], entries[len(entries)-1]
	if first.Principal != "administrator" || first.Peer != "192.0.2.1" || first.RequestID != "r" {
		t.Errorf("the first change is said to be %+v", first)
	}
	if last.Action != keys.KeyUpdated || last.Principal != "keystile" || !last.Before.Active || last.After.Active {
		t.Errorf("the last entry is %+v", last)
	}
}

// TestChangesThatWaitForOneThatFailsDoNotTakeTheirTurns: a server that is dead must not make
// the last of many wait for the attempts of all.
func TestChangesThatWaitForOneThatFailsDoNotTakeTheirTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newTurns()
		if err := q.take(t.Context()); err != nil {
			t.Fatal(err)
		}
		outcomes := make(chan error, 41)
		gone, cancel := context.WithCancel(t.Context())
		for i := range cap(outcomes) {
			ctx := t.Context()
			if i == 0 {
				ctx = gone
			}
			go func() { outcomes <- q.take(ctx) }()
		}
		synctest.Wait()
		cancel()
		if err := <-outcomes; !errors.Is(err, context.Canceled) {
			t.Errorf("whoever does not wait any more gets %v", err)
		}
		q.give(errForeign)
		for range cap(outcomes) - 1 {
			if err := <-outcomes; !errors.Is(err, errTurn) || !errors.Is(err, errForeign) {
				t.Errorf("a change that waited gets %v", err)
			}
		}
		for _, err := range []error{nil, errForeign} { // nobody waits
			if err := q.take(t.Context()); err != nil {
				t.Error(err)
			}
			q.give(err)
		}
		if err := q.take(t.Context()); err != nil {
			t.Error(err)
		}
		go func() { outcomes <- q.take(t.Context()) }()
		synctest.Wait()
		q.give(nil)
		if err := <-outcomes; err != nil {
			t.Errorf("after a change that was answered: %v", err)
		}
	})
}
