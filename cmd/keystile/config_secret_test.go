package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.yaml.in/yaml/v4"
)

const canary = "canary-5f2c8b1e9d"

// writeSecret makes a file with exactly this mode, whatever the umask.
func writeSecret(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestHiddenTextShowsNowhere(t *testing.T) {
	secret := hidden{canary}
	holder := struct {
		Name   string
		Secret hidden
		Point  *hidden
		Map    map[string]hidden
		List   []hidden
	}{"holder", secret, &secret, map[string]hidden{"a": secret}, []hidden{secret}}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%08b", "%t", "%T"} {
		fmt.Fprintf(&out, verb+" "+verb+" "+verb+"\n", secret, &secret, holder)
	}
	fmt.Fprintln(&out, secret, secret.String(), secret.GoString(), errors.New(secret.String()))
	for _, handler := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(handler).Error("starting", "secret", secret, "pointer", &secret, "holder", holder, slog.Group("g", "secret", secret))
	}
	for _, value := range []any{secret, &secret, holder, map[hidden]int{secret: 1}} {
		asJSON, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(asJSON)
	}
	asYAML, err := yaml.Dump(holder)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(asYAML)
	for _, form := range []string{canary, fmt.Sprintf("%x", canary), fmt.Sprintf("%X", canary)} {
		if strings.Contains(out.String(), form) {
			t.Errorf("the secret shows as %s in:\n%s", form, out.String())
		}
	}
	if got := strings.Count(out.String(), redacted); got < 30 {
		t.Errorf("only %d times %s in:\n%s", got, redacted, out.String())
	}
	if secret.reveal() != canary {
		t.Error("reveal does not return the secret")
	}
}

// The other methods cover for a missing LogValue with slog's own handlers; a handler that walks groups relies on it.
func TestHiddenTextIsReplacedBeforeAHandlerSeesIt(t *testing.T) {
	var value any = hidden{canary}
	logged, ok := value.(slog.LogValuer)
	if !ok || logged.LogValue().String() != redacted {
		t.Errorf("slog handlers see %#v", value)
	}
}

func TestSecretFileLosesOneLineEnd(t *testing.T) {
	for text, want := range map[string]string{
		"abc":       "abc",
		"abc\n":     "abc",
		"abc\r\n":   "abc",
		"abc\n\n":   "abc\n",
		" abc ":     " abc ",
		"abc\ndef":  "abc\ndef",
		"\nabc\n":   "\nabc",
		"abc\r":     "abc",
		"Bearer a=": "Bearer a=",
	} {
		got, err := readSecretFile(writeSecret(t, text, 0o600), "some.option")
		if err != nil || got.reveal() != want {
			t.Errorf("%q: got %q, %v; want %q", text, got.reveal(), err, want)
		}
	}
}

func TestEmptySecretFileIsRefused(t *testing.T) {
	for _, text := range []string{"", "\n", "\r\n", "  \t\n\n"} {
		path := writeSecret(t, text, 0o600)
		_, err := readSecretFile(path, "some.option")
		if want := "some.option: " + path + " is empty: write the secret into it"; err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
}

func TestSecretFileWithLoosePermissionsIsRefused(t *testing.T) {
	for mode, repaired := range map[os.FileMode]string{0o644: "0640", 0o604: "0600", 0o620: "0600", 0o660: "0640", 0o602: "0600", 0o444: "0440", 0o777: "0640"} {
		path := writeSecret(t, canary, mode)
		_, err := readSecretFile(path, "some.option")
		if err == nil {
			t.Errorf("mode %04o is accepted", mode)
			continue
		}
		for _, want := range []string{"some.option: ", path, fmt.Sprintf("%04o", mode), "chmod " + repaired + " " + path} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("mode %04o: %q is not in: %v", mode, want, err)
			}
		}
		if strings.Contains(err.Error(), canary) {
			t.Errorf("mode %04o: the message shows the secret", mode)
		}
	}
}

func TestSecretFileForOwnerAndGroupIsAccepted(t *testing.T) {
	for _, mode := range []os.FileMode{0o600, 0o400, 0o640, 0o440, 0o700} {
		if _, err := readSecretFile(writeSecret(t, canary, mode), "some.option"); err != nil {
			t.Errorf("mode %04o: %v", mode, err)
		}
	}
}

// Orchestrators mount secrets as links; what counts is the file behind.
func TestSecretFileBehindALinkIsJudgedByItsOwnMode(t *testing.T) {
	for mode, ok := range map[os.FileMode]bool{0o600: true, 0o644: false} {
		link := filepath.Join(t.TempDir(), "link")
		if err := os.Symlink(writeSecret(t, canary, mode), link); err != nil {
			t.Fatal(err)
		}
		if _, err := readSecretFile(link, "some.option"); (err == nil) != ok {
			t.Errorf("mode %04o: %v", mode, err)
		}
	}
}

func TestSecretFileThatCannotBeReadNamesOptionAndFile(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	_, err := readSecretFile(missing, "some.option")
	if !errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(err.Error(), "some.option: ") || !strings.Contains(err.Error(), missing) {
		t.Errorf("missing: got %v", err)
	}
	folder := t.TempDir()
	if _, err := readSecretFile(folder, "some.option"); err == nil || err.Error() != "some.option: "+folder+" is not a regular file: name one" {
		t.Errorf("a folder: got %v", err)
	}
	huge := writeSecret(t, strings.Repeat("x", maxSecretBytes+1), 0o600)
	if _, err := readSecretFile(huge, "some.option"); err == nil || !strings.Contains(err.Error(), huge+" has more than 64KiB") {
		t.Errorf("a huge file: got %v", err)
	}
}

