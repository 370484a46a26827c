package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"keystile/tools/exceptions"
)

// message is one of the JSON values that govulncheck writes, of which each has one member
// (golang.org/x/vuln/internal/govulncheck.Message).
type message struct {
	Config *struct {
		ScanLevel string `json:"scan_level"`
	} `json:"config"`
	OSV *struct {
		ID      string `json:"id"`
		Summary string `json:"summary"`
	} `json:"osv"`
	Finding *finding `json:"finding"`
}

// finding is one way by which a vulnerability concerns the project.
type finding struct {
	OSV          string  `json:"osv"`
	FixedVersion string  `json:"fixed_version"`
	Trace        []frame `json:"trace"` // the vulnerable symbol first, the project's own function last
}

type frame struct {
	Module   string `json:"module"`
	Version  string `json:"version"`
	Package  string `json:"package"`
	Function string `json:"function"`
	Receiver string `json:"receiver"`
	Position *struct {
		Filename string `json:"filename"`
		Line     int    `json:"line"`
	} `json:"position"`
}

// report is what a scan found, by the vulnerabilities' names.
type report struct {
	summaries map[string]string  // all that the database has for the modules in use
	called    map[string]finding // those that calls reach, with the first way found
	present   map[string]bool    // those of which at least the module is in use at a vulnerable version
}

// readReport reads the messages to their end. It refuses a report that no scan at the level of symbols wrote, because
// such a one says nothing about calls.
func readReport(input io.Reader) (*report, error) {
	r := &report{summaries: map[string]string{}, called: map[string]finding{}, present: map[string]bool{}}
	level := ""
	for decoder := json.NewDecoder(input); ; {
		var m message
		err := decoder.Decode(&m)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("not the output of govulncheck -format json: %w", err)
		}
		switch {
		case m.Config != nil:
			level = m.Config.ScanLevel
		case m.OSV != nil:
			r.summaries[m.OSV.ID] = m.OSV.Summary
		case m.Finding != nil:
			r.add(*m.Finding)
		}
	}
	if level != "symbol" {
		return nil, fmt.Errorf("expected a scan of symbols, got %q", level)
	}
	return r, nil
}

func (r *report) add(f finding) {
	r.present[f.OSV] = true
	if len(f.Trace) == 0 || f.Trace[0].Function == "" {
		return
	}
	if _, found := r.called[f.OSV]; !found {
		r.called[f.OSV] = f
	}
}

// judge prints the report and tells whether all that is called is known and all that is known is called. file is the
// list's name, for the reader.
func (r *report) judge(out io.Writer, known []exceptions.Entry, file string) bool {
	good := true
	reasons := map[string]string{}
	for _, entry := range known {
		reasons[entry.Words[0]] = entry.Reason
	}
	for _, id := range slices.Sorted(maps.Keys(r.called)) {
		verdict := "NOT KNOWN"
		if reason, listed := reasons[id]; listed {
			verdict = "known: " + reason
		} else {
			good = false
		}
		fmt.Fprintf(out, "%s: %s\n  %s\n  %s\n", id, r.summaries[id], r.called[id], verdict)
	}
	for _, entry := range known {
		id := entry.Words[0]
		_, described := r.summaries[id]
		if _, called := r.called[id]; called {
			continue
		}
		if described {
			good = false
			fmt.Fprintf(out, "%s:%d: %s is not called any more: remove the line\n", file, entry.Line, id)
		} else {
			fmt.Fprintf(out, "%s:%d: %s is not in this database\n", file, entry.Line, id)
		}
	}
	fmt.Fprintf(out, "vulnerabilities: %d called, %d more in code that is not called, %d looked at\n",
		len(r.called), len(r.present)-len(r.called), len(r.summaries))
	return good
}

// String says where the vulnerable code is, where it is mended, and how the project reaches it.
func (f finding) String() string {
	first, last := f.Trace[0], f.Trace[len(f.Trace)-1]
	fixed := "no version mends it"
	if f.FixedVersion != "" {
		fixed = "mended in " + f.FixedVersion
	}
	text := fmt.Sprintf("%s@%s (%s): %s", first.Module, first.Version, fixed, first)
	if len(f.Trace) > 1 {
		text += ", called from " + last.String()
	}
	if last.Position != nil {
		text += fmt.Sprintf(" (%s:%d)", last.Position.Filename, last.Position.Line)
	}
	return text
}

func (f frame) String() string {
	receiver := ""
	if f.Receiver != "" {
		receiver = strings.TrimPrefix(f.Receiver, "*") + "."
	}
	return f.Package + "." + receiver + f.Function
}
