package cache

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"keystile/keys"
)

// TestImportLeavesAnEntryForEachKeyAndAccountThatItChanges imports what other stores have had.
func TestImportLeavesAnEntryForEachKeyAndAccountThatItChanges(t *testing.T) {
	kinds(t, func(t *testing.T, start func() string) {
		from, to := join(t, start(), inHaste), join(t, start(), inHaste)
		kept := mustMake(t, from, "acme", "kept", nil)
		gone := mustMake(t, from, keys.DefaultAccount, "gone", nil)
		mustMake(t, from, "idle", "idle", nil)
		never := mustMake(t, from, keys.DefaultAccount, "never", nil)
		mustDelete(t, from, never.ID)
		mustImport(t, to, export(t, from), ImportOptions{})
		s, err := from.acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := from.call(t.Context(), s, from.scripts.raise, nil, 1000); err != nil { // above what the import has made
			t.Fatal(err)
		}
		from.release(s, nil)
		mustUpdate(t, from, kept.ID, off)
		mustDelete(t, from, gone.ID)
		file := export(t, from)

		c := look(t, to.o.Server.Addresses[0])
		before := len(c.trail(to))
		by := keys.WithActor(t.Context(), keys.Actor{Principal: "administrator"})
		if _, err := to.Import(by, bytes.NewReader(file), ImportOptions{}); err != nil {
			t.Fatal(err)
		}
		entries := c.trail(to)
		var firsts []keys.Action
		for _, e := range entries[:before] {
			firsts = append(firsts, e.Action)
		}
		slices.Sort(firsts)
		want := []keys.Action{keys.AccountCreated, keys.AccountCreated, keys.KeyCreated, keys.KeyCreated, keys.KeyCreated}
		if !slices.Equal(firsts, want) {
			t.Errorf("an import of three keys in two new accounts is %v", firsts)
		}
		entries = entries[before:]
		slices.SortFunc(entries, func(a, b keys.Entry) int { return bytes.Compare([]byte(a.Action), []byte(b.Action)) })
		if len(entries) != 2 || entries[0].Subject != gone.ID.String() || entries[0].Action != keys.KeyDeleted ||
			entries[1].Subject != kept.ID.String() || entries[1].After.Active || entries[1].Principal != "administrator" {
			t.Errorf("a deletion and an update are %+v", entries)
		}
		mustImport(t, to, file, ImportOptions{})
		if n := len(c.trail(to)); n != before+2 {
			t.Errorf("what changes nothing left %d entries", n-before-2)
		}
		c.consistent()
	})
}

func TestImportIntoAnInactiveAccountMakesSuspendedKeys(t *testing.T) {
	kinds(t, func(t *testing.T, start func() string) {
		from, to := join(t, start(), inHaste), join(t, start(), inHaste)
		key := mustMake(t, from, "acme", "key", nil)
		haveAccount(t, to, "acme")
		there := mustMake(t, to, "acme", "there", nil)
		set := func(active bool) {
			t.Helper()
			_, _, err := to.UpdateAccount(t.Context(), "acme", func(a *keys.Account) error { a.Active = active; return nil })
			if err != nil {
				t.Fatal(err)
			}
		}
		file := export(t, to) // has it active
		set(false)
		mustImport(t, to, export(t, from), ImportOptions{})
		mustImport(t, to, file, ImportOptions{Revive: true})
		c := look(t, to.o.Server.Addresses[0])
		to.sameSet(c)
		for _, id := range []keys.ID{key.ID, there.ID} {
			if got, err := to.Get(t.Context(), id); err != nil || !got.Suspended || !got.Active || to.admits(id) {
				t.Errorf("%+v, %v; admits: %v", got, err, to.admits(id))
			}
		}
		set(true)
		to.sameSet(c)
		if !to.admits(key.ID) || !to.admits(there.ID) {
			t.Error("keys of an account that is active again are refused")
		}
	})
}

func TestAccountsAndTokensOfAnotherStoreMeanNothing(t *testing.T) {
	address := startServer(t).Addr()
	m := join(t, address, shortLived)
	haveAccount(t, m, "acme")
	if _, _, err := m.CreateToken(t.Context(), keys.AccountToken{ID: "T", Account: "acme", Sum: keys.Sum{1}}); err != nil {
		t.Fatal(err)
	}
	look(t, address).run("FLUSHALL")
	ctx := t.Context()
	for what, call := range map[string]func() error{
		"Account":       func() error { _, err := m.Account(ctx, "acme"); return err },
		"Accounts":      func() error { _, err := m.Accounts(ctx); return err },
		"CreateAccount": func() error { _, _, err := m.CreateAccount(ctx, keys.Account{ID: "b"}); return err },
		"UpdateAccount": func() error {
			_, _, err := m.UpdateAccount(ctx, "default", func(a *keys.Account) error { a.Limit = 3; return nil })
			return err
		},
		"DeleteAccount": func() error { _, err := m.DeleteAccount(ctx, "acme", true, nil); return err },
		"CreateToken": func() error {
			_, _, err := m.CreateToken(ctx, keys.AccountToken{ID: "U", Account: "default", Sum: keys.Sum{1}})
			return err
		},
		"Token":       func() error { _, err := m.Token(ctx, "T"); return err },
		"Tokens":      func() error { _, err := m.Tokens(ctx, "default"); return err },
		"DeleteToken": func() error { _, err := m.DeleteToken(ctx, "acme", "T"); return err },
		"Audit":       func() error { _, err := m.Audit(ctx, 0, 10); return err },
	} {
		if err := call(); !errors.Is(err, keys.ErrUnavailable) || !errors.Is(err, errForeign) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if n := look(t, address).size(); n != 0 {
		t.Errorf("%d names were written into an empty server", n)
	}
}

// TestAccountIsNotChangedOnAServerThatHasLostChanges: the process knows a higher version than
// the server that answers.
func TestAccountIsNotChangedOnAServerThatHasLostChanges(t *testing.T) {
	address := startServer(t).Addr()
	m := join(t, address, nil)
	for range 5 {
		m.mustCreate(keys.DefaultAccount)
	}
	c := look(t, address)
	m.sameSet(c)
	m.stop() // it follows nothing any more
	m.stopped.Wait()
	c.run("HSET", "{keystile}:meta", "version", "4")
	head := c.hash("meta")["head"]
	_, _, err := m.UpdateAccount(t.Context(), keys.DefaultAccount, func(a *keys.Account) error { a.Active = false; return nil })
	if !errors.Is(err, errLags) || c.hash("meta")["head"] != head {
		t.Errorf("got %v, the head is %s, was %s", err, c.hash("meta")["head"], head)
	}
}

func TestTokenThatNoReplicaHasIsNotEverywhere(t *testing.T) {
	m := join(t, startServer(t).Addr(), func(o *RedisOptions) { o.WaitReplicas = 1 })
	_, made, err := m.CreateToken(t.Context(), keys.AccountToken{ID: "T", Account: keys.DefaultAccount, Sum: keys.Sum{1}})
	if err != nil || made.Everywhere() || made.Replicas != (keys.Replicas{Want: 1}) || len(made.Pending) > 0 {
		t.Errorf("CreateToken: %+v, %v", made, err)
	}
	gone, err := m.DeleteToken(t.Context(), keys.DefaultAccount, "T")
	if err != nil || gone.Everywhere() || gone.Replicas != (keys.Replicas{Want: 1}) || gone.Version <= made.Version {
		t.Errorf("DeleteToken: %+v, %v", gone, err)
	}
}
