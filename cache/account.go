package cache

import (
	"errors"
	"fmt"
	"strings"

	"keystile/keys"
)

// checkAccount refuses what only a mistake in the calling code can send.
func checkAccount(account *keys.Account) error {
	if !keys.ValidAccount(account.ID) {
		return fmt.Errorf("creating an account: %q is no id of an account", account.ID)
	}
	return checkLimit(account.Limit)
}

func checkLimit(limit int) error {
	if limit < 0 || limit > keys.MaxLimit {
		return fmt.Errorf("an account cannot have a limit of %d keys: 1 to %d, or 0 for the default", limit, keys.MaxLimit)
	}
	return nil
}

// checkToken refuses what only a mistake in the calling code can send.
func checkToken(token *keys.AccountToken) error {
	switch {
	case token.ID == "" || strings.ContainsRune(token.ID, 0):
		return errors.New("creating a token: it has no id")
	case token.Sum == keys.Sum{}:
		return errors.New("creating a token: it has no digest")
	}
	return nil
}

// permittedAccount returns before with what a change may change.
func permittedAccount(before, after keys.Account) keys.Account {
	before.Name = after.Name
	before.Active = after.Active
	before.Limit = after.Limit
	return before
}

// deletable returns why an account must not be deleted, or nil.
func deletable(account *keys.Account, hasKeys, withKeys bool, check func(keys.Account) error) error {
	if account.ID == keys.DefaultAccount {
		return keys.ErrDefaultAccount
	}
	if check != nil {
		if err := check(*account); err != nil {
			return err
		}
	}
	if hasKeys && !withKeys {
		return keys.ErrAccountHasKeys
	}
	return nil
}
