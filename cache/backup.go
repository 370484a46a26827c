package cache

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"time"

	"keystile/keys"
)

// A backup is a text file: JSON, one object a line. The first line is a backupHeader,
// then come all accounts by id, each a keys.Account; their tokens, oldest first, each a
// keys.AccountToken; the keys, oldest first; and the deletions. The last line is a checksum
// over everything before it. It holds digests, never secrets. Of tokens that were revoked it
// knows nothing: see ImportOptions for what that means. Not in it: the audit trail;
// Idempotency-Keys, so that one used again after an import makes another key; nor by which
// secret a key was last used, only when.
//
// Format 1, which is still read, has no accounts and no tokens: an account is active and
// has no limit of its own.

const (
	// backupFormat is the format this code writes. It rises when older code could misread.
	backupFormat = 2
	// longestLine bounds a line in bytes.
	longestLine = 1 << 18
	// highestVersion bounds versions: scripts of Redis count exactly up to 2^53.
	highestVersion = 1 << 52
)

var (
	// ErrBackup is returned, wrapped, by Import for a file that is no backup or not
	// whole. Nothing of it was imported.
	ErrBackup = errors.New("this is not a whole backup of Keystile")
	// ErrBackupPepper is returned, wrapped, by Import when none of the peppers is the one
	// the backup was made with: its secrets would be refused. Nothing was imported.
	ErrBackupPepper = errors.New("the pepper does not match the one this backup was made with")
)

// backupHeader says what a backup is.
type backupHeader struct {
	Format  int       `json:"keystile_backup"`
	Store   string    `json:"store"`   // the store it was made of
	Version uint64    `json:"version"` // of that store, at that moment
	Made    time.Time `json:"made"`
	// How many lines there are of each kind.
	Accounts int      `json:"accounts"`
	Tokens   int      `json:"tokens"`
	Keys     int      `json:"keys"`
	Deleted  int      `json:"deleted"`
	Pepper   keys.Sum `json:"pepper,omitzero"` // check of the pepper that signed
}

// backupKey is the line of a key.
type backupKey struct {
	keys.Record
	LastUsed time.Time `json:"last_used,omitzero"`
}

// backupTomb is the line of a deletion.
type backupTomb struct {
	ID      keys.ID `json:"deleted"`
	Version uint64  `json:"version"`
}

// backupTrailer is the last line.
func backupTrailer(sum hash.Hash) string {
	return fmt.Sprintf("{\"sha256\":%q}\n", hex.EncodeToString(sum.Sum(nil)))
}

// backupWriter writes lines and sums them up.
type backupWriter struct {
	to  *bufio.Writer
	sum hash.Hash
}

// newBackupWriter writes the header.
func newBackupWriter(to io.Writer, header backupHeader) (*backupWriter, error) {
	w := &backupWriter{to: bufio.NewWriterSize(to, 1<<16), sum: sha256.New()}
	header.Format = backupFormat
	header.Made = header.Made.UTC().Truncate(time.Millisecond)
	return w, w.line(header)
}

func (w *backupWriter) line(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return w.raw(append(text, '\n'))
}

// accounts writes the lines of accounts and tokens.
func (w *backupWriter) accounts(accounts []keys.Account, tokens []keys.AccountToken) error {
	for i := range accounts {
		if err := w.line(&accounts[i]); err != nil {
			return err
		}
	}
	for i := range tokens {
		if err := w.line(&tokens[i]); err != nil {
			return err
		}
	}
	return nil
}

func (w *backupWriter) key(r keys.Record) error {
	return w.line(backupKey{Record: r, LastUsed: r.LastUsed.At})
}

// raw writes a line that is encoded already.
func (w *backupWriter) raw(line []byte) error {
	_, _ = w.sum.Write(line) // never fails
	_, err := w.to.Write(line)
	return err
}

// finish writes the checksum.
func (w *backupWriter) finish() error {
	_, err := w.to.WriteString(backupTrailer(w.sum))
	return errors.Join(err, w.to.Flush())
}

// spool has write fill a temporary file in a directory ("": the system's), then copies
// the file to w: what write reads from is not held up by whoever reads w slowly.
func spool(directory string, w io.Writer, write func(io.Writer) error) error {
	file, err := temporary(directory)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := write(file); err != nil {
		return err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	_, err = io.Copy(w, file)
	return err
}

// temporary makes a file that nobody else can read, and that is gone when it is closed.
func temporary(directory string) (*os.File, error) {
	file, err := os.CreateTemp(directory, ".keystile-backup-*")
	if err != nil {
		return nil, fmt.Errorf("making a temporary file: %w", err)
	}
	if err := os.Remove(file.Name()); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}
