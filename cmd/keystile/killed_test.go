package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"keystile/admin"
)

// known is what a client was told of a key, or would have been told.
type known struct {
	key, secret, name string
	active            bool
	version           uint64 // 0: higher than before
}

func (k known) is(r admin.Record, before uint64) bool {
	if r.Key != k.key || r.Name != k.name || r.Active != k.active {
		return false
	}
	return r.Version == k.version || k.version == 0 && r.Version > before
}

// creation is a call that made a key, or may have.
type creation struct{ operation, body, name, key string }

// doubt is a call that was not answered: both states are right, and nothing between.
type doubt struct {
	create        *creation
	before, after known // of a change; an after without a key: deleted
}

// clerk is a client that manages keys of its own, one call at a time, and remembers
// what was acknowledged.
type clerk struct {
	t       *testing.T
	name    string
	random  *rand.Rand
	api     *adminClient
	proxy   string
	keys    []known
	gone    []known
	last    *creation // the last that was acknowledged
	doubt   *doubt
	highest uint64 // version seen
	calls   int    // acknowledged
}

// work makes changes until a call is not answered.
func (c *clerk) work() {
	for c.doubt == nil {
		n := c.random.IntN(10)
		switch {
		case len(c.keys) == 0 || n < 3 && len(c.keys) < 4:
			c.create()
		case n < 5:
			c.change(c.random.IntN(len(c.keys)), func(k *known) string {
				k.name = fmt.Sprintf("%s %d", c.name, c.random.Uint64())
				return nameBody(k.name)
			})
		case n < 8:
			c.change(c.random.IntN(len(c.keys)), func(k *known) string {
				k.active = !k.active
				return fmt.Sprintf(`{"active":%t}`, k.active)
			})
		default:
			c.delete(c.random.IntN(len(c.keys)))
		}
	}
}

func (c *clerk) create() {
	try := &creation{operation: fmt.Sprintf("%s-%d", c.name, c.random.Uint64()), body: "{}"}
	if c.random.IntN(2) == 0 { // without a name, a second key would not be refused for its name
		try.name = "new " + try.operation
		try.body = nameBody(try.name)
	}
	got, err := c.repeat(try)
	if err != nil {
		c.doubt = &doubt{create: try}
		return
	}
	c.calls++
	if got.code() == "key_limit_reached" {
		return
	}
	c.adopt(try, got, http.StatusCreated)
}

// repeat sends a creation, for the first time or again.
func (c *clerk) repeat(try *creation) (reply, error) {
	return c.api.try("POST", keysPath, try.body, "Idempotency-Key: "+try.operation)
}

// adopt takes the key that a creation has made.
func (c *clerk) adopt(try *creation, got reply, status int) (made admin.Created) {
	c.t.Helper()
	if got.status != status || json.Unmarshal(got.body, &made) != nil {
		c.t.Errorf("%s: create: %d %s, want %d", c.name, got.status, got.body, status)
		return made
	}
	if try.name != "" && try.name != made.Name {
		c.t.Errorf("%s: created %q as %q", c.name, try.name, made.Name)
	}
	try.key, c.last = made.Key, try
	c.keys = append(c.keys, known{made.Key, made.Secret, made.Name, made.Active, made.Version})
	c.see(made.Version, status == http.StatusCreated)
	return made
}

// see checks that the version of a change is higher than any that this clerk saw.
func (c *clerk) see(version uint64, isNew bool) {
	if isNew && version <= c.highest {
		c.t.Errorf("%s: version %d after %d", c.name, version, c.highest)
	}
	c.highest = max(c.highest, version)
}

// change changes key i and, if it is acknowledged, tries it at the proxy.
func (c *clerk) change(i int, alter func(*known) string) {
	before := c.keys[i]
	after := before
	after.version = 0
	body := alter(&after)
	got, err := c.api.try("PATCH", keyPath(before.key), body)
	if err != nil {
		c.doubt = &doubt{before: before, after: after}
		return
	}
	c.calls++
	var record admin.Record
	if got.status != http.StatusOK || json.Unmarshal(got.body, &record) != nil || !after.is(record, before.version) {
		c.t.Errorf("%s: change to %+v: %d %s", c.name, after, got.status, got.body)
	}
	after.version = record.Version
	c.see(after.version, true)
	c.keys[i] = after
	c.tryKey(after)
}

