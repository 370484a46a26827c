package cache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"keystile/keys"
)

// errIDTaken is unavailable to the caller: another random id will do.
var errIDTaken = errors.New("the id is in use")

// Create keeps a new, active record. See [keys.Store].
func (b *Bolt) Create(ctx context.Context, draft keys.Draft) (keys.Created, error) {
	if err := checkDraft(&draft); err != nil {
		return keys.Created{}, err
	}
	var created keys.Created
	err := b.write(ctx, "creating a key", func(s *step) error {
		var err error
		created, err = b.create(s, &draft)
		return err
	})
	if err != nil {
		return keys.Created{}, err
	}
	return created, nil
}

// checkDraft refuses what only a mistake in the calling code can send.
func checkDraft(draft *keys.Draft) error {
	switch {
	case draft.ID == keys.ID{}:
		return errors.New("creating a key: the draft has no id")
	case draft.Account == "" || strings.ContainsRune(draft.Account, 0):
		return fmt.Errorf("creating a key: %q is no account", draft.Account)
	}
	return nil
}

func (b *Bolt) create(s *step, draft *keys.Draft) (keys.Created, error) {
	created, replayed, err := replay(s, draft.Operation)
	if replayed || err != nil {
		return created, err
	}
	account, err := readAccount(s.Tx, draft.Account)
	if err != nil {
		return created, err
	}
	if err := s.admit(draft, cmp.Or(account.Limit, b.perAccount)); err != nil {
		return created, err
	}
	version := storeVersion(s.Tx) + 1
	kept := stored{Born: version, Record: keys.Record{
		ID: draft.ID, Account: draft.Account, Name: draft.Name, Active: true, Suspended: !account.Active,
		Created: s.now, Updated: s.now, Version: version,
		Rate: draft.Rate, Digests: [2]keys.Digest{draft.Digest},
	}}
	if err := errors.Join(
		s.keep(&kept),
		putName(s.Tx, &kept.Record),
		remember(s, draft),
		b.purge(s),
		s.record(keyEntry(keys.KeyCreated, nil, &kept.Record, s.now)),
	); err != nil {
		return created, err
	}
	return keys.Created{Record: kept.Record, Receipt: keys.Receipt{Version: version}}, nil
}

// admit checks what a new key must meet and gives it a name if it has none.
func (s *step) admit(draft *keys.Draft, limit int) error {
	if s.Bucket(bucketRecords).Get(draft.ID[:]) != nil || s.Bucket(bucketTombs).Get(draft.ID[:]) != nil {
		return errIDTaken
	}
	if countNames(s.Tx, draft.Account, limit) >= limit {
		return own(&keys.LimitError{Limit: limit})
	}
	taken := func(name string) bool { return nameTaken(s.Tx, draft.Account, name) }
	if draft.Name == "" {
		draft.Name = keys.DefaultName(taken)
	} else if taken(draft.Name) {
		return own(keys.ErrNameTaken)
	}
	return nil
}

// Update changes a record. See [keys.Store].
func (b *Bolt) Update(
	ctx context.Context, id keys.ID, change func(*keys.Record) error,
) (keys.Record, keys.Receipt, error) {
	var updated keys.Record
	err := b.write(ctx, "updating a key", func(s *step) error {
		kept, err := readRecord(s.Tx, id)
		if err != nil {
			return err
		}
		before := kept.Record
		if err := own(change(&kept.Record)); err != nil {
			return err
		}
		kept.Record = permitted(before, kept.Record)
		if kept.Record != before {
			err = s.replace(&before, &kept)
		}
		updated = kept.Record
		return err
	})
	if err != nil {
		return keys.Record{}, keys.Receipt{}, err
	}
	return updated, keys.Receipt{Version: updated.Version}, nil
}

// permitted returns before with what a change may change.
func permitted(before, after keys.Record) keys.Record {
	before.Name = after.Name
	before.Active = after.Active
	before.Rate = after.Rate
	before.Digests = after.Digests
	return before
}

// replace keeps a changed record under a new version.
func (s *step) replace(before *keys.Record, kept *stored) error {
	if kept.Name != before.Name {
		if nameTaken(s.Tx, kept.Account, kept.Name) {
			return own(keys.ErrNameTaken)
		}
		if err := errors.Join(deleteName(s.Tx, before), putName(s.Tx, &kept.Record)); err != nil {
			return err
		}
	}
	kept.Version = storeVersion(s.Tx) + 1
	kept.Updated = s.now
	if err := s.keep(kept); err != nil {
		return err
	}
	return s.record(keyEntry(keys.UpdateAction(before, &kept.Record), before, &kept.Record, s.now))
}

// Delete removes the record for ever. See [keys.Store].
func (b *Bolt) Delete(
	ctx context.Context, id keys.ID, check func(keys.Record) error,
) (keys.Receipt, error) {
	var receipt keys.Receipt
	err := b.write(ctx, "deleting a key", func(s *step) error {
		kept, err := readRecord(s.Tx, id)
		if err != nil {
			return err
		}
		if check != nil {
			if err := own(check(kept.Record)); err != nil {
				return err
			}
		}
		receipt.Version = storeVersion(s.Tx) + 1
		if err := s.remove(&kept.Record, receipt.Version); err != nil {
			return err
		}
		return s.record(keyEntry(keys.KeyDeleted, &kept.Record, nil, s.now))
	})
	if err != nil {
		return keys.Receipt{}, err
	}
	return receipt, nil
}

// Touch keeps when keys were last used. See [keys.Store].
func (b *Bolt) Touch(ctx context.Context, used map[keys.ID]keys.Use) error {
	return b.write(ctx, "keeping when keys were used", func(s *step) error {
		for id, use := range used {
			if err := s.touch(id, use); err != nil {
				return err
			}
		}
		return nil
	})
}
