package cache

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"

	"go.etcd.io/bbolt"

	"keystile/keys"
)

// The file has these buckets. Numbers are big-endian.
var (
	bucketMeta       = []byte("meta")       // the entries below
	bucketRecords    = []byte("records")    // id -> stored as JSON
	bucketNames      = []byte("names")      // account, 0x00, name -> id
	bucketOperations = []byte("operations") // SHA-256 of Operation.Key -> operation as JSON
	bucketUsed       = []byte("used")       // id -> last use, see encodeUse
	bucketTombs      = []byte("tombs")      // id -> version of the deletion; ids are never used again
	bucketAccounts   = []byte("accounts")   // id -> keys.Account as JSON
	bucketTokens     = []byte("tokens")     // id -> storedToken as JSON
	bucketTokensOf   = []byte("tokens_of")  // account, 0x00, id of a token -> that id
	bucketAudit      = []byte("audit")      // number -> hash, then the text of the entry

	metaSchema  = []byte("schema")  // number of this layout
	metaStore   = []byte("store")   // random name of the store
	metaVersion = []byte("version") // of the last change
	metaPepper  = []byte("pepper")  // check of the pepper that signs
	metaHead    = []byte("head")    // number and hash of the last entry of the audit trail
	metaAnchor  = []byte("anchor")  // of the last one that was trimmed
)

var (
	buckets1 = [][]byte{bucketMeta, bucketRecords, bucketNames, bucketOperations, bucketUsed}
	// buckets2 came with schema 2, but for the first, which some files of schema 1 have.
	buckets2 = [][]byte{bucketTombs, bucketAccounts, bucketTokens, bucketTokensOf, bucketAudit}
)

// schema is the layout this code writes. It rises when older code could misread.
// Schema 1 had no accounts: code that knows no more would admit their suspended keys.
const schema = 2

// stored is what the file keeps of a record.
type stored struct {
	keys.Record
	// Born is the version that created the record: the order of List, which the
	// operator's clock cannot upset.
	Born uint64 `json:"born"`
}

func byBirth(a, b stored) int { return cmp.Compare(a.Born, b.Born) }

// inOrder returns the records, the newest last.
func inOrder(found []stored) []keys.Record {
	slices.SortFunc(found, byBirth)
	list := make([]keys.Record, len(found))
	for i := range found {
		list[i] = found[i].Record
	}
	return list
}

// operation is what the file keeps of a keys.Operation.
type operation struct {
	ID      keys.ID  `json:"key"`
	Request keys.Sum `json:"request"`
	Expires int64    `json:"expires"` // Unix milliseconds
}

func readRecord(tx *bbolt.Tx, id keys.ID) (stored, error) {
	value := tx.Bucket(bucketRecords).Get(id[:])
	if value == nil {
		return stored{}, own(keys.ErrNotFound)
	}
	return decodeRecord(tx, id[:], value)
}

// decodeRecord reads a record and when it was last used. An error says what is
// wrong with the file, without its content.
func decodeRecord(tx *bbolt.Tx, id, value []byte) (stored, error) {
	var kept stored
	if err := json.Unmarshal(value, &kept); err != nil {
		return stored{}, fmt.Errorf("the record of %q cannot be read: %w", id, err)
	}
	if !bytes.Equal(kept.ID[:], id) {
		return stored{}, fmt.Errorf("the record of %q is another key's", id)
	}
	kept.LastUsed = decodeUse(tx.Bucket(bucketUsed).Get(id))
	return kept, nil
}

func eachRecord(tx *bbolt.Tx, visit func(stored) error) error {
	return tx.Bucket(bucketRecords).ForEach(func(id, value []byte) error {
		kept, err := decodeRecord(tx, id, value)
		if err != nil {
			return err
		}
		return visit(kept)
	})
}

func allRecords(tx *bbolt.Tx) (all []stored, err error) {
	err = eachRecord(tx, func(kept stored) error {
		all = append(all, kept)
		return nil
	})
	return all, err
}

func recordsOf(tx *bbolt.Tx, account string) (list []stored, err error) {
	prefix := nameKey(account, "")
	cursor := tx.Bucket(bucketNames).Cursor()
	for name, id := cursor.Seek(prefix); bytes.HasPrefix(name, prefix); name, id = cursor.Next() {
		kept, err := decodeRecord(tx, id, tx.Bucket(bucketRecords).Get(id))
		if err != nil {
			return nil, err
		}
		list = append(list, kept)
	}
	return list, nil
}

// keep writes the record, whose version is the store's from now on.
func (s *step) keep(kept *stored) error {
	value, err := json.Marshal(kept)
	if err != nil {
		return err
	}
	if err := s.Bucket(bucketRecords).Put(kept.ID[:], value); err != nil {
		return err
	}
	return s.announce(keys.Change{Version: kept.Version, ID: kept.ID, Grant: kept.Grant()})
}

