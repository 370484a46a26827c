package cache

import (
	"context"
	"encoding/binary"
	"fmt"

	"go.etcd.io/bbolt"

	"keystile/keys"
)

// trimAtOnce is how many entries of the audit trail a change removes at most, more than
// it adds: a trail that may be shorter than it was shrinks by and by.
const trimAtOnce = 16

// Audit returns a part of the audit trail. See [keys.Trail].
func (b *Bolt) Audit(ctx context.Context, after uint64, limit int) (keys.TrailPage, error) {
	var page keys.TrailPage
	err := b.view(ctx, "reading the audit trail", func(tx *bbolt.Tx) (err error) {
		page, err = readTrail(tx, after, limit)
		return err
	})
	return page, err
}

func readTrail(tx *bbolt.Tx, after uint64, limit int) (keys.TrailPage, error) {
	page := keys.TrailPage{Anchor: readLink(tx, metaAnchor), Head: readLink(tx, metaHead)}
	if after >= page.Head.Number {
		return page, nil
	}
	cursor := tx.Bucket(bucketAudit).Cursor()
	number, value := cursor.Seek(binary.BigEndian.AppendUint64(nil, after+1))
	for ; number != nil && len(page.Entries) < limit; number, value = cursor.Next() {
		sealed, err := decodeSealed(number, value)
		if err != nil {
			return keys.TrailPage{}, err
		}
		page.Entries = append(page.Entries, sealed)
	}
	return page, nil
}

// record puts an entry for the last change at the end of the audit trail.
func (s *step) record(e keys.Entry) error {
	e.Version = storeVersion(s.Tx)
	sealed, head, err := keys.Seal(readLink(s.Tx, metaHead), madeBy(s.actor, e))
	if err != nil {
		return err
	}
	number := binary.BigEndian.AppendUint64(nil, head.Number)
	if err := s.Bucket(bucketAudit).Put(number, append(sealed.Hash[:], sealed.Text...)); err != nil {
		return err
	}
	if err := putLink(s.Tx, metaHead, head); err != nil {
		return err
	}
	return s.trim(head.Number)
}

// trim removes the oldest entries of a trail that is too long. One that is missing, which
// is for whoever checks the trail to see, ends that.
func (s *step) trim(head uint64) error {
	anchor := readLink(s.Tx, metaAnchor)
	trail := s.Bucket(bucketAudit)
	before := anchor
	for range trimAtOnce {
		number := binary.BigEndian.AppendUint64(nil, anchor.Number+1)
		value := trail.Get(number)
		if head-anchor.Number <= uint64(s.auditKeep) || value == nil {
			break
		}
		sealed, err := decodeSealed(number, value)
		if err != nil {
			return err
		}
		if err := trail.Delete(number); err != nil {
			return err
		}
		anchor = keys.Link{Number: anchor.Number + 1, Hash: sealed.Hash}
	}
	if anchor == before {
		return nil
	}
	return putLink(s.Tx, metaAnchor, anchor)
}

// decodeSealed reads an entry, of which nothing is checked but that it has a hash.
func decodeSealed(number, value []byte) (keys.SealedEntry, error) {
	var sealed keys.SealedEntry
	if len(value) < len(sealed.Hash) {
		return sealed, fmt.Errorf("the entry %x of the audit trail is too short", number)
	}
	n := copy(sealed.Hash[:], value)
	sealed.Text = string(value[n:])
	return sealed, nil
}

// linkLength is that of a link in the file: a number and a hash.
const linkLength = 8 + len(keys.Sum{})

// readLink returns a link of the audit trail; zero if there is none.
func readLink(tx *bbolt.Tx, which []byte) (l keys.Link) {
	if value := tx.Bucket(bucketMeta).Get(which); len(value) == linkLength {
		l.Number = binary.BigEndian.Uint64(value)
		copy(l.Hash[:], value[8:])
	}
	return l
}

func putLink(tx *bbolt.Tx, which []byte, l keys.Link) error {
	value := binary.BigEndian.AppendUint64(make([]byte, 0, linkLength), l.Number)
	return tx.Bucket(bucketMeta).Put(which, append(value, l.Hash[:]...))
}
