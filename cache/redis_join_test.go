package cache

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"keystile/cache/redistest"
	"keystile/keys"
)

// joining is a fenced primary with one replica, and what lies between the two.
type joining struct {
	*testing.T
	primary, replica *redistest.Server
	between          *redistest.Proxy
}

func newJoining(t *testing.T) *joining {
	x := &joining{T: t, primary: startServer(t, "min-replicas-to-write 1", "min-replicas-max-lag 600")}
	x.replica, x.between = startServer(t), redistest.NewProxy(t, x.primary.Addr())
	host, port, _ := strings.Cut(x.between.Addr(), ":")
	x.replica.Must("REPLICAOF", host, port)
	await(t, "the primary counts its replica", func() bool {
		return infoField(x.primary.Must("INFO", "replication"), "min_slaves_good_slaves") == "1"
	})
	return x
}

// confirmed has changes, and those who join, wait for the replica.
func confirmed(o *RedisOptions) { o.WaitReplicas = 1 }

// polls waits until the member has polled n times more.
func (m *member) polls(n int) {
	m.t.Helper()
	before := m.told.read(func(e *told) int { return e.polls })
	await(m.t, "it polls", func() bool { return m.told.read(func(e *told) int { return e.polls }) >= before+n })
}

// isKept fails the test unless the member is not ready because no replica confirms its
// row, which is there and says so.
func (x *joining) isKept(m *member) {
	x.Helper()
	await(x, "it joins", func() bool { return errors.Is(m.mirror.Fresh(), errJoining) })
	m.polls(4)
	if err := m.mirror.Fresh(); !errors.Is(err, errJoining) || !errors.Is(err, keys.ErrUnavailable) {
		x.Errorf("while no replica knows of it: %v", err)
	}
	if r, ok := parseRow(look(x, x.primary.Addr()).hash("proxies")[m.row]); !ok || r.live {
		x.Errorf("its row is %+v, %v", r, ok)
	}
}

// isKnown fails the test unless the member serves, and the replica has its row.
func (x *joining) isKnown(m *member) {
	x.Helper()
	m.serves()
	if r, ok := parseRow(look(x, x.replica.Addr()).hash("proxies")[m.row]); !ok {
		x.Errorf("it serves, and the replica has of it %+v", r)
	}
}

// lines is a log that can be read while it is written.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) count(words string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), words)
}

func TestProcessThatJoinsIsNotReadyBeforeAReplicaKnowsOfIt(t *testing.T) {
	x := newJoining(t)
	link := redistest.NewProxy(t, x.primary.Addr())
	before := join(t, link.Addr(), confirmed)
	key := before.mustCreate("a")
	x.replica.Stop()
	var log lines
	late := enter(t, x.primary.Addr(), func(o *RedisOptions) {
		o.WaitReplicas, o.Name, o.Log = 1, "late", slog.New(slog.NewTextHandler(&log, nil))
	})
	x.isKept(late)
	if n := log.count("no replica of the server has confirmed"); n != 1 {
		t.Errorf("it was said %d times", n)
	}
	for _, p := range before.mustUpdate(key.ID, switchOff).Pending {
		t.Errorf("a change waits for %s", p.Proxy)
	}

	link.Disconnect() // who serves already is known elsewhere
	before.polls(4)
	if err := before.mirror.Fresh(); err != nil {
		t.Errorf("a process that was there before: %v", err)
	}
	waived := join(t, x.primary.Addr(), nil) // wait_replicas: 0
	waived.serves()

	x.replica.Continue()
	x.isKnown(late)
	if n := log.count("a replica has confirmed"); n != 1 {
		t.Errorf("the end of it was said %d times", n)
	}
	await(t, "its row says that it admits", func() bool {
		r, _ := parseRow(look(t, x.primary.Addr()).hash("proxies")[late.row])
		return r.live
	})
}

