package admin

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestNewTokensAreLongAndDiffer(t *testing.T) {
	first, second := NewToken(), NewToken()
	if first == second || len(first) < len("kat_")+52 || !strings.HasPrefix(first, "kat_") {
		t.Errorf("got %s and %s", first, second)
	}
	token, err := ParseAdminToken(first)
	if err != nil || !token.Is(first) || token.Is(second) {
		t.Errorf("the token does not recognise itself alone: %v", err)
	}
}

func TestWeakTokenIsRefused(t *testing.T) {
	for text, word := range map[string]string{
		"":                             "at least 32",
		strings.Repeat("x", 31):        "at least 32",
		strings.Repeat("x", 31) + " ":  "printable",
		strings.Repeat("x", 32) + "\n": "printable",
		strings.Repeat("x", 16) + "\x00" + strings.Repeat("x", 16): "printable",
		strings.Repeat("é", 32):                                    "printable",
		strings.Repeat("x", 32) + "\x7f":                           "printable",
	} {
		if _, err := ParseAdminToken(text); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := ParseAdminToken(strings.Repeat("!~", 16)); err != nil {
		t.Error(err)
	}
}

func TestPrintedTokenIsRedacted(t *testing.T) {
	token, err := ParseAdminToken(testToken)
	if err != nil {
		t.Fatal(err)
	}
	inside := struct {
		Public  Token
		private Token
	}{token, token}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%t"} {
		if got := fmt.Sprintf(verb, token); got != "[redacted]" {
			t.Errorf("%s prints %s", verb, got)
		}
		fmt.Fprintf(&out, verb+" "+verb+"\n", token, inside)
	}
	text, err := json.Marshal(inside)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(text)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "token", token, "inside", inside)
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "token", token, "inside", inside)
	sum := sha256.Sum256([]byte(testToken))
	digest := fmt.Sprintf("%x", sum)
	decimal := strings.Trim(fmt.Sprintf("%d", sum), "[]")
	for _, leak := range []string{testToken, digest, strings.ToUpper(digest), decimal} {
		if strings.Contains(out.String(), leak) {
			t.Errorf("%q is in %s", leak, &out)
		}
	}
}

func TestMissingTokenFileIsMadePrivateAndKept(t *testing.T) {
	file := filepath.Join(t.TempDir(), "data", "deeper", "admin.token")
	token, created, err := LoadToken(file)
	if err != nil || !created {
		t.Fatalf("created %v: %v", created, err)
	}
	for path, mode := range map[string]os.FileMode{
		file: 0o600, filepath.Dir(file): os.ModeDir | 0o700, filepath.Dir(filepath.Dir(file)): os.ModeDir | 0o700,
	} {
		if info, err := os.Stat(path); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v %v", path, info.Mode(), err)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil || !token.Is(strings.TrimSuffix(string(text), "\n")) {
		t.Errorf("the file does not hold the token: %v", err)
	}
	again, created, err := LoadToken(file)
	if err != nil || created || !again.Is(strings.TrimSpace(string(text))) {
		t.Errorf("the second time: created %v, %v", created, err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(file)); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestClientReadsTheTokenThatTheServerMadeAndMakesNone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "data", "admin.token")
	if _, err := ReadToken(file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a file: %v", err)
	}
	if _, err := os.Stat(filepath.Dir(file)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("reading made something: %v", err)
	}
	token, _, err := LoadToken(file)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := ReadToken(file); err != nil || !token.Is(text) {
		t.Errorf("it reads another token than the server's: %v", err)
	}
}

func TestProcessesThatStartTogetherAgreeOnTheToken(t *testing.T) {
	file := filepath.Join(t.TempDir(), "admin.token")
	tokens := make([]Token, 16)
	makers := 0
	var mu sync.Mutex
	var all sync.WaitGroup
	for i := range tokens {
		all.Go(func() {
			token, created, err := LoadToken(file)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			tokens[i] = token
			if created {
				makers++
			}
		})
	}
	all.Wait()
	if t.Failed() {
		return
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range tokens {
		if !token.Is(strings.TrimSpace(string(text))) {
			t.Fatal("a token other than the file's is believed in")
		}
	}
	if makers != 1 {
		t.Errorf("%d made the file", makers)
	}
}

func TestUnsafeTokenFileIsRefusedWithASentence(t *testing.T) {
	good := testToken + "\n"
	for name, row := range map[string]struct {
		text string
		mode os.FileMode
		want []string
	}{
		"readable by others": {good, 0o604, []string{"0604", "chmod 600"}},
		"readable by group":  {good, 0o640, []string{"0640", "chmod 600"}},
		"writable by group":  {good, 0o620, []string{"0620", "chmod 600"}},
		"empty":              {"", 0o600, []string{"is empty: put the token into it, or delete it and restart keystile serve"}},
		"white space":        {" \n", 0o600, []string{"empty"}},
		"short":              {"secret\n", 0o600, []string{"at least 32"}},
		"two lines":          {good + good, 0o600, []string{"printable"}},
		"longer than any":    {strings.Repeat("\x80", maxTokenFile*2), 0o600, []string{"printable"}},
		"not a text":         {strings.Repeat("\x00", 64), 0o600, []string{"printable"}},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "admin.token")
			if err := os.WriteFile(file, []byte(row.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(file, row.mode); err != nil {
				t.Fatal(err)
			}
			token, created, err := LoadToken(file)
			if err == nil || created || token.is != nil {
				t.Fatalf("got %v %v %v", token, created, err)
			}
			if text, again := ReadToken(file); text != "" || again == nil || again.Error() != err.Error() {
				t.Errorf("a client reads %d characters and is told %v", len(text), again)
			}
			for _, word := range append(row.want, file) {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%q is not in: %v", word, err)
				}
			}
			if strings.Contains(err.Error(), testToken) {
				t.Errorf("the token is in: %v", err)
			}
			if text, _ := os.ReadFile(file); string(text) != row.text {
				t.Error("the file was changed")
			}
		})
	}
}

func TestTokenFileThatCannotBeIsASentence(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{dir, filepath.Join(dir, "file", "admin.token")} {
		if _, created, err := LoadToken(file); err == nil || created || !strings.Contains(err.Error(), "admin token file") {
			t.Errorf("%s: created %v, %v", file, created, err)
		}
	}
}

// TestTokenFileOfAnotherUserComesWithAdvice has the error itself: to root no file is refused.
func TestTokenFileOfAnotherUserComesWithAdvice(t *testing.T) {
	refused := &fs.PathError{Op: "open", Path: "admin.token", Err: fs.ErrPermission}
	want := "reading the admin token file: open admin.token: permission denied: run this as the user who owns it, or set another token file"
	if err := cannotRead(refused); err.Error() != want || !errors.Is(err, fs.ErrPermission) {
		t.Errorf("got %v", err)
	}
}

func TestTokenFileThatLinksToNothingIsNamed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "admin.token")
	if err := os.Symlink("elsewhere", file); err != nil {
		t.Fatal(err)
	}
	token, created, err := LoadToken(file)
	if err == nil || !strings.Contains(err.Error(), file+" is a link to a file that does not exist: ") {
		t.Errorf("the error is %v", err)
	}
	if created || token.is != nil {
		t.Error("there is a token all the same")
	}
}
