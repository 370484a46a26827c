package cache

import (
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"keystile/cache/redistest"
	"keystile/keys"
)

// forgetting is a server whose replica stops following it, and is then taken for it: what
// was changed between is lost.
type forgetting struct {
	t                *testing.T
	primary, replica *redistest.Server
	link             *redistest.Proxy // leads to the one that is taken for the primary
	reasserted, lost atomic.Int64
}

func newForgetting(t *testing.T) *forgetting {
	x := &forgetting{t: t, primary: redistest.Start(t, redistest.Options{})}
	x.replica = redistest.Start(t, redistest.Options{ReplicaOf: x.primary})
	x.link = redistest.NewProxy(t, x.primary.Addr())
	return x
}

// open opens a store at an address.
func (x *forgetting) open(addr string) *Redis {
	x.t.Helper()
	return x.openAs("", addr, 50*time.Millisecond)
}

func (x *forgetting) openAs(name, addr string, deadline time.Duration) *Redis {
	x.t.Helper()
	r, err := OpenRedis(x.t.Context(), RedisOptions{
		Server: RedisServer{Addresses: []string{addr}}, Mirror: NewMirror(), AllowUnfenced: true, Name: name, ReceiptDeadline: deadline,
		Events: RedisEvents{Reasserted: func() { x.reasserted.Add(1) }, Lost: func(n int) { x.lost.Add(int64(n)) }},
	})
	if err != nil {
		x.t.Fatal(err)
	}
	x.t.Cleanup(func() { _ = r.Close() })
	<-r.serving
	return r
}

func (x *forgetting) create(r *Redis, name string) keys.Record {
	x.t.Helper()
	id := keys.NewID()
	var none *keys.Peppers
	made, err := r.Create(x.t.Context(), keys.Draft{ID: id, Account: "default", Name: name, Digest: none.Digest(keys.NewSecret(id))})
	if err != nil {
		x.t.Fatal(err)
	}
	return made.Record
}

// detach ends the replication once the replica has n records.
func (x *forgetting) detach(n string) {
	x.t.Helper()
	x.eventually("the replica has what the primary has", func() bool {
		return x.replica.Must("HLEN", "{keystile}:records") == n
	})
	x.replica.Must("REPLICAOF", "NO", "ONE")
}

func (x *forgetting) take() {
	x.link.SetTarget(x.replica.Addr())
	x.link.Disconnect()
}

func (x *forgetting) eventually(what string, condition func() bool) {
	x.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(30 * time.Second); !condition(); {
		select {
		case <-tick.C:
		case <-late:
			x.t.Fatalf("waited in vain until %s", what)
		}
	}
}

func (x *forgetting) switchOff(r *Redis, id keys.ID) {
	x.t.Helper()
	if _, _, err := r.Update(x.t.Context(), id, func(record *keys.Record) error { record.Active = false; return nil }); err != nil {
		x.t.Fatal(err)
	}
}

func (x *forgetting) delete(r *Redis, id keys.ID) {
	x.t.Helper()
	if _, err := r.Delete(x.t.Context(), id, nil); err != nil {
		x.t.Fatal(err)
	}
}

func TestWhatAServerLostIsMadeAgainOrCounted(t *testing.T) {
	x := newForgetting(t)
	r := x.open(x.link.Addr())
	off, gone, later := x.create(r, "off"), x.create(r, "gone"), x.create(r, "later")
	x.detach("3")
	x.switchOff(r, off.ID)
	x.delete(r, gone.ID)
	lost := x.create(r, "lost")
	x.eventually("the changes are known", func() bool { return r.o.Mirror.Version() == lost.Version })
	other := x.open(x.replica.Addr())
	x.delete(other, later.ID) // not lost: somebody wanted it

	x.take()
	x.eventually("the revocations were made again", func() bool { return x.reasserted.Load() == 2 })
	x.eventually("the lost key was counted", func() bool { return x.lost.Load() == 1 })
	if got, err := other.Get(t.Context(), off.ID); err != nil || got.Active {
		t.Errorf("the key that was switched off: %+v, %v", got, err)
	}
	for _, id := range []keys.ID{gone.ID, lost.ID, later.ID} {
		if _, err := other.Get(t.Context(), id); !errors.Is(err, keys.ErrNotFound) {
			t.Errorf("a key that is gone: %v", err)
		}
	}
	x.eventually("both hold the same", func() bool { return r.o.Mirror.Version() == other.o.Mirror.Version() })
	if n := x.lost.Load(); n != 1 {
		t.Errorf("%d keys were counted as lost, want 1", n)
	}
}

