package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
)

// event is one line of go test -json (go doc test2json).
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
}

// skip is a test that said of itself that it did not run.
type skip struct {
	pkg, test, reason string
}

// record is what the runs have shown so far.
type record struct {
	out            io.Writer
	passed, failed int
	skips          []skip
	executed       map[string]int // tests that ran to an end or were skipped, by package; 0: the package has none
	order          []string       // packages in the order of their first appearance
	open           map[string]*pack
}

// pack is one package of the run that is under way.
type pack struct {
	lines  []line
	state  map[string]string // the last action of each test; "run" until it has ended
	failed int
}

type line struct {
	test, text string
}

func newRecord(out io.Writer) *record {
	return &record{out: out, executed: map[string]int{}, open: map[string]*pack{}}
}

// goTest runs go test -json with the arguments and records its events. An error means that go test failed in a way that
// no test and no package accounts for.
func goTest(r *record, arguments []string, stderr io.Writer) error {
	args := append([]string{"test", "-json"}, arguments...)
	if strings.HasPrefix(arguments[0], "-C") { // go accepts -C only as the first flag
		directory := 1
		if arguments[0] == "-C" {
			directory = min(2, len(arguments))
		}
		args = append(append([]string{"test"}, arguments[:directory]...), append([]string{"-json"}, arguments[directory:]...)...)
	}
	fmt.Fprintln(r.out, "go", strings.Join(args, " "))
	command := exec.Command("go", args...)
	command.Stderr = stderr
	stdout, err := command.StdoutPipe()
	if err != nil {
		return err
	}
	if err := command.Start(); err != nil {
		return err
	}
	before := r.failed
	readErr := r.read(stdout)
	err = command.Wait()
	if readErr != nil {
		return fmt.Errorf("reading the output of go test: %w", readErr)
	}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && r.failed > before {
		return nil
	}
	if err != nil {
		return fmt.Errorf("go test: %w", err)
	}
	return nil
}

// read records every event of one run. What is not an event is printed as it stands.
func (r *record) read(events io.Reader) error {
	clear(r.open)
	reader := bufio.NewReader(events)
	for {
		text, err := reader.ReadBytes('\n')
		var e event
		if len(text) > 0 && json.Unmarshal(text, &e) == nil && e.Action != "" {
			r.add(e)
		} else if len(text) > 0 {
			r.out.Write(text)
		}
		if errors.Is(err, io.EOF) {
			r.closeAll()
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (r *record) add(e event) {
	if e.Action == "build-output" {
		io.WriteString(r.out, e.Output)
		return
	}
	if e.Package == "" {
		return
	}
	p := r.open[e.Package]
	if p == nil {
		p = &pack{state: map[string]string{}}
		r.open[e.Package] = p
		if _, known := r.executed[e.Package]; !known {
			r.executed[e.Package] = 0
			r.order = append(r.order, e.Package)
		}
	}
	switch e.Action {
	case "output":
		p.lines = append(p.lines, line{e.Test, e.Output})
	case "run":
		p.state[e.Test] = "run"
	case "pass", "fail", "skip":
		if e.Test == "" {
			r.finish(e.Package, p, e.Action == "fail")
		} else {
			r.count(e.Package, p, e.Test, e.Action)
		}
	}
}

func (r *record) count(pkg string, p *pack, test, action string) {
	p.state[test] = action
	r.executed[pkg]++
	switch action {
	case "pass":
		r.passed++
	case "fail":
		r.failed++
		p.failed++
	case "skip":
		r.skips = append(r.skips, skip{pkg, test, p.reason(test)})
	}
}

// finish counts the tests that never ended, which a crash or a timeout leaves behind, and prints the package.
func (r *record) finish(name string, p *pack, failed bool) {
	for test, state := range p.state {
		if state == "run" {
			r.count(name, p, test, "fail")
		}
	}
	if failed && p.failed == 0 {
		r.failed++
	}
	if failed || p.failed > 0 {
		p.printFailure(r.out)
	} else {
		p.printResult(r.out)
	}
	delete(r.open, name)
}

// closeAll ends the packages that go test left without a result.
func (r *record) closeAll() {
	for name, p := range r.open {
		fmt.Fprintf(r.out, "FAIL\t%s [no result: go test ended before the package did]\n", name)
		r.finish(name, p, true)
	}
}

// printFailure prints what the failing tests and the package itself wrote.
func (p *pack) printFailure(out io.Writer) {
	for _, l := range p.lines {
		switch {
		case l.test != "" && p.state[l.test] != "fail":
		case l.test != "" && isMarker(l.text):
		default:
			io.WriteString(out, l.text)
		}
	}
}

// printResult prints the one line by which go test sums a package up.
func (p *pack) printResult(out io.Writer) {
	for _, l := range p.lines {
		if l.test == "" && (strings.HasPrefix(l.text, "ok ") || strings.HasPrefix(l.text, "? ") || strings.HasPrefix(l.text, "\t")) {
			io.WriteString(out, l.text)
		}
	}
}

// reason returns what a skipped test said last, with the place it said it at.
func (p *pack) reason(test string) string {
	said := "no reason given"
	for _, l := range p.lines {
		text := strings.TrimSpace(l.text)
		if l.test == test && text != "" && !isMarker(l.text) && !strings.HasPrefix(text, "--- ") {
			said = text
		}
	}
	return said
}

func isMarker(text string) bool {
	return strings.HasPrefix(text, "=== ")
}
