package main

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"keystile/admin"
	"keystile/cache/redistest"
	"keystile/keys"
)

// audited is a process that is killed again and again while clients change keys through it,
// and whose audit trail must then tell exactly what has become of the keys.
type audited struct {
	t      *testing.T
	start  func() *process
	p      *process
	random *rand.Rand

	mu       sync.Mutex
	answered map[uint64]string // by version: what a client was told that its change had led to
}

func newAudited(t *testing.T, start func() *process) *audited {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return &audited{t: t, start: start, p: start(), random: rand.New(rand.NewPCG(seed, 0)), answered: map[uint64]string{}}
}

// round has clients change keys until kill, which comes after an arbitrary number of
// changes, has ended something that they need.
func (a *audited) round(kill func()) {
	var working sync.WaitGroup
	for i := range 4 {
		seed := a.random.Uint64()
		working.Go(func() { a.work(fmt.Sprintf("client %d ", i), rand.New(rand.NewPCG(seed, 0))) })
	}
	enough := a.acknowledged() + 1 + a.random.IntN(40)
	eventually(a.t, "changes are acknowledged", func() bool { return a.acknowledged() >= enough })
	kill()
	working.Wait()
}

// work changes keys of its own until a call is not answered.
func (a *audited) work(name string, random *rand.Rand) {
	api := a.p.client(a.t)
	var own []admin.Record
	for {
		method, path, body := "POST", keysPath, nameBody(name+fmt.Sprint(random.Uint64()))
		n := random.IntN(5)
		if len(own) > 0 && n > 0 {
			method, path = "PATCH", keyPath(own[0].Key)
		}
		switch {
		case method == "POST":
		case n < 3:
			body = fmt.Sprintf(`{"active":%t}`, !own[0].Active)
		case n == 4 || len(own) > 1:
			method, body = "DELETE", ""
		}
		got, err := api.try(method, path, body)
		if err != nil || got.status == http.StatusServiceUnavailable {
			return
		}
		if got.code() == "key_limit_reached" {
			if own = a.others(api, name); len(own) == 0 {
				return // others have them all
			}
			continue
		}
		var record admin.Record
		if got.status >= 300 {
			a.t.Errorf("%s %s: %d %s", method, body, got.status, got.body)
			return
		}
		got.decode(a.t, &record)
		a.note(record)
		if own = slices.DeleteFunc(own, func(r admin.Record) bool { return r.Key == record.Key }); method != "DELETE" {
			own = append(own, record)
		}
	}
}

// others returns the keys that this client has from lives before.
func (a *audited) others(api *adminClient, name string) []admin.Record {
	var all struct{ Keys []admin.Record }
	got, err := api.try("GET", keysPath, "")
	if err != nil || got.status != http.StatusOK {
		return nil
	}
	got.decode(a.t, &all)
	return slices.DeleteFunc(all.Keys, func(r admin.Record) bool { return !strings.HasPrefix(r.Name, name) })
}

func (a *audited) note(r admin.Record) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answered[r.Version] = stateOf(r.Key, r.Name, r.Active)
}

func (a *audited) acknowledged() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.answered)
}

// stateOf says what a change has led to; of a deleted key there is no name.
func stateOf(key, name string, active bool) string {
	return fmt.Sprintf("%s %q %t", key, name, active)
}

// trail returns the entries, after following them from the anchor to the head.
func (a *audited) trail() (entries []keys.Entry, err error) {
	api := a.p.client(a.t)
	var page auditPage
	var link keys.Link
	for first := true; first || link.Number < page.Head.Number; first = false {
		page = auditPage{}
		a.t.Helper()
		api.expect(a.t, http.StatusOK, api.call(a.t, "GET", fmt.Sprintf("%s?after=%d&limit=%d", auditPath, link.Number, maxAuditPage), ""), &page)
		before := link.Number
		for _, e := range page.Entries {
			entry, err := link.Follow(e.sealed())
			if err != nil {
				return nil, err
			}
			entries = append(entries, entry)
		}
		if link.Number == before && link != page.Head {
			return nil, fmt.Errorf("%w: it ends at %d, the head is %d", keys.ErrTrail, link.Number, page.Head.Number)
		}
	}
	if link != page.Head {
		return nil, fmt.Errorf("%w: the head is another", keys.ErrTrail)
	}
	return entries, nil
}

