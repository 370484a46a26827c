package cache

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"strings"
	"time"
	"unicode"

	"keystile/keys"
)

// A backup is a text file: JSON, one object a line. The first line is a backupHeader,
// then come its keys, oldest first, then its deletions, and the last line is a checksum
// over everything before it. It holds digests, never secrets. Not in it: Idempotency-Keys,
// so that one used again after an import makes another key; nor by which secret a key was
// last used, only when.

const (
	// backupFormat is the format this code writes. It rises when older code could misread.
	backupFormat = 1
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
	Keys    int       `json:"keys"`            // lines that are keys
	Deleted int       `json:"deleted"`         // lines that are deletions
	Pepper  keys.Sum  `json:"pepper,omitzero"` // check of the pepper that signed
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

// backupEntry is a key or a deletion.
type backupEntry struct {
	keys.Record
	deleted bool // then only ID and Version say something
}

// backupReader reads a backup and checks its form and, at the end, its checksum.
type backupReader struct {
	backupHeader
	from *bufio.Reader
	sum  hash.Hash
	at   int // number of the last line read
	left int // lines before the trailer
}

// newBackupReader reads the header.
func newBackupReader(from io.Reader) (*backupReader, error) {
	r := &backupReader{from: bufio.NewReaderSize(from, longestLine), sum: sha256.New()}
	line, err := r.line()
	if err != nil {
		return nil, err
	}
	var format struct {
		Format int `json:"keystile_backup"`
	}
	if json.Unmarshal(line, &format) == nil && format.Format > backupFormat {
		return nil, r.refuse(fmt.Errorf("a newer version of Keystile made it (format %d, this one knows %d)", format.Format, backupFormat))
	}
	if err := decodeStrictly(line, &r.backupHeader); err != nil {
		return nil, r.refuse(err)
	}
	if h := r.backupHeader; h.Format != backupFormat || h.Keys < 0 || h.Deleted < 0 || h.Version > highestVersion {
		return nil, r.refuse(errors.New("the first line is not that of a backup"))
	}
	r.left = r.Keys + r.Deleted
	return r, nil
}

// refuse says that the file cannot be used, and where it shows.
func (r *backupReader) refuse(why error) error {
	return fmt.Errorf("%w (line %d: %w)", ErrBackup, r.at, why)
}

// line reads a line. It is valid until the next.
func (r *backupReader) line() ([]byte, error) {
	r.at++
	line, err := r.from.ReadSlice('\n')
	switch {
	case errors.Is(err, io.EOF):
		return nil, r.refuse(errors.New("the file ends before it should"))
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, r.refuse(errors.New("the line is too long"))
	case err != nil:
		return nil, fmt.Errorf("reading the backup: %w", err)
	}
	_, _ = r.sum.Write(line) // never fails
	return line, nil
}

// next returns the next entry; io.EOF after the last, when the checksum is right.
func (r *backupReader) next() (entry backupEntry, err error) {
	if r.left == 0 {
		return entry, r.end()
	}
	r.left--
	line, err := r.line()
	if err != nil {
		return entry, err
	}
	if entry, err = r.decode(line); err != nil {
		return entry, r.refuse(err)
	}
	return entry, nil
}

func (r *backupReader) decode(line []byte) (entry backupEntry, err error) {
	if r.left < r.Deleted {
		var tomb backupTomb
		err = decodeStrictly(line, &tomb)
		entry.ID, entry.Version, entry.deleted = tomb.ID, tomb.Version, true
	} else {
		var key backupKey
		err = decodeStrictly(line, &key)
		entry.Record = key.Record
		entry.LastUsed.At = key.LastUsed
	}
	if err != nil {
		return entry, err
	}
	return entry, entry.check(r.Version)
}

// end compares the checksum, and expects the file to end.
func (r *backupReader) end() error {
	want := backupTrailer(r.sum)
	line, err := r.line()
	if err != nil {
		return err
	}
	if string(line) != want {
		return r.refuse(errors.New("the checksum is not that of the lines before it"))
	}
	if _, err := r.from.ReadByte(); !errors.Is(err, io.EOF) {
		return r.refuse(errors.New("the file goes on after its checksum"))
	}
	return io.EOF
}

// decodeStrictly reads one JSON object without members that are not known. An error
// does not repeat what was read.
func decodeStrictly(line []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.DisallowUnknownFields()
	if decoder.Decode(into) != nil || decoder.Decode(new(json.RawMessage)) != io.EOF {
		return errors.New("the line cannot be read")
	}
	return nil
}

// check returns what is wrong with an entry of a backup of that version.
func (e *backupEntry) check(version uint64) error {
	switch {
	case e.ID == keys.ID{}:
		return errors.New("there is no key")
	case e.Version == 0 || e.Version > version:
		return errors.New("the version is not one that the store has had")
	case e.deleted:
		return nil
	case e.Account == "" || strings.ContainsFunc(e.Account, unicode.IsControl):
		return errors.New("the account is not well formed")
	case !e.Rate.Valid():
		return errors.New("the rate is not well formed")
	}
	if name, err := keys.NormalizeName(e.Name); err != nil || name != e.Name {
		return errors.New("the name is not well formed")
	}
	for _, d := range e.Digests {
		if d.Scheme > keys.HMACSHA256 {
			return errors.New("a digest is of an unknown scheme")
		}
	}
	return nil
}

// Backup says what a backup has.
type Backup struct {
	Store   string    `json:"store"`   // the store it was made of
	Version uint64    `json:"version"` // of that store
	Made    time.Time `json:"made"`
	Keys    int       `json:"keys"`
	Deleted int       `json:"deleted"` // keys that the store knows to be deleted
}

// ReadBackup reads a whole backup and returns what it has, or [ErrBackup], wrapped.
func ReadBackup(ctx context.Context, from io.Reader) (Backup, error) {
	c, err := verifyBackup(ctx, from)
	return c.summary(), err
}

// contents is what is known of a backup once all of it was verified.
type contents struct {
	backupHeader
	accounts map[string]int // keys of each account
}

func (c contents) summary() Backup {
	return Backup{Store: c.Store, Version: c.Version, Made: c.Made, Keys: c.Keys, Deleted: c.Deleted}
}

// verifyBackup reads a whole backup: every line is well formed, no key is there twice,
// names are unique within their account, nothing is missing, the checksum is right.
func verifyBackup(ctx context.Context, from io.Reader) (contents, error) {
	r, err := newBackupReader(from)
	if err != nil {
		return contents{}, err
	}
	c := contents{backupHeader: r.backupHeader, accounts: make(map[string]int)}
	seen := make(claims)
	for {
		entry, err := r.next()
		switch {
		case errors.Is(err, io.EOF):
			return c, nil
		case err != nil:
			return contents{}, err
		case r.at%1000 == 0 && ctx.Err() != nil:
			return contents{}, ctx.Err()
		case !seen.add(string(entry.ID[:])):
			return contents{}, r.refuse(errors.New("the key is there twice"))
		case entry.deleted:
		case !seen.add(string(nameKey(entry.Account, entry.Name))):
			return contents{}, r.refuse(errors.New("another key of the account has the name"))
		default:
			c.accounts[entry.Account]++
		}
	}
}

// claims are texts of which each may be there once, kept as short digests so that
// millions of them stay small. An id is never the key of a name, which has a zero byte.
type claims map[[16]byte]struct{}

func (c claims) add(text string) (first bool) {
	sum := sha256.Sum256([]byte(text))
	short := [16]byte(sum[:16])
	_, taken := c[short]
	c[short] = struct{}{}
	return !taken
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
