package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// inEmptyFolder makes a new folder the working directory and returns a function that writes files below it.
func inEmptyFolder(t *testing.T) func(name, text string) string {
	t.Helper()
	dir := t.TempDir()
	t.Chdir(dir)
	return func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
}

func TestNamedFileGoesBeforeVariableBeforeWorkingDirectory(t *testing.T) {
	write := inEmptyFolder(t)
	write("config.yaml", "keys: {per_account: 1}")
	byVariable := write("variable.yaml", "keys: {per_account: 2}")
	byFlag := write("flag.yaml", "keys: {per_account: 3}")
	env := []string{"KEYSTILE_CONFIG=" + byVariable}
	for _, test := range []struct {
		path string
		env  []string
		want int
	}{
		{"", nil, 1},
		{"", []string{"KEYSTILE_CONFIG="}, 1},
		{"", env, 2},
		{byFlag, env, 3},
		{"flag.yaml", nil, 3},
	} {
		got, _, err := loadConfig(test.path, test.env)
		if err != nil || got.Keys.PerAccount != test.want {
			t.Errorf("path %q, env %q: got %d, %v; want %d", test.path, test.env, got.Keys.PerAccount, err, test.want)
		}
	}
}

func TestWithoutAnyFileTheDefaultsHold(t *testing.T) {
	inEmptyFolder(t)
	if _, err := os.Stat("/etc/keystile/config.yaml"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("this machine has a configuration of its own at /etc/keystile/config.yaml; move it away for this test")
	}
	got, warnings, err := loadConfig("", nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(defaultConfig(), got); diff != "" || len(warnings) > 0 {
		t.Errorf("warnings %q (-default +got):\n%s", warnings, diff)
	}
}

func TestFileThatWasNamedMustExist(t *testing.T) {
	write := inEmptyFolder(t)
	write("config.yaml", "")
	for _, test := range []struct {
		path string
		env  []string
	}{
		{"missing.yaml", nil},
		{"", []string{"KEYSTILE_CONFIG=missing.yaml"}},
	} {
		_, _, err := loadConfig(test.path, test.env)
		if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "missing.yaml") {
			t.Errorf("path %q, env %q: got %v, want an error that names the file", test.path, test.env, err)
		}
	}
}

// A file that is there and cannot be read must not be taken for one that is not there.
func TestUnreadableFileIsAnErrorNotTheDefaults(t *testing.T) {
	inEmptyFolder(t)
	if err := os.Mkdir("config.yaml", 0o700); err != nil {
		t.Fatal(err)
	}
	_, _, err := loadConfig("", nil)
	if err == nil || !strings.Contains(err.Error(), "reading the configuration") {
		t.Errorf("got %v", err)
	}
}

func TestHugeFileIsRefusedUnread(t *testing.T) {
	write := inEmptyFolder(t)
	comment := "# " + strings.Repeat("x", 1021) + "\n"
	write("fits.yaml", strings.Repeat(comment, 1024))
	write("huge.yaml", strings.Repeat(comment, 1024)+"\n")
	if _, _, err := loadConfig("fits.yaml", nil); err != nil {
		t.Errorf("1 MiB exactly: %v", err)
	}
	_, _, err := loadConfig("huge.yaml", nil)
	if err == nil || err.Error() != "reading the configuration: huge.yaml has more than 1MiB; is it the right file?" {
		t.Errorf("got %v", err)
	}
}

func TestMistakesNameTheFileAsItWasGiven(t *testing.T) {
	write := inEmptyFolder(t)
	path := write("k.yaml", "log: {level: loud}\n")
	for _, name := range []string{path, "k.yaml", "./k.yaml"} {
		_, _, err := loadConfig(name, nil)
		if err == nil || !strings.HasPrefix(err.Error(), name+":1:14: log.level: ") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestConfigWithMistakesIsNotReturned(t *testing.T) {
	got, _, err := parseConfig("config.yaml", []byte("proxy: {listen: \":9\", engine: none}\n"), nil)
	if diff := cmp.Diff(config{}, got); err == nil || diff != "" {
		t.Errorf("error %v; -zero +got:\n%s", err, diff)
	}
}

func TestMistakesCanBeToldFromOtherErrors(t *testing.T) {
	_, _, err := parseConfig("config.yaml", []byte("log: {level: loud}\n"), nil)
	mistakes, ok := errors.AsType[configMistakes](err)
	if !ok || len(mistakes) != 1 || mistakes[0].option != "log.level" || mistakes[0].place.line != 1 {
		t.Errorf("got %#v", err)
	}
}

func TestConfigSetByHandIsCheckedToo(t *testing.T) {
	c := defaultConfig()
	c.Proxy.Listen = "nowhere"
	c.Proxy.Upstream.Timeouts.Dial = 0
	err := c.check()
	want := "proxy.listen: expected an address as host:port or :port, got \"nowhere\"\nproxy.upstream.timeouts.dial: must be at least 1ms, got 0s"
	if err == nil || err.Error() != want {
		t.Errorf("got:\n%v\nwant:\n%s", err, want)
	}
}

// An option's name may hold a stranger's text: the name of a header. It stays on its line.
func TestEachMistakeIsOneLine(t *testing.T) {
	text := "proxy: {upstream: {headers: {\"a\\nb: c\\x1b\": x, \"" + strings.Repeat("long", 100) + " \": y, \"d\\re\": z, \"d\\re\": z}}}\n"
	_, _, err := parseConfig("config.yaml", []byte(text), nil)
	if err == nil {
		t.Fatal("want an error")
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != 4 {
		t.Errorf("want four lines, got %q", lines)
	}
	for _, line := range lines {
		if strings.ContainsAny(line, "\r\x1b") || len(line) > 400 {
			t.Errorf("this line would disturb a terminal: %q", line)
		}
	}
}

func TestMistakesOfTheFileComeFirstAndByLine(t *testing.T) {
	file := []byte("log:\n  level: a\nkeys:\n  per_account: 0\nadmin: {listen: x, token_file: \"\"}\n")
	_, _, err := parseConfig("config.yaml", file, []string{"KEYSTILE_PROXY_LISTEN=x"})
	if err == nil {
		t.Fatal("want an error")
	}
	var places []string
	for line := range strings.SplitSeq(err.Error(), "\n") {
		place, _, _ := strings.Cut(line, ": ")
		places = append(places, place)
	}
	want := []string{"config.yaml:2:10", "config.yaml:4:16", "config.yaml:5:17", "config.yaml:5:32", "KEYSTILE_PROXY_LISTEN"}
	if diff := cmp.Diff(want, places); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestBadByteCountsLinesAndColumns(t *testing.T) {
	for text, want := range map[string]int{"": -1, "ok\n\tж\u0085\u00a0\U0001f511": -1, "a\x00": 1, "ж\xff": 2, "\x7f": 0, "ab\ufffe": 2} {
		if at, _ := badByte([]byte(text)); at != want {
			t.Errorf("%q: got %d, want %d", text, at, want)
		}
	}
	_, _, err := parseConfig("config.yaml", []byte("# one\n# two\n#\x01\n"), nil)
	if err == nil || !strings.HasPrefix(err.Error(), "config.yaml:3:2: ") {
		t.Errorf("got %v", err)
	}
}
