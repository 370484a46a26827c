// Command testrun runs go test, once or several times, and judges what plain go test lets pass unseen: skipped tests,
// and packages in which no test ran.
//
//	testrun [-whole] [-skips file] -- arguments of go test [-- arguments of a second run ...]
//
// It prints one line for each package, as go test does, and everything that a failing test printed. Its last line is
// always "N passed, N failed, N skipped", where subtests, examples and the seeds of fuzz targets count as tests, and a
// package that failed with no failing test (it did not compile, say) counts as one. It exits with 0 when nothing failed
// and every skip is listed in the file, 1 when not, 2 when it was called wrongly.
//
// A line of the file is a package, a test and a reason. The test may be a subtest's path, and may end in * to stand for
// all that begin so; - in its place allows the package to have no tests. With -whole, which says that the arguments
// cover the whole tree, an entry that did not occur is a failure too, and so is a package in which no run executed a
// test. Tests are not run again, and their order is go test's own.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"slices"

	"keystile/tools/exceptions"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("testrun", flag.ContinueOnError)
	flags.SetOutput(stderr)
	whole := flags.Bool("whole", false, "the arguments cover the whole tree: fail on stale entries and on packages without tests")
	skips := flags.String("skips", "", "file that lists the skips to allow; none: allow no skip")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	runs := split(flags.Args())
	if len(runs) == 0 {
		fmt.Fprintln(stderr, "testrun: expected -- and then the arguments of go test, for example: testrun -- -race ./...")
		return 2
	}
	var allowed []exceptions.Entry
	if *skips != "" {
		var err error
		if allowed, err = exceptions.Read(*skips, 2); err != nil {
			fmt.Fprintln(stderr, err)
			return 2
		}
	}

	record := newRecord(stdout)
	for _, arguments := range runs {
		if err := goTest(record, arguments, stderr); err != nil {
			fmt.Fprintln(stderr, "testrun:", err)
			record.failed++
		}
	}
	complaints := judge(record, allowed, *skips, *whole)
	for _, complaint := range complaints {
		fmt.Fprintln(stdout, complaint)
	}
	fmt.Fprintf(stdout, "%d passed, %d failed, %d skipped\n", record.passed, record.failed, len(record.skips))
	if record.failed > 0 || len(complaints) > 0 {
		return 1
	}
	return 0
}

// split cuts the arguments at each --.
func split(args []string) [][]string {
	var runs [][]string
	for len(args) > 0 {
		end := slices.Index(args, "--")
		if end < 0 {
			end = len(args)
		}
		if end > 0 {
			runs = append(runs, args[:end])
		}
		args = args[min(end+1, len(args)):]
	}
	return runs
}