func (s *step) remove(record *keys.Record, version uint64) error {
	if err := s.Bucket(bucketRecords).Delete(record.ID[:]); err != nil {
		return err
	}
	if err := s.Bucket(bucketUsed).Delete(record.ID[:]); err != nil {
		return err
	}
	if err := deleteName(s.Tx, record); err != nil {
		return err
	}
	if err := putNumber(s.Bucket(bucketTombs), record.ID[:], version); err != nil {
		return err
	}
	return s.announce(keys.Change{Version: version, ID: record.ID, Deleted: true})
}

// announce makes the change's version the store's and has the change told.
func (s *step) announce(change keys.Change) error {
	s.dirty, s.changes = true, append(s.changes, change)
	return putNumber(s.Bucket(bucketMeta), metaVersion, change.Version)
}

func (s *step) touch(id keys.ID, use keys.Use) error {
	used := s.Bucket(bucketUsed)
	have := decodeUse(used.Get(id[:]))
	if use.At.UnixMilli() <= max(have.At.UnixMilli(), 0) || s.Bucket(bucketRecords).Get(id[:]) == nil {
		return nil
	}
	s.dirty = true
	return used.Put(id[:], encodeUse(use))
}

func nameKey(account, name string) []byte {
	return append(append(append(make([]byte, 0, len(account)+1+len(name)), account...), 0), name...)
}

func nameTaken(tx *bbolt.Tx, account, name string) bool {
	return tx.Bucket(bucketNames).Get(nameKey(account, name)) != nil
}

func putName(tx *bbolt.Tx, record *keys.Record) error {
	return tx.Bucket(bucketNames).Put(nameKey(record.Account, record.Name), record.ID[:])
}

func deleteName(tx *bbolt.Tx, record *keys.Record) error {
	return tx.Bucket(bucketNames).Delete(nameKey(record.Account, record.Name))
}

// countNames returns how many keys the account has, counting no further than enough.
func countNames(tx *bbolt.Tx, account string, enough int) int {
	n, prefix := 0, nameKey(account, "")
	cursor := tx.Bucket(bucketNames).Cursor()
	for name, _ := cursor.Seek(prefix); bytes.HasPrefix(name, prefix) && n < enough; name, _ = cursor.Next() {
		n++
	}
	return n
}

// replay returns the outcome of a Create that was done before with the operation,
// and whether there was one.
func replay(s *step, op keys.Operation) (keys.Created, bool, error) {
	if op == (keys.Operation{}) {
		return keys.Created{}, false, nil
	}
	value := s.Bucket(bucketOperations).Get(operationKey(op))
	if value == nil {
		return keys.Created{}, false, nil
	}
	var earlier operation
	if err := json.Unmarshal(value, &earlier); err != nil {
		return keys.Created{}, false, fmt.Errorf("an operation cannot be read: %w", err)
	}
	switch {
	case s.now.UnixMilli() >= earlier.Expires:
		return keys.Created{}, false, nil
	case earlier.Request != op.Request:
		return keys.Created{}, true, own(keys.ErrOperationReused)
	}
	kept, err := readRecord(s.Tx, earlier.ID)
	if err != nil {
		return keys.Created{}, true, err
	}
	receipt := keys.Receipt{Version: kept.Version}
	return keys.Created{Record: kept.Record, Receipt: receipt, Replayed: true}, true, nil
}

// remember keeps the draft's operation, if it has one.
func remember(s *step, draft *keys.Draft) error {
	if draft.Operation == (keys.Operation{}) {
		return nil
	}
	value, err := json.Marshal(operation{
		ID: draft.ID, Request: draft.Operation.Request,
		Expires: s.now.Add(keys.OperationLifetime).UnixMilli(),
	})
	if err != nil {
		return err
	}
	return s.Bucket(bucketOperations).Put(operationKey(draft.Operation), value)
}

func operationKey(op keys.Operation) []byte {
	sum := sha256.Sum256([]byte(op.Key))
	return sum[:]
}

// purge looks at a few operations, each time at the next ones, and drops those that
// have expired: more than a Create adds, so that they cannot pile up.
func (b *Bolt) purge(s *step) error {
	const few = 4
	cursor := s.Bucket(bucketOperations).Cursor()
	var expired [][]byte
	key, value := cursor.Seek(b.purged)
	for range few {
		if key == nil {
			b.purged = nil
			break
		}
		var op operation
		if json.Unmarshal(value, &op) != nil || s.now.UnixMilli() >= op.Expires {
			expired = append(expired, bytes.Clone(key))
		}
		key, value = cursor.Next()
		b.purged = bytes.Clone(key)
	}
	for _, key := range expired {
		if err := s.Bucket(bucketOperations).Delete(key); err != nil {
			return err
		}
	}
	return nil
}

func storeVersion(tx *bbolt.Tx) uint64 { return number(tx.Bucket(bucketMeta), metaVersion) }

// number returns the entry of key, 0 if there is none.
func number(bucket *bbolt.Bucket, key []byte) uint64 {
	if value := bucket.Get(key); len(value) == 8 {
		return binary.BigEndian.Uint64(value)
	}
	return 0
}

func putNumber(bucket *bbolt.Bucket, key []byte, n uint64) error {
	return bucket.Put(key, binary.BigEndian.AppendUint64(nil, n))
}
