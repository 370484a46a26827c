package cache

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"keystile/keys"
)

// ErrPepperMismatch is returned, wrapped, on opening a store when none of the peppers
// is the one it was last written with: every secret would be refused.
var ErrPepperMismatch = errors.New("the pepper does not match the one this store was written with")

// ErrInUse is returned, wrapped, by OpenBolt when another process has the file open.
var ErrInUse = errors.New("another process is using it: stop that process, or name another file")

// lockPatience is how long OpenBolt waits for another process to let go of the file.
const lockPatience = time.Second

// OpenBolt opens the store in the file path, or makes it (mode 0600) and the
// directories it needs (mode 0700), and loads o.Mirror. An error is one sentence
// that names the file and says what to do. A damaged file gives an error, never a
// panic, where the damage shows: the checks see the structure of the file and the
// form of its entries, not a digit that became another one.
func OpenBolt(path string, o BoltOptions) (*Bolt, error) {
	b := &Bolt{
		path: path, mirror: o.Mirror, perAccount: o.PerAccount, auditKeep: o.AuditKeep,
		peppers: o.Peppers, now: o.Now, log: o.Log, commit: (*bbolt.Tx).Commit,
	}
	if b.perAccount == 0 {
		b.perAccount = DefaultPerAccount
	}
	if b.auditKeep == 0 {
		b.auditKeep = keys.DefaultAuditKeep
	}
	if b.now == nil {
		b.now = time.Now
	}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	made, err := prepareFile(path)
	if err == nil {
		err = b.open(o.Peppers)
	}
	if err == nil && made {
		if err = syncDirectory(filepath.Dir(path)); err != nil {
			_ = b.Close()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("opening the key store %s: %w", path, explain(err))
	}
	return b, nil
}

// prepareFile looks at the file or, if there is none, makes its directory.
func prepareFile(path string) (missing bool, err error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return true, os.MkdirAll(filepath.Dir(path), 0o700)
	case err != nil:
		return false, err
	case !info.Mode().IsRegular():
		return false, errors.New("it is not a regular file: name a file")
	case info.Mode().Perm()&0o077 != 0:
		return false, fmt.Errorf("others may read or write it (mode %#o): run chmod 600 %s", info.Mode().Perm(), path)
	}
	return false, nil
}

// syncDirectory puts the entry of a new file on the disk; bbolt does so only with
// what is in the file.
func syncDirectory(path string) error {
	directory, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(directory.Sync(), directory.Close())
}

// open opens the file, checks and loads it. Should bbolt panic in spite of verify, or
// the file become shorter while it is read (a fault), then it is damaged.
func (b *Bolt) open(peppers *keys.Peppers) (err error) {
	var file *os.File
	faults := debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(faults)
	defer func() {
		if p := recover(); p != nil {
			err = damaged(fmt.Errorf("%v", p))
			_ = file.Close() // bbolt may hold its own locks: closing through it could hang
		} else if err != nil && b.db != nil {
			_ = b.db.Close()
		}
	}()
	if err := b.verify(&file); err != nil {
		return err
	}
	if b.db, err = openBolt(b.path, false, &file); err != nil {
		return err
	}
	if err := b.db.Update(func(tx *bbolt.Tx) error { return b.prepare(tx, peppers) }); err != nil {
		return err
	}
	return b.load()
}

// openBolt opens the file with bbolt and says in file which one that is.
func openBolt(path string, readOnly bool, file **os.File) (*bbolt.DB, error) {
	return bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout:      lockPatience,
		ReadOnly:     readOnly,
		FreelistType: bbolt.FreelistMapType,
		OpenFile: func(name string, flag int, mode os.FileMode) (f *os.File, err error) {
			f, err = os.OpenFile(name, flag, mode)
			*file = f
			return f, err
		},
	})
}

// verify looks at every page of a file that exists, while bbolt has it open to read,
// which reads the two meta pages alone and locks the file.
func (b *Bolt) verify(file **os.File) error {
	info, err := os.Stat(b.path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		return nil
	}
	db, err := openBolt(b.path, true, file)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	if info, err = (*file).Stat(); err != nil {
		return err
	}
	whole, err := verify(*file, info.Size(), db.Info().PageSize)
	switch {
	case err != nil:
		return damaged(err)
	case !whole:
		b.log.Warn("the key store was being written when its machine stopped, or is damaged: "+
			"if a change was confirmed just before, make it again", "file", b.path)
	}
	return nil
}