// TestProcessThatLapsedJoinsAgain: others may have buried its row since.
func TestProcessThatLapsedJoinsAgain(t *testing.T) {
	x := newJoining(t)
	link := redistest.NewProxy(t, x.primary.Addr())
	m := join(t, link.Addr(), func(o *RedisOptions) { o.WaitReplicas, o.MaxStaleness = 1, 500*time.Millisecond })
	link.SetMode(redistest.Cut)
	await(t, "the records lapse", func() bool { return m.mirror.Fresh() != nil })
	x.replica.Stop()
	link.SetMode(redistest.Pass)
	x.isKept(m)
	x.replica.Continue()
	x.isKnown(m)
}

// TestChangeAfterAFailoverIsNotEverywhereWhileAStrangerAdmits has a process join the
// primary before, out of sight of the one that then finds everybody it knows at the next.
func TestChangeAfterAFailoverIsNotEverywhereWhileAStrangerAdmits(t *testing.T) {
	x := newJoining(t)
	link := redistest.NewProxy(t, x.primary.Addr())
	m := join(t, link.Addr(), func(o *RedisOptions) { o.WaitReplicas, o.MaxStaleness = 1, time.Minute })
	key := m.mustCreate("a")
	await(t, "the replica has the key", func() bool { return x.replica.Must("HLEN", "{keystile}:records") == "1" })
	link.SetMode(redistest.Cut)
	x.between.SetMode(redistest.BlackHole)
	stranger := enter(t, x.primary.Addr(), func(o *RedisOptions) { o.WaitReplicas, o.MaxStaleness = 1, time.Minute })
	await(t, "the stranger has the records", func() bool { return stranger.mirror.Len() == 1 })
	stranger.polls(4)

	x.replica.Must("REPLICAOF", "NO", "ONE")
	x.replica.Must("CONFIG", "SET", "min-replicas-to-write", "1")
	redistest.Start(t, redistest.Options{ReplicaOf: x.replica})
	link.SetTarget(x.replica.Addr())
	link.SetMode(redistest.Pass)
	await(t, "a change is everywhere", func() bool {
		_, receipt, err := m.Update(t.Context(), key.ID, func(r *keys.Record) error { r.Active = !r.Active; return nil })
		return err == nil && receipt.Everywhere()
	})
	if stranger.admits(key.ID) {
		t.Error("a change is everywhere, and a process that nobody knows admits by the record before")
	}
}

// TestConfirmationOfARowCountsUntilTheRecordsAreFresh: a process that is stopped for long
// finds its connection as it was.
func TestConfirmationOfARowCountsUntilTheRecordsAreFresh(t *testing.T) {
	now := time.Now()
	r := &Redis{o: RedisOptions{Mirror: NewMirror(), MaxStaleness: time.Minute, Log: slog.New(slog.DiscardHandler)}, waitToJoin: true, serving: make(chan struct{})}
	r.clock = func() time.Time { return now }
	f := &follower{r: r, loaded: true, session: &session{}}
	admits := func(want bool, when string) {
		t.Helper()
		if f.setLive(); f.live != want {
			t.Errorf("%s it may admit: %t", when, f.live)
		}
	}
	take := func() {
		t.Helper()
		if again, err := f.take(pollAnswer{}, now); again || err != nil {
			t.Fatal(again, err)
		}
	}
	admits(false, "before its row is confirmed")
	f.confirmedOn = f.session
	admits(true, "once its row is confirmed")
	take()
	admits(true, "while its records are fresh")
	now = now.Add(time.Minute)
	admits(false, "when its records have lapsed")
	take()
	if err := r.o.Mirror.Fresh(); !errors.Is(err, errJoining) {
		t.Errorf("after a poll of a process that is not live: %v", err)
	}
	f.confirmedOn = f.session
	if _, err := f.diverged(now, ResyncGap, 0); err != nil {
		t.Fatal(err)
	}
	admits(false, "after a resync, which may take long")
}
