package main

import (
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"
)

// TestFileThatCannotBeOpenedComesWithAdvice has one row for each advice. A test that
// runs as root could not have a file refused to it.
func TestFileThatCannotBeOpenedComesWithAdvice(t *testing.T) {
	folder, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		path string
		err  error
		want string
	}{
		{"/a/b", fs.ErrNotExist, "file does not exist: name a file that exists"},
		{"b", fs.ErrNotExist, "file does not exist: name a file that exists (this one was looked for in " + folder + ")"},
		{"/a/b", syscall.EACCES, fmt.Sprintf("permission denied: let user %d read it, as whom this runs, or run this as its owner", os.Geteuid())},
		{"b", syscall.EISDIR, "is a directory: name a file, not a folder"},
	} {
		got := cannotOpen(row.path, "some.option", row.err).Error()
		if want := "some.option: the file cannot be opened: " + row.want; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	if _, err := readBounded("missing.yaml"); err == nil || !strings.HasSuffix(err.Error(), "(this one was looked for in "+folder+")") {
		t.Errorf("got %v", err)
	}
}
