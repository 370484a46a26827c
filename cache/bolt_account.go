package cache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/bbolt"

	"keystile/keys"
)

// Account returns an account. See [keys.Accounts].
func (b *Bolt) Account(ctx context.Context, id string) (account keys.Account, err error) {
	err = b.view(ctx, "reading an account", func(tx *bbolt.Tx) error {
		account, err = readAccount(tx, id)
		return err
	})
	return account, err
}

// Accounts returns all accounts by id.
func (b *Bolt) Accounts(ctx context.Context) (all []keys.Account, err error) {
	err = b.view(ctx, "listing accounts", func(tx *bbolt.Tx) error {
		return eachAccount(tx, func(account keys.Account) error {
			all = append(all, account)
			return nil
		})
	})
	return all, err
}

// CreateAccount keeps a new, active account. See [keys.Accounts].
func (b *Bolt) CreateAccount(ctx context.Context, account keys.Account) (keys.Account, keys.Receipt, error) {
	if err := checkAccount(&account); err != nil {
		return keys.Account{}, keys.Receipt{}, err
	}
	var created keys.Account
	err := b.write(ctx, "creating an account", func(s *step) (err error) {
		if s.Bucket(bucketAccounts).Get([]byte(account.ID)) != nil {
			return own(keys.ErrAccountExists)
		}
		created, err = s.makeAccount(keys.Account{ID: account.ID, Name: account.Name, Limit: account.Limit, Active: true})
		return err
	})
	if err != nil {
		return keys.Account{}, keys.Receipt{}, err
	}
	return created, keys.Receipt{Version: created.Version}, nil
}

// makeAccount keeps a new account, made now unless it says when.
func (s *step) makeAccount(account keys.Account) (keys.Account, error) {
	if account.Created.IsZero() {
		account.Created, account.Updated = s.now, s.now
	}
	account.Version = storeVersion(s.Tx) + 1
	err := errors.Join(
		putAccount(s.Tx, &account),
		s.announce(keys.Change{Version: account.Version}),
	)
	if err != nil {
		return account, err
	}
	return account, s.record(accountEntry(keys.AccountCreated, nil, &account, s.now))
}

// accountOf returns an account, and makes it if there is none.
func (s *step) accountOf(id string) (keys.Account, error) {
	if s.Bucket(bucketAccounts).Get([]byte(id)) == nil {
		return s.makeAccount(keys.Account{ID: id, Active: true})
	}
	return readAccount(s.Tx, id)
}

// UpdateAccount changes an account, and all its keys where Active changes. See
// [keys.Accounts].
func (b *Bolt) UpdateAccount(
	ctx context.Context, id string, change func(*keys.Account) error,
) (keys.Account, keys.Receipt, error) {
	var updated keys.Account
	err := b.write(ctx, "updating an account", func(s *step) error {
		before, err := readAccount(s.Tx, id)
		if err != nil {
			return err
		}
		updated = before
		if err := own(change(&updated)); err != nil {
			return err
		}
		if err := own(checkLimit(updated.Limit)); err != nil {
			return err
		}
		if updated = permittedAccount(before, updated); updated == before {
			return nil
		}
		return s.replaceAccount(&before, &updated)
	})
	if err != nil {
		return keys.Account{}, keys.Receipt{}, err
	}
	return updated, keys.Receipt{Version: updated.Version}, nil
}

// replaceAccount keeps a changed account under a new version, after its keys got theirs.
func (s *step) replaceAccount(before, after *keys.Account) error {
	if before.Active != after.Active {
		if err := s.suspend(after.ID, !after.Active); err != nil {
			return err
		}
	}
	after.Updated, after.Version = s.now, storeVersion(s.Tx)+1
	err := errors.Join(
		putAccount(s.Tx, after),
		s.announce(keys.Change{Version: after.Version}),
	)
	if err != nil {
		return err
	}
	return s.record(accountEntry(keys.AccountUpdated, before, after, s.now))
}

// suspend marks all keys of an account, or takes the mark away.
func (s *step) suspend(account string, suspended bool) error {
	all, err := recordsOf(s.Tx, account)
	if err != nil {
		return err
	}
	slices.SortFunc(all, byBirth)
	for i := range all {
		kept := &all[i]
		kept.Suspended, kept.Updated, kept.Version = suspended, s.now, storeVersion(s.Tx)+1
		if err := s.keep(kept); err != nil {
			return err
		}
	}
	return nil
}

// DeleteAccount removes an account with its tokens, and withKeys with its keys. See
// [keys.Accounts].
func (b *Bolt) DeleteAccount(
	ctx context.Context, id string, withKeys bool, check func(keys.Account) error,
) (keys.Receipt, error) {
	var receipt keys.Receipt
	err := b.write(ctx, "deleting an account", func(s *step) error {
		account, err := readAccount(s.Tx, id)
		if err != nil {
			return err
		}
		if err := own(deletable(&account, countNames(s.Tx, id, 1) > 0, withKeys, check)); err != nil {
			return err
		}
		receipt.Version, err = s.removeAccount(&account)
		return err
	})
	if err != nil {
		return keys.Receipt{}, err
	}
	return receipt, nil
}

// removeAccount removes an account with all that it has, and returns the version of that.
func (s *step) removeAccount(account *keys.Account) (version uint64, err error) {
	all, err := recordsOf(s.Tx, account.ID)
	if err != nil {
		return 0, err
	}
	slices.SortFunc(all, byBirth)
	e := accountEntry(keys.AccountDeleted, account, nil, s.now)
	for i := range all {
		e.Keys = append(e.Keys, all[i].ID.String())
		if err := s.remove(&all[i].Record, storeVersion(s.Tx)+1); err != nil {
			return 0, err
		}
	}
	version = storeVersion(s.Tx) + 1
	err = errors.Join(
		deleteTokens(s.Tx, account.ID),
		s.Bucket(bucketAccounts).Delete([]byte(account.ID)),
		s.announce(keys.Change{Version: version}),
	)
	if err != nil {
		return 0, err
	}
	return version, s.record(e)
}

func readAccount(tx *bbolt.Tx, id string) (keys.Account, error) {
	value := tx.Bucket(bucketAccounts).Get([]byte(id))
	if value == nil {
		return keys.Account{}, own(keys.ErrNoAccount)
	}
	return decodeAccount([]byte(id), value)
}

// decodeAccount reads an account. An error says what is wrong with the file, without its
// content.
func decodeAccount(id, value []byte) (account keys.Account, err error) {
	if err := json.Unmarshal(value, &account); err != nil {
		return account, fmt.Errorf("the account %q cannot be read: %w", id, err)
	}
	if account.ID != string(id) {
		return account, fmt.Errorf("the account %q is another", id)
	}
	return account, nil
}

func eachAccount(tx *bbolt.Tx, visit func(keys.Account) error) error {
	return tx.Bucket(bucketAccounts).ForEach(func(id, value []byte) error {
		account, err := decodeAccount(id, value)
		if err != nil {
			return err
		}
		return visit(account)
	})
}

func putAccount(tx *bbolt.Tx, account *keys.Account) error {
	value, err := json.Marshal(account)
	if err != nil {
		return err
	}
	return tx.Bucket(bucketAccounts).Put([]byte(account.ID), value)
}
