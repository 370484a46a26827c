package keystest

import (
	"slices"

	"pgregory.net/rapid"

	"keystile/keys"
)

func drawAccount(t *rapid.T) string { return rapid.SampledFrom([]string{"a", "b"}).Draw(t, "account") }

func drawLimit(t *rapid.T) int { return rapid.SampledFrom([]int{0, 0, 1, 5}).Draw(t, "limit") }

func (m *machine) createAccount(t *rapid.T) {
	want := keys.Account{ID: drawAccount(t), Limit: drawLimit(t), Active: true, Created: m.clock.Now(), Updated: m.clock.Now()}
	got, receipt, err := m.CreateAccount(m.t.Context(), want)
	if _, exists := m.model.accounts[want.ID]; exists {
		m.agree(t, err, keys.ErrAccountExists)
		return
	}
	m.agree(t, err, nil)
	want.Version = m.newer(t, receipt.Version)
	m.model.accounts[want.ID] = want
	same(t, "account of CreateAccount", got, want)
}

func (m *machine) updateAccount(t *rapid.T) {
	id, limit, active := drawAccount(t), drawLimit(t), rapid.Bool().Draw(t, "active")
	got, receipt, err := m.UpdateAccount(m.t.Context(), id, func(a *keys.Account) error {
		a.Limit, a.Active = limit, active
		return nil
	})
	before, exists := m.model.accounts[id]
	if !exists {
		m.agree(t, err, keys.ErrNoAccount)
		return
	}
	m.agree(t, err, nil)
	want := before
	if want.Limit, want.Active = limit, active; want != before {
		want.Updated, want.Version = m.clock.Now(), m.newer(t, receipt.Version)
	}
	m.model.accounts[id] = want
	same(t, "account of UpdateAccount", got, want)
	if before.Active != active {
		m.suspend(t, want)
	}
}

// suspend marks the keys of an account, or takes the mark away, under the versions that the
// store gave them, of which none is as high as the account's.
func (m *machine) suspend(t *rapid.T, account keys.Account) {
	for _, got := range m.list(account.ID) {
		at := m.find(got.ID)
		if at < 0 {
			t.Fatalf("there is another key, %s", got.ID)
		}
		want := &m.records[at]
		if got.Version <= want.Version || got.Version >= account.Version {
			t.Fatalf("a key went from version %d to %d, and its account to %d", want.Version, got.Version, account.Version)
		}
		want.Suspended, want.Updated, want.Version = !account.Active, m.clock.Now(), got.Version
	}
}

func (m *machine) deleteAccount(t *rapid.T) {
	id, withKeys := drawAccount(t), rapid.Bool().Draw(t, "with keys")
	receipt, err := m.DeleteAccount(m.t.Context(), id, withKeys, nil)
	ofAccount := func(r keys.Record) bool { return r.Account == id }
	if _, exists := m.model.accounts[id]; !exists {
		m.agree(t, err, keys.ErrNoAccount)
		return
	}
	if !withKeys && slices.ContainsFunc(m.records, ofAccount) {
		m.agree(t, err, keys.ErrAccountHasKeys)
		return
	}
	m.agree(t, err, nil)
	m.newer(t, receipt.Version)
	delete(m.model.accounts, id)
	m.records = slices.DeleteFunc(m.records, ofAccount)
}

func (m *machine) compareAll(t *rapid.T) {
	m.compare(t)
	got := map[string]keys.Account{}
	for _, account := range m.allAccounts() {
		if account.ID != keys.DefaultAccount {
			got[account.ID] = account
		}
	}
	same(t, "accounts", got, m.model.accounts)
	if number := m.audit(0, 0).Head.Number; number != m.entries {
		t.Errorf("%d changes left %d entries", m.entries, number)
	}
}