func (c *clerk) delete(i int) {
	before := c.keys[i]
	got, err := c.api.try("DELETE", keyPath(before.key), "")
	if err != nil {
		c.doubt = &doubt{before: before}
		return
	}
	c.calls++
	if got.status != http.StatusOK {
		c.t.Errorf("%s: delete: %d %s", c.name, got.status, got.body)
	}
	c.keys = append(c.keys[:i:i], c.keys[i+1:]...)
	c.gone = append(c.gone, before)
}

// tryKey checks what the proxy says to a key. While the process is being killed it
// may say nothing.
func (c *clerk) tryKey(k known) {
	if code, answered := c.verdict(k.secret); answered && code != k.verdict() {
		c.t.Errorf("%s: the proxy says %q to %+v", c.name, code, k)
	}
}

func (k known) verdict() string {
	if k.active {
		return ""
	}
	return "key_inactive"
}

func (c *clerk) verdict(secret string) (code string, answered bool) {
	got, err := ask(&c.api.http, "GET", c.proxy+"/", "", bearer(secret))
	return got.code(), err == nil
}

// settle finds out after a restart which way the unanswered call went. listed are the
// keys by key, strangers those that nobody was told of.
func (c *clerk) settle(listed, strangers map[string]admin.Record) {
	d := c.doubt
	c.doubt = nil
	switch {
	case d == nil:
	case d.create != nil:
		c.settleCreation(d.create, listed, strangers)
	default:
		c.settleChange(d, listed)
	}
}

func (c *clerk) settleCreation(try *creation, listed, strangers map[string]admin.Record) {
	got, err := c.repeat(try)
	if err != nil {
		c.t.Fatal(err)
	}
	switch got.status {
	case http.StatusConflict:
		if got.code() != "key_limit_reached" || len(listed) < 10 {
			c.t.Errorf("%s: repeated create: %d %s", c.name, got.status, got.body)
		}
	case http.StatusCreated: // it had not been kept
		made := c.adopt(try, got, http.StatusCreated)
		listed[made.Key] = made.Record
		for _, r := range strangers {
			if r.Name == made.Name || r.Name == try.name {
				c.t.Errorf("%s: a second key for %+v: %+v", c.name, try, r)
			}
		}
	default:
		made := c.adopt(try, got, http.StatusOK)
		if _, isThere := strangers[made.Key]; !isThere || !made.Replayed || made.Secret != "" || !made.Active {
			c.t.Errorf("%s: repeated create: %+v", c.name, made)
		}
		delete(strangers, made.Key)
		c.delete(len(c.keys) - 1) // nobody has its secret
		delete(listed, made.Key)
	}
}

func (c *clerk) settleChange(d *doubt, listed map[string]admin.Record) {
	i := 0
	for c.keys[i].key != d.before.key {
		i++
	}
	record, isThere := listed[d.before.key]
	switch {
	case isThere && d.before.is(record, 0): // not kept; the name it would have got must be free
		if d.after.key != "" && d.after.name != d.before.name {
			c.change(i, func(k *known) string { k.name = d.after.name; return nameBody(k.name) })
		}
	case !isThere && d.after.key == "":
		c.keys = append(c.keys[:i:i], c.keys[i+1:]...)
		c.gone = append(c.gone, d.before)
	case isThere && d.after.key != "" && d.after.is(record, d.before.version):
		d.after.version = record.Version
		c.see(record.Version, true)
		c.keys[i] = d.after
		// Kept; the name it had must be free. (One that the server chose may be another's by now.)
		if d.after.name != d.before.name && strings.HasPrefix(d.before.name, c.name) {
			c.change(i, func(k *known) string { k.name = d.before.name; return nameBody(k.name) })
		}
	default:
		c.t.Errorf("%s: neither %+v nor %+v, but %+v (%t)", c.name, d.before, d.after, record, isThere)
	}
}

// verify checks everything this clerk was told, against the API and the proxy.
func (c *clerk) verify(listed map[string]admin.Record, other string) {
	for _, k := range c.keys {
		if record, isThere := listed[k.key]; !isThere || !k.is(record, 0) {
			c.t.Errorf("%s: was told %+v, found %+v (%t)", c.name, k, record, isThere)
		}
		if code, answered := c.verdict(k.secret); !answered || code != k.verdict() {
			c.t.Errorf("%s: the proxy says %q to %+v", c.name, code, k)
		}
		if other != "" && other != k.key {
			if got, err := c.api.try("PATCH", keyPath(other), nameBody(k.name)); err != nil || got.code() != "name_taken" {
				c.t.Errorf("%s: another key could take the name of %+v: %v, %d %s", c.name, k, err, got.status, got.body)
			}
		}
	}
	for _, k := range c.gone {
		if code, answered := c.verdict(k.secret); k.secret != "" && (!answered || code != "bad_credentials") {
			c.t.Errorf("%s: the proxy says %q to the deleted %s", c.name, code, k.key)
		}
	}
	c.gone = nil
	c.verifyLast()
}

