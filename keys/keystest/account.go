package keystest

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"keystile/keys"
)

func accountClauses() []clause {
	return []clause{
		{"the default account is there from the beginning, active", accountDefault},
		{"a created account is returned as it was asked for, active", accountAsAsked},
		{"accounts come by id, and ids are compared exactly", accountsByID},
		{"an id of an account that is in use is refused", accountTwice},
		{"an account that cannot be is refused", accountImproper},
		{"an unknown account is none, for keys and tokens too", accountUnknown},
		{"an update of an account keeps what may change and says when", accountUpdated},
		{"an update of an account that changes nothing gets no version", accountUnchanged},
		{"an error of an account's change or check is returned as it is", accountErrors},
		{"updates of an account at once lose nothing", accountUpdatesAtOnce},
		{"an account's own limit holds, and 0 is the store's", accountLimit},
		{"40 creates at once fill an account to its own limit", accountLimitAtOnce},
		{"an account with keys is deleted only with them", accountDeleted},
		{"the default account cannot be deleted", accountDefaultStays},
		{"no key is left of an account that is deleted while keys are created", accountDeletedAtOnce},
		{"reopening keeps accounts", accountsReopened},
		{"calls about accounts with a context that is done change nothing", accountsCanceled},
		{"calls about accounts of a closed store return errors", accountsClosed},
	}
}

// mustAccount returns an account, which there is.
func (f *fixture) mustAccount(id string) keys.Account {
	f.t.Helper()
	account, err := f.Account(f.t.Context(), id)
	if err != nil {
		f.t.Fatalf("Account(%q): %v", id, err)
	}
	return account
}

func accountDefault(t *testing.T, h Harness) {
	f := open(t, h)
	got := f.mustAccount(keys.DefaultAccount)
	if !got.Active || got.Limit != 0 || got.Version != 0 {
		t.Errorf("the default account is %+v", got)
	}
	f.create(keys.DefaultAccount, "")
	f.reopen()
	same(t, "default account after reopening", f.mustAccount(keys.DefaultAccount), got)
	updated, _ := f.updateAccount(keys.DefaultAccount, func(a *keys.Account) { a.Name, a.Limit = "Ours", 1 })
	if updated.Version == 0 {
		t.Error("a changed default account has no version")
	}
	same(t, "changed default account", f.mustAccount(keys.DefaultAccount), updated)
	atLimit(t, f, keys.DefaultAccount, 1)
}

func accountAsAsked(t *testing.T, h Harness) {
	f := open(t, h)
	before := f.create("a", "").Version
	f.clock.advance(time.Minute)
	got := f.account(keys.Account{ID: "acme", Name: "Acme Ltd", Limit: 3, Version: 1 << 40, Created: time.Unix(1, 0)})
	want := keys.Account{
		ID: "acme", Name: "Acme Ltd", Active: true, Limit: 3,
		Created: f.clock.Now(), Updated: f.clock.Now(), Version: got.Version,
	}
	same(t, "account of CreateAccount", got, want)
	same(t, "account of Account", f.mustAccount("acme"), want)
	if got.Version <= before || got.Version >= 1<<40 {
		t.Errorf("after version %d came %d", before, got.Version)
	}
	if next := f.create("acme", ""); next.Version <= got.Version {
		t.Errorf("after version %d came %d", got.Version, next.Version)
	}
}

func accountsByID(t *testing.T, h Harness) {
	f := open(t, h)
	f.accounts("zeta", "A", "a.b", "4")
	var ids []string
	for _, account := range f.allAccounts() {
		ids = append(ids, account.ID)
		same(t, "account", f.mustAccount(account.ID), account)
	}
	same(t, "ids", ids, []string{"4", "A", "a", "a.b", "b", "default", "zeta"})
	f.create("A", "x")
	same(t, "names of a", f.names("a"), []string{})
}

func accountTwice(t *testing.T, h Harness) {
	f := open(t, h)
	want := f.allAccounts()
	for _, id := range []string{"a", keys.DefaultAccount} {
		_, _, err := f.CreateAccount(t.Context(), keys.Account{ID: id, Name: "another", Limit: 1})
		refused(t, "CreateAccount", err, keys.ErrAccountExists)
	}
	same(t, "accounts", f.allAccounts(), want)
	var made atomic.Int32
	together(20, func(int) {
		switch _, _, err := f.CreateAccount(t.Context(), keys.Account{ID: "c"}); {
		case err == nil:
			made.Add(1)
		case !errors.Is(err, keys.ErrAccountExists):
			t.Errorf("CreateAccount: %v", err)
		}
	})
	if made.Load() != 1 {
		t.Errorf("the account was made %d times", made.Load())
	}
}

