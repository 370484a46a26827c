package main

import (
	"fmt"
	"strings"

	"keystile/tools/exceptions"
)

// judge returns what the runs may not leave behind: no test at all, skips that are not listed and, over the whole tree,
// packages without tests and entries of the list that did not occur. file is the list's name, for the reader.
func judge(r *record, allowed []exceptions.Entry, file string, whole bool) []string {
	if r.passed+r.failed == 0 {
		return []string{"no test ran"}
	}
	var complaints []string
	used := make([]bool, len(allowed))
	for _, s := range r.skips {
		if !excepted(allowed, used, s.pkg, s.test) {
			complaints = append(complaints, fmt.Sprintf("skipped but not listed: %s %s: %s", s.pkg, s.test, s.reason))
		}
	}
	if !whole {
		return complaints
	}
	for _, pkg := range r.order {
		if r.executed[pkg] == 0 && !excepted(allowed, used, pkg, "-") {
			complaints = append(complaints, fmt.Sprintf("no test of this package ran: %s (give it one, or list it: %s - reason)", pkg, pkg))
		}
	}
	for i, entry := range allowed {
		if !used[i] {
			complaints = append(complaints, fmt.Sprintf("%s:%d: %s did not occur: remove the line", file, entry.Line, strings.Join(entry.Words, " ")))
		}
	}
	return complaints
}

// excepted tells whether an entry covers the test, and marks each that does.
func excepted(allowed []exceptions.Entry, used []bool, pkg, test string) bool {
	found := false
	for i, entry := range allowed {
		prefix, open := strings.CutSuffix(entry.Words[1], "*")
		if entry.Words[0] == pkg && (entry.Words[1] == test || open && strings.HasPrefix(test, prefix)) {
			used[i], found = true, true
		}
	}
	return found
}