// verifyLast repeats a creation that was acknowledged before the crash.
func (c *clerk) verifyLast() {
	if c.last == nil {
		return
	}
	got, err := c.repeat(c.last)
	want := http.StatusNotFound
	for _, k := range c.keys {
		if k.key == c.last.key {
			want = http.StatusOK
		}
	}
	var again admin.Created
	_ = json.Unmarshal(got.body, &again)
	if err != nil || got.status != want || want == http.StatusOK && (again.Key != c.last.key || !again.Replayed || again.Secret != "") {
		c.t.Errorf("%s: repeating the create of %s: %v, %d %s, want %d", c.name, c.last.key, err, got.status, got.body, want)
	}
}

// crash is one life of the process: it checks what the life before has left, then the
// clerks work until it is killed.
type crash struct {
	t      *testing.T
	clerks []*clerk
}

func (c *crash) life(p *process, killAfter time.Duration) {
	c.check(p)
	if c.t.Failed() {
		return
	}
	var working sync.WaitGroup
	for _, clerk := range c.clerks {
		working.Go(clerk.work)
	}
	kill := time.AfterFunc(killAfter, func() { _ = p.cmd.Process.Signal(syscall.SIGKILL) })
	defer kill.Stop()
	working.Wait()
	if code := p.wait(c.t); code != -1 {
		c.t.Errorf("the process ended by itself with %d:\n%s", code, tail(p.stderr.text()))
	}
}

func (c *crash) check(p *process) {
	api := p.client(c.t)
	for _, clerk := range c.clerks {
		clerk.api, clerk.proxy = p.client(c.t), p.proxy
	}
	listed, strangers := map[string]admin.Record{}, map[string]admin.Record{}
	for _, r := range api.list(c.t) {
		listed[r.Key], strangers[r.Key] = r, r
	}
	if len(listed) > 10 {
		c.t.Errorf("%d keys are listed, over the limit", len(listed))
	}
	for _, clerk := range c.clerks {
		for _, k := range clerk.keys {
			delete(strangers, k.key)
		}
	}
	for _, clerk := range c.clerks {
		clerk.settle(listed, strangers)
	}
	if len(strangers) > 0 {
		c.t.Errorf("keys that nobody asked for: %+v", strangers)
	}
	listed = map[string]admin.Record{}
	other, expected := "", 0
	for _, r := range api.list(c.t) {
		listed[r.Key], other = r, r.Key
	}
	for _, clerk := range c.clerks {
		expected += len(clerk.keys)
		clerk.verify(listed, other)
	}
	if expected != len(listed) {
		c.t.Errorf("%d keys are listed, %d were made", len(listed), expected)
	}
}

func TestKilledProcessKeepsEveryAcknowledgedChangeAndNoHalfOfAnother(t *testing.T) {
	const kills = 50
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(upstream.Close)
	c := &crash{t: t}
	for i := range 4 {
		c.clerks = append(c.clerks, &clerk{t: t, name: fmt.Sprint("clerk ", i), random: rand.New(rand.NewPCG(seed, uint64(i+1)))})
	}
	folder, doubts, creations := t.TempDir(), 0, 0
	for range kills {
		p := startServe(t, upstream.URL, command{folder: folder})
		c.life(p, time.Duration(random.IntN(120_000))*time.Microsecond)
		if t.Failed() {
			return
		}
		for _, clerk := range c.clerks {
			doubts++
			if clerk.doubt.create != nil {
				creations++
			}
		}
	}
	c.check(startServe(t, upstream.URL, command{folder: folder}))
	calls := 0
	for _, clerk := range c.clerks {
		calls += clerk.calls
	}
	t.Logf("%d changes were acknowledged, %d calls were cut off, %d of them creations", calls, doubts, creations)
	if calls < kills {
		t.Errorf("only %d changes were acknowledged: there was no load", calls)
	}
}
