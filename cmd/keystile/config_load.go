package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"slices"
	"strings"
	"unicode"
)

// maxConfigBytes bounds the configuration file; a real one has some kilobytes.
const maxConfigBytes = 1 << 20

// place is where a value came from: "config.yaml:12:5", the name of a variable, or a flag.
type place struct {
	text         string
	line, column int // zero outside the file
}

// mistake is one thing that is wrong with the configuration.
type mistake struct {
	place  place
	option string // empty when it is about the file as a whole
	text   string
}

func (m mistake) String() string {
	parts := slices.DeleteFunc([]string{m.place.text, printable(m.option), m.text}, func(s string) bool { return s == "" })
	return strings.Join(parts, ": ")
}

// printable quotes a path in which a stranger's text, such as a header's name, would break the line.
func printable(path string) string {
	if strings.ContainsFunc(path, func(r rune) bool { return !unicode.IsPrint(r) }) || len(path) > 200 {
		return shown(path)
	}
	return path
}

// configMistakes is the error of a configuration that cannot be used: everything that is wrong with it, file first and by line.
type configMistakes []mistake

// maxMistakesShown keeps a wrong file, such as a log given by accident, from filling the terminal.
const maxMistakesShown = 100

// Error has one line for each mistake, and never a secret.
func (list configMistakes) Error() string {
	var lines []string
	for _, m := range list[:min(len(list), maxMistakesShown)] {
		lines = append(lines, m.String())
	}
	if more := len(list) - maxMistakesShown; more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more mistakes", more))
	}
	return strings.Join(lines, "\n")
}

// configLoader gathers what one run of loadConfig learns: values, where each came from, and what is wrong.
type configLoader struct {
	file     string // as messages name it
	config   config
	places   map[string]place // by path of option or item; what is missing here has its default
	mistakes configMistakes
	rejected map[mistakeKey]bool // what mistakes already hold
	warnings []string
}

// mistakeKey tells one mistake from another: a value that could not be read needs no second complaint from a later check.
type mistakeKey struct{ place, option string }

func newConfigLoader(file string, c config) *configLoader {
	return &configLoader{file: file, config: c, places: map[string]place{}, rejected: map[mistakeKey]bool{}}
}

// loadConfig reads the configuration: env over file over defaults. path is what --config says, or empty; env is os.Environ().
// Warnings are worth a log line each. The error is a configMistakes with all mistakes at once; then the config is the zero value.
func loadConfig(path string, env []string) (config, []string, error) {
	file, data, err := readConfigFile(path, env)
	if err != nil {
		return config{}, nil, err
	}
	return parseConfig(file, data, env)
}

// parseConfig is loadConfig once the file is read; flags go before env.
func parseConfig(file string, data []byte, env []string, flags ...override) (config, []string, error) {
	l := newConfigLoader(file, defaultConfig())
	l.decodeFile(data)
	l.applyEnvironment(env)
	l.applyFlags(flags)
	for _, p := range l.config.problems() {
		l.reject(p.option, p.text, p.with)
	}
	if len(l.mistakes) > 0 {
		l.sortMistakes()
		return config{}, l.warnings, l.mistakes
	}
	return l.config, append(l.warnings, l.config.cautions()...), nil
}

// check says what is wrong with a config whose fields were set by hand; nil when nothing is.
func (c config) check() error {
	l := newConfigLoader("", c)
	for _, p := range c.problems() {
		l.reject(p.option, p.text, p.with)
	}
	if len(l.mistakes) > 0 {
		return l.mistakes
	}
	return nil
}

// reject records a mistake about an option, at the place where the option was set, or else the first of the others that was.
func (l *configLoader) reject(option, text string, others ...string) {
	at := l.placeOf(append([]string{option}, others...))
	if !l.rejected[mistakeKey{at.text, option}] {
		l.rejectAt(at, option, text)
	}
}

func (l *configLoader) rejectAt(at place, option, text string) {
	l.rejected[mistakeKey{at.text, option}] = true
	l.mistakes = append(l.mistakes, mistake{at, option, text})
}

// placeOf finds where one of the options was written, or else the list or section that holds one.
func (l *configLoader) placeOf(paths []string) place {
	for ; len(paths) > 0; paths = parents(paths) {
		for _, path := range paths {
			if p, found := l.places[path]; found && path != "" {
				return p
			}
		}
	}
	return place{}
}

func parents(paths []string) []string {
	var up []string
	for _, path := range paths {
		if cut := strings.LastIndexAny(path, ".["); cut > 0 {
			up = append(up, path[:cut])
		}
	}
	return up
}

// sortMistakes puts the file's mistakes first, in the order of its lines.
func (l *configLoader) sortMistakes() {
	line := func(m mistake) int {
		if m.place.line == 0 {
			return math.MaxInt
		}
		return m.place.line
	}
	slices.SortStableFunc(l.mistakes, func(a, b mistake) int {
		return cmp.Or(cmp.Compare(line(a), line(b)), cmp.Compare(a.place.column, b.place.column))
	})
}

// readConfigFile finds and reads the file. Without any, name and data are empty and the defaults hold.
func readConfigFile(path string, env []string) (name string, data []byte, err error) {
	if path == "" {
		path = lookup(env, "KEYSTILE_CONFIG")
	}
	if path != "" {
		data, err = readBounded(path)
		if errors.Is(err, fs.ErrNotExist) {
			err = usageError{fmt.Errorf("%w, or leave out --config and KEYSTILE_CONFIG for the defaults", err)}
		}
		return path, data, err
	}
	for _, path := range []string{"config.yaml", "/etc/keystile/config.yaml"} {
		data, err := readBounded(path)
		if !errors.Is(err, fs.ErrNotExist) {
			return path, data, err
		}
	}
	return "", nil, nil
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w%s", err, openAdvice(path, err))
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxConfigBytes+1))
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w%s", err, openAdvice(path, err))
	}
	if len(data) > maxConfigBytes {
		return nil, fmt.Errorf("reading the configuration: %s has more than %s; is it the right file?", path, size(maxConfigBytes))
	}
	return data, nil
}