// accountImproper sends what only a mistake of the caller can.
func accountImproper(t *testing.T, h Harness) {
	f := open(t, h)
	want := f.allAccounts()
	for _, account := range []keys.Account{
		{}, {ID: "a b"}, {ID: "-a"}, {ID: "a/b"}, {ID: "c", Limit: -1}, {ID: "c", Limit: keys.MaxLimit + 1},
	} {
		if _, _, err := f.CreateAccount(t.Context(), account); err == nil || errors.Is(err, keys.ErrUnavailable) {
			t.Errorf("CreateAccount(%+v): %v", account, err)
		}
	}
	for _, limit := range []int{-1, keys.MaxLimit + 1} {
		_, _, err := f.UpdateAccount(t.Context(), "a", func(a *keys.Account) error { a.Limit = limit; return nil })
		if err == nil || errors.Is(err, keys.ErrUnavailable) {
			t.Errorf("UpdateAccount to a limit of %d: %v", limit, err)
		}
	}
	same(t, "accounts", f.allAccounts(), want)
	f.account(keys.Account{ID: "c", Limit: keys.MaxLimit})
}

func accountUnknown(t *testing.T, h Harness) {
	f := open(t, h)
	ctx := t.Context()
	_, account := f.Account(ctx, "c")
	_, _, update := f.UpdateAccount(ctx, "c", func(*keys.Account) error {
		t.Error("UpdateAccount called change without an account")
		return nil
	})
	_, remove := f.DeleteAccount(ctx, "c", true, func(keys.Account) error {
		t.Error("DeleteAccount called check without an account")
		return nil
	})
	_, create := f.Create(ctx, draft("c", "x"))
	_, _, token := f.CreateToken(ctx, newToken("c", ""))
	_, tokens := f.Tokens(ctx, "c")
	_, revoke := f.DeleteToken(ctx, "c", f.token("a", "").ID)
	for call, err := range map[string]error{
		"Account": account, "UpdateAccount": update, "DeleteAccount": remove,
		"Create": create, "CreateToken": token, "Tokens": tokens, "DeleteToken": revoke,
	} {
		refused(t, call, err, keys.ErrNoAccount)
	}
	same(t, "all records", f.list(""), []keys.Record{})
}

func accountUpdated(t *testing.T, h Harness) {
	f := open(t, h)
	want, key := f.mustAccount("a"), f.create("a", "")
	f.clock.advance(time.Minute)
	got, receipt := f.updateAccount("a", func(a *keys.Account) {
		same(t, "account passed to change", *a, want)
		a.Name, a.Limit = "Acme", 4
		a.ID, a.Version, a.Created, a.Updated = "z", 1<<40, time.Time{}, time.Time{}
	})
	want.Name, want.Limit, want.Updated, want.Version = "Acme", 4, f.clock.Now(), got.Version
	same(t, "account of UpdateAccount", got, want)
	same(t, "account of Account", f.mustAccount("a"), want)
	same(t, "key of the account", f.get(key.ID), key)
	if got.Version <= key.Version || got.Version >= 1<<40 || receipt.Version != got.Version {
		t.Errorf("after version %d came %d, in the receipt %d", key.Version, got.Version, receipt.Version)
	}
}

func accountUnchanged(t *testing.T, h Harness) {
	f := open(t, h)
	want := f.account(keys.Account{ID: "c", Name: "C"})
	f.clock.advance(time.Second)
	got, receipt := f.updateAccount("c", func(a *keys.Account) { a.Name, a.Active, a.Version = "C", true, 7 })
	same(t, "account of UpdateAccount", got, want)
	same(t, "account of Account", f.mustAccount("c"), want)
	if receipt.Version != want.Version {
		t.Errorf("the receipt says version %d, the account %d", receipt.Version, want.Version)
	}
}

func accountErrors(t *testing.T, h Harness) {
	f := open(t, h)
	key, want := f.create("a", "x"), f.allAccounts()
	mine := fmt.Errorf("wrapped: %w", keys.ErrNoAccount)
	_, _, err := f.UpdateAccount(t.Context(), "a", func(a *keys.Account) error {
		a.Active = false
		return mine
	})
	if err != mine { // the same value is the promise
		t.Errorf("UpdateAccount returned %v", err)
	}
	_, err = f.DeleteAccount(t.Context(), "a", true, func(a keys.Account) error {
		same(t, "account passed to check", a, want[0])
		return mine
	})
	if err != mine {
		t.Errorf("DeleteAccount returned %v", err)
	}
	same(t, "accounts", f.allAccounts(), want)
	same(t, "all records", f.list(""), []keys.Record{key})
}

