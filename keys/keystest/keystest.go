// Package keystest states the contract of [keys.Store], [keys.Accounts] and [keys.Trail]
// as tests, for every store to run: each subtest is one guarantee and its name says which.
// A store's own test is a few lines that say how it is opened.
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

// Store is all that a store does.
type Store interface {
	keys.Store
	keys.Accounts
	keys.Trail
}

// Options are what a clause needs a store to be opened with.
type Options struct {
	// PerAccount is the limit of keys of an account that has none of its own.
	PerAccount int
	// AuditKeep is how many entries of the audit trail are kept; 0: the store's default.
	AuditKeep int
	// Now is the clock the store must use.
	Now func() time.Time
}

// Harness says how to open the store under test.
type Harness struct {
	// Open opens the store that is kept in dir, for the first time or again. It fails t
	// when it cannot. The caller closes the store.
	Open func(t testing.TB, dir string, o Options) Store
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
		accountClauses(), suspendClauses(), tokenClauses(), auditClauses(),
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
	Store
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
	return openWith(t, h, Options{PerAccount: perAccount})
}

// openWith opens a new store, which has the accounts a and b.
func openWith(t *testing.T, h Harness, o Options) *fixture {
	c := newClock()
	o.Now = c.Now
	f := &fixture{t: t, h: h, dir: t.TempDir(), clock: c, o: o}
	f.Store = h.Open(t, f.dir, f.o)
	t.Cleanup(func() {
		if !f.hangs.Load() {
			_ = f.Close()
		}
	})
	f.accounts("a", "b")
	return f
}

// accounts makes accounts that have no limit of their own.
func (f *fixture) accounts(ids ...string) {
	f.t.Helper()
	for _, id := range ids {
		f.account(keys.Account{ID: id})
	}
}

func (f *fixture) account(account keys.Account) keys.Account {
	f.t.Helper()
	created, receipt, err := f.CreateAccount(f.t.Context(), account)
	if err != nil {
		f.t.Fatalf("CreateAccount(%q): %v", account.ID, err)
	}
	if receipt.Version != created.Version {
		f.t.Errorf("CreateAccount: the receipt says version %d, the account %d", receipt.Version, created.Version)
	}
	return created
}

// updateAccount does what change says, which cannot fail.
func (f *fixture) updateAccount(id string, change func(*keys.Account)) (keys.Account, keys.Receipt) {
	f.t.Helper()
	account, receipt, err := f.UpdateAccount(f.t.Context(), id, func(a *keys.Account) error {
		change(a)
		return nil
	})
	if err != nil {
		f.t.Fatalf("UpdateAccount(%q): %v", id, err)
	}
	return account, receipt
}

// setActive switches an account.
func (f *fixture) setActive(id string, active bool) (keys.Account, keys.Receipt) {
	f.t.Helper()
	return f.updateAccount(id, func(a *keys.Account) { a.Active = active })
}

func (f *fixture) deleteAccount(id string, withKeys bool) keys.Receipt {
	f.t.Helper()
	receipt, err := f.DeleteAccount(f.t.Context(), id, withKeys, nil)
	if err != nil {
		f.t.Fatalf("DeleteAccount(%q): %v", id, err)
	}
	return receipt
}

func (f *fixture) allAccounts() []keys.Account {
	f.t.Helper()
	all, err := f.Accounts(f.t.Context())
	if err != nil {
		f.t.Fatalf("Accounts: %v", err)
	}
	return all
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
