package exceptions

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "list.txt")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestEachLineGivesItsWordsAndItsReason(t *testing.T) {
	path := write(t, "# why this file exists\n\nkeystile/proxy TestWire/fold  net/http  accepts it\n  keystile/keys - no tests # of its own\r\n")
	got, err := Read(path, 2)
	if err != nil {
		t.Fatal(err)
	}
	want := []Entry{
		{Line: 3, Words: []string{"keystile/proxy", "TestWire/fold"}, Reason: "net/http accepts it"},
		{Line: 4, Words: []string{"keystile/keys", "-"}, Reason: "no tests # of its own"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

func TestEveryLineWithoutAReasonOrListedTwiceIsNamed(t *testing.T) {
	path := write(t, "a b\na b why\na\na b again\n")
	_, err := Read(path, 2)
	if err == nil {
		t.Fatal("no error")
	}
	for _, part := range []string{":1: expected 2 words", ":3: expected 2 words", ":4: a b stands on line 2 already"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error lacks %q:\n%v", part, err)
		}
	}
}

func TestAMissingFileIsAnError(t *testing.T) {
	if _, err := Read(filepath.Join(t.TempDir(), "none.txt"), 1); err == nil {
		t.Error("no error: a mistyped path would allow nothing and forbid nothing, unseen")
	}
}
