package cache

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"maps"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"keystile/cache/redistest"
	"keystile/keys"
)

// member is one of the processes that share a store, played by a handle of its own.
type member struct {
	*Redis
	t      testing.TB
	mirror *Mirror
	told   *told
}

// told counts what the events of a member have said.
type told struct {
	mu         sync.Mutex
	resynced   map[ResyncCause]int
	reasserted int
	lost       int
	rolledBack int
	polls      int
	failed     int
}

func (e *told) read(read func(*told) int) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return read(e)
}

func (e *told) note(note func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	note()
}

func (e *told) events() RedisEvents {
	return RedisEvents{
		Resynced:   func(c ResyncCause) { e.note(func() { e.resynced[c]++ }) },
		Reasserted: func() { e.note(func() { e.reasserted++ }) },
		Lost:       func(n int) { e.note(func() { e.lost += n }) },
		RolledBack: func() { e.note(func() { e.rolledBack++ }) },
		Polled: func(_ time.Duration, err error) {
			e.note(func() {
				if e.polls++; err != nil {
					e.failed++
				}
			})
		},
	}
}

// reassertions, alarms and so on are counts that tests wait for.
func reassertions(e *told) int { return e.reasserted }
func alarms(e *told) int       { return e.rolledBack }
func losses(e *told) int       { return e.lost }
func failures(e *told) int     { return e.failed }
func resyncs(c ResyncCause) func(*told) int {
	return func(e *told) int { return e.resynced[c] }
}

// enter opens a member at the address, which is a server's or a fault proxy's. amend
// changes the options; nil: none. It need not become fresh.
func enter(t testing.TB, address string, amend func(*RedisOptions)) *member {
	t.Helper()
	m := &member{t: t, mirror: NewMirror(), told: &told{resynced: map[ResyncCause]int{}}}
	o := RedisOptions{
		Server: RedisServer{Addresses: []string{address}}, Mirror: m.mirror, Name: "member",
		MaxStaleness: 10 * time.Second, PerAccount: 1_000_000, Events: m.told.events(),
	}
	if amend != nil {
		amend(&o)
	}
	var err error
	if m.Redis, err = OpenRedis(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

// join is enter, and waits until the member serves.
func join(t testing.TB, address string, amend func(*RedisOptions)) *member {
	t.Helper()
	m := enter(t, address, amend)
	m.serves()
	return m
}

// inHaste has a member wait for no other.
func inHaste(o *RedisOptions) { o.ReceiptDeadline = time.Nanosecond }

func (m *member) serves() {
	m.t.Helper()
	await(m.t, "the records are fresh", func() bool { return m.mirror.Fresh() == nil })
}

// crash does what kill -9 does: nothing is said to the server, and the system lets go of
// the state file.
func (m *member) crash() {
	m.t.Helper()
	m.mu.Lock()
	m.dead = errClosed
	m.mu.Unlock()
	m.stop()
	m.stopped.Wait()
	m.mirror.fresh.set(proof{why: errClosed})
	if err := m.client.Close(); err != nil {
		m.t.Fatal(err)
	}
	if err := m.state.close(); err != nil {
		m.t.Fatal(err)
	}
}

// patience bounds a wait for what must come: it only passes when something is broken.
const patience = 30 * time.Second

// eventually waits until the condition holds.
func await(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("not after %v: %s", patience, what)
		}
		<-tick.C
	}
}

// newDraft is a draft with an id and a digest of its own.
func newDraft(account, name string) keys.Draft {
	id := keys.NewID()
	var none *keys.Peppers
	return keys.Draft{ID: id, Account: account, Name: name, Digest: none.Digest(keys.NewSecret(id))}
}

func (m *member) mustCreate(account string) keys.Record {
	m.t.Helper()
	created, err := m.Create(m.t.Context(), newDraft(account, ""))
	if err != nil {
		m.t.Fatal(err)
	}
	return created.Record
}

func (m *member) mustUpdate(id keys.ID, change func(*keys.Record) error) keys.Receipt {
	m.t.Helper()
	_, receipt, err := m.Update(m.t.Context(), id, change)
	if err != nil {
		m.t.Fatal(err)
	}
	return receipt
}

