package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"

	"keystile/keys"
)

// maxSecretBytes bounds a secret file; a real one is one line.
const maxSecretBytes = 64 << 10

// hidden is a secret text. However it is printed, logged or encoded, it shows as [redacted]; only reveal returns it.
type hidden struct{ text string }

const redacted = "[redacted]"

// reveal is the secret itself, for the one place that sends it.
func (h hidden) reveal() string { return h.text }

// String is "[redacted]".
func (hidden) String() string { return redacted }

// GoString is "[redacted]".
func (hidden) GoString() string { return redacted }

// Format writes "[redacted]" for every verb; without it %x would take the struct apart.
func (hidden) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText is "[redacted]"; it covers JSON map keys and most other encoders.
func (hidden) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalJSON is "[redacted]".
func (hidden) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalYAML is "[redacted]".
func (hidden) MarshalYAML() (any, error) { return redacted, nil }

// LogValue is "[redacted]".
func (hidden) LogValue() slog.Value { return slog.StringValue(redacted) }

// readSecretFile reads the file that an option names, without its last line end. A file that everybody can read, or that others than its
// owner can change, is refused, and so is an empty one. Errors are whole sentences for the operator and never show the content.
func readSecretFile(path, option string) (hidden, error) {
	// Without O_NONBLOCK, opening a named pipe would wait for a writer.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return hidden{}, cannotOpen(path, option, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return hidden{}, fmt.Errorf("%s: %w", option, err)
	}
	if !info.Mode().IsRegular() {
		return hidden{}, fmt.Errorf("%s: %s is not a regular file: name one", option, path)
	}
	if err := refuseLoose(info, path, option); err != nil {
		return hidden{}, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxSecretBytes+1))
	if err != nil {
		return hidden{}, fmt.Errorf("%s: %w", option, err)
	}
	return secretText(string(data), path, option)
}

// refuseLoose returns an error if others than the owner and the group of a secret file could read it, or others than the owner change it.
func refuseLoose(info os.FileInfo, path, option string) error {
	if mode := info.Mode().Perm(); mode&0o026 != 0 {
		return fmt.Errorf("%s: %s has mode %04o, so users other than its owner could read or change the secret in it; type: chmod %04o %s",
			option, path, mode, mode&0o640, shellQuoted(path))
	}
	return nil
}

// checkKeyFile looks at the mode of a private key's file, which somebody else reads.
func checkKeyFile(path, option string) error {
	info, err := os.Stat(path)
	if err != nil {
		return cannotOpen(path, option, err)
	}
	return refuseLoose(info, path, option)
}

func secretText(text, path, option string) (hidden, error) {
	if len(text) > maxSecretBytes {
		return hidden{}, fmt.Errorf("%s: %s has more than %s; is it the right file?", option, path, size(maxSecretBytes))
	}
	text = strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r")
	if strings.TrimSpace(text) == "" {
		return hidden{}, fmt.Errorf("%s: %s is empty: write the secret into it", option, path)
	}
	return hidden{text}, nil
}

// shellQuoted makes a path safe to paste into a shell.
func shellQuoted(path string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+@:,", r)
	}
	if strings.TrimFunc(path, plain) == "" && !strings.HasPrefix(path, "-") {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}

// readPeppers reads keys.pepper_file: one pepper of at least 32 characters on each line that is not blank. The first signs, all verify.
// White space around a pepper does not belong to it.
func readPeppers(path string) ([][]byte, error) {
	const option = "keys.pepper_file"
	content, err := readSecretFile(path, option)
	if err != nil {
		return nil, err
	}
	var peppers [][]byte
	lineOf := map[string]int{}
	for i, line := range strings.Split(content.reveal(), "\n") {
		pepper := strings.TrimSpace(line)
		switch first, twice := lineOf[pepper]; {
		case pepper == "":
			continue
		case len(pepper) < keys.MinPepperLength:
			return nil, fmt.Errorf("%s: line %d of %s is too short: a pepper has at least %d characters", option, i+1, path, keys.MinPepperLength)
		case twice:
			return nil, fmt.Errorf("%s: line %d of %s repeats line %d", option, i+1, path, first)
		}
		lineOf[pepper] = i + 1
		peppers = append(peppers, []byte(pepper))
	}
	return peppers, nil
}

// resolveHeaders fetches the values of proxy.upstream.headers from their files and from env. All that is wrong is in the error, a line
// each, naming the option and the file or variable.
func resolveHeaders(headers map[string]headerSource, env []string) (map[string]hidden, error) {
	resolved := make(map[string]hidden, len(headers))
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		value, err := resolveHeader(headers[name], "proxy.upstream.headers."+name, env)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		resolved[name] = value
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return resolved, nil
}

func resolveHeader(source headerSource, option string, env []string) (hidden, error) {
	value, origin := hidden{source.Value}, "the configuration"
	switch {
	case source.File != "":
		var err error
		if value, err = readSecretFile(source.File, option); err != nil {
			return hidden{}, err
		}
		origin = source.File
	case source.Env != "":
		value, origin = hidden{lookup(env, source.Env)}, "the variable "+source.Env
		if value.text == "" {
			return hidden{}, fmt.Errorf("%s: %s is not set or empty", option, origin)
		}
	}
	if !isHeaderValue(value.text) {
		return hidden{}, fmt.Errorf("%s: the text from %s has a line break, a control character, or a space at an end, which no header may have",
			option, origin)
	}
	return value, nil
}