// A change of the older record would be newer than the revocation that was lost, which
// would then not be made again.
func TestNothingIsBuiltOnARecordThatLacksAKnownRevocation(t *testing.T) {
	x := newForgetting(t)
	r := x.open(x.link.Addr())
	off, gone, kept := x.create(r, "off"), x.create(r, "gone"), x.create(r, "kept")
	x.detach("3")
	x.switchOff(r, off.ID)
	x.delete(r, gone.ID)
	x.eventually("the changes are known", func() bool { _, there := r.o.Mirror.Get(gone.ID); return !there })
	r.stop() // the follower, which would mend it, comes later
	r.stopped.Wait()

	x.take()
	rename := func(record *keys.Record) error { record.Name += " too"; return nil }
	for _, k := range []keys.Record{off, gone} {
		if got, _, err := r.Update(t.Context(), k.ID, rename); !errors.Is(err, keys.ErrUnavailable) {
			t.Errorf("renaming %s on a server that lost its revocation: %+v, %v", k.Name, got, err)
		}
	}
	if _, _, err := r.Update(t.Context(), kept.ID, rename); err != nil {
		t.Errorf("renaming a key of which nothing was lost: %v", err)
	}
}

func TestPollThatReturnsNotYetAllLetsNobodyDecide(t *testing.T) {
	r := &Redis{o: RedisOptions{Mirror: NewMirror(), MaxStaleness: time.Minute}, clock: time.Now, serving: make(chan struct{})}
	f := &follower{r: r}
	sent := time.Now()
	take := func(a pollAnswer) {
		t.Helper()
		if again, err := f.take(a, sent); err != nil || !again {
			t.Fatalf("again %t, %v", again, err)
		}
	}
	take(pollAnswer{version: 3, entries: []logEntry{{before: 0, version: 1}, {before: 1, version: 2}}})
	if polled := r.o.Mirror.fresh.state.Load().polled; !polled.IsZero() {
		t.Error("requests may be decided by a part of the changes")
	}
	take(pollAnswer{version: 3, entries: []logEntry{{before: 2, version: 3}}})
	if polled := r.o.Mirror.fresh.state.Load().polled; polled != sent {
		t.Error("all changes are applied, and requests wait for more")
	}
}

// pendingWhile makes a key while another process stands still and something happens to
// the connections, and returns the receipt, for which it waits until the deadline.
func (x *forgetting) pendingWhile(deadline time.Duration, happens func()) keys.Receipt {
	x.t.Helper()
	r, still := x.openAs("writer", x.link.Addr(), deadline), x.openAs("still", x.primary.Addr(), deadline)
	still.stop()
	still.stopped.Wait()
	before := x.primary.Must("HLEN", "{keystile}:records")
	go func() {
		kept, err := before, error(nil)
		for kept == before && err == nil {
			kept, err = x.primary.Command("HLEN", "{keystile}:records")
		}
		_, then := x.link.Bytes()
		for now := then; now < then+4096; _, now = x.link.Bytes() { // the table is being read
			runtime.Gosched()
		}
		happens()
	}()
	id := keys.NewID()
	var none *keys.Peppers
	made, err := r.Create(x.t.Context(), keys.Draft{ID: id, Account: "default", Digest: none.Digest(keys.NewSecret(id))})
	if err != nil {
		x.t.Fatal(err)
	}
	return made.Receipt
}

func TestReceiptNamesWhoIsPendingAlsoWhenItsConnectionBreaks(t *testing.T) {
	x := newForgetting(t)
	receipt := x.pendingWhile(3*time.Second, x.link.Disconnect)
	if !slices.ContainsFunc(receipt.Pending, func(p keys.Pending) bool { return p.Proxy == "still" }) {
		t.Errorf("the receipt does not name the process that stands still: %+v", receipt)
	}
}

