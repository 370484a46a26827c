package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// cannotOpen is the error of a file that an option names, with what to do about it.
func cannotOpen(path, option string, err error) error {
	return fmt.Errorf("%s: the file cannot be opened: %w%s", option, err, openAdvice(path, err))
}

// cannotLoadCertificate is the error of a section's cert_file and key_file, with what to
// do when one of them could not be opened.
func cannotLoadCertificate(section, certFile string, err error) error {
	file := (*fs.PathError)(nil)
	switch {
	case !errors.As(err, &file):
		return fmt.Errorf("%s: %w", section, err)
	case file.Path == certFile:
		return cannotOpen(file.Path, section+".cert_file", file)
	}
	return cannotOpen(file.Path, section+".key_file", file)
}

// openAdvice says, after a colon, what to do about a file that could not be opened or
// read; "": the error itself says all that is known.
func openAdvice(path string, err error) string {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Sprintf(": let user %d read it, as whom this runs, or run this as its owner", os.Geteuid())
	case errors.Is(err, syscall.EISDIR):
		return ": name a file, not a folder"
	case !errors.Is(err, fs.ErrNotExist):
		return ""
	case !filepath.IsAbs(path):
		folder, _ := os.Getwd()
		return fmt.Sprintf(": name a file that exists (this one was looked for in %s)", folder)
	}
	return ": name a file that exists"
}
