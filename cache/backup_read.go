package cache

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
	"time"
	"unicode"

	"keystile/keys"
)

// backupEntry is a line between the header and the checksum: an account, a token, or else
// a key or a deletion.
type backupEntry struct {
	account *keys.Account
	token   *keys.AccountToken

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
	if !r.wellFormed() {
		return nil, r.refuse(errors.New("the first line is not that of a backup"))
	}
	r.left = r.Accounts + r.Tokens + r.Keys + r.Deleted
	return r, nil
}

func (h *backupHeader) wellFormed() bool {
	for _, n := range []int{h.Accounts, h.Tokens, h.Keys, h.Deleted} {
		if n < 0 || n > highestVersion { // so that their sum is exact
			return false
		}
	}
	return h.Version <= highestVersion &&
		(h.Format == backupFormat || h.Format == 1 && h.Accounts == 0 && h.Tokens == 0)
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
	switch {
	case r.left < r.Deleted:
		var tomb backupTomb
		err = decodeStrictly(line, &tomb)
		entry.ID, entry.Version, entry.deleted = tomb.ID, tomb.Version, true
	case r.left < r.Keys+r.Deleted:
		var key backupKey
		err = decodeStrictly(line, &key)
		entry.Record = key.Record
		entry.LastUsed.At = key.LastUsed
	case r.left < r.Tokens+r.Keys+r.Deleted:
		entry.token = new(keys.AccountToken)
		err = decodeStrictly(line, entry.token)
	default:
		entry.account = new(keys.Account)
		err = decodeStrictly(line, entry.account)
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
	case e.account != nil:
		return checkBackupAccount(e.account, version)
	case e.token != nil:
		return checkBackupToken(e.token)
	case e.ID == keys.ID{}:
		return errors.New("there is no key")
	case e.Version == 0 || e.Version > version:
		return errVersion
	case e.deleted:
		return nil
	case !keys.ValidAccount(e.Account):
		return errors.New("the account is not well formed")
	case !e.Rate.Valid():
		return errors.New("the rate is not well formed")
	}
	if name, err := keys.NormalizeName(e.Name); err != nil || name != e.Name {
		return errName
	}
	for _, d := range e.Digests {
		if d.Scheme > keys.HMACSHA256 {
			return errors.New("a digest is of an unknown scheme")
		}
	}
	return nil
}

var (
	errVersion = errors.New("the version is not one that the store has had")
	errName    = errors.New("the name is not well formed")
)

func checkBackupAccount(a *keys.Account, version uint64) error {
	switch {
	case !keys.ValidAccount(a.ID):
		return errors.New("the account is not well formed")
	case a.Version > version || a.Version == 0 && a.ID != keys.DefaultAccount:
		return errVersion
	case !normalOrEmpty(a.Name):
		return errName
	}
	return checkLimit(a.Limit)
}

func checkBackupToken(t *keys.AccountToken) error {
	switch {
	case t.ID == "" || strings.ContainsFunc(t.ID, unicode.IsControl):
		return errors.New("the token has no proper id")
	case t.Sum == keys.Sum{}:
		return errors.New("the token has no digest")
	case !normalOrEmpty(t.Name):
		return errName
	}
	return nil
}

// normalOrEmpty reports whether a name that may be left out is well formed.
func normalOrEmpty(name string) bool {
	normal, err := keys.NormalizeName(name)
	return name == "" || err == nil && name == normal
}

// Backup says what a backup has.
type Backup struct {
	Store    string    `json:"store"`   // the store it was made of
	Version  uint64    `json:"version"` // of that store
	Made     time.Time `json:"made"`
	Accounts int       `json:"accounts"`
	Tokens   int       `json:"tokens"` // of accounts
	Keys     int       `json:"keys"`
	Deleted  int       `json:"deleted"` // keys that the store knows to be deleted
}

// ReadBackup reads a whole backup and returns what it has, or [ErrBackup], wrapped.
func ReadBackup(ctx context.Context, from io.Reader) (Backup, error) {
	c, err := verifyBackup(ctx, from)
	return c.summary(), err
}

// contents is what is known of a backup once all of it was verified.
type contents struct {
	backupHeader
	accounts []keys.Account // of format 1: those that have keys
	tokens   []keys.AccountToken
	held     map[string]int // keys of each account
}

func (c *contents) summary() Backup {
	return Backup{
		Store: c.Store, Version: c.Version, Made: c.Made,
		Accounts: len(c.accounts), Tokens: c.Tokens, Keys: c.Keys, Deleted: c.Deleted,
	}
}

// verifyBackup reads a whole backup: every line is well formed, nothing is there twice,
// names are unique within their account, accounts are there, nothing is missing, the
// checksum is right.
func verifyBackup(ctx context.Context, from io.Reader) (contents, error) {
	r, err := newBackupReader(from)
	if err != nil {
		return contents{}, err
	}
	c := contents{backupHeader: r.backupHeader, held: make(map[string]int)}
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
		}
		if err := c.add(&entry, seen); err != nil {
			return contents{}, r.refuse(err)
		}
	}
}

// add notes an entry, or says what those before it show to be wrong.
func (c *contents) add(e *backupEntry, seen claims) error {
	switch {
	case e.account != nil:
		return c.addAccount(e.account)
	case e.token != nil:
		return c.addToken(e.token, seen)
	case !seen.add(string(e.ID[:])):
		return errors.New("the key is there twice")
	case e.deleted:
		return nil
	case !seen.add(string(nameKey(e.Account, e.Name))):
		return errors.New("another key of the account has the name")
	}
	if _, known := c.held[e.Account]; !known {
		if c.Format != 1 {
			return errNoAccountLine
		}
		c.accounts = append(c.accounts, keys.Account{ID: e.Account, Active: true})
	}
	c.held[e.Account]++
	return nil
}

var errNoAccountLine = errors.New("its account is not in the backup")

func (c *contents) addAccount(a *keys.Account) error {
	if _, twice := c.held[a.ID]; twice {
		return errors.New("the account is there twice")
	}
	c.held[a.ID] = 0
	c.accounts = append(c.accounts, *a)
	return nil
}

func (c *contents) addToken(t *keys.AccountToken, seen claims) error {
	if _, known := c.held[t.Account]; !known {
		return errNoAccountLine
	}
	if !seen.add("\x00" + t.ID) {
		return errors.New("the token is there twice")
	}
	c.tokens = append(c.tokens, *t)
	return nil
}

// claims are texts of which each may be there once, kept as short digests so that
// millions of them stay small. The id of a key is never the key of a name, which has a zero
// byte, and neither begins with one, as that of a token does.
type claims map[[16]byte]struct{}

func (c claims) add(text string) (first bool) {
	sum := sha256.Sum256([]byte(text))
	short := [16]byte(sum[:16])
	_, taken := c[short]
	c[short] = struct{}{}
	return !taken
}
