package cache

import (
	"cmp"
	"context"
	"errors"
	"io"
	"math"
	"path/filepath"
	"slices"

	"go.etcd.io/bbolt"

	"keystile/keys"
)

// importing says what is being done, in errors.
const importing = "importing keys"

// Export writes a backup of the store as it is at one moment. Changes are not held up,
// however slowly w takes it: it goes through a temporary file beside the store.
func (b *Bolt) Export(ctx context.Context, w io.Writer) error {
	return spool(filepath.Dir(b.path), w, func(file io.Writer) error {
		return b.view(ctx, "exporting keys", func(tx *bbolt.Tx) error { return b.export(ctx, tx, file) })
	})
}

func (b *Bolt) export(ctx context.Context, tx *bbolt.Tx, file io.Writer) error {
	meta, tombs := tx.Bucket(bucketMeta), tx.Bucket(bucketTombs)
	header := backupHeader{
		Store: string(meta.Get(metaStore)), Version: storeVersion(tx), Made: b.now(),
		Accounts: tx.Bucket(bucketAccounts).Stats().KeyN, Tokens: tx.Bucket(bucketTokens).Stats().KeyN,
		Keys: tx.Bucket(bucketRecords).Stats().KeyN, Deleted: tombs.Stats().KeyN,
	}
	copy(header.Pepper[:], meta.Get(metaPepper))
	w, err := newBackupWriter(file, header)
	if err != nil {
		return err
	}
	if err := exportAccounts(tx, w); err != nil {
		return err
	}
	births, err := birthsOf(tx)
	if err != nil {
		return err
	}
	for _, b := range births {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		kept, err := readRecord(tx, b.id)
		if err == nil {
			err = w.key(kept.Record)
		}
		if err != nil {
			return err
		}
	}
	err = tombs.ForEach(func(id, _ []byte) error {
		return w.line(backupTomb{ID: keys.ID(id), Version: number(tombs, id)})
	})
	if err != nil {
		return err
	}
	return w.finish()
}

func exportAccounts(tx *bbolt.Tx, w *backupWriter) error {
	var accounts []keys.Account
	err := eachAccount(tx, func(account keys.Account) error {
		accounts = append(accounts, account)
		return nil
	})
	if err != nil {
		return err
	}
	var found []storedToken
	err = tx.Bucket(bucketTokens).ForEach(func(id, value []byte) error {
		kept, err := decodeToken(id, value)
		found = append(found, kept)
		return err
	})
	if err != nil {
		return err
	}
	return w.accounts(accounts, oldestFirst(found))
}

// birth says when a key was made.
type birth struct {
	born uint64
	id   keys.ID
}

// birthsOf returns the births of all records, oldest first.
func birthsOf(tx *bbolt.Tx) (births []birth, err error) {
	err = eachRecord(tx, func(kept stored) error {
		births = append(births, birth{kept.Born, kept.ID})
		return nil
	})
	slices.SortFunc(births, func(a, b birth) int { return cmp.Compare(a.born, b.born) })
	return births, err
}

// Import brings what a backup has into the store; see [ImportOptions]. The file is read
// several times. One that is damaged is refused before anything is written: [ErrBackup],
// [ErrBackupPepper]. It is written a part at a time, revocations first: after an error
// it can be imported again.
func (b *Bolt) Import(ctx context.Context, file io.ReadSeeker, o ImportOptions) (ImportReport, error) {
	return runImport(ctx, file, &boltLedger{b: b}, o)
}

// boltLedger is a Bolt as an import sees it.
type boltLedger struct {
	b *Bolt
	// counts are the keys of accounts, as long as the store is at version: counting
	// takes long.
	counts  map[string]int
	version uint64
}

func (l *boltLedger) perAccount() int        { return l.b.perAccount }
func (l *boltLedger) peppers() *keys.Peppers { return l.b.peppers }

func (l *boltLedger) storeID(ctx context.Context) (id string, err error) {
	err = l.b.view(ctx, importing, func(tx *bbolt.Tx) error {
		id = string(tx.Bucket(bucketMeta).Get(metaStore))
		return nil
	})
	return id, err
}

func (l *boltLedger) raise(ctx context.Context, version uint64) error {
	return l.b.write(ctx, importing, func(s *step) error {
		if storeVersion(s.Tx) >= version {
			return nil
		}
		s.dirty = true
		return putNumber(s.Bucket(bucketMeta), metaVersion, version)
	})
}

func (l *boltLedger) read(ctx context.Context, entries []backupEntry) (p *page, err error) {
	err = l.b.view(ctx, importing, func(tx *bbolt.Tx) error {
		p, err = l.page(tx, entries)
		return err
	})
	return p, err
}

