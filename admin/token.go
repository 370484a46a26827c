package admin

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"keystile/keys"
)

const (
	// minTokenLength is the least number of characters of an administrator token.
	minTokenLength = 32

	maxTokenFile = 4096 // bytes
	redacted     = "[redacted]"
)

// Token recognises the administrator token. It keeps only its SHA-256 digest, and
// whatever prints it (fmt, JSON, slog) writes "[redacted]". The digest lies in a function
// because fmt cannot call the methods of an unexported field and would write out an
// array, or with a verb like %s even what a pointer points to. The zero Token
// recognises nothing.
type Token struct{ is func(text string) bool }

// NewToken returns the text of a new token: "kat_" and 52 base32 characters, 260
// bits from crypto/rand.
func NewToken() string { return keys.AdminTokenPrefix + rand.Text() + rand.Text() }

var (
	errTokenShort     = errors.New("the administrator token is too short: it needs at least 32 characters")
	errTokenCharacter = errors.New("the administrator token may have only printable ASCII characters and no spaces")
)

// ParseAdminToken returns the Token that recognises text. It refuses fewer than
// minTokenLength characters, and characters that a header cannot carry safely.
func ParseAdminToken(text string) (Token, error) {
	if len(text) < minTokenLength {
		return Token{}, errTokenShort
	}
	for i := range len(text) {
		if text[i] <= ' ' || text[i] > '~' {
			return Token{}, errTokenCharacter
		}
	}
	want := sha256.Sum256([]byte(text))
	return Token{func(text string) bool {
		digest := sha256.Sum256([]byte(text))
		return subtle.ConstantTimeCompare(want[:], digest[:]) == 1
	}}, nil
}

// Is reports whether text is the token. Only digests are compared, in constant time.
func (t Token) Is(text string) bool { return t.is != nil && t.is(text) }

// LoadToken reads the token in file, or, when there is no such file, writes a new one
// there (mode 0600, missing directories 0700) and says so with created. The file
// appears whole or not at all. Errors are sentences for the operator.
func LoadToken(file string) (token Token, created bool, err error) {
	_, token, err = readToken(file)
	if !errors.Is(err, fs.ErrNotExist) {
		return token, false, err
	}
	err = os.MkdirAll(filepath.Dir(file), 0o700)
	if err == nil {
		err = writeToken(file, NewToken())
	}
	created = err == nil
	if err != nil && !errors.Is(err, fs.ErrExist) { // another process may have been first
		return Token{}, false, fmt.Errorf("the admin token file %s cannot be made: make its directory writable, or set another token file: %w", file, err)
	}
	_, token, err = readToken(file)
	if errors.Is(err, fs.ErrNotExist) { // the name is taken all the same
		err = fmt.Errorf("the admin token file %s is a link to a file that does not exist: make that file, or remove the link", file)
	}
	return token, created, err
}

// ReadToken returns the text of the token in file, for a client. Errors are sentences for
// the operator without that text; there being no such file is fs.ErrNotExist.
func ReadToken(file string) (string, error) {
	text, _, err := readToken(file)
	return text, err
}

func readToken(file string) (text string, token Token, err error) {
	content, err := readPrivate(file)
	if err != nil {
		return "", Token{}, err
	}
	text = strings.TrimSpace(content)
	if text == "" {
		return "", Token{}, fmt.Errorf("the admin token file %s is empty: put the token into it, or delete it and restart keystile serve, which makes a new one", file)
	}
	if token, err = ParseAdminToken(text); err != nil {
		return "", Token{}, fmt.Errorf("the admin token file %s: %w", file, err)
	}
	return text, token, nil
}

// readPrivate returns the content of the token file, at most maxTokenFile of it.
func readPrivate(file string) (string, error) {
	// Stat before Open: opening a pipe would wait for a writer.
	if info, err := os.Stat(file); err != nil {
		return "", cannotRead(err)
	} else if !info.Mode().IsRegular() {
		return "", fmt.Errorf("the admin token file %s is not a regular file: name one", file)
	}
	f, err := os.Open(file)
	if err != nil {
		return "", cannotRead(err)
	}
	defer f.Close()
	if err := privateFile(f); err != nil {
		return "", err
	}
	content, err := io.ReadAll(io.LimitReader(f, maxTokenFile))
	if err != nil {
		return "", cannotRead(err)
	}
	return string(content), nil
}

func cannotRead(err error) error {
	advice := ""
	if errors.Is(err, fs.ErrPermission) {
		advice = ": run this as the user who owns it, or set another token file"
	}
	return fmt.Errorf("reading the admin token file: %w%s", err, advice)
}

// privateFile refuses a file that others than its owner may use.
func privateFile(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return cannotRead(err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("the admin token file %[1]s has mode %04[2]o, so others can use it: run chmod 600 %[1]s", f.Name(), mode)
	}
	return nil
}

// writeToken writes text to a new file under another name and links it to its own, so
// that neither a crash nor a second process leaves or sees half of it. Its error is
// fs.ErrExist when the file is there.
func writeToken(file, text string) error {
	dir := filepath.Dir(file)
	temporary, err := os.CreateTemp(dir, ".admin.token-*") // mode 0600, O_EXCL
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name())
	_, err = temporary.WriteString(text + "\n")
	err = errors.Join(err, temporary.Sync(), temporary.Close())
	if err != nil {
		return err
	}
	err = os.Link(temporary.Name(), file)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		err = os.Rename(temporary.Name(), file) // some file systems have no links
	}
	if err != nil {
		return err
	}
	return syncDirectory(dir)
}

func syncDirectory(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// String returns "[redacted]".
func (Token) String() string { return redacted }

// GoString returns "[redacted]".
func (Token) GoString() string { return redacted }

// Format writes "[redacted]" for every verb and flag.
func (Token) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// MarshalText returns "[redacted]"; so JSON shows that, too.
func (Token) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue returns "[redacted]".
func (Token) LogValue() slog.Value { return slog.StringValue(redacted) }
