package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// treeCopy is the copy into which faults are seeded, one at a time.
type treeCopy struct{ folder string }

// fill copies what git knows of the tree, or would if it were added.
func (c *treeCopy) fill(tree string) error {
	list := exec.Command("git", "ls-files", "-co", "--exclude-standard", "-z")
	list.Dir = tree
	names, err := list.Output()
	if err != nil {
		return fmt.Errorf("listing its files with git: %w", err)
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names), "\x00"), "\x00") {
		err := copyFile(filepath.Join(c.folder, name), filepath.Join(tree, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // deleted, and not yet committed
			return err
		}
	}
	return nil
}

func copyFile(to, from string) error {
	info, err := os.Stat(from)
	if err != nil || info.IsDir() { // of another repository
		return err
	}
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	return os.WriteFile(to, content, info.Mode().Perm())
}

// apply has git apply the patch, with an option: --check only looks, -R takes it back.
func (c *treeCopy) apply(f fault, option string) error {
	apply := exec.Command("git", "apply", option, f.path)
	apply.Dir = c.folder
	// The copy is no repository. If it lay inside of one, git would pass over all that does not belong to it.
	apply.Env = append(os.Environ(), "GIT_CEILING_DIRECTORIES="+filepath.Dir(c.folder))
	if out, err := apply.CombinedOutput(); err != nil {
		return fmt.Errorf("%s does not apply to this tree any more: make its change anew (%w)\n%s", f.name, err, out)
	}
	return nil
}

// healthy returns an error unless all tests pass without a fault.
func (c *treeCopy) healthy(faults []fault) error {
	tests := map[string][]string{}
	for _, f := range faults {
		tests[f.pkg] = append(tests[f.pkg], f.test)
	}
	for pkg, names := range tests {
		out, failed := c.test(pkg, names)
		for _, name := range names {
			if failed == nil && !strings.Contains(out, "\n--- PASS: "+name+" ") {
				failed = fmt.Errorf("%s is not there, or was skipped", name)
			}
		}
		if failed != nil {
			return fmt.Errorf("without a fault, the tests of %s do not pass: %w\n%s", pkg, failed, out)
		}
	}
	return nil
}

// judge seeds one fault and returns whether its test failed, and how, or why it did not.
func (c *treeCopy) judge(f fault) (caught bool, how string, err error) {
	if err := c.apply(f, "--apply"); err != nil {
		return false, "", err
	}
	out, failed := c.test(f.pkg, []string{f.test})
	switch {
	case failed == nil:
		how = f.test + " passes although " + f.breaks
	case strings.Contains(out, "\n--- FAIL: "+f.test+" "):
		caught, how = true, firstError(out)
	default:
		how = fmt.Sprintf("%s did not come to its end (%v)\n%s", f.test, failed, out)
	}
	return caught, how, c.apply(f, "-R")
}

// firstError returns the first line that a test printed with its file and line.
func firstError(out string) string {
	return regexp.MustCompile(`\w+_test\.go:\d+: .*`).FindString(out)
}

// test runs tests of a package and returns what was printed.
func (c *treeCopy) test(pkg string, names []string) (string, error) {
	limit, cancel := context.WithTimeout(context.Background(), whole)
	defer cancel()
	test := exec.CommandContext(limit, "go", "test", "-v", "-vet=off", "-count=1", "-timeout=90s",
		"-run", "^("+strings.Join(names, "|")+")$", pkg)
	test.Dir = c.folder
	var out bytes.Buffer
	out.WriteString("\n")
	test.Stdout, test.Stderr = &out, &out
	err := test.Run()
	return out.String(), err
}