// Opening a pipe waits for its other end; a start must not.
func TestNamedPipeIsRefusedWithoutWaiting(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readSecretFile(path, "some.option"); err == nil || !strings.HasSuffix(err.Error(), "is not a regular file: name one") {
		t.Errorf("got %v", err)
	}
}

func TestSuggestedCommandIsSafeToPaste(t *testing.T) {
	for path, want := range map[string]string{
		"/run/secrets/a-b_c.txt": "/run/secrets/a-b_c.txt",
		"":                       "",
		"two words":              "'two words'",
		"a;rm -rf b":             "'a;rm -rf b'",
		"it's":                   `'it'\''s'`,
		"$(id)":                  "'$(id)'",
		"a b c":                  "'a b c'",
		"-x":                     "'-x'",
	} {
		if got := shellQuoted(path); got != want {
			t.Errorf("%q: got %s, want %s", path, got, want)
		}
	}
}

func TestPeppersAreReadInOrder(t *testing.T) {
	first, second := strings.Repeat("a", 32), "#"+strings.Repeat("b", 63)
	got, err := readPeppers(writeSecret(t, "\n"+first+"\n\n  "+second+"\t\r\n", 0o600))
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || string(got[0]) != first || string(got[1]) != second {
		t.Errorf("got %q", got)
	}
}

func TestPepperFilesThatWouldWeakenDigestsAreRefused(t *testing.T) {
	long := strings.Repeat("p", 32)
	for name, test := range map[string]struct {
		text string
		mode os.FileMode
		want string
	}{
		"a short pepper":        {canary + "\n", 0o600, "line 1 of PATH is too short: a pepper has at least 32 characters"},
		"a short second pepper": {long + "\n" + canary, 0o600, "line 2 of PATH is too short"},
		"padded with spaces":    {canary + strings.Repeat(" ", 32), 0o600, "line 1 of PATH is too short"},
		"one pepper twice":      {long + "\n\n" + long, 0o600, "line 3 of PATH repeats line 1"},
		"nothing":               {"\n\n", 0o600, "PATH is empty: write the secret into it"},
		"for everybody":         {long, 0o644, "chmod 0640 PATH"},
	} {
		path := writeSecret(t, test.text, test.mode)
		_, err := readPeppers(path)
		want := strings.ReplaceAll(test.want, "PATH", path)
		if err == nil || !strings.HasPrefix(err.Error(), "keys.pepper_file: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", name, err, want)
		}
		if err != nil && (strings.Contains(err.Error(), canary) || strings.Contains(err.Error(), long)) {
			t.Errorf("%s: the message shows a pepper: %v", name, err)
		}
	}
	if _, err := readPeppers("missing.pepper"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestUpstreamHeadersAreResolved(t *testing.T) {
	got, err := resolveHeaders(map[string]headerSource{
		"Authorization": {File: writeSecret(t, "Bearer "+canary+"\n", 0o600)},
		"X-Api-Key":     {Env: "UPSTREAM_KEY"},
		"X-Team":        {Value: "pictures"},
	}, []string{"UPSTREAM_KEY=" + canary, "OTHER=1"})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"Authorization": "Bearer " + canary, "X-Api-Key": canary, "X-Team": "pictures"} {
		if got[name].reveal() != want {
			t.Errorf("%s: got %q, want %q", name, got[name].reveal(), want)
		}
	}
	if len(got) != 3 || strings.Contains(fmt.Sprintf("%+v", got), canary) {
		t.Errorf("got %+v", got)
	}
}

func TestNoHeadersAreResolvedToNone(t *testing.T) {
	if got, err := resolveHeaders(nil, nil); err != nil || len(got) != 0 {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestEveryHeaderThatCannotBeResolvedIsReported(t *testing.T) {
	loose := writeSecret(t, canary, 0o644)
	lines := writeSecret(t, canary+"\nX-Evil: a\n", 0o600)
	_, err := resolveHeaders(map[string]headerSource{
		"A-Missing": {File: "missing.secret"},
		"B-Loose":   {File: loose},
		"C-Lines":   {File: lines},
		"D-Unset":   {Env: "UNSET"},
		"E-Empty":   {Env: "EMPTY"},
		"F-Break":   {Env: "BREAK"},
		"G-Fine":    {Value: "fine"},
	}, []string{"EMPTY=", "BREAK=" + canary + "\r\nX-Evil: a"})
	if err == nil {
		t.Fatal("want an error")
	}
	got := strings.Split(err.Error(), "\n")
	const section = "proxy.upstream.headers."
	want := []string{
		section + "A-Missing: the file cannot be opened: open missing.secret: no such file or directory",
		section + "B-Loose: " + loose + " has mode 0644",
		section + "C-Lines: the text from " + lines + " has a line break",
		section + "D-Unset: the variable UNSET is not set or empty",
		section + "E-Empty: the variable EMPTY is not set or empty",
		section + "F-Break: the text from the variable BREAK has a line break",
	}
	if len(got) != len(want) {
		t.Fatalf("got %d lines:\n%v", len(got), err)
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("got  %s\nwant %s...", got[i], want[i])
		}
	}
	if strings.Contains(err.Error(), canary) {
		t.Errorf("the message shows a secret: %v", err)
	}
}
