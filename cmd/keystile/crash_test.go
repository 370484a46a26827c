package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"

	"keystile/admin"
	"keystile/cache/redistest"
)

// crashes kills one side or the other while keepers manage keys, and compares what there
// is afterwards with what was acknowledged.
type crashes struct {
	t       *testing.T
	server  *redistest.Server
	fleet   *fleet
	keepers []*keeper
	random  *rand.Rand
	kills   int
	back    []time.Duration // from the kill until all processes were ready again
}

// keeper manages keys of its own through one process, one call at a time.
type keeper struct {
	c      *crashes
	m      *member
	name   string
	random *rand.Rand
	held   []*holding
	gone   []holding // that were deleted since the last look
	last   *creating // the last that was acknowledged
	// doubt finds out what became of the call that was not answered; nil: all were.
	doubt        func()
	ended        chan struct{} // closed when it has stopped working in this round
	acknowledged int
	doubts       map[string]int // by what became of the call
}

// holding is a key as it was acknowledged.
type holding struct {
	subject
	active  bool
	version uint64
}

// creating is a call that makes a key.
type creating struct{ operation, body, name, key string }

func newCrashes(t *testing.T) *crashes {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	c := &crashes{t: t, random: rand.New(rand.NewPCG(seed, 0)), server: redistest.Start(t, redistest.Options{AppendOnly: "always"})}
	c.fleet = &fleet{t: t, ledger: newLedger(t, nil), latest: func() (string, error) { return storeVersion(c.server) }}
	for range 2 {
		c.fleet.add(redisAt(c.server.Addr()), "KEYSTILE_STORE_REDIS_STATE_FILE=redis.state")
	}
	for i := range 6 {
		c.keepers = append(c.keepers, &keeper{
			c: c, m: c.fleet.members[i%2], name: fmt.Sprint("keeper ", i),
			random: rand.New(rand.NewPCG(seed, uint64(i+1))), doubts: map[string]int{},
		})
	}
	return c
}

// round has the keepers work until kill, whose end brings everything back, and looks.
func (c *crashes) round(kill func()) {
	enough := make(chan struct{})
	var working sync.WaitGroup
	for _, k := range c.keepers {
		ended := make(chan struct{})
		k.ended = ended
		working.Go(func() {
			defer close(ended)
			k.work(enough)
		})
	}
	<-time.After(time.Duration(c.random.IntN(120_000)) * time.Microsecond)
	began := time.Now()
	kill()
	close(enough)
	working.Wait()
	c.fleet.settle()
	c.back = append(c.back, time.Since(began))
	c.kills++
	for _, k := range c.keepers {
		if k.doubt != nil {
			k.doubt()
			k.doubt = nil
		}
		k.repeatLast()
	}
	c.fleet.settle()
	c.look()
	if c.t.Failed() {
		c.t.FailNow()
	}
}

// killRedis and killProcess end one side with SIGKILL and start it again.
func (c *crashes) killRedis() {
	c.server.Kill()
	c.server.Restart()
}

func (c *crashes) killProcess() {
	m := c.fleet.members[c.random.IntN(len(c.fleet.members))]
	m.signal(c.t, syscall.SIGKILL)
	m.wait(c.t)
	for _, k := range c.keepers { // they end by themselves, and must not see it start
		if k.m == m {
			<-k.ended
		}
	}
	m.launch()
}

func (c *crashes) report() string {
	acknowledged, doubts := 0, map[string]int{}
	for _, k := range c.keepers {
		acknowledged += k.acknowledged
		for what, n := range k.doubts {
			doubts[what] += n
		}
	}
	if acknowledged < c.kills {
		c.t.Errorf("only %d changes were acknowledged: there was no load", acknowledged)
	}
	return fmt.Sprintf("%d kills; %d changes acknowledged and all found, not answered %v; ready again after %s", c.kills, acknowledged, doubts, spread(c.back))
}

