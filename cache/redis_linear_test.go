package cache

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"keystile/cache/redistest"
	"keystile/keys"
)

const (
	linearLimit   = 3   // keys an account may have: few, so that the limit is met often
	linearClients = 4   // that each administrator has at a time
	linearPerPart = 300 // operations on an account before another takes its place
)

// kind is what an operation does.
type kind int

const (
	creating kind = iota
	renaming
	switching
	deleting
	getting
	listing
	kindsOfOperations
)

// asked is an operation on an account.
type asked struct {
	kind    kind
	account string
	id      keys.ID
	name    string
	active  bool
}

// answered is what came of it.
type answered struct {
	outcome outcome
	version uint64
	name    string
	active  bool
	list    string // as written holds it
}

type outcome int

const (
	done outcome = iota
	unknown
	refusedLimit
	refusedName
	refusedMissing
)

// written is an account in the model: the version of its last change, and its keys in the
// order they were made, one a line. It is text, so that two can be compared.
type written struct {
	high uint64
	keys string
}

func lineOf(id keys.ID, name string, active bool) string {
	return fmt.Sprintf("%s\t%s\t%t\n", string(id[:]), name, active)
}

// find returns the lines of the keys, and the place of id among them or -1.
func (w written) find(id keys.ID) (lines []string, at int) {
	lines = strings.SplitAfter(w.keys, "\n")
	lines = lines[:len(lines)-1]
	return lines, slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, string(id[:])+"\t") })
}

// taken reports whether a key but that of id has the name.
func (w written) taken(name string, id keys.ID) bool {
	lines, _ := w.find(id)
	return slices.ContainsFunc(lines, func(l string) bool {
		return strings.Contains(l, "\t"+name+"\t") && !strings.HasPrefix(l, string(id[:]))
	})
}

// next is the state after a change that got a version, and whether it may have got it.
func (w written) next(out answered, lines []string) (bool, any) {
	if out.outcome != unknown {
		if out.version <= w.high {
			return false, w
		}
		w.high = out.version
	}
	w.keys = strings.Join(lines, "")
	return true, w
}

// create, change, remove and read say whether an operation may have come out as it did,
// and what then follows. An unknown outcome always may: its operation is taken to have
// happened somewhere after it began, at the end of all if not at all.

func (w written) create(in asked, out answered) (bool, any) {
	lines, _ := w.find(in.id)
	full := len(lines) >= linearLimit
	name := in.name
	if name == "" {
		for n := 1; name == "" || w.taken(name, in.id); n++ {
			name = fmt.Sprint("API key ", n)
		}
	}
	taken := w.taken(name, in.id)
	switch out.outcome {
	case refusedLimit:
		return full, w
	case refusedName:
		return taken && !full, w
	case unknown:
		if full || taken {
			return true, w
		}
	case done:
		if full || taken || out.name != name || !out.active {
			return false, w
		}
	default:
		return false, w
	}
	return w.next(out, append(lines, lineOf(in.id, name, true)))
}

func (w written) change(in asked, out answered) (bool, any) {
	lines, at := w.find(in.id)
	if at < 0 {
		return out.outcome == refusedMissing || out.outcome == unknown, w
	}
	parts := strings.Split(strings.TrimSuffix(lines[at], "\n"), "\t")
	name, active := parts[1], parts[2] == "true"
	if in.kind == renaming {
		name = in.name
	} else {
		active = in.active
	}
	taken := w.taken(name, in.id)
	line := lineOf(in.id, name, active)
	switch {
	case out.outcome == refusedName:
		return taken, w
	case out.outcome == unknown && taken:
		return true, w
	case out.outcome != unknown && (out.outcome != done || taken || out.name != name || out.active != active):
		return false, w
	case line == lines[at]:
		return true, w
	}
	lines[at] = line
	return w.next(out, lines)
}

func (w written) remove(in asked, out answered) (bool, any) {
	lines, at := w.find(in.id)
	switch {
	case at < 0:
		return out.outcome == refusedMissing || out.outcome == unknown, w
	case out.outcome == refusedMissing:
		return false, w
	}
	return w.next(out, slices.Delete(lines, at, at+1))
}

func (w written) read(in asked, out answered) (bool, any) {
	if in.kind == listing {
		return out.list == w.keys, w
	}
	lines, at := w.find(in.id)
	if at < 0 || out.outcome == refusedMissing {
		return at < 0 && out.outcome == refusedMissing, w
	}
	return lines[at] == lineOf(in.id, out.name, out.active), w
}

// linearModel is an account, as porcupine wants it.
func linearModel() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return written{} },
		Step: func(state, input, output any) (bool, any) {
			w, in, out := state.(written), input.(asked), output.(answered)
			switch in.kind {
			case creating:
				return w.create(in, out)
			case renaming, switching:
				return w.change(in, out)
			case deleting:
				return w.remove(in, out)
			}
			return w.read(in, out)
		},
	}
}

