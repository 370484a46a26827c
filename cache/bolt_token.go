package cache

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/bbolt"

	"keystile/keys"
)

// storedToken is what the file keeps of a token.
type storedToken struct {
	keys.AccountToken
	// Born is the version that created the token: the order of Tokens.
	Born uint64 `json:"born"`
}

// CreateToken keeps a new token. See [keys.Accounts].
func (b *Bolt) CreateToken(ctx context.Context, token keys.AccountToken) (keys.AccountToken, keys.Receipt, error) {
	if err := checkToken(&token); err != nil {
		return keys.AccountToken{}, keys.Receipt{}, err
	}
	kept := storedToken{AccountToken: token}
	err := b.write(ctx, "creating a token", func(s *step) error {
		if _, err := readAccount(s.Tx, token.Account); err != nil {
			return err
		}
		if s.Bucket(bucketTokens).Get([]byte(token.ID)) != nil {
			return errIDTaken
		}
		kept.Created, kept.Born = s.now, storeVersion(s.Tx)+1
		return s.putToken(&kept)
	})
	if err != nil {
		return keys.AccountToken{}, keys.Receipt{}, err
	}
	return kept.AccountToken, keys.Receipt{Version: kept.Born}, nil
}

func (s *step) putToken(kept *storedToken) error {
	value, err := json.Marshal(kept)
	if err != nil {
		return err
	}
	err = errors.Join(
		s.Bucket(bucketTokens).Put([]byte(kept.ID), value),
		s.Bucket(bucketTokensOf).Put(nameKey(kept.Account, kept.ID), []byte(kept.ID)),
		s.announce(keys.Change{Version: kept.Born}),
	)
	if err != nil {
		return err
	}
	return s.record(tokenEntry(keys.TokenCreated, nil, &kept.AccountToken, s.now))
}

// Token returns a token, or [keys.ErrNoToken].
func (b *Bolt) Token(ctx context.Context, id string) (keys.AccountToken, error) {
	var kept storedToken
	err := b.view(ctx, "reading a token", func(tx *bbolt.Tx) (err error) {
		kept, err = readToken(tx, []byte(id))
		return err
	})
	return kept.AccountToken, err
}

// Tokens returns the tokens of an account, newest last. See [keys.Accounts].
func (b *Bolt) Tokens(ctx context.Context, account string) ([]keys.AccountToken, error) {
	var found []storedToken
	err := b.view(ctx, "listing tokens", func(tx *bbolt.Tx) error {
		_, err := readAccount(tx, account)
		if err == nil {
			found, err = tokensOf(tx, account)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return oldestFirst(found), nil
}

func oldestFirst(found []storedToken) []keys.AccountToken {
	slices.SortFunc(found, func(a, b storedToken) int { return cmp.Compare(a.Born, b.Born) })
	list := make([]keys.AccountToken, len(found))
	for i := range found {
		list[i] = found[i].AccountToken
	}
	return list
}

// DeleteToken removes a token of an account for ever. See [keys.Accounts].
func (b *Bolt) DeleteToken(ctx context.Context, account, id string) (keys.Receipt, error) {
	var receipt keys.Receipt
	err := b.write(ctx, "deleting a token", func(s *step) error {
		if _, err := readAccount(s.Tx, account); err != nil {
			return err
		}
		kept, err := readToken(s.Tx, []byte(id))
		switch {
		case err != nil:
			return err
		case kept.Account != account:
			return own(keys.ErrNoToken)
		}
		receipt.Version = storeVersion(s.Tx) + 1
		return s.removeToken(&kept.AccountToken, receipt.Version)
	})
	if err != nil {
		return keys.Receipt{}, err
	}
	return receipt, nil
}

func (s *step) removeToken(token *keys.AccountToken, version uint64) error {
	err := errors.Join(
		s.Bucket(bucketTokens).Delete([]byte(token.ID)),
		s.Bucket(bucketTokensOf).Delete(nameKey(token.Account, token.ID)),
		s.announce(keys.Change{Version: version}),
	)
	if err != nil {
		return err
	}
	return s.record(tokenEntry(keys.TokenDeleted, token, nil, s.now))
}

// deleteTokens removes all tokens of an account.
func deleteTokens(tx *bbolt.Tx, account string) error {
	all, err := tokensOf(tx, account)
	if err != nil {
		return err
	}
	for _, kept := range all {
		err = errors.Join(err,
			tx.Bucket(bucketTokens).Delete([]byte(kept.ID)),
			tx.Bucket(bucketTokensOf).Delete(nameKey(account, kept.ID)))
	}
	return err
}

func readToken(tx *bbolt.Tx, id []byte) (storedToken, error) {
	value := tx.Bucket(bucketTokens).Get(id)
	if value == nil {
		return storedToken{}, own(keys.ErrNoToken)
	}
	return decodeToken(id, value)
}

// decodeToken reads a token. An error says what is wrong with the file, without its
// content.
func decodeToken(id, value []byte) (kept storedToken, err error) {
	if err := json.Unmarshal(value, &kept); err != nil {
		return kept, fmt.Errorf("the token %q cannot be read: %w", id, err)
	}
	if kept.ID != string(id) {
		return kept, fmt.Errorf("the token %q is another", id)
	}
	return kept, nil
}

func tokensOf(tx *bbolt.Tx, account string) (list []storedToken, err error) {
	prefix := nameKey(account, "")
	cursor := tx.Bucket(bucketTokensOf).Cursor()
	for name, id := cursor.Seek(prefix); bytes.HasPrefix(name, prefix); name, id = cursor.Next() {
		kept, err := decodeToken(id, tx.Bucket(bucketTokens).Get(id))
		if err != nil {
			return nil, err
		}
		list = append(list, kept)
	}
	return list, nil
}