// Its versions are above those of the server before, so that they would prove nothing.
func TestReceiptAsksNoServerThatMayLackItsChange(t *testing.T) {
	x := newForgetting(t)
	first := x.open(x.primary.Addr())
	x.create(first, "first")
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	x.eventually("the replica knows that the first process left", func() bool { return x.replica.Must("HLEN", "{keystile}:proxies") == "0" })
	x.detach("1")
	receipt := x.pendingWhile(patience, x.take)
	if receipt.Everywhere() || !slices.ContainsFunc(receipt.Pending, func(p keys.Pending) bool { return strings.HasPrefix(p.Proxy, "unknown (the table") }) {
		t.Errorf("the receipt of a change that is lost: %+v", receipt)
	}
}

// WAIT covers what was there at its own connection's last command.
func TestRepeatedChangeIsNotEverywhereWhileNoReplicaHasIt(t *testing.T) {
	x := newForgetting(t)
	open := func() *Redis {
		r, err := OpenRedis(t.Context(), RedisOptions{
			Server: RedisServer{Addresses: []string{x.primary.Addr()}}, Mirror: NewMirror(),
			AllowUnfenced: true, WaitReplicas: 1, ReceiptDeadline: 50 * time.Millisecond,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.Close() })
		<-r.serving
		return r
	}
	first, second := open(), open()
	// A session that has not been used since would speak of what was there then.
	one, err := second.acquire(t.Context())
	other, err2 := second.acquire(t.Context())
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	second.release(one, nil)
	second.release(other, nil)
	k := x.create(first, "k") // and the replica has confirmed it
	x.eventually("both know the key", func() bool { _, known := second.o.Mirror.Get(k.ID); return known })
	replicasOf := func(r *Redis) int {
		t.Helper()
		got, receipt, err := r.Update(t.Context(), k.ID, func(record *keys.Record) error { record.Active = false; return nil })
		if err != nil || got.Active {
			t.Errorf("%+v, %v", got, err)
		}
		return receipt.Replicas.Have
	}
	x.replica.Stop()
	for _, r := range []*Redis{first, second} {
		if have := replicasOf(r); have != 0 {
			t.Errorf("%d replicas are said to have it, while the only one stands still", have)
		}
	}
	x.replica.Continue()
	x.eventually("the replica has it", func() bool { return replicasOf(second) == 1 })
}

// TestChangeAfterARestartIsNotEverywhereWhileAStrangerAdmits has a process join out of
// sight of another, and its row lost with the server.
func TestChangeAfterARestartIsNotEverywhereWhileAStrangerAdmits(t *testing.T) {
	server := startServer(t)
	short := func(o *RedisOptions) { o.MaxStaleness, o.FenceLag = 3*time.Second, time.Second }
	near, far := redistest.NewProxy(t, server.Addr()), redistest.NewProxy(t, server.Addr())
	m := join(t, near.Addr(), short)
	key := m.mustCreate(keys.DefaultAccount)
	server.Must("CONFIG", "SET", "appendonly", "no")
	server.Must("SAVE")
	near.SetMode(redistest.Cut)
	stranger := join(t, far.Addr(), short)
	server.Kill()
	far.SetMode(redistest.Cut)
	server.Restart()
	near.SetMode(redistest.Pass)
	await(t, "a change is everywhere", func() bool {
		_, receipt, err := m.Update(t.Context(), key.ID, func(r *keys.Record) error { r.Active = !r.Active; return nil })
		return err == nil && receipt.Everywhere()
	})
	if stranger.admits(key.ID) {
		t.Error("a change is everywhere, and a process that nobody knows admits by the record before")
	}
}

// TestStoreThatWasNotReachedYetIsNoRollback: who did not see the store when it started
// knows of none that was there before.
func TestStoreThatWasNotReachedYetIsNoRollback(t *testing.T) {
	server := startServer(t)
	r, err := DialRedis(t.Context(), RedisOptions{Server: RedisServer{Addresses: []string{server.Addr()}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	r.store = "" // as if the server had not answered: nobody follows it, who would find the store meanwhile
	if _, err := r.List(t.Context(), ""); !errors.Is(err, errNotReached) || errors.Is(err, errForeign) {
		t.Errorf("a list: %v", err)
	}
}
