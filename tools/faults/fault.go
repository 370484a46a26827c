package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// fault is a patch and what its head says.
type fault struct {
	name    string // of the file
	path    string // absolute
	pkg     string // the package of its test, ./cache
	test    string
	breaks  string
	promise string
}

// readFaults reads the heads of all patches of the tree, in the order of their names.
func readFaults(folder string) ([]fault, error) {
	paths, err := filepath.Glob(filepath.Join(folder, "tools", "faults", "*.patch"))
	if err == nil && len(paths) == 0 {
		err = errors.New("there is no patch in tools/faults")
	}
	var faults []fault
	for _, path := range paths {
		f, wrong := readFault(path)
		err = errors.Join(err, wrong)
		faults = append(faults, f)
	}
	return faults, err
}

func readFault(path string) (fault, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return fault{}, err
	}
	f := fault{name: strings.TrimSuffix(filepath.Base(path), ".patch"), path: path}
	text, err := os.ReadFile(path)
	if err != nil {
		return f, err
	}
	lines := bufio.NewScanner(strings.NewReader(string(text)))
	for lines.Scan() && !strings.HasPrefix(lines.Text(), "diff ") {
		word, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimSpace(value)
		switch word {
		case "Breaks":
			f.breaks = value
		case "Promise":
			f.promise = value
		case "Test":
			f.pkg, f.test, _ = strings.Cut(value, " ")
		}
	}
	if f.breaks == "" || f.promise == "" || !regexp.MustCompile(`^Test\w+$`).MatchString(f.test) {
		return f, fmt.Errorf(`the head of %s lacks "Breaks:", "Promise:" or "Test: ./package TestName"`, path)
	}
	return f, nil
}