// work makes changes until there are enough, or one is not answered.
func (k *keeper) work(enough <-chan struct{}) {
	for k.doubt == nil {
		select {
		case <-enough:
			return
		default:
		}
		n := k.random.IntN(10)
		switch {
		case len(k.held) == 0 || n < 4 && len(k.held) < 4:
			k.create()
		case n < 8:
			k.change(k.random.IntN(len(k.held)))
		default:
			k.remove(k.random.IntN(len(k.held)))
		}
	}
}

// answered reports whether the call had an answer that tells what became of it.
func (e effect) answered() bool { return e.status != 0 && e.status != http.StatusServiceUnavailable }

func (k *keeper) create() {
	try := &creating{operation: fmt.Sprint(k.name, "-", k.random.Uint64()), body: "{}"}
	if k.random.IntN(2) == 0 { // without a name, a second key would not be refused for its name
		try.name = "named " + try.operation
		try.body = nameBody(try.name)
	}
	e := k.send(try)
	if !e.answered() {
		k.doubt = func() { k.settleCreation(try) }
		return
	}
	k.adopt(try, e, http.StatusCreated)
}

func (k *keeper) send(try *creating) effect {
	return k.m.manage("POST", keysPath, try.body, "Idempotency-Key: "+try.operation)
}

// adopt takes the key that a creation made.
func (k *keeper) adopt(try *creating, e effect, status int) {
	made := e.created
	if e.status != status || try.name != "" && try.name != made.Name || !made.Active || made.Version == 0 {
		k.c.t.Errorf("%s: creating %+v: %d %s %+v, want %d", k.name, try, e.status, e.code, made, status)
		return
	}
	k.acknowledged++
	try.key, k.last = made.Key, try
	k.held = append(k.held, &holding{subject{made.Key, made.Secret, made.Name}, made.Active, made.Version})
}

// settleCreation sends the creation again: it makes the key, or finds the one it made.
func (k *keeper) settleCreation(try *creating) {
	e := k.send(try)
	if e.status == http.StatusCreated {
		k.doubts["creations that had not happened"]++
		k.adopt(try, e, http.StatusCreated)
		return
	}
	k.doubts["creations that had happened"]++
	if k.adopt(try, e, http.StatusOK); !e.created.Replayed || e.created.Secret != "" {
		k.c.t.Errorf("%s: repeating %+v: %+v", k.name, try, e.created)
	}
}

// repeatLast sends the last acknowledged creation again.
func (k *keeper) repeatLast() {
	if k.last == nil {
		return
	}
	e, want := k.send(k.last), http.StatusNotFound
	for _, h := range k.held {
		if h.key == k.last.key {
			want = http.StatusOK
		}
	}
	if e.status != want || want == http.StatusOK && (e.created.Key != k.last.key || !e.created.Replayed) {
		k.c.t.Errorf("%s: repeating %+v: %d %s %+v, want %d", k.name, k.last, e.status, e.code, e.created, want)
	}
}

// change renames a key or switches it on or off.
func (k *keeper) change(i int) {
	h := k.held[i]
	after := *h
	var body string
	if k.random.IntN(3) == 0 {
		after.name = fmt.Sprint(k.name, " ", k.random.Uint64())
		body = nameBody(after.name)
	} else {
		after.active = !h.active
		body = fmt.Sprintf(`{"active":%t}`, after.active)
	}
	e := k.m.manage("PATCH", keyPath(h.key), body)
	if !e.answered() {
		k.doubt = func() { k.settleChange(h, after, body) }
		return
	}
	k.changed(h, after, e)
}

func (k *keeper) changed(h *holding, after holding, e effect) {
	after.version = e.created.Version
	if e.status != http.StatusOK || !after.is(e.created.Record) || after.version <= h.version {
		k.c.t.Errorf("%s: changing %+v to %+v: %d %s %+v", k.name, *h, after, e.status, e.code, e.created.Record)
	}
	k.acknowledged++
	*h = after
}

// is compares all but the version.
func (h *holding) is(r admin.Record) bool {
	return h.key == r.Key && h.name == r.Name && h.active == r.Active
}