// part is an account that clients use at the same time, until one outcome is unknown
// (each makes the search much longer) or it has been used for long.
type part struct {
	mu      sync.Mutex
	account string
	ids     []keys.ID
	history []porcupine.Operation
	over    bool
}

// administrators are three members of one store, and what their clients have done.
type administrators struct {
	testing.TB
	members []*member
	proxies []*redistest.Proxy
	store   *rawStore
	began   time.Time
	parts   []atomic.Pointer[part]
	made    atomic.Int64 // accounts
	left    atomic.Int64 // operations still to be done
	unknown atomic.Int64

	mu  sync.Mutex
	all []*part
}

func newAdministrators(t testing.TB, operations int) *administrators {
	server := startServer(t)
	a := &administrators{TB: t, began: time.Now(), store: look(t, server.Addr()), parts: make([]atomic.Pointer[part], 4)}
	for range 3 {
		p := redistest.NewProxy(t, server.Addr())
		a.proxies = append(a.proxies, p)
		a.members = append(a.members, join(t, p.Addr(), func(o *RedisOptions) { inHaste(o); o.PerAccount = linearLimit }))
	}
	for i := range a.parts {
		a.renew(i)
	}
	a.left.Store(int64(operations))
	return a
}

// renew puts another account in the place i.
func (a *administrators) renew(i int) {
	p := &part{account: fmt.Sprint("account-", a.made.Add(1))}
	a.store.account(p.account)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all = append(a.all, p)
	a.parts[i].Store(p)
}

// run has all clients work until the operations are done, and some chaos meanwhile.
func (a *administrators) run(chaos func(over <-chan struct{})) {
	over := make(chan struct{})
	var clients, trouble sync.WaitGroup
	trouble.Go(func() { chaos(over) })
	for _, m := range a.members {
		for client := range linearClients {
			clients.Go(func() {
				for a.left.Add(-1) >= 0 {
					a.step(m, client)
				}
			})
		}
	}
	clients.Wait()
	close(over)
	trouble.Wait()
}

// step does one operation on one account.
func (a *administrators) step(m *member, client int) {
	i := rand.IntN(len(a.parts))
	p := a.parts[i].Load()
	in := p.choose()
	began := time.Since(a.began)
	out, ok := m.do(in)
	ended := int64(time.Since(a.began))
	if !ok { // nothing was learned and nothing changed
		a.left.Add(1)
		await(a, "the server is there again", func() bool { _, err := m.List(a.Context(), p.account); return err == nil })
		return
	}
	if out.outcome == unknown {
		ended = math.MaxInt64
		a.unknown.Add(1)
	}
	p.mu.Lock()
	if out.outcome == refusedLimit || out.outcome == refusedName && in.kind == creating {
		p.ids = slices.DeleteFunc(p.ids, func(id keys.ID) bool { return id == in.id }) // others need not try it
	}
	p.history = append(p.history, porcupine.Operation{ClientId: client, Input: in, Call: int64(began), Output: out, Return: ended})
	full := !p.over && (out.outcome == unknown || len(p.history) >= linearPerPart)
	p.over = p.over || full
	p.mu.Unlock()
	if full {
		a.renew(i)
	}
}

// choose draws an operation. A key that is about to be made can be chosen by others.
func (p *part) choose() asked {
	p.mu.Lock()
	defer p.mu.Unlock()
	in := asked{kind: kind(rand.IntN(int(kindsOfOperations))), account: p.account, active: rand.IntN(2) == 0}
	in.name = []string{"", "x", "y", "API key 2"}[rand.IntN(4)]
	if in.kind == renaming && in.name == "" {
		in.name = "z"
	}
	recent := p.ids[max(0, len(p.ids)-6):]
	if in.kind == creating || len(recent) == 0 {
		in.kind, in.id = creating, keys.NewID()
		p.ids = append(p.ids, in.id)
		return in
	}
	in.id = recent[rand.IntN(len(recent))]
	return in
}

// do does what is asked, and says what came of it; false: nothing.
func (m *member) do(in asked) (out answered, ok bool) {
	ctx := m.t.Context()
	var record keys.Record
	var receipt keys.Receipt
	var err error
	switch in.kind {
	case creating:
		draft := newDraft(in.account, in.name)
		draft.ID = in.id
		var created keys.Created
		created, err = m.Create(ctx, draft)
		record, receipt = created.Record, created.Receipt
	case renaming:
		record, receipt, err = m.Update(ctx, in.id, rename(in.name))
	case switching:
		record, receipt, err = m.Update(ctx, in.id, func(r *keys.Record) error { r.Active = in.active; return nil })
	case deleting:
		receipt, err = m.Delete(ctx, in.id, nil)
	case getting:
		record, err = m.Get(ctx, in.id)
	case listing:
		var list []keys.Record
		list, err = m.List(ctx, in.account)
		for i := range list {
			out.list += lineOf(list[i].ID, list[i].Name, list[i].Active)
		}
	}
	out.version, out.name, out.active = receipt.Version, record.Name, record.Active
	out.outcome = m.outcomeOf(err)
	return out, out.outcome != unknown || in.kind != getting && in.kind != listing
}

