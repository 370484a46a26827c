package cache

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"keystile/keys"
)

// TestSuspendedKeyThatTheStoreLostIsSwitchedOff: inactive wins, though why is not known.
func TestSuspendedKeyThatTheStoreLostIsSwitchedOff(t *testing.T) {
	kinds(t, func(t *testing.T, start func() string) {
		address := start()
		m := join(t, address, nil)
		c := look(t, address)
		key := m.mustCreate(keys.DefaultAccount)
		_, receipt, err := m.UpdateAccount(t.Context(), keys.DefaultAccount, func(a *keys.Account) error { a.Active = false; return nil })
		if err != nil || !receipt.Everywhere() || m.admits(key.ID) {
			t.Fatalf("%+v, %v; admits: %v", receipt, err, m.admits(key.ID))
		}
		m.sameSet(c)
		c.tamper(key.ID, line(4, "1"))
		await(t, "inactive wins", func() bool { return m.told.read(reassertions) == 1 })
		m.sameSet(c)
		if got, err := m.Get(t.Context(), key.ID); err != nil || got.Active || m.admits(key.ID) {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

// TestAccountIsSwitchedForEverybodyAtOnce has one process switch an account with many keys,
// and another that judges by them.
func TestAccountIsSwitchedForEverybodyAtOnce(t *testing.T) {
	kinds(t, func(t *testing.T, start func() string) {
		address := start()
		a, b := join(t, address, unhurried), join(t, address, nil)
		c := look(t, address)
		c.account("acme")
		size := keys.MaxLimit
		if strings.HasSuffix(t.Name(), "miniredis") {
			size = 50 // it is slow
		}
		hasty := join(t, address, inHaste)
		var ids []keys.ID
		for range size {
			draft := newDraft("acme", "")
			draft.Name = draft.ID.String()
			if _, err := hasty.Create(t.Context(), draft); err != nil {
				t.Fatal(err)
			}
			ids = append(ids, draft.ID)
		}
		off := ids[7]
		a.mustUpdate(off, switchOff)
		for _, active := range []bool{false, true} {
			account, receipt, err := a.UpdateAccount(t.Context(), "acme", func(a *keys.Account) error { a.Active = active; return nil })
			if err != nil || !receipt.Everywhere() {
				t.Fatalf("%+v, %v", receipt, err)
			}
			if n := account.Version; n != receipt.Version || n != parseNumber(c.hash("meta")["version"]) {
				t.Errorf("the account has version %d, the receipt %d, the store %s", n, receipt.Version, c.hash("meta")["version"])
			}
			for _, id := range ids {
				if b.admits(id) != (active && id != off) {
					t.Fatalf("after everywhere, with the account active: %v, another process admits a key: %v", active, b.admits(id))
				}
			}
			c.consistent()
			b.sameSet(c)
		}
		receipt, err := a.DeleteAccount(t.Context(), "acme", true, nil)
		if err != nil || !receipt.Everywhere() || b.mirror.Len() != 0 {
			t.Errorf("%+v, %v; another process has %d keys", receipt, err, b.mirror.Len())
		}
		entries := c.trail(b)
		last := entries[len(entries)-1]
		if last.Version != receipt.Version || len(last.Keys) != len(ids) || last.Keys[0] != ids[0].String() {
			t.Errorf("the deletion has version %d, its entry %d and %d keys", receipt.Version, last.Version, len(last.Keys))
		}
		c.consistent()
	})
}

// TestAccountIsChangedAsItIsWhileKeysComeAndGo deletes an account from under those who make
// keys in it: what the entries say adds up to what there is.
func TestAccountIsChangedAsItIsWhileKeysComeAndGo(t *testing.T) {
	address := startServer(t).Addr()
	a, b := join(t, address, inHaste), join(t, address, inHaste)
	c := look(t, address)
	var work sync.WaitGroup
	for _, m := range []*member{a, b} {
		work.Go(func() {
			for range 100 {
				if _, err := m.Create(t.Context(), newDraft("acme", "")); err != nil && !errors.Is(err, keys.ErrNoAccount) {
					t.Errorf("Create: %v", err)
				}
			}
		})
	}
	work.Go(func() {
		for i := range 30 {
			_, _, err := b.CreateAccount(t.Context(), keys.Account{ID: "acme"})
			_, _, err2 := b.UpdateAccount(t.Context(), "acme", func(a *keys.Account) error { a.Active = i%2 == 0; return nil })
			_, err3 := a.DeleteAccount(t.Context(), "acme", true, nil)
			if err := errors.Join(err, err2, err3); err != nil {
				t.Error(err)
			}
		}
	})
	work.Wait()
	var there []string
	for _, e := range c.trail(a) {
		switch e.Action {
		case keys.KeyCreated:
			there = append(there, e.Subject)
		case keys.AccountDeleted:
			if !slices.Equal(e.Keys, there) {
				t.Errorf("the entries before make the keys %v, deleted were %v", there, e.Keys)
			}
			there = nil
		}
	}
	if len(there) > 0 || len(c.hash("records")) > 0 {
		t.Errorf("%d keys are left, %d records", len(there), len(c.hash("records")))
	}
	c.consistent()
	a.sameSet(c)
}
