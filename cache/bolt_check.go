package cache

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"

	"keystile/keys"
)

// load checks what the file has, and fills the mirror.
func (b *Bolt) load() error {
	return b.db.View(func(tx *bbolt.Tx) error {
		active, err := checkAccounts(tx)
		if err != nil {
			return damaged(err)
		}
		grants := func(yield func(keys.Grant, error) bool) {
			err := checkRecords(tx, active, func(grant keys.Grant) { yield(grant, nil) })
			if err != nil {
				yield(keys.Grant{}, damaged(err))
			}
		}
		mirror := b.mirror
		if mirror == nil {
			mirror = NewMirror() // the records are checked all the same
		}
		if err := mirror.Load(storeVersion(tx), grants); err != nil {
			return err
		}
		if err := checkTrail(tx); err != nil {
			b.log.Error("the audit trail in the key store is not as it was written; keys are served all the same",
				"error", err, "file", b.path)
		}
		mirror.fresh.set(proof{forever: true}) // no other process can change the file
		return nil
	})
}

// checkAccounts reads every account and every token, and returns which accounts are
// active.
func checkAccounts(tx *bbolt.Tx) (active map[string]bool, err error) {
	active = make(map[string]bool)
	version := storeVersion(tx)
	err = eachAccount(tx, func(account keys.Account) error {
		if account.Version > version {
			return fmt.Errorf("the account %q is newer than the store", account.ID)
		}
		active[account.ID] = account.Active
		return nil
	})
	if err != nil {
		return nil, err
	}
	if _, there := active[keys.DefaultAccount]; !there {
		return nil, errors.New("the default account is missing")
	}
	for _, link := range [][]byte{metaHead, metaAnchor} {
		if n := len(tx.Bucket(bucketMeta).Get(link)); n != 0 && n != linkLength {
			return nil, fmt.Errorf("the %s of its audit trail has the wrong length", link)
		}
	}
	return active, checkTokens(tx, active)
}

func checkTokens(tx *bbolt.Tx, active map[string]bool) error {
	index, tokens := tx.Bucket(bucketTokensOf), 0
	err := tx.Bucket(bucketTokens).ForEach(func(id, value []byte) error {
		tokens++
		kept, err := decodeToken(id, value)
		if err != nil {
			return err
		}
		if _, there := active[kept.Account]; !there || !bytes.Equal(index.Get(nameKey(kept.Account, kept.ID)), id) {
			return fmt.Errorf("the token %s is not its account's", id)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return noMore(index, tokens)
}

// noMore returns an error if the bucket has more entries than n.
func noMore(bucket *bbolt.Bucket, n int) error {
	return bucket.ForEach(func(_, _ []byte) error {
		if n--; n < 0 {
			return errors.New("there are names that lead nowhere")
		}
		return nil
	})
}

// checkRecords reads every record, and checks that its name leads to it.
func checkRecords(tx *bbolt.Tx, active map[string]bool, visit func(keys.Grant)) error {
	names, records, version := tx.Bucket(bucketNames), 0, storeVersion(tx)
	err := eachRecord(tx, func(kept stored) error {
		records++
		if !bytes.Equal(names.Get(nameKey(kept.Account, kept.Name)), kept.ID[:]) {
			return fmt.Errorf("the name of %s leads elsewhere", kept.ID)
		}
		if kept.Version > version {
			return fmt.Errorf("%s is newer than the store", kept.ID)
		}
		if on, there := active[kept.Account]; !there || on == kept.Suspended {
			return fmt.Errorf("%s does not agree with its account", kept.ID)
		}
		visit(kept.Grant())
		return nil
	})
	if err != nil {
		return err
	}
	return noMore(names, records)
}

// checkTrail looks at both ends of the audit trail, and counts what is between them. To
// follow its hashes is for whoever checks the whole trail.
func checkTrail(tx *bbolt.Tx) error {
	head, anchor := readLink(tx, metaHead), readLink(tx, metaAnchor)
	trail := tx.Bucket(bucketAudit)
	cursor := trail.Cursor()
	first, _ := cursor.First()
	last, value := cursor.Last()
	switch n := uint64(trail.Stats().KeyN); {
	case anchor.Number > head.Number || n != head.Number-anchor.Number:
		return fmt.Errorf("%w: it has %d entries, not %d", keys.ErrTrail, n, int64(head.Number-anchor.Number))
	case n == 0:
		return nil
	case !is(first, anchor.Number+1), !is(last, head.Number), !bytes.HasPrefix(value, head.Hash[:]):
		return fmt.Errorf("%w: its ends are not those that the store remembers", keys.ErrTrail)
	}
	return nil
}

func is(key []byte, number uint64) bool {
	return bytes.Equal(key, binary.BigEndian.AppendUint64(nil, number))
}
