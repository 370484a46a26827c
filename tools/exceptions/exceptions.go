// Package exceptions reads the files in which this repository lists what one of its checks is to let pass: a skipped
// test, a known vulnerability. Every line carries its reason, so that nobody can list a thing without saying why.
//
// A line is a fixed number of words followed by the reason, which is the rest of the line. Empty lines and lines that
// begin with # do not count. The package does not judge whether an entry is still needed: its users do, and fail on one
// that is not.
package exceptions

import (
	"fmt"
	"os"
	"strings"
)

// Entry is one exception.
type Entry struct {
	Line   int      // where it stands in its file, from 1
	Words  []string // what is excepted, as many words as were asked for
	Reason string   // why, never empty
}

// Read returns the entries of the file at path, in its order. Each line must hold the given number of words and then a
// reason, and no two lines the same words; every line that breaks this is named in the error.
func Read(path string, words int) ([]Entry, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the exceptions: %w", err)
	}
	var entries []Entry
	var wrong []string
	seen := map[string]int{}
	for i, line := range strings.Split(string(text), "\n") {
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if len(fields) <= words {
			wrong = append(wrong, fmt.Sprintf("%s:%d: expected %d words and then a reason", path, i+1, words))
			continue
		}
		entry := Entry{Line: i + 1, Words: fields[:words], Reason: strings.Join(fields[words:], " ")}
		name := strings.Join(entry.Words, " ")
		if first := seen[name]; first > 0 {
			wrong = append(wrong, fmt.Sprintf("%s:%d: %s stands on line %d already", path, entry.Line, name, first))
			continue
		}
		seen[name] = entry.Line
		entries = append(entries, entry)
	}
	if len(wrong) > 0 {
		return nil, fmt.Errorf("%s", strings.Join(wrong, "\n"))
	}
	return entries, nil
}
