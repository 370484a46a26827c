package keystest

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"keystile/keys"
)

// modelLimit is small, so that the limit is met often.
const modelLimit = 3

// model is a store as simple as can be: records in the order they were created.
type model struct {
	records    []keys.Record
	operations map[string]made
	accounts   map[string]keys.Account
	version    uint64
	entries    uint64 // of the audit trail
}

// made is a remembered operation.
type made struct {
	id      keys.ID
	request [32]byte
	at      time.Time
}

func likeTheModel(t *testing.T, h Harness) {
	root := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(root, "store")
		if err != nil {
			t.Fatal(err)
		}
		c := newClock()
		m := &machine{
			fixture: &fixture{t: t, h: h, dir: dir, clock: c, o: Options{PerAccount: modelLimit, Now: c.Now}},
			model:   model{operations: map[string]made{}, accounts: map[string]keys.Account{}},
		}
		m.Store = h.Open(t, dir, m.o)
		defer func() { _ = m.Close() }()
		rt.Repeat(map[string]func(*rapid.T){
			"create": m.create, "update": m.update, "delete": m.delete, "touch": m.touch,
			"create account": m.createAccount, "update account": m.updateAccount, "delete account": m.deleteAccount,
			"time": m.time, "reopen": m.again, "": m.compareAll,
		})
	})
}

// machine does the same to a store and to the model.
type machine struct {
	*fixture
	model
}

func (m *machine) create(t *rapid.T) {
	d := draft(
		rapid.SampledFrom([]string{"a", "b"}).Draw(t, "account"),
		rapid.SampledFrom([]string{"", "", "x", "API key 1", "API key 2"}).Draw(t, "name"),
	)
	if key := rapid.SampledFrom([]string{"", "", "p", "q"}).Draw(t, "operation"); key != "" {
		d.Operation = keys.Operation{Key: key, Request: [32]byte{rapid.Byte().Draw(t, "request") % 2}}
	}
	want, wantReplayed, wantErr := m.expect(d)
	got, err := m.Create(m.t.Context(), d)
	m.agree(t, err, wantErr)
	if wantErr != nil {
		return
	}
	if got.Replayed != wantReplayed {
		t.Fatalf("Replayed is %v", got.Replayed)
	}
	if !wantReplayed {
		want.Version = m.newer(t, got.Receipt.Version)
		m.records = append(m.records, want)
		if d.Operation.Key != "" {
			m.operations[d.Operation.Key] = made{d.ID, d.Operation.Request, m.clock.Now()}
		}
	}
	same(t, "record of Create", got.Record, want)
}

// expect returns what the model says that Create does.
func (m *machine) expect(d keys.Draft) (_ keys.Record, replayed bool, _ error) {
	if op, ok := m.operations[d.Operation.Key]; ok && m.clock.Now().Before(op.at.Add(keys.OperationLifetime)) {
		at := m.find(op.id)
		switch {
		case op.request != d.Operation.Request:
			return keys.Record{}, false, keys.ErrOperationReused
		case at < 0:
			return keys.Record{}, false, keys.ErrNotFound
		}
		return m.records[at], true, nil
	}
	account, exists := m.model.accounts[d.Account]
	if !exists {
		return keys.Record{}, false, keys.ErrNoAccount
	}
	n, limit := 0, cmp.Or(account.Limit, modelLimit)
	for _, r := range m.records {
		if r.Account == d.Account {
			n++
		}
	}
	if n >= limit {
		return keys.Record{}, false, &keys.LimitError{Limit: limit}
	}
	if d.Name == "" {
		for i := 1; d.Name == "" || m.taken(d.Account, d.Name); i++ {
			d.Name = fmt.Sprint("API key ", i)
		}
	} else if m.taken(d.Account, d.Name) {
		return keys.Record{}, false, keys.ErrNameTaken
	}
	now := m.clock.Now()
	return keys.Record{
		ID: d.ID, Account: d.Account, Name: d.Name, Active: true, Suspended: !account.Active,
		Created: now, Updated: now, Digests: [2]keys.Digest{d.Digest},
	}, false, nil
}