func (l *boltLedger) write(ctx context.Context, entries []backupEntry, decide func(*page) []effect) error {
	return l.b.write(ctx, importing, func(s *step) error {
		p, err := l.page(s.Tx, entries)
		if err != nil {
			return err
		}
		for _, e := range decide(p) {
			if err := l.take(s, e); err != nil {
				return err
			}
		}
		l.version = storeVersion(s.Tx)
		return nil
	})
}

func (l *boltLedger) accounts(
	ctx context.Context, some []keys.Account, decide func(e, have *keys.Account) *keys.Account,
) error {
	return l.b.write(ctx, importing, func(s *step) error {
		for i := range some {
			if err := s.importAccount(&some[i], decide); err != nil {
				return err
			}
		}
		l.version, l.counts = storeVersion(s.Tx), nil
		return nil
	})
}

func (s *step) importAccount(e *keys.Account, decide func(e, have *keys.Account) *keys.Account) error {
	if s.Bucket(bucketAccounts).Get([]byte(e.ID)) == nil {
		next := decide(e, nil)
		if next == nil {
			return nil
		}
		_, err := s.makeAccount(*next)
		return err
	}
	have, err := readAccount(s.Tx, e.ID)
	if err != nil {
		return err
	}
	if next := decide(e, &have); next != nil {
		return s.replaceAccount(&have, next)
	}
	return nil
}

func (l *boltLedger) tokens(
	ctx context.Context, some []keys.AccountToken, lacking func(e *keys.AccountToken) bool,
) error {
	return l.b.write(ctx, importing, func(s *step) error {
		for i := range some {
			e := &some[i]
			if s.Bucket(bucketTokens).Get([]byte(e.ID)) != nil || !lacking(e) {
				continue
			}
			if _, err := readAccount(s.Tx, e.Account); err != nil {
				return err
			}
			if err := s.putToken(&storedToken{AccountToken: *e, Born: storeVersion(s.Tx) + 1}); err != nil {
				return err
			}
		}
		l.version, l.counts = storeVersion(s.Tx), nil
		return nil
	})
}

// receipt has nothing pending: see Bolt.
func (l *boltLedger) receipt(context.Context) keys.Receipt { return keys.Receipt{Version: l.version} }

// page reads what the store has about some entries.
func (l *boltLedger) page(tx *bbolt.Tx, entries []backupEntry) (*page, error) {
	if version := storeVersion(tx); l.counts == nil || version != l.version {
		l.version, l.counts = version, make(map[string]int)
	}
	p := newPage()
	for i := range entries {
		e := &entries[i]
		if value := tx.Bucket(bucketRecords).Get(e.ID[:]); value != nil {
			kept, err := decodeRecord(tx, e.ID[:], value)
			if err != nil {
				return nil, err
			}
			p.records[e.ID] = kept
		}
		p.tombs[e.ID] = number(tx.Bucket(bucketTombs), e.ID[:])
		if e.deleted {
			continue
		}
		if id := tx.Bucket(bucketNames).Get(nameKey(e.Account, e.Name)); id != nil {
			p.names[accountName{e.Account, e.Name}] = keys.ID(id)
		}
		if _, counted := l.counts[e.Account]; !counted {
			l.counts[e.Account] = countNames(tx, e.Account, math.MaxInt)
		}
		p.counts[e.Account] = l.counts[e.Account]
	}
	return p, nil
}

// take does what an import has decided.
func (l *boltLedger) take(s *step, e effect) error {
	switch {
	case e.buried:
		s.dirty = true
		return putNumber(s.Bucket(bucketTombs), e.record.ID[:], e.record.Version)
	case e.removed:
		delete(l.counts, e.before.Account)
		if err := s.remove(&e.before.Record, storeVersion(s.Tx)+1); err != nil {
			return err
		}
		return s.record(keyEntry(keys.KeyDeleted, &e.before.Record, nil, s.now))
	case e.before != nil:
		if err := deleteName(s.Tx, &e.before.Record); err != nil {
			return err
		}
	default:
		l.counts[e.record.Account]++
	}
	account, err := readAccount(s.Tx, e.record.Account)
	if err != nil {
		return err
	}
	e.record.Suspended = !account.Active
	e.record.Version = storeVersion(s.Tx) + 1
	action, before := keys.KeyCreated, (*keys.Record)(nil)
	if e.before == nil {
		e.record.Born = e.record.Version
	} else {
		before = &e.before.Record
		action = keys.UpdateAction(before, &e.record.Record)
	}
	err = errors.Join(
		s.Bucket(bucketTombs).Delete(e.record.ID[:]),
		putName(s.Tx, &e.record.Record),
		s.keep(&e.record),
		s.touch(e.record.ID, e.record.LastUsed),
	)
	if err != nil {
		return err
	}
	return s.record(keyEntry(action, before, &e.record.Record, s.now))
}