func (k *keeper) settleChange(h *holding, after holding, body string) {
	found := k.find(h.key)
	switch {
	case found != nil && h.is(*found) && found.Version == h.version:
		k.doubts["changes that had not happened"]++
	case found != nil && after.is(*found) && found.Version > h.version:
		k.doubts["changes that had happened"]++
	default:
		k.c.t.Errorf("%s: neither %+v nor %+v but %+v", k.name, *h, after, found)
	}
	k.changed(h, after, k.m.manage("PATCH", keyPath(h.key), body))
}

// find returns a key's record; nil: there is none.
func (k *keeper) find(key string) *admin.Record {
	got, err := k.m.api.try("GET", keyPath(key), "")
	var record admin.Record
	switch {
	case err == nil && got.status == http.StatusNotFound:
		return nil
	case err != nil || got.status != http.StatusOK || json.Unmarshal(got.body, &record) != nil:
		k.c.t.Errorf("%s: reading %s: %v, %d %s", k.name, key, err, got.status, got.body)
	}
	return &record
}

func (k *keeper) remove(i int) {
	h := k.held[i]
	e := k.m.manage("DELETE", keyPath(h.key), "")
	if !e.answered() {
		k.doubt = func() { k.settleRemoval(i) }
		return
	}
	k.removed(i, e, http.StatusOK)
}

func (k *keeper) removed(i int, e effect, status int) {
	h := k.held[i]
	if e.status != status {
		k.c.t.Errorf("%s: deleting %+v: %d %s, want %d", k.name, *h, e.status, e.code, status)
	}
	k.acknowledged++
	k.gone = append(k.gone, *h)
	k.held = append(k.held[:i:i], k.held[i+1:]...)
}

func (k *keeper) settleRemoval(i int) {
	h := k.held[i]
	status, found := http.StatusOK, k.find(h.key)
	switch {
	case found == nil:
		status = http.StatusNotFound
		k.doubts["deletions that had happened"]++
	case h.is(*found) && found.Version == h.version:
		k.doubts["deletions that had not happened"]++
	default:
		k.c.t.Errorf("%s: neither %+v nor nothing but %+v", k.name, *h, found)
	}
	k.removed(i, k.m.manage("DELETE", keyPath(h.key), ""), status)
}

// look compares what the API lists and what each proxy admits with what the keepers hold.
func (c *crashes) look() {
	listed := map[string]admin.Record{}
	for _, r := range c.fleet.members[c.random.IntN(2)].api.list(c.t) {
		listed[r.Key] = r
	}
	held := 0
	for _, k := range c.keepers {
		for _, h := range k.held {
			if r, isThere := listed[h.key]; !isThere || !h.is(r) || r.Version != h.version {
				c.t.Errorf("%s holds %+v, listed is %+v (%t)", k.name, *h, r, isThere)
			}
			c.lookAt(*h, map[bool]string{true: "", false: "key_inactive"}[h.active])
		}
		for _, h := range k.gone {
			c.lookAt(h, "bad_credentials")
		}
		held += len(k.held)
		k.gone = nil
	}
	if held != len(listed) {
		c.t.Errorf("%d keys are listed, %d are held: some were made that nobody was told of", len(listed), held)
	}
}

func (c *crashes) lookAt(h holding, code string) {
	if h.secret == "" { // its creation was not answered
		return
	}
	for _, m := range c.fleet.members {
		if s := m.shoot(c.fleet.ledger, h.subject); s.code != code || s.err != nil {
			c.t.Errorf("%s says %d %q %v to %+v, want %q", m.name, s.status, s.code, s.err, h, code)
		}
	}
}

func TestKilledRedisKeepsEveryAcknowledgedChangeAndNoHalfOfAnother(t *testing.T) {
	c := newCrashes(t)
	for range 5 {
		c.round(c.killRedis)
	}
	t.Log(c.report())
}

func TestKilledProcessOfSeveralKeepsEveryAcknowledgedChange(t *testing.T) {
	c := newCrashes(t)
	for range 5 {
		c.round(c.killProcess)
	}
	t.Log(c.report())
}
