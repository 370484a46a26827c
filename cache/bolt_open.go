package cache

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
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
		path: path, mirror: o.Mirror, perAccount: o.PerAccount, peppers: o.Peppers, now: o.Now, log: o.Log,
		commit: (*bbolt.Tx).Commit,
	}
	if b.perAccount == 0 {
		b.perAccount = DefaultPerAccount
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
	if err := b.db.Update(func(tx *bbolt.Tx) error { return prepareBuckets(tx, peppers) }); err != nil {
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

// prepareBuckets makes the buckets of a new store or checks those of an old one.
func prepareBuckets(tx *bbolt.Tx, peppers *keys.Peppers) error {
	first, _ := tx.Cursor().First()
	if first == nil {
		if err := makeBuckets(tx); err != nil {
			return err
		}
	}
	if err := checkBuckets(tx); err != nil {
		return err
	}
	if _, err := tx.CreateBucketIfNotExists(bucketTombs); err != nil { // older files have none
		return err
	}
	return checkPepper(tx.Bucket(bucketMeta), peppers)
}

func makeBuckets(tx *bbolt.Tx) error {
	for _, name := range [][]byte{bucketMeta, bucketRecords, bucketNames, bucketOperations, bucketUsed} {
		if _, err := tx.CreateBucket(name); err != nil {
			return err
		}
	}
	meta := tx.Bucket(bucketMeta)
	return errors.Join(
		putNumber(meta, metaSchema, schema),
		putNumber(meta, metaVersion, 0),
		meta.Put(metaStore, []byte(rand.Text())),
	)
}

func checkBuckets(tx *bbolt.Tx) error {
	meta := tx.Bucket(bucketMeta)
	if meta == nil || len(meta.Get(metaSchema)) != 8 {
		return errors.New("it is not a key store of Keystile: name another file")
	}
	if have := number(meta, metaSchema); have != schema {
		return fmt.Errorf("a newer version of Keystile wrote it (schema %d, this one knows %d): use that version",
			have, schema)
	}
	for _, name := range [][]byte{bucketRecords, bucketNames, bucketOperations, bucketUsed} {
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

// load reads every record, checks that its name leads to it, and fills the mirror.
func (b *Bolt) load() error {
	return b.db.View(func(tx *bbolt.Tx) error {
		grants := func(yield func(keys.Grant, error) bool) {
			err := checkRecords(tx, func(grant keys.Grant) { yield(grant, nil) })
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
		mirror.fresh.set(proof{forever: true}) // no other process can change the file
		return nil
	})
}

func checkRecords(tx *bbolt.Tx, visit func(keys.Grant)) error {
	names, records, version := tx.Bucket(bucketNames), 0, storeVersion(tx)
	err := eachRecord(tx, func(kept stored) error {
		records++
		if !bytes.Equal(names.Get(nameKey(kept.Account, kept.Name)), kept.ID[:]) {
			return fmt.Errorf("the name of %s leads elsewhere", kept.ID)
		}
		if kept.Version > version {
			return fmt.Errorf("%s is newer than the store", kept.ID)
		}
		visit(kept.Grant())
		return nil
	})
	if err != nil {
		return err
	}
	return names.ForEach(func(_, _ []byte) error {
		if records--; records < 0 {
			return errors.New("there are names without a record")
		}
		return nil
	})
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