func (m *member) mustDelete(id keys.ID) keys.Receipt {
	m.t.Helper()
	receipt, err := m.Delete(m.t.Context(), id, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	return receipt
}

// admits reports whether a request with this key would be let through now.
func (m *member) admits(id keys.ID) bool {
	grant, present := m.mirror.Get(id)
	return m.mirror.Fresh() == nil && present && grant.Active && grant.Digests[0].Scheme != 0
}

func rename(name string) func(*keys.Record) error {
	return func(r *keys.Record) error { r.Name = name; return nil }
}

func switchOn(r *keys.Record) error { r.Active = true; return nil }

// withdraw ends the record's digests.
func withdraw(r *keys.Record) error { r.Digests = [2]keys.Digest{}; return nil }

// rawStore is a client of the server that looks and tampers behind everybody's back.
type rawStore struct {
	*redis.Client
	t      testing.TB
	prefix string
}

func look(t testing.TB, address string) *rawStore {
	c := redis.NewClient(&redis.Options{Addr: address, DisableIdentity: true})
	t.Cleanup(func() { _ = c.Close() })
	return &rawStore{c, t, "{keystile}:"}
}

// run runs one command and fails the test if it cannot.
func (c *rawStore) run(args ...any) any {
	c.t.Helper()
	v, err := c.Do(context.Background(), args...).Result()
	if err != nil {
		c.t.Fatalf("%v: %v", args, err)
	}
	return v
}

func (c *rawStore) hash(part string) map[string]string {
	c.t.Helper()
	all, err := c.HGetAll(context.Background(), c.prefix+part).Result()
	if err != nil {
		c.t.Fatal(err)
	}
	return all
}

// account makes an account as if it had always been there: without a version or an entry.
func (c *rawStore) account(id string) {
	c.t.Helper()
	c.run("HSETNX", c.prefix+"accounts", id, "0\n1\n0\n{}")
}

// trail returns all entries of the audit trail, and fails the test unless they are one chain
// from the anchor to the head, in the order of versions.
func (c *rawStore) trail(m *member) (entries []keys.Entry) {
	c.t.Helper()
	page, err := m.Audit(c.t.Context(), 0, 1_000_000)
	if err != nil {
		c.t.Fatal(err)
	}
	link, version := page.Anchor, uint64(0)
	for _, sealed := range page.Entries {
		e, err := link.Follow(sealed)
		if err != nil {
			c.t.Fatal(err)
		}
		if e.Version <= version {
			c.t.Errorf("after an entry of version %d comes one of %d", version, e.Version)
		}
		version = e.Version
		entries = append(entries, e)
	}
	if link != page.Head {
		c.t.Errorf("the last entry is %d, the head %d, or they are not the same", link.Number, page.Head.Number)
	}
	return entries
}

// log returns the entries of the change log.
func (c *rawStore) log() (entries []logEntry) {
	c.t.Helper()
	messages, err := c.XRange(context.Background(), c.prefix+"log", "-", "+").Result()
	if err != nil {
		c.t.Fatal(err)
	}
	for _, m := range messages {
		values := []any{}
		for k, v := range m.Values {
			values = append(values, k, v)
		}
		e, err := decodeEntry([]any{m.ID, values})
		if err != nil {
			c.t.Fatal(err)
		}
		entries = append(entries, e)
	}
	return entries
}

// digestOf adds up the texts as protocol.md says.
func digestOf(texts map[string]string) uint64 {
	total := uint64(0)
	for _, text := range texts {
		sum := sha1.Sum([]byte(text))
		first, _ := strconv.ParseUint(hex.EncodeToString(sum[:])[:12], 16, 64)
		total = (total + first) % sumModulus
	}
	return total
}

// tamper replaces the text of a record without a new version, as a history that was
// lost would have it, and mends the digest. "" removes it.
func (c *rawStore) tamper(id keys.ID, change func(text string) string) {
	c.t.Helper()
	texts := c.hash("records")
	text := change(texts[string(id[:])])
	pipe := c.TxPipeline()
	if texts[string(id[:])] = text; text == "" {
		delete(texts, string(id[:]))
		pipe.HDel(context.Background(), c.prefix+"records", string(id[:]))
	} else {
		pipe.HSet(context.Background(), c.prefix+"records", string(id[:]), text)
	}
	pipe.HSet(context.Background(), c.prefix+"meta", "digest", strconv.FormatUint(digestOf(texts), 10))
	if _, err := pipe.Exec(context.Background()); err != nil {
		c.t.Fatal(err)
	}
}

// line replaces one line of a record's text: 0 version, 1 born, 2 account, 3 name,
// 4 active.
func line(n int, value string) func(string) string {
	return func(text string) string {
		parts := strings.SplitN(text, "\n", 6)
		parts[n] = value
		return strings.Join(parts, "\n")
	}
}

// consistent fails the test unless everything in the store fits together: digest, names,
// tombs and log.
func (c *rawStore) consistent() {
	c.t.Helper()
	meta, texts, tombs := c.hash("meta"), c.hash("records"), c.hash("tombs")
	if got := digestOf(texts); strconv.FormatUint(got, 10) != meta["digest"] {
		c.t.Errorf("the digest of the set is %d, meta says %s", got, meta["digest"])
	}
	names := map[string]map[string]string{}
	for id, text := range texts {
		if _, dead := tombs[id]; dead {
			c.t.Errorf("%s is there, and deleted", id)
		}
		kept, err := decodeText(keys.ID([]byte(id)), text)
		if err != nil {
			c.t.Fatal(err)
		}
		if names[kept.Account] == nil {
			names[kept.Account] = map[string]string{}
		}
		if names[kept.Account][kept.Name] != "" {
			c.t.Errorf("two keys of %s are called %q", kept.Account, kept.Name)
		}
		names[kept.Account][kept.Name] = id
	}
	c.namesAre(names)
	c.logFits(meta, texts)
}

func (c *rawStore) namesAre(want map[string]map[string]string) {
	c.t.Helper()
	prefix := c.prefix + "names:"
	indexes, err := c.Keys(context.Background(), prefix+"*").Result()
	if err != nil {
		c.t.Fatal(err)
	}
	for _, index := range indexes {
		account := strings.TrimPrefix(index, prefix)
		if got := c.hash("names:" + account); !maps.Equal(got, want[account]) {
			c.t.Errorf("the index of %s is %v, its records say %v", account, got, want[account])
		}
		delete(want, account)
	}
	if len(want) > 0 {
		c.t.Errorf("no index for the records %v", want)
	}
}

// logFits checks that each entry continues the one before, and that the last entry of a
// record is what the record is.
func (c *rawStore) logFits(meta, texts map[string]string) {
	c.t.Helper()
	last, before := map[string]string{}, uint64(0)
	for i, e := range c.log() {
		if i > 0 && e.before != before {
			c.t.Errorf("entry %d follows %d, but says %d", e.version, before, e.before)
		}
		before = e.version
		if e.id != (keys.ID{}) {
			last[string(e.id[:])] = e.text
		}
	}
	if strconv.FormatUint(before, 10) != meta["version"] && before != 0 {
		c.t.Errorf("the log ends at %d, meta says %s", before, meta["version"])
	}
	for id, text := range last {
		if texts[id] != text {
			c.t.Errorf("the log says of %s\n%q\nand the record\n%q", id, text, texts[id])
		}
	}
}

// sameSet fails the test unless the member holds exactly the records of the store.
func (m *member) sameSet(c *rawStore) {
	m.t.Helper()
	await(m.t, "the member has applied all of the store", func() bool {
		m.mu.Lock()
		digest := m.set.digest
		m.mu.Unlock()
		meta := c.hash("meta")
		return strconv.FormatUint(m.mirror.Version(), 10) == meta["version"] && strconv.FormatUint(digest, 10) == meta["digest"] &&
			m.mirror.Fresh() == nil
	})
	texts := c.hash("records")
	if m.mirror.Len() != len(texts) {
		m.t.Errorf("the member holds %d keys, the store %d", m.mirror.Len(), len(texts))
	}
	for id, text := range texts {
		kept, err := decodeText(keys.ID([]byte(id)), text)
		if err != nil {
			m.t.Fatal(err)
		}
		if got, _ := m.mirror.Get(kept.ID); *got != kept.Grant() {
			m.t.Errorf("the member has %+v, the store %+v", got, kept.Grant())
		}
	}
}

// startServer starts a redis-server that keeps nothing on disk.
func startServer(t testing.TB, lines ...string) *redistest.Server {
	t.Helper()
	return redistest.Start(t, redistest.Options{Lines: lines})
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

// polls waits until the member has polled n times more.
func (m *member) polls(n int) {
	m.t.Helper()
	before := m.told.read(func(e *told) int { return e.polls })
	await(m.t, "it polls", func() bool { return m.told.read(func(e *told) int { return e.polls }) >= before+n })
}
