package keystest

import (
	"errors"
	"slices"
	"testing"

	"keystile/keys"
)

func accountDeleted(t *testing.T, h Harness) {
	f := open(t, h)
	f.accounts("c")
	gone, token := f.mustCreate(repeatable("c", "x", "op", 1)).Record, f.token("c", "")
	other := f.create("a", "x")
	_, err := f.DeleteAccount(t.Context(), "c", false, nil)
	refused(t, "DeleteAccount", err, keys.ErrAccountHasKeys)
	same(t, "key", f.get(gone.ID), gone)
	w := watch(t.Context(), t, f)
	if receipt := f.deleteAccount("c", true); receipt.Version <= other.Version {
		t.Errorf("after version %d came %d", other.Version, receipt.Version)
	}
	awaitSet(t, w, map[keys.ID]keys.Grant{other.ID: other.Grant()}, h.Immediate)
	for range 2 {
		_, err = f.Account(t.Context(), "c")
		refused(t, "Account", err, keys.ErrNoAccount)
		_, err = f.Get(t.Context(), gone.ID)
		refused(t, "Get", err, keys.ErrNotFound)
		_, err = f.Token(t.Context(), token.ID)
		refused(t, "Token", err, keys.ErrNoToken)
		_, err = f.Create(t.Context(), repeatable("c", "x", "op", 1))
		refused(t, "Create again", err, keys.ErrNotFound)
		same(t, "all records", f.list(""), []keys.Record{other})
		f.reopen()
	}
	f.accounts("c")
	same(t, "keys of the new account", f.list("c"), []keys.Record{})
	same(t, "tokens of the new account", f.tokens("c"), []keys.AccountToken{})
	f.create("c", "x")
	f.accounts("d")
	f.deleteAccount("d", false)
}

func accountDefaultStays(t *testing.T, h Harness) {
	f := open(t, h)
	want := f.create(keys.DefaultAccount, "x")
	for _, withKeys := range []bool{false, true} {
		_, err := f.DeleteAccount(t.Context(), keys.DefaultAccount, withKeys, nil)
		refused(t, "DeleteAccount", err, keys.ErrDefaultAccount)
	}
	same(t, "key", f.get(want.ID), want)
}

func accountDeletedAtOnce(t *testing.T, h Harness) {
	f := open(t, h)
	together(8, func(i int) {
		for range 10 {
			var err error
			switch {
			case i == 0:
				_, err = f.DeleteAccount(t.Context(), "c", true, nil)
			case i == 1:
				_, _, err = f.CreateAccount(t.Context(), keys.Account{ID: "c"})
			case i == 2:
				_, _, err = f.CreateToken(t.Context(), newToken("c", ""))
			default:
				_, err = f.Create(t.Context(), draft("c", ""))
			}
			if errors.Is(err, keys.ErrUnavailable) {
				t.Errorf("call %d: %v", i, err)
			}
		}
	})
	f.accounts(missing(f, "c")...)
	f.deleteAccount("c", true)
	f.reopen()
	same(t, "records", f.list(""), []keys.Record{})
	f.accounts("c")
	same(t, "tokens", f.tokens("c"), []keys.AccountToken{})
}

// missing returns the ids of which there is no account.
func missing(f *fixture, ids ...string) []string {
	all := f.allAccounts()
	return slices.DeleteFunc(ids, func(id string) bool {
		return slices.ContainsFunc(all, func(a keys.Account) bool { return a.ID == id })
	})
}