func (m *member) outcomeOf(err error) outcome {
	var limit *keys.LimitError
	switch {
	case err == nil:
		return done
	case errors.As(err, &limit):
		return refusedLimit
	case errors.Is(err, keys.ErrNameTaken):
		return refusedName
	case errors.Is(err, keys.ErrNotFound):
		return refusedMissing
	case !errors.Is(err, keys.ErrUnavailable):
		m.t.Errorf("an error that no call should return: %v", err)
	}
	return unknown
}

// judge lets porcupine look for an order of each account's operations that explains all
// their outcomes.
func (a *administrators) judge() {
	a.Helper()
	began, operations := time.Now(), 0
	seen := map[string]int{}
	for _, p := range a.all {
		operations += len(p.history)
		for _, o := range p.history {
			seen[fmt.Sprint(o.Input.(asked).kind, "/", o.Output.(answered).outcome)]++
		}
		if result := porcupine.CheckOperationsTimeout(linearModel(), p.history, time.Minute); result != porcupine.Ok {
			a.Errorf("the %d operations on %s are not linearizable: %s%s", len(p.history), p.account, result, p)
		}
	}
	a.Logf("%d operations on %d accounts in %v, %d of unknown outcome, judged in %v; kind/outcome: %v",
		operations, len(a.all), began.Sub(a.began).Round(time.Millisecond), a.unknown.Load(), time.Since(began).Round(time.Millisecond), seen)
	for _, k := range slices.Sorted(maps.Keys(map[string]bool{"0/0": true, "0/2": true, "0/3": true, "1/3": true, "2/4": true, "3/0": true})) {
		if seen[k] == 0 {
			a.Errorf("no operation of kind/outcome %s: the test is too tame", k)
		}
	}
}

// String lists the operations in the order they began.
func (p *part) String() string {
	var text strings.Builder
	slices.SortFunc(p.history, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
	for _, o := range p.history {
		fmt.Fprintf(&text, "\n%d..%d %+v -> %+v", o.Call, o.Return, o.Input, o.Output)
	}
	return text.String()
}

// agree fails the test unless all members hold the store's set, which fits together.
func (a *administrators) agree() {
	a.Helper()
	for _, m := range a.members {
		m.sameSet(a.store)
	}
	a.store.consistent()
	// Each change is an entry of the log and one of the trail, which have the same versions.
	versions := map[uint64]bool{}
	for _, e := range a.store.trail(a.members[0]) {
		versions[e.Version] = true
	}
	for _, e := range a.store.log() {
		if e.id != (keys.ID{}) && !versions[e.version] {
			a.Errorf("the change to version %d is not in the trail", e.version)
		}
	}
}

// linearizable has three administrators do operations at the same time.
func linearizable(t *testing.T, operations int) {
	a := newAdministrators(t, operations)
	a.run(func(<-chan struct{}) {})
	a.judge()
	a.agree()
	// A machine that stands still for longer than all attempts of a call leaves one to each client.
	if n := a.unknown.Load(); n > 2*linearClients*int64(len(a.members)) {
		t.Errorf("%d outcomes are unknown, although nothing was broken", n)
	}
}

// linearizableWhileCut does the same while connections are cut and servers are out of
// reach for a while.
func linearizableWhileCut(t *testing.T, operations int) {
	a := newAdministrators(t, operations)
	a.run(func(over <-chan struct{}) {
		tick := time.NewTicker(25 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-over:
				for _, p := range a.proxies {
					p.SetMode(redistest.Pass)
				}
				return
			case <-tick.C:
			}
			p := a.proxies[rand.IntN(len(a.proxies))]
			switch i % 8 {
			case 0:
				p.SetMode(redistest.Cut)
			case 1:
				p.LoseReplies(10, "evalsha")
			case 2, 6:
				for _, p := range a.proxies {
					p.SetMode(redistest.Pass)
				}
			default:
				p.Disconnect()
			}
		}
	})
	a.judge()
	a.agree()
	if a.unknown.Load() == 0 {
		t.Error("every outcome is known: the connections were not cut enough")
	}
}

func TestThreeAdministratorsAreLinearizable(t *testing.T) { linearizable(t, 10_000) }

func TestThreeAdministratorsAreLinearizableWhileConnectionsAreCut(t *testing.T) {
	linearizableWhileCut(t, 5_000)
}
