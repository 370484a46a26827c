package main

import (
	"fmt"
	"maps"
	"net/textproto"
	"slices"
	"strings"
)

// headerSource says where the value of an upstream header comes from; exactly one field is set.
type headerSource struct {
	Value string `yaml:"value,omitempty"` // the text itself; never a secret, see isSecretHeader
	File  string `yaml:"file,omitempty"`
	Env   string `yaml:"env,omitempty"`
}

// MarshalYAML writes the source as it was configured: a reference stays a reference.
func (s headerSource) MarshalYAML() (any, error) {
	switch {
	case s.File != "":
		return map[string]string{"file": s.File}, nil
	case s.Env != "":
		return map[string]string{"env": s.Env}, nil
	}
	return s.Value, nil
}

// checkCredentialHeader checks a header name that clients send their key or secret in.
func checkCredentialHeader(name string) error {
	switch {
	case !isToken(name):
		return fmt.Errorf("expected the name of a header, such as X-Key, got %s", shown(name))
	case strings.Contains(name, "_"):
		return fmt.Errorf("must not contain an underscore: many servers drop such headers or take them for the name with a dash")
	case isReservedHeader(name), isOneOf(name, "Authorization", "X-Api-Key", "Cookie", "Content-Type", "Accept", "Origin",
		"Idempotency-Key", "User-Agent", "Traceparent"):
		return fmt.Errorf("%s has a meaning of its own; choose another name", textproto.CanonicalMIMEHeaderKey(name))
	}
	return nil
}

// isToken reports whether name is a token of RFC 9110, section 5.6.2.
func isToken(name string) bool {
	odd := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	}
	return name != "" && !strings.ContainsFunc(name, odd)
}

// isReservedHeader reports whether a header belongs to a single connection, frames the message, or is set by Keystile itself, so that no
// option may name it. A dash and an underscore count as the same.
func isReservedHeader(name string) bool {
	name = strings.ReplaceAll(textproto.CanonicalMIMEHeaderKey(strings.ReplaceAll(name, "_", "-")), "_", "-")
	return isOneOf(name, "Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer",
		"Transfer-Encoding", "Upgrade", "Content-Length", "Host", "Expect", "Forwarded", "X-Real-Ip", "X-Request-Id", "Http2-Settings") ||
		strings.HasPrefix(name, "X-Forwarded-") || strings.HasPrefix(name, "X-Keystile-")
}

func isOneOf(name string, names ...string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) })
}

// isSecretHeader guesses from a header's name that its value is a secret. It guesses generously: writing {file: path} costs little.
func isSecretHeader(name string) bool {
	name = strings.ToLower(name)
	for _, part := range []string{"authorization", "cookie", "apikey", "token", "secret", "password", "passwd", "credential", "signature"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	words := strings.FieldsFunc(name, func(r rune) bool { return r == '-' || r == '_' || r == '.' })
	return slices.ContainsFunc(words, func(w string) bool { return w == "key" || w == "auth" || w == "pass" || w == "sig" })
}

// headerProblems checks proxy.upstream.headers, in the order of their names. Values are never repeated in a message.
func (c config) headerProblems() []problem {
	const section = "proxy.upstream.headers"
	var list []problem
	seen := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(c.Proxy.Upstream.Headers)) {
		canonical := textproto.CanonicalMIMEHeaderKey(name)
		if err := checkUpstreamHeader(name, c.Proxy.Upstream.Headers[name]); err != nil {
			list = append(list, problem{option: section + "." + name, text: err.Error()})
		} else if other, twice := seen[canonical]; twice {
			list = append(list, problem{option: section + "." + name, text: fmt.Sprintf("is the same header as %q", other)})
		}
		seen[canonical] = name
	}
	return list
}

func checkUpstreamHeader(name string, source headerSource) error {
	switch {
	case !isToken(name):
		return fmt.Errorf("%s is not the name of a header", shown(name))
	case isReservedHeader(name) && !strings.EqualFold(name, "Proxy-Authorization"):
		return fmt.Errorf("this header is set by Keystile or by the connection itself")
	case source == headerSource{}:
		return fmt.Errorf("has no value; expected text, {file: path} or {env: NAME}")
	case source.Env != "" && strings.ContainsAny(source.Env, "= \t\n\x00"):
		return fmt.Errorf("env: expected the name of a variable")
	case source.Value != "" && isSecretHeader(name):
		return fmt.Errorf("looks like a secret, and secrets do not belong in this file; use {file: path} or {env: NAME}")
	case source.Value != "" && !isHeaderValue(source.Value):
		return fmt.Errorf("the value has a line break, a control character, or a space at an end, which no header may have")
	}
	return nil
}

// isHeaderValue reports whether text may stand in a header (RFC 9110, section 5.5): no control characters but tabs, and no space at the ends.
func isHeaderValue(text string) bool {
	odd := func(r rune) bool { return r < 0x20 && r != '\t' || r == 0x7f }
	return !strings.ContainsFunc(text, odd) && strings.Trim(text, " \t") == text
}
