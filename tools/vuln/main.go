// Command vuln judges what govulncheck found.
//
//	vuln -known file report.json
//
// The report is the output of govulncheck -format json. The command prints every vulnerability whose code can be
// reached by calls from the project, with one such call, and fails on one that the file does not list. Vulnerabilities
// in code that is only imported or only required are counted, not judged. A listed one that the database describes and
// that is not called any more is a failure too; one that the database does not hold is only mentioned, since an older,
// offline database must not force the line out. It exits with 0, 1, or 2 when called wrongly or when the report is not
// one of a whole scan.
//
// A line of the file is a vulnerability's name (GO-2026-0001) and the reason why the project can live with it. The
// command does not run govulncheck: that it ended well is for the caller to check.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"

	"keystile/tools/exceptions"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("vuln", flag.ContinueOnError)
	flags.SetOutput(stderr)
	list := flags.String("known", "", "file that lists the known vulnerabilities; none: none is known")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if flags.NArg() != 1 {
		fmt.Fprintln(stderr, "vuln: expected one file, the output of govulncheck -format json")
		return 2
	}
	var known []exceptions.Entry
	if *list != "" {
		var err error
		if known, err = exceptions.Read(*list, 1); err != nil {
			fmt.Fprintln(stderr, err)
			return 2
		}
	}
	file, err := os.Open(flags.Arg(0))
	if err != nil {
		fmt.Fprintln(stderr, "vuln: opening the report:", err)
		return 2
	}
	defer file.Close()
	report, err := readReport(file)
	if err != nil {
		fmt.Fprintf(stderr, "vuln: %s: %v\n", file.Name(), err)
		return 2
	}
	if !report.judge(stdout, known, *list) {
		return 1
	}
	return 0
}