func accountUpdatesAtOnce(t *testing.T, h Harness) {
	f := open(t, h)
	together(8, func(int) {
		for range 10 {
			f.updateAccount("a", func(a *keys.Account) { a.Limit++ })
		}
	})
	if got := f.mustAccount("a").Limit; got != 80 {
		t.Errorf("after 80 increments the limit is %d", got)
	}
}

func accountLimit(t *testing.T, h Harness) {
	f := openLimit(t, h, 3)
	f.account(keys.Account{ID: "c", Limit: 2})
	limit := func(n int) { f.updateAccount("c", func(a *keys.Account) { a.Limit = n }) }
	fill := func(n int) {
		t.Helper()
		for range n {
			f.create("c", "")
		}
		atLimit(t, f, "c", len(f.list("c")))
	}
	fill(2)
	limit(4)
	fill(2)
	limit(1)
	var reached *keys.LimitError
	if _, err := f.Create(t.Context(), draft("c", "")); !errors.As(err, &reached) || reached.Limit != 1 {
		t.Errorf("Create beyond a limit that was lowered: %v", err)
	}
	if n := len(f.list("c")); n != 4 {
		t.Errorf("lowering the limit left %d keys", n)
	}
	f.delete(f.list("c")[0].ID)
	f.delete(f.list("c")[0].ID)
	limit(0)
	fill(1)
	for range 3 {
		f.create("a", "")
	}
	atLimit(t, f, "a", 3)
}

func accountLimitAtOnce(t *testing.T, h Harness) {
	f := open(t, h)
	f.account(keys.Account{ID: "c", Limit: 13})
	var made atomic.Int32
	together(40, func(int) {
		if _, err := f.Create(t.Context(), draft("c", "")); err == nil {
			made.Add(1)
		}
	})
	if made.Load() != 13 {
		t.Errorf("%d keys were made", made.Load())
	}
	atLimit(t, f, "c", 13)
}

func accountsReopened(t *testing.T, h Harness) {
	f := open(t, h)
	f.account(keys.Account{ID: "c", Name: "C", Limit: 1})
	f.create("c", "")
	f.create("a", "")
	f.setActive("a", false)
	f.accounts("d")
	last := f.deleteAccount("d", false).Version
	want, records := f.allAccounts(), f.list("")
	f.reopen()
	same(t, "accounts", f.allAccounts(), want)
	same(t, "all records", f.list(""), records)
	same(t, "what a watcher is told", watch(t.Context(), t, f).set(), grants(records))
	atLimit(t, f, "c", 1)
	if next := f.account(keys.Account{ID: "d"}); next.Version <= last {
		t.Errorf("after version %d and a reopening comes %d", last, next.Version)
	}
}

// accountCalls returns one call of each method about accounts and the trail.
func accountCalls(ctx context.Context, store Store, token string) map[string]func() error {
	rename := func(a *keys.Account) error { a.Name = "another"; return nil }
	return map[string]func() error{
		"Account":       func() error { _, err := store.Account(ctx, "a"); return err },
		"Accounts":      func() error { _, err := store.Accounts(ctx); return err },
		"CreateAccount": func() error { _, _, err := store.CreateAccount(ctx, keys.Account{ID: "c"}); return err },
		"UpdateAccount": func() error { _, _, err := store.UpdateAccount(ctx, "a", rename); return err },
		"DeleteAccount": func() error { _, err := store.DeleteAccount(ctx, "a", true, nil); return err },
		"CreateToken":   func() error { _, _, err := store.CreateToken(ctx, newToken("a", "")); return err },
		"Token":         func() error { _, err := store.Token(ctx, token); return err },
		"Tokens":        func() error { _, err := store.Tokens(ctx, "a"); return err },
		"DeleteToken":   func() error { _, err := store.DeleteToken(ctx, "a", token); return err },
		"Audit":         func() error { _, err := store.Audit(ctx, 0, 10); return err },
	}
}

func accountsCanceled(t *testing.T, h Harness) {
	f := open(t, h)
	token := f.token("a", "")
	accounts, entries := f.allAccounts(), f.trail()
	for name, call := range accountCalls(canceled(t), f, token.ID) {
		refused(t, name, call(), keys.ErrUnavailable)
	}
	same(t, "accounts", f.allAccounts(), accounts)
	same(t, "tokens", f.tokens("a"), []keys.AccountToken{token})
	same(t, "audit trail", f.trail(), entries)
}

func accountsClosed(t *testing.T, h Harness) {
	f := open(t, h)
	token := f.token("a", "")
	closed := f.Store
	f.reopen()
	for name, call := range accountCalls(t.Context(), closed, token.ID) {
		refused(t, name, call(), keys.ErrUnavailable)
	}
	same(t, "tokens", f.tokens("a"), []keys.AccountToken{token})
}
