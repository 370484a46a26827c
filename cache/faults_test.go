package cache

import (
	"errors"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"keystile/cache/redistest"
	"keystile/keys"
)

// These are the tests that the seeded faults of tools/faults must make fail. Each of them
// holds one promise of protocol.md at the place where it would break first.

// joined opens the store of a server and waits until its Mirror was proved fresh.
func joined(t *testing.T, address string, adjust func(*RedisOptions)) *Redis {
	t.Helper()
	o := RedisOptions{
		Server: RedisServer{Addresses: []string{address}}, Mirror: NewMirror(),
		MaxStaleness: time.Second, FenceLag: 2 * time.Second,
	}
	if adjust != nil {
		adjust(&o)
	}
	r, err := OpenRedis(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	select {
	case <-r.serving:
	case <-time.After(time.Minute):
		t.Fatal("the mirror was not proved fresh within a minute")
	}
	return r
}

// aKey creates a key in the store.
func aKey(t *testing.T, r *Redis) keys.ID {
	t.Helper()
	id := keys.NewID()
	if _, err := r.Create(t.Context(), keys.Draft{ID: id, Account: keys.DefaultAccount}); err != nil {
		t.Fatal(err)
	}
	return id
}

func turnOff(t *testing.T, r *Redis, id keys.ID) keys.Receipt {
	t.Helper()
	_, receipt, err := r.Update(t.Context(), id, switchOff)
	if err != nil {
		t.Fatal(err)
	}
	return receipt
}

// passes waits until a moment has passed.
func passes(moment time.Time) { <-time.After(time.Until(moment)) }

// becomes waits until a condition holds.
func becomes(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !condition(); <-time.After(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// staysStale fails the test if the records may be judged by at any time of the next half
// second.
func staysStale(t *testing.T, r *Redis, when string) {
	t.Helper()
	for end := time.Now().Add(time.Second / 2); time.Now().Before(end); <-time.After(5 * time.Millisecond) {
		if err := r.o.Mirror.Fresh(); !errors.Is(err, keys.ErrUnavailable) {
			t.Errorf("%s the records count as fresh (%v)", when, err)
			return
		}
	}
}

// TestDeposedPrimaryKeepsNobodyFresh: a proxy is cut off together with a primary that
// answers all it asks, while the new primary takes a revocation.
func TestDeposedPrimaryKeepsNobodyFresh(t *testing.T) {
	t.Parallel()
	primary := redistest.Start(t, redistest.Options{Lines: []string{"min-replicas-to-write 1", "min-replicas-max-lag 1"}})
	replica := redistest.Start(t, redistest.Options{ReplicaOf: primary})
	proxy := joined(t, primary.Addr(), nil)
	id := newKey(t, proxy).ID // a replica counts for a second after it has said something, and does so once a second
	becomes(t, "the replica has the key", func() bool {
		return replica.Must("HEXISTS", "{keystile}:records", string(id[:])) == "1"
	})
	replica.Must("REPLICAOF", "NO", "ONE")

	admin := joined(t, replica.Addr(), nil)
	receipt := turnOff(t, admin, id)
	if receipt.Everywhere() {
		t.Fatal("the change is said to be effective everywhere")
	}
	last := time.Time{}
	for _, pending := range receipt.Pending {
		if pending.EffectiveBy.After(last) {
			last = pending.EffectiveBy
		}
	}
	passes(last)
	if reply, err := primary.Command("HGET", "{keystile}:meta", "store"); err != nil || reply == "" {
		t.Fatalf("the deposed primary does not serve reads: %q, %v", reply, err)
	}
	if grant, _ := proxy.o.Mirror.Get(id); !grant.Active {
		t.Fatal("the proxy has learned of the change")
	}
	staysStale(t, proxy, "after the instant that the receipt names")
}

func TestReceiptIsNotEverywhereWhileAReplicaLacksTheChange(t *testing.T) {
	t.Parallel()
	primary := redistest.Start(t, redistest.Options{Lines: []string{"min-replicas-to-write 1", "min-replicas-max-lag 60"}})
	replica := redistest.Start(t, redistest.Options{ReplicaOf: primary})
	r := joined(t, primary.Addr(), func(o *RedisOptions) { o.WaitReplicas = 1 })
	id := aKey(t, r)
	names := 0
	becomes(t, "a change is everywhere with its replica", func() bool { // which takes the first only a second after it is linked
		names++
		_, receipt, err := r.Update(t.Context(), id, func(record *keys.Record) error { record.Name = "name " + strconv.Itoa(names); return nil })
		return err == nil && receipt.Everywhere() && receipt.Replicas == keys.Replicas{Want: 1, Have: 1}
	})
	replica.Stop()
	if receipt := turnOff(t, r, id); receipt.Everywhere() || receipt.Replicas != (keys.Replicas{Want: 1}) {
		t.Errorf("while the replica stands still: %+v", receipt)
	}
}

// TestForgedHintsKeepNobodyFresh: whoever may publish must not be believed, neither that
// there is something new nor that there is not.
func TestForgedHintsKeepNobodyFresh(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	r := joined(t, server.Addr(), nil)
	aKey(t, r)
	version := r.o.Mirror.Version()
	forge := func() {
		for _, text := range []string{"", "no number", strconv.FormatUint(version, 10), strconv.FormatUint(version+1, 10), "18446744073709551615"} {
			server.Publish("{keystile}:hint", text)
		}
	}
	becomes(t, "the process listens to hints", func() bool { return server.PubSubNumSub("{keystile}:hint")["{keystile}:hint"] > 0 })
	server.HSet("{keystile}:meta", "store", "another") // no poll succeeds any more
	for last := time.Now().Add(r.o.MaxStaleness); time.Now().Before(last); <-time.After(5 * time.Millisecond) {
		forge()
	}
	forge()
	staysStale(t, r, "by nothing but hints")
	if now := r.o.Mirror.Version(); now != version {
		t.Errorf("hints moved the version from %d to %d", version, now)
	}
}

func TestEmptiedStoreIsNeverTakenForTruth(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	var alarms atomic.Int32
	r := joined(t, server.Addr(), func(o *RedisOptions) { o.Events.RolledBack = func() { alarms.Add(1) } })
	id := aKey(t, r)
	server.FlushAll()
	passes(time.Now().Add(r.o.MaxStaleness))
	staysStale(t, r, "without its store")
	if grant, _ := r.o.Mirror.Get(id); !grant.Active || r.o.Mirror.Len() != 1 {
		t.Errorf("an empty store was taken for the truth: %d keys", r.o.Mirror.Len())
	}
	becomes(t, "somebody is alarmed", func() bool { return alarms.Load() > 0 })
	if names := server.Keys(); len(names) != 0 {
		t.Errorf("the store was begun anew: %v", names)
	}
}

// TestInactiveWinsAtEqualVersions: on another line of history, which the store has now,
// the same version was another change, which left the key active.
func TestInactiveWinsAtEqualVersions(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	r := joined(t, server.Addr(), nil)
	id := aKey(t, r)
	turnOff(t, r, id)
	var revived atomic.Bool
	r.o.Mirror.Observe(func(_ keys.ID, grant keys.Grant, _ bool) {
		if grant.Active {
			revived.Store(true)
		}
	})
	off := server.HGet("{keystile}:records", string(id[:]))
	on := strings.Replace(off, "\n0\n{", "\n1\n{", 1)
	server.HSet("{keystile}:records", string(id[:]), on)
	server.HSet("{keystile}:meta", "digest", strconv.FormatUint(textSum(on), 10))

	becomes(t, "the store learns that the key is off", func() bool {
		record, err := r.Get(t.Context(), id)
		return err == nil && !record.Active || revived.Load()
	})
	if grant, _ := r.o.Mirror.Get(id); grant.Active || revived.Load() {
		t.Error("a key that was switched off is active again")
	}
}

func TestDeletedIDIsNeverUsedAgain(t *testing.T) {
	t.Parallel()
	r := joined(t, miniredis.RunT(t).Addr(), nil)
	id := aKey(t, r)
	if _, err := r.Delete(t.Context(), id, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Create(t.Context(), keys.Draft{ID: id, Account: keys.DefaultAccount}); !errors.Is(err, errIDTaken) {
		t.Errorf("Create with the id of a deleted key: %v", err)
	}
	if grant, present := r.o.Mirror.Get(id); present {
		t.Errorf("it is back: %+v", grant)
	}
}

// TestLimitHoldsBetweenProcesses: each process sees room for a key, and all ask at once.
func TestLimitHoldsBetweenProcesses(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Options{})
	processes := []*Redis{joined(t, server.Addr(), nil), joined(t, server.Addr(), nil), joined(t, server.Addr(), nil)}
	for round := range 20 {
		account := "account-" + strconv.Itoa(round)
		if _, _, err := processes[0].CreateAccount(t.Context(), keys.Account{ID: account}); err != nil {
			t.Fatal(err)
		}
		outcomes := make(chan error)
		for i := range 3 * DefaultPerAccount {
			go func() {
				_, err := processes[i%len(processes)].Create(t.Context(), keys.Draft{ID: keys.NewID(), Account: account})
				outcomes <- err
			}()
		}
		made := 0
		for range 3 * DefaultPerAccount {
			var reached *keys.LimitError
			switch err := <-outcomes; {
			case err == nil:
				made++
			case !errors.As(err, &reached):
				t.Error(err)
			}
		}
		if list, err := processes[0].List(t.Context(), account); err != nil || made != DefaultPerAccount || len(list) != made {
			t.Fatalf("%d keys were made, the account has %d, of %d (%v)", made, len(list), DefaultPerAccount, err)
		}
	}
}
