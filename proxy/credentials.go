package proxy

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"keystile/keys"
)

// Carrier is one way in which clients send credentials.
type Carrier string

// The carriers, by the names they have in the configuration.
const (
	KeySecret Carrier = "key_secret" // X-Key and X-Secret
	Bearer    Carrier = "bearer"     // Authorization: Bearer (RFC 6750)
	APIKey    Carrier = "x_api_key"  // x-api-key
	Basic     Carrier = "basic"      // Authorization: Basic (RFC 7617)
)

const (
	authorizationHeader = "Authorization"
	apiKeyHeader        = "X-Api-Key"
)

// carriers reads credentials from a request and removes them from what goes on.
type carriers struct {
	key, secret string // canonical header names
	ignored     map[Carrier]bool
	once        []string        // canonical names that are read, so that each may be sent once
	watched     map[string]bool // their spellings (see spelling)
	removed     map[string]bool // spellings that never reach the upstream
}

func newCarriers(key, secret string, ignored []Carrier) carriers {
	c := carriers{
		key: key, secret: secret, ignored: make(map[Carrier]bool),
		watched: make(map[string]bool), removed: make(map[string]bool),
	}
	for _, name := range ignored {
		c.ignored[name] = true
	}
	c.add(key, c.ignored[KeySecret])
	c.add(secret, c.ignored[KeySecret])
	c.add(authorizationHeader, c.ignored[Bearer] && c.ignored[Basic])
	c.add(apiKeyHeader, c.ignored[APIKey])
	return c
}

// add says that a header is removed and, unless it is ignored, read.
func (c *carriers) add(name string, ignored bool) {
	c.remove(name)
	if !ignored {
		c.once = append(c.once, name)
		c.watched[spelling(name)] = true
	}
}

// remove says that a header of the client's never reaches the upstream, in no spelling.
func (c *carriers) remove(name string) { c.removed[spelling(name)] = true }

// spelling is what all look-alikes of a header name have in common: servers that
// turn names into variables read X_Key, x-key and X-Key alike.
func spelling(name string) string {
	return strings.ReplaceAll(strings.ToLower(name), "_", "-")
}

// read returns the one secret that the request carries.
func (c *carriers) read(h http.Header) (keys.Secret, *refusal) {
	if err := c.ambiguity(h); err != "" {
		return keys.Secret{}, &refusal{verdict: AmbiguousCredentials, message: err}
	}
	secret, found, err := c.only(h)
	switch {
	case err != nil:
		return keys.Secret{}, &refusal{verdict: MalformedCredentials, message: sentence(err.Error())}
	case !found:
		return keys.Secret{}, &refusal{verdict: MissingCredentials}
	}
	return secret, nil
}

// ambiguity returns why it is unclear which credentials are meant, or "".
func (c *carriers) ambiguity(h http.Header) string {
	for name := range h {
		if strings.Contains(name, "_") && c.watched[spelling(name)] {
			return fmt.Sprintf("A header that looks like %s but is spelt with an underscore was sent. Send exactly one set of credentials.",
				http.CanonicalHeaderKey(spelling(name)))
		}
	}
	for _, name := range c.once {
		if len(h[name]) > 1 {
			return fmt.Sprintf("The header %s was sent more than once. Send it once.", name)
		}
	}
	if c.count(h) > 1 {
		return rulings[AmbiguousCredentials].message
	}
	return ""
}

// count returns how many carriers that are read are present.
func (c *carriers) count(h http.Header) (n int) {
	if !c.ignored[KeySecret] && (len(h[c.key]) > 0 || len(h[c.secret]) > 0) {
		n++
	}
	if !c.ignored[APIKey] && len(h[apiKeyHeader]) > 0 {
		n++
	}
	if len(h[authorizationHeader]) > 0 && !c.ignoresAuthorization(h[authorizationHeader][0]) {
		n++
	}
	return n
}

// ignoresAuthorization reports whether the value belongs to an ignored carrier. An
// unknown scheme is ignored only where both known ones are.
func (c *carriers) ignoresAuthorization(value string) bool {
	switch scheme, _ := splitAuthorization(value); {
	case strings.EqualFold(scheme, "Bearer"):
		return c.ignored[Bearer]
	case strings.EqualFold(scheme, "Basic"):
		return c.ignored[Basic]
	}
	return c.ignored[Bearer] && c.ignored[Basic]
}

