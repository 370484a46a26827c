package main

import (
	"errors"
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
		{"b", syscall.EMFILE, "too many open files"},
		{"/a/b", syscall.EIO, "input/output error"},
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

// TestCertificateThatCannotBeLoadedNamesTheOption of the file that is to blame, if one is.
func TestCertificateThatCannotBeLoadedNamesTheOption(t *testing.T) {
	open := func(path string) error {
		return fmt.Errorf("loading: %w", &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist})
	}
	for want, err := range map[string]error{
		"proxy.tls.cert_file: the file cannot be opened: open /cert: file does not exist: name a file that exists": open("/cert"),
		"proxy.tls.key_file: the file cannot be opened: open /key: file does not exist: name a file that exists":   open("/key"),
		"proxy.tls: they do not match": errors.New("they do not match"),
	} {
		if got := cannotLoadCertificate("proxy.tls", "/cert", err).Error(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}
