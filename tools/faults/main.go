// Command faults shows that the tests would notice if a promise were broken: it seeds one small defect after the other
// into a copy of the tree, and runs the one test that has to fail for it.
//
//	faults [-check] [folder of the tree]
//
// A defect is a patch in the folder's tools/faults. Before its first diff stand, one a line, "Breaks:" what it does,
// "Promise:" whom it would let down, and "Test:" a package and the name of a test. First all these tests have to pass in a
// copy without a defect. Then a defect is caught if its test fails; if the test passes, is not there, or does not compile, it
// is not. The last line is "N of N caught"; the exit code is 0 if all were, 1 if not, and 2 if a patch no longer applies to
// the tree, or the copy could not be made. With -check, nothing is run: do the patches apply?
//
// The tree that is given is only read: what git tracks or would track is copied, uncommitted changes included. To mend a
// patch, make the change it describes, and put what git diff -U1 prints below its head.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// whole bounds a run of all tests of a package together, its compilation included.
const whole = 5 * time.Minute

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("faults", flag.ContinueOnError)
	flags.SetOutput(stderr)
	check := flags.Bool("check", false, "only see whether the patches apply")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	folder := "."
	if flags.NArg() > 0 {
		folder = flags.Arg(0)
	}
	caught, all, err := seed(folder, *check, stdout)
	switch {
	case err != nil:
		fmt.Fprintln(stderr, "faults:", err)
		return 2
	case *check:
		fmt.Fprintf(stdout, "%d patches apply\n", all)
		return 0
	}
	fmt.Fprintf(stdout, "%d of %d caught\n", caught, all)
	if caught < all {
		return 1
	}
	return 0
}

// seed returns how many of all faults are caught; with check, it does not look.
func seed(folder string, check bool, stdout io.Writer) (caught, all int, err error) {
	faults, err := readFaults(folder)
	if err != nil {
		return 0, 0, err
	}
	temporary, err := os.MkdirTemp("", "faults")
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temporary)) }()
	c := &treeCopy{folder: filepath.Join(temporary, "tree")}
	if err := c.fill(folder); err != nil {
		return 0, 0, fmt.Errorf("copying the tree: %w", err)
	}
	for _, f := range faults {
		err = errors.Join(err, c.apply(f, "--check"))
	}
	if err == nil && !check {
		caught, err = hunt(c, faults, stdout)
	}
	return caught, len(faults), err
}

// hunt returns how many faults are caught, and prints by what.
func hunt(c *treeCopy, faults []fault, stdout io.Writer) (caught int, err error) {
	if err := c.healthy(faults); err != nil {
		return 0, err
	}
	for _, f := range faults {
		began, verdict := time.Now(), "NOT CAUGHT"
		found, how, err := c.judge(f)
		if err != nil {
			return caught, err
		}
		if found {
			caught, verdict = caught+1, "caught"
		}
		fmt.Fprintf(stdout, "%s: %s, %v\n\t%s\n", verdict, f.name, time.Since(began).Round(100*time.Millisecond), how)
	}
	return caught, nil
}