// only reads the one carrier that is present, if any is.
func (c *carriers) only(h http.Header) (secret keys.Secret, found bool, err error) {
	switch {
	case !c.ignored[KeySecret] && (len(h[c.key]) > 0 || len(h[c.secret]) > 0):
		secret, err = c.readKeySecret(h[c.key], h[c.secret])
	case !c.ignored[APIKey] && len(h[apiKeyHeader]) > 0:
		secret, err = keys.ParseSecret(trim(h[apiKeyHeader][0]))
	case len(h[authorizationHeader]) > 0 && !c.ignoresAuthorization(h[authorizationHeader][0]):
		secret, err = readAuthorization(h[authorizationHeader][0])
	default:
		return secret, false, nil
	}
	return secret, true, err
}

// readKeySecret reads the pair of headers. The words "Key " and "Secret " before the
// values are what FusionBrain clients send.
func (c *carriers) readKeySecret(key, secret []string) (keys.Secret, error) {
	switch {
	case len(key) == 0:
		return keys.Secret{}, fmt.Errorf("%s was sent without %s", c.secret, c.key)
	case len(secret) == 0:
		return keys.Secret{}, fmt.Errorf("%s was sent without %s", c.key, c.secret)
	}
	keyValue, err := withoutWord(trim(key[0]), "Key ", c.key)
	if err != nil {
		return keys.Secret{}, err
	}
	secretValue, err := withoutWord(trim(secret[0]), "Secret ", c.secret)
	if err != nil {
		return keys.Secret{}, err
	}
	return readPair(keyValue, secretValue)
}

// withoutWord removes the word that may stand before a value. It is exact, with one
// space.
func withoutWord(value, word, header string) (string, error) {
	value = strings.TrimPrefix(value, word)
	if strings.ContainsAny(value, " \t") {
		return "", fmt.Errorf("%s has an unknown word or a space before or within its value: send %q and the value, or the value alone", header, word)
	}
	return value, nil
}

var (
	errOtherKey       = errors.New("key and secret belong to different keys")
	errScheme         = errors.New("the Authorization header has an unknown scheme: use Bearer or Basic")
	errBasicEncoding  = errors.New("the Basic credentials are not valid base64")
	errBasicSeparator = errors.New("the Basic credentials have no colon between key and secret")
)

// readPair reads a secret and the key it must belong to.
func readPair(key, secret string) (keys.Secret, error) {
	id, err := keys.ParseKey(key)
	if err != nil {
		return keys.Secret{}, err
	}
	parsed, err := keys.ParseSecret(secret)
	if err == nil && parsed.ID() != id {
		err = errOtherKey
	}
	return parsed, err
}

// readAuthorization reads Bearer (RFC 6750) and Basic (RFC 7617, strict base64).
func readAuthorization(value string) (keys.Secret, error) {
	scheme, rest := splitAuthorization(value)
	switch {
	case strings.EqualFold(scheme, "Bearer"):
		return keys.ParseSecret(rest)
	case strings.EqualFold(scheme, "Basic"):
		return readBasic(rest)
	}
	return keys.Secret{}, errScheme
}

// splitAuthorization splits the value at the first space or tab.
func splitAuthorization(value string) (scheme, rest string) {
	value = trim(value)
	if i := strings.IndexAny(value, " \t"); i >= 0 {
		return value[:i], trim(value[i:])
	}
	return value, ""
}

func readBasic(encoded string) (keys.Secret, error) {
	if strings.ContainsAny(encoded, "\r\n") { // which the decoder would pass over
		return keys.Secret{}, errBasicEncoding
	}
	plain, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return keys.Secret{}, errBasicEncoding
	}
	key, secret, ok := strings.Cut(string(plain), ":")
	if !ok {
		return keys.Secret{}, errBasicSeparator
	}
	return readPair(key, secret)
}

// trim removes spaces and tabs around a value.
func trim(value string) string { return strings.Trim(value, " \t") }

// sentence makes a sentence of the text of an error.
func sentence(s string) string {
	return strings.ToUpper(s[:1]) + s[1:] + "."
}
