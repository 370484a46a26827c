// Package keystest states the contract of [keys.Store] as tests, for every store to
// run: each subtest is one guarantee and its name says which. A store's own test is
// a few lines that say how it is opened.
//
// Not covered: what only the outside can show, such as a process killed in the
// middle of a change or a disk that is full.
package keystest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"keystile/keys"
)

// Options are what a clause needs a store to be opened with.
type Options struct {
	// PerAccount is the limit of keys of an account.
	PerAccount int
	// Now is the clock the store must use.
	Now func() time.Time
}

// Harness says how to open the store under test.
type Harness struct {
	// Open opens the store that is kept in dir, for the first time or again. It fails t
	// when it cannot. The caller closes the store.
	Open func(t testing.TB, dir string, o Options) keys.Store
	// OneHandle says why a store cannot be open twice at the same time; empty: it can,
	// by another Open of the same dir.
	OneHandle string
	// Immediate says that a watcher has each change before the call that made it
	// returns, not only soon.
	Immediate bool
	// Brief leaves out the clauses that do one thing very often. It is for a store that
	// passes them elsewhere, and is slow where it runs now.
	Brief bool
}

// patience is how long a clause waits for what must come.
const patience = 30 * time.Second

// clause is one guarantee.
type clause struct {
	name  string
	check func(t *testing.T, h Harness)
}

// Run checks every clause of the contract that the harness asks for.
func Run(t *testing.T, h Harness) {
	clauses := slices.Concat(
		createClauses(), limitClauses(), operationClauses(), updateClauses(),
		deleteClauses(), touchClauses(), watchClauses(), lastingClauses(),
	)
	if !h.Brief {
		clauses = append(clauses, longClauses()...)
	}
	for _, c := range clauses {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.check(t, h)
		})
	}
}

// longClauses do one thing very often.
func longClauses() []clause {
	return []clause{
		{"200 rounds of 40 creates at once give exactly ten keys each", limitAtOnce},
		{"any sequence of calls does what a simple map does", likeTheModel},
	}
}

// clock is a clock that stands still until it is moved.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock {
	return &clock{at: time.Date(2030, time.January, 2, 3, 4, 5, 678_000_000, time.UTC)}
}

// Now returns the time.
func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(by)
}

// fixture is an open store with what the clauses do to it. Its methods fail the
// test where the store returns an error.
type fixture struct {
	keys.Store
	t     *testing.T
	h     Harness
	dir   string
	o     Options
	clock *clock
	hangs atomic.Bool // so that closing it would hang too
}

// open opens a new store with a limit of ten keys.
func open(t *testing.T, h Harness) *fixture { return openLimit(t, h, 10) }

func openLimit(t *testing.T, h Harness, perAccount int) *fixture {
	c := newClock()
	f := &fixture{t: t, h: h, dir: t.TempDir(), clock: c, o: Options{PerAccount: perAccount, Now: c.Now}}
	f.Store = h.Open(t, f.dir, f.o)
	t.Cleanup(func() {
		if !f.hangs.Load() {
			_ = f.Close()
		}
	})
	return f
}

// reopen closes the store and opens it again.
func (f *fixture) reopen() {
	f.t.Helper()
	if err := f.Close(); err != nil {
		f.t.Fatalf("Close: %v", err)
	}
	f.Store = f.h.Open(f.t, f.dir, f.o)
}

// draft returns a draft with an id and a digest of its own.
func draft(account, name string) keys.Draft {
	id := keys.NewID()
	var none *keys.Peppers
	return keys.Draft{ID: id, Account: account, Name: name, Digest: none.Digest(keys.NewSecret(id))}
}

func (f *fixture) create(account, name string) keys.Record {
	f.t.Helper()
	return f.mustCreate(draft(account, name)).Record
}

func (f *fixture) mustCreate(d keys.Draft) keys.Created {
	f.t.Helper()
	created, err := f.Create(f.t.Context(), d)
	if err != nil {
		f.t.Fatalf("Create(%q, %q): %v", d.Account, d.Name, err)
	}
	return created
}

func (f *fixture) get(id keys.ID) keys.Record {
	f.t.Helper()
	record, err := f.Get(f.t.Context(), id)
	if err != nil {
		f.t.Fatalf("Get(%s): %v", id, err)
	}
	return record
}

func (f *fixture) list(account string) []keys.Record {
	f.t.Helper()
	list, err := f.List(f.t.Context(), account)
	if err != nil {
		f.t.Fatalf("List(%q): %v", account, err)
	}
	return list
}

func (f *fixture) names(account string) []string {
	f.t.Helper()
	names := []string{}
	for _, record := range f.list(account) {
		names = append(names, record.Name)
	}
	return names
}

// update does what change says, which cannot fail.
func (f *fixture) update(id keys.ID, change func(*keys.Record)) keys.Record {
	f.t.Helper()
	record, receipt, err := f.Update(f.t.Context(), id, func(r *keys.Record) error {
		change(r)
		return nil
	})
	if err != nil {
		f.t.Fatalf("Update(%s): %v", id, err)
	}
	if receipt.Version != record.Version {
		f.t.Errorf("Update: the receipt says version %d, the record %d", receipt.Version, record.Version)
	}
	return record
}

func (f *fixture) delete(id keys.ID) keys.Receipt {
	f.t.Helper()
	receipt, err := f.Delete(f.t.Context(), id, nil)
	if err != nil {
		f.t.Fatalf("Delete(%s): %v", id, err)
	}
	return receipt
}

// reporter is a test of package testing or of rapid.
type reporter interface {
	Helper()
	Errorf(format string, args ...any)
}

// same fails the test unless got equals want.
func same(t reporter, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// refused fails the test unless err is want.
func refused(t reporter, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got error %v, want %v", what, err, want)
	}
}

// together runs do n times at once and returns when all have returned.
func together(n int, do func(i int)) {
	var wait sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wait.Go(func() {
			<-start
			do(i)
		})
	}
	close(start)
	wait.Wait()
}

// canceled returns a context that is done.
func canceled(t testing.TB) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}
