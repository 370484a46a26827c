package cache

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"keystile/cache/redistest"
	"keystile/keys"
)

// lossy is a member whose replies can be lost on their way, one that looks on, and what
// the store's history must be.
type lossy struct {
	testing.TB
	*member
	proxy   *redistest.Proxy
	onlook  *member
	store   *rawStore
	changes map[keys.ID]int // that must be in the history, each once
	present []keys.ID
	unknown int
}

func newLossy(t testing.TB) *lossy {
	server := startServer(t)
	proxy := redistest.NewProxy(t, server.Addr())
	l := &lossy{
		TB: t, member: join(t, proxy.Addr(), inHaste), proxy: proxy, onlook: join(t, server.Addr(), nil),
		store: look(t, server.Addr()), changes: map[keys.ID]int{},
	}
	// The server has every script from here on, so that none is sent as text.
	for range 2 {
		l.create(0)
	}
	l.update(0)
	l.remove(0)
	return l
}

// lose has the next replies to a script be lost, does what loses them, and returns its
// error. The third reply is the last that is waited for: then the outcome is unknown.
func (l *lossy) lose(replies int, sha string, do func() error) {
	l.Helper()
	before := l.proxy.Lost()
	l.proxy.LoseReplies(replies, sha)
	err := do()
	if lost := l.proxy.Lost() - before; lost != replies {
		l.Fatalf("%d replies were lost, want %d", lost, replies)
	}
	if replies < attempts && err != nil {
		l.Fatalf("with %d replies lost: %v", replies, err)
	}
	if replies == attempts {
		if l.unknown++; !errors.Is(err, keys.ErrUnavailable) {
			l.Fatalf("no reply came, and the call says %v", err)
		}
	}
}

// create makes a key, and when the outcome is unknown, asks again as a client would.
func (l *lossy) create(replies int) {
	l.Helper()
	draft := newDraft(keys.DefaultAccount, "") // with a name, so that one call of the script is enough
	draft.Name = draft.ID.String()
	draft.Operation = keys.Operation{Key: draft.ID.String()}
	var created keys.Created
	l.lose(replies, l.scripts.create.Hash(), func() (err error) {
		created, err = l.Create(l.Context(), draft)
		return err
	})
	if replies == attempts {
		again := newDraft(keys.DefaultAccount, "")
		again.Operation = draft.Operation
		var err error
		if created, err = l.Create(l.Context(), again); err != nil || !created.Replayed {
			l.Fatalf("asked again: %+v, %v", created, err)
		}
	}
	if created.Record.ID != draft.ID {
		l.Fatalf("another key was made: %s, not %s", created.Record.ID, draft.ID)
	}
	l.changes[draft.ID]++
	l.present = append(l.present, draft.ID)
}

// update renames a key or switches it. A toggle would show if it was done twice.
func (l *lossy) update(replies int) {
	l.Helper()
	id := l.present[rand.IntN(len(l.present))]
	before, err := l.Get(l.Context(), id)
	if err != nil {
		l.Fatal(err)
	}
	change := func(r *keys.Record) error { r.Active = !before.Active; return nil }
	if rand.IntN(2) == 0 {
		change = rename(fmt.Sprint(id.String(), l.changes[id]))
	}
	var version uint64
	l.lose(replies, l.scripts.update.Hash(), func() error {
		record, receipt, err := l.Update(l.Context(), id, change)
		if err == nil && record.Version != receipt.Version {
			l.Errorf("the record has version %d, the receipt %d", record.Version, receipt.Version)
		}
		version = record.Version
		return err
	})
	l.changes[id]++
	after, err := l.Get(l.Context(), id)
	if err != nil || replies < attempts && after.Version != version || after.Version <= before.Version {
		l.Fatalf("version %d was told, the record has %d, before %d: %v", version, after.Version, before.Version, err)
	}
}

func (l *lossy) remove(replies int) {
	l.Helper()
	at := rand.IntN(len(l.present))
	id := l.present[at]
	l.lose(replies, l.scripts.delete.Hash(), func() error { _, err := l.Delete(l.Context(), id, nil); return err })
	l.changes[id]++
	l.present = slices.Delete(l.present, at, at+1)
	if _, err := l.Get(l.Context(), id); !errors.Is(err, keys.ErrNotFound) {
		l.Fatalf("after the deletion: %v", err)
	}
}

// loseReplies has replies be lost after the write has reached the server, and finds every
// change in the store's history exactly once.
func loseReplies(t *testing.T, replies int) {
	l := newLossy(t)
	began := time.Now()
	for i := 0; l.proxy.Lost() < replies; i++ {
		n := 1 + i%attempts
		switch {
		case i%7 < 3 || len(l.present) < 2:
			l.create(n)
		case i%7 < 6:
			l.update(n)
		default:
			l.remove(n)
		}
	}
	changes := l.inHistory()
	if entries := l.store.trail(l.member); len(entries) != changes {
		t.Errorf("%d changes left %d entries in the trail", changes, len(entries))
	}
	l.sameSet(l.store)
	l.onlook.sameSet(l.store)
	l.store.consistent()
	t.Logf("%d replies lost in %v: %d changes, each once; the outcome of %d was unknown to the caller",
		l.proxy.Lost(), time.Since(began).Round(time.Millisecond), changes, l.unknown)
}

// inHistory fails the test unless the log has each change once, and nothing else, and
// returns how many it has.
func (l *lossy) inHistory() (all int) {
	l.Helper()
	got := map[keys.ID]int{}
	for _, e := range l.store.log() {
		if e.id != (keys.ID{}) {
			got[e.id]++
			all++
		}
	}
	for id, n := range l.changes {
		if got[id] != n {
			l.Errorf("%s was changed %d times, its history has %d", id, n, got[id])
		}
		delete(got, id)
	}
	for id := range got {
		l.Errorf("nobody asked for %s", id)
	}
	return all
}

// unhurried has a member wait for the others as long as it takes on a busy machine.
func unhurried(o *RedisOptions) { o.ReceiptDeadline = patience }

func TestLostReplyNeverMeansADoubleEffect(t *testing.T) { loseReplies(t, 200) }

// TestReplyThatIsLostLeavesTheReceiptItsMeaning loses the reply of a change that other
// members must have before it is everywhere.
func TestReplyThatIsLostLeavesTheReceiptItsMeaning(t *testing.T) {
	server := startServer(t)
	proxy := redistest.NewProxy(t, server.Addr())
	m := join(t, proxy.Addr(), unhurried)
	other := join(t, server.Addr(), nil)
	key := m.mustCreate(keys.DefaultAccount)
	m.mustUpdate(key.ID, rename("before"))
	for i := range 20 {
		proxy.LoseReplies(1+i%2, m.scripts.update.Hash())
		on := i%2 == 1
		receipt := m.mustUpdate(key.ID, func(r *keys.Record) error { r.Active = on; return nil })
		if !receipt.Everywhere() {
			t.Errorf("the receipt says %+v", receipt)
		}
		if other.admits(key.ID) != on || m.admits(key.ID) != on {
			t.Error("after everywhere a member judges by what was before")
		}
	}
}