// look checks that the trail has each change once, in the order of versions, and no other:
// done one after the other, its entries lead from nothing to the keys that there are.
func (a *audited) look() (entries []keys.Entry) {
	a.t.Helper()
	entries, err := a.trail()
	if err != nil {
		a.t.Fatal(err)
	}
	states, at := map[string]string{}, map[string]uint64{}
	told, last := 0, uint64(0)
	for _, e := range entries {
		if e.Version <= last {
			a.t.Errorf("entry %d has version %d, after %d", e.Number, e.Version, last)
		}
		last = e.Version
		if before := stateText(e.Subject, e.Before); before != states[e.Subject] {
			a.t.Errorf("entry %d is of a change from %s, and there was %s", e.Number, before, states[e.Subject])
		}
		states[e.Subject], at[e.Subject] = stateText(e.Subject, e.After), e.Version
		if want, isTold := a.answered[e.Version]; isTold {
			told++
			if got := cmp.Or(states[e.Subject], stateOf(e.Subject, "", false)); got != want {
				a.t.Errorf("version %d: the entry says %s, a client was told %s", e.Version, got, want)
			}
		}
	}
	if told != len(a.answered) {
		a.t.Errorf("%d changes were acknowledged, %d have an entry", len(a.answered), told)
	}
	for _, r := range a.p.client(a.t).list(a.t) {
		if got := stateOf(r.Key, r.Name, r.Active); got != states[r.Key] || at[r.Key] != r.Version {
			a.t.Errorf("the trail leads to %s of version %d, and there is %s of %d", states[r.Key], at[r.Key], got, r.Version)
		}
		delete(states, r.Key)
	}
	for key, state := range states {
		if state != "" {
			a.t.Errorf("the trail leads to %s, and there is no %s", state, key)
		}
	}
	return entries
}

func stateText(key string, s *keys.State) string {
	if s == nil {
		return ""
	}
	return stateOf(key, s.Name, s.Active)
}

// killProcess ends the process with SIGKILL; revive starts it again.
func (a *audited) killProcess() {
	a.p.signal(a.t, syscall.SIGKILL)
	a.p.wait(a.t)
}

func (a *audited) revive() {
	a.p = a.start()
	awaitReady(a.t, a.p)
}

// killedWithBolt kills a process with a file this many times.
func killedWithBolt(t *testing.T, kills int) {
	folder, upstream := t.TempDir(), newSample(t).URL
	a := newAudited(t, func() *process { return startServe(t, upstream, command{folder: folder}) })
	var entries []keys.Entry
	for range kills {
		a.round(a.killProcess)
		a.revive()
		entries = a.look()
	}
	if last := entries[len(entries)-1]; last.Version != last.Number { // nothing but changes gets a version
		t.Errorf("%d entries for %d versions", last.Number, last.Version)
	}
	t.Logf("%d kills, %d changes acknowledged, %d entries", kills, len(a.answered), len(entries))
}

// editEntry is a script that writes the trail anew with one word of one entry changed.
const editEntry = `
local all = redis.call('XRANGE', KEYS[1], '-', '+')
redis.call('DEL', KEYS[1])
for i, e in ipairs(all) do
  local fields = e[2]
  if i == 1 then
    for j = 2, #fields, 2 do fields[j] = string.gsub(fields[j], '"administrator"', '"administratos"') end
  end
  redis.call('XADD', KEYS[1], e[1], unpack(fields))
end
return #all`

// killedWithRedis kills a process and its server in turn, this many times in all.
func killedWithRedis(t *testing.T, kills int) {
	const stream = "{keystile}:audit"
	server, upstream := redistest.Start(t, redistest.Options{AppendOnly: "always"}), newSample(t).URL
	a := newAudited(t, func() *process {
		return startServe(t, upstream, atRedis(server.Addr(), "only", "max_staleness: 3s", "receipt_deadline: 1s"))
	})
	awaitReady(t, a.p)
	var entries []keys.Entry
	for i := range kills {
		if i%2 == 0 {
			a.round(a.killProcess)
			a.revive()
		} else {
			a.round(server.Kill)
			server.Restart()
			awaitReady(t, a.p)
		}
		entries = a.look()
	}
	t.Logf("%d kills, %d changes acknowledged, %d entries", kills, len(a.answered), len(entries))
	server.Must("EVAL", editEntry, "1", stream)
	if _, err := a.trail(); !errors.Is(err, keys.ErrTrail) {
		t.Errorf("an entry was edited: %v", err)
	}
	server.Must("XDEL", stream, "2-0")
	if _, err := a.trail(); !errors.Is(err, keys.ErrTrail) {
		t.Errorf("an entry was removed: %v", err)
	}
}

func TestKilledProcessLeavesAnEntryForEveryChangeInBolt(t *testing.T) { killedWithBolt(t, 3) }

func TestKilledProcessOrServerLeavesAnEntryForEveryChangeInRedis(t *testing.T) { killedWithRedis(t, 3) }