func (m *machine) update(t *rapid.T) {
	at, id := m.pick(t)
	name := rapid.SampledFrom([]string{"", "x", "y", "API key 1"}).Draw(t, "name")
	active := rapid.Bool().Draw(t, "active")
	fail := rapid.IntRange(0, 9).Draw(t, "fail") == 0
	mine := errors.New("mine")
	got, _, err := m.Update(m.t.Context(), id, func(r *keys.Record) error {
		if r.Active = active; name != "" {
			r.Name = name
		}
		if fail {
			return mine
		}
		return nil
	})
	if at < 0 || fail {
		m.agree(t, err, map[bool]error{true: keys.ErrNotFound, false: mine}[at < 0])
		return
	}
	want := m.records[at]
	if want.Active = active; name != "" {
		want.Name = name
	}
	if want.Name != m.records[at].Name && m.taken(want.Account, want.Name) {
		m.agree(t, err, keys.ErrNameTaken)
		return
	}
	m.agree(t, err, nil)
	if want != m.records[at] {
		want.Updated, want.Version = m.clock.Now(), m.newer(t, got.Version)
	}
	m.records[at] = want
	same(t, "record of Update", got, want)
}

func (m *machine) delete(t *rapid.T) {
	at, id := m.pick(t)
	receipt, err := m.Delete(m.t.Context(), id, nil)
	if at < 0 {
		m.agree(t, err, keys.ErrNotFound)
		return
	}
	m.agree(t, err, nil)
	m.newer(t, receipt.Version)
	m.records = slices.Delete(m.records, at, at+1)
}

func (m *machine) touch(t *rapid.T) {
	at, id := m.pick(t)
	used := m.clock.Now().Add(-time.Duration(rapid.IntRange(0, 100).Draw(t, "seconds")) * time.Second)
	use := keys.Use{At: used, Mark: keys.Mark{rapid.Byte().Draw(t, "mark")}}
	m.agree(t, m.Touch(m.t.Context(), map[keys.ID]keys.Use{id: use}), nil)
	if at >= 0 && use.At.After(m.records[at].LastUsed.At) {
		m.records[at].LastUsed = use
	}
}

func (m *machine) time(t *rapid.T) {
	m.clock.advance(time.Duration(rapid.IntRange(1, 15).Draw(t, "hours")) * time.Hour)
}

func (m *machine) again(*rapid.T) { m.reopen() }

// compare runs after each step.
func (m *machine) compare(t *rapid.T) {
	same(t, "all records", m.list(""), append([]keys.Record{}, m.records...))
	for _, account := range []string{"a", "b"} {
		want := slices.DeleteFunc(append([]keys.Record{}, m.records...),
			func(r keys.Record) bool { return r.Account != account })
		same(t, "records of an account", m.list(account), want)
	}
}

// pick draws the place and id of a record, or -1 and an id without one.
func (m *machine) pick(t *rapid.T) (int, keys.ID) {
	at := rapid.IntRange(-1, len(m.records)-1).Draw(t, "key")
	if at < 0 {
		return at, keys.NewID()
	}
	return at, m.records[at].ID
}

func (m *machine) find(id keys.ID) int {
	return slices.IndexFunc(m.records, func(r keys.Record) bool { return r.ID == id })
}

func (m *machine) taken(account, name string) bool {
	return slices.ContainsFunc(m.records, func(r keys.Record) bool { return r.Account == account && r.Name == name })
}

// newer fails unless the version, of a change that left an entry in the trail, is higher
// than all before, and returns it.
func (m *machine) newer(t *rapid.T, version uint64) uint64 {
	if version <= m.version {
		t.Fatalf("after version %d came %d", m.version, version)
	}
	m.version = version
	m.entries++
	return version
}

// agree fails unless err is what the model expects.
func (m *machine) agree(t *rapid.T, err, want error) {
	var limit *keys.LimitError
	if !errors.Is(err, want) && !(errors.As(want, &limit) && errors.As(err, &limit)) {
		t.Fatalf("the store returned %v, the model %v", err, want)
	}
}