// prepare makes the buckets of a new store, or checks those of an old one and brings it to
// the layout of this code.
func (b *Bolt) prepare(tx *bbolt.Tx, peppers *keys.Peppers) error {
	first, _ := tx.Cursor().First()
	if first == nil {
		if err := makeBuckets(tx); err != nil {
			return err
		}
	}
	if err := checkBuckets(tx); err != nil {
		return err
	}
	if err := checkPepper(tx.Bucket(bucketMeta), peppers); err != nil {
		return err
	}
	if number(tx.Bucket(bucketMeta), metaSchema) == schema {
		return nil
	}
	return upgrade(b.step(context.Background(), tx))
}

// makeBuckets makes those of schema 1.
func makeBuckets(tx *bbolt.Tx) error {
	for _, name := range buckets1 {
		if _, err := tx.CreateBucket(name); err != nil {
			return err
		}
	}
	meta := tx.Bucket(bucketMeta)
	return errors.Join(
		putNumber(meta, metaSchema, 1),
		putNumber(meta, metaVersion, 0),
		meta.Put(metaStore, []byte(rand.Text())),
	)
}

// upgrade makes what schema 1 did not have, with an account for each that keys belong to.
func upgrade(s *step) error {
	for _, name := range buckets2 {
		if _, err := s.CreateBucketIfNotExists(name); err != nil {
			return err
		}
	}
	err := putAccount(s.Tx, &keys.Account{ID: keys.DefaultAccount, Active: true, Created: s.now, Updated: s.now})
	if err != nil {
		return err
	}
	cursor := s.Bucket(bucketNames).Cursor()
	for name, _ := cursor.First(); name != nil; name, _ = cursor.Next() {
		account, _, _ := bytes.Cut(name, []byte{0})
		if _, err := s.accountOf(string(account)); err != nil {
			return err
		}
	}
	return putNumber(s.Bucket(bucketMeta), metaSchema, schema)
}

func checkBuckets(tx *bbolt.Tx) error {
	meta := tx.Bucket(bucketMeta)
	if meta == nil || len(meta.Get(metaSchema)) != 8 {
		return errors.New("it is not a key store of Keystile: name another file")
	}
	needed := buckets1
	switch have := number(meta, metaSchema); have {
	case 1:
	case schema:
		needed = slices.Concat(buckets1, buckets2)
	default:
		return fmt.Errorf("a newer version of Keystile wrote it (schema %d, this one knows %d): use that version",
			have, schema)
	}
	for _, name := range needed {
		if tx.Bucket(name) == nil {
			return damaged(fmt.Errorf("%s are missing", name))
		}
	}
	if len(meta.Get(metaVersion)) != 8 || len(meta.Get(metaStore)) == 0 {
		return damaged(errors.New("its version is missing"))
	}
	return nil
}

// checkPepper compares the check that the file has with the peppers, and keeps the
// check of the one that signs from now on.
func checkPepper(meta *bbolt.Bucket, peppers *keys.Peppers) error {
	var have keys.Sum
	if value := meta.Get(metaPepper); value != nil {
		if len(value) != len(have) {
			return damaged(errors.New("its pepper check has the wrong length"))
		}
		have = keys.Sum(value)
	}
	if !peppers.Knows(have) {
		return ErrPepperMismatch
	}
	check := peppers.Check()
	if check == have {
		return nil
	}
	return meta.Put(metaPepper, check[:])
}

// damaged says what to do about a file that cannot be trusted.
func damaged(why error) error {
	return fmt.Errorf("it is damaged (%w): restore it from a backup, or name another file", why)
}

// explain turns what the system or bbolt says into a sentence that says what to do.
func explain(err error) error {
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return ErrInUse
	case errors.Is(err, bolterrors.ErrVersionMismatch):
		return fmt.Errorf("another version of the file format: name another file (%w)", err)
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum):
		return fmt.Errorf("it is not a key store of Keystile, or it is damaged (%w): "+
			"restore it from a backup, or name another file", err)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return fmt.Errorf("it or its directory is not writable (%w): "+
			"give this process the right to write there, or name another file", err)
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, fs.ErrExist):
		return fmt.Errorf("a part of the path is a file, not a directory (%w): name another file", err)
	}
	return err
}
