package proxy

import (
	"cmp"
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"testing"

	"keystile/keys"
)

// credential is one key with its secret, in the forms in which clients send it.
type credential struct {
	id          keys.ID
	key, secret string
	basic       string
}

func newCredential() credential {
	id := keys.NewID()
	c := credential{id: id, key: id.String(), secret: keys.NewSecret(id).Reveal()}
	c.basic = encodeBasic(c.key + ":" + c.secret)
	return c
}

func encodeBasic(plain string) string { return base64.StdEncoding.EncodeToString([]byte(plain)) }

// fill makes a header of lines, with the credential put in.
func (c credential) fill(lines ...string) http.Header {
	h := make(http.Header)
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ":")
		value = strings.NewReplacer("{key}", c.key, "{secret}", c.secret, "{basic}", c.basic).Replace(value)
		h.Add(name, value)
	}
	return h
}

func TestEachCarrierIsAccepted(t *testing.T) {
	t.Parallel()
	c := newCredential()
	standard := newCarriers("X-Key", "X-Secret", nil)
	for name, lines := range map[string][]string{
		"key and secret with words":       {"X-Key:Key {key}", "X-Secret:Secret {secret}"},
		"key and secret without":          {"X-Key:{key}", "X-Secret:{secret}"},
		"one word only":                   {"X-Key:Key {key}", "X-Secret:{secret}"},
		"space and tab around the values": {"X-Key: \t{key}\t ", "X-Secret:\tSecret {secret} "},
		"Bearer":                          {"Authorization:Bearer {secret}"},
		"Bearer in any case":              {"Authorization:bEARER \t {secret}\t"},
		"x-api-key":                       {"X-Api-Key:{secret}"},
		"x-api-key with space around":     {"X-Api-Key: {secret}\t"},
		"Basic":                           {"Authorization:Basic {basic}"},
		"Basic in any case":               {"Authorization: BASIC  {basic} "},
	} {
		t.Run(name, func(t *testing.T) {
			secret, refused := standard.read(c.fill(lines...))
			if refused != nil || secret.Reveal() != c.secret {
				t.Errorf("refused: %+v", refused)
			}
		})
	}
}

// refusedCredentials is what must not be accepted, and what is said of it.
type refusedCredentials struct {
	name    string
	lines   []string
	verdict Verdict
	message string
}

func (row refusedCredentials) run(c credential, carriers carriers) func(*testing.T) {
	return func(t *testing.T) {
		secret, refused := carriers.read(c.fill(row.lines...))
		if refused == nil || secret != (keys.Secret{}) {
			t.Fatalf("accepted: %v", secret.ID())
		}
		message := cmp.Or(refused.message, rulings[refused.verdict].message)
		if refused.verdict != row.verdict || !strings.Contains(message, row.message) {
			t.Errorf("%v: %q, not %v: %q", refused.verdict, message, row.verdict, row.message)
		}
		if strings.Contains(message, c.secret) || strings.Contains(message, c.key) {
			t.Error("the message repeats what was sent")
		}
		if !strings.HasSuffix(message, ".") {
			t.Errorf("the message %q is no sentence", message)
		}
	}
}

func TestAmbiguousCredentialsAreRefused(t *testing.T) {
	t.Parallel()
	c := newCredential()
	for _, row := range []refusedCredentials{
		{"pair and Bearer, the same", []string{"X-Key:{key}", "X-Secret:{secret}", "Authorization:Bearer {secret}"}, 0, "More than one set"},
		{"pair and x-api-key", []string{"X-Key:{key}", "X-Secret:{secret}", "X-Api-Key:{secret}"}, 0, "More than one set"},
		{"half a pair and Bearer", []string{"X-Key:{key}", "Authorization:Bearer {secret}"}, 0, "More than one set"},
		{"Bearer and x-api-key", []string{"Authorization:Bearer {secret}", "X-Api-Key:{secret}"}, 0, "More than one set"},
		{"Basic and x-api-key", []string{"Authorization:Basic {basic}", "X-Api-Key:{secret}"}, 0, "More than one set"},
		{"an unknown scheme and x-api-key", []string{"Authorization:Digest a", "X-Api-Key:{secret}"}, 0, "More than one set"},
		{"an empty Authorization and x-api-key", []string{"Authorization:", "X-Api-Key:{secret}"}, 0, "More than one set"},
		{"two of X-Key", []string{"X-Key:{key}", "X-Key:{key}", "X-Secret:{secret}"}, 0, "X-Key was sent more than once"},
		{"two of X-Secret", []string{"X-Key:{key}", "X-Secret:{secret}", "X-Secret:{secret}"}, 0, "X-Secret was sent more than once"},
		{"two of Authorization", []string{"Authorization:Bearer {secret}", "Authorization:Bearer {secret}"}, 0, "Authorization was sent more than once"},
		{"two of x-api-key", []string{"X-Api-Key:{secret}", "X-Api-Key:"}, 0, "X-Api-Key was sent more than once"},
		{"X_Key", []string{"X_Key:{key}", "X-Secret:{secret}"}, 0, "looks like X-Key"},
		{"x_secret alone", []string{"x_secret:{secret}"}, 0, "looks like X-Secret"},
		{"X_Api-Key beside Bearer", []string{"X_Api-Key:{secret}", "Authorization:Bearer {secret}"}, 0, "looks like X-Api-Key"},
		{"x_api_key", []string{"x_api_key:{secret}"}, 0, "looks like X-Api-Key"},
	} {
		row.verdict = AmbiguousCredentials
		t.Run(row.name, row.run(c, newCarriers("X-Key", "X-Secret", nil)))
	}
}

func TestMalformedCredentialsAreRefusedWithTheReason(t *testing.T) {
	t.Parallel()
	c, other := newCredential(), newCredential()
	last := c.secret[len(c.secret)-1:]
	mistyped := c.secret[:len(c.secret)-1] + map[bool]string{true: "b", false: "a"}[last == "a"]
	const otherKey = "Key and secret belong to different keys"
	const encoding = "not valid base64"
	for _, row := range []refusedCredentials{
		{"X-Key alone", []string{"X-Key:{key}"}, 0, "X-Key was sent without X-Secret"},
		{"X-Secret alone", []string{"X-Secret:{secret}"}, 0, "X-Secret was sent without X-Key"},
		{"another key in X-Key", []string{"X-Key:" + other.key, "X-Secret:{secret}"}, 0, otherKey},
		{"another key as Basic user", []string{"Authorization:Basic " + encodeBasic(other.key+":"+c.secret)}, 0, otherKey},
		{"key and secret exchanged", []string{"X-Key:{secret}", "X-Secret:{key}"}, 0, "key is a secret"},
		{"the key as secret", []string{"X-Api-Key:{key}"}, 0, "secret is a key"},
		{"an empty X-Key", []string{"X-Key:", "X-Secret:{secret}"}, 0, "does not begin with kst_"},
		{"an empty x-api-key", []string{"X-Api-Key:"}, 0, "does not begin with kss_"},
		{"a truncated key", []string{"X-Key:" + c.key[:25], "X-Secret:{secret}"}, 0, "key is truncated"},
		{"a long key", []string{"X-Key:{key}a", "X-Secret:{secret}"}, 0, "key is too long"},
		{"a key with another character", []string{"X-Key:" + c.key[:25] + "-", "X-Secret:{secret}"}, 0, "other than 0-9"},
		{"a truncated secret", []string{"Authorization:Bearer " + c.secret[:75]}, 0, "secret is truncated"},
		{"a long secret", []string{"Authorization:Bearer {secret}a"}, 0, "secret is too long"},
		{"a mistyped secret", []string{"Authorization:Bearer " + mistyped}, 0, "checksum"},
		{"a secret without its _", []string{"X-Api-Key:" + strings.Replace(c.secret[4:], "_", "a", 1)}, 0, "does not begin with kss_"},
		{"a secret with a - for its second _", []string{"X-Api-Key:kss_" + strings.Replace(c.secret[4:], "_", "-", 1)}, 0, "no _ after"},
		{"the word in another case", []string{"X-Key:key {key}", "X-Secret:{secret}"}, 0, "X-Key has an unknown word"},
		{"the word with two spaces", []string{"X-Key:Key  {key}", "X-Secret:{secret}"}, 0, "X-Key has an unknown word"},
		{"the word with a tab", []string{"X-Key:{key}", "X-Secret:Secret\t{secret}"}, 0, "X-Secret has an unknown word"},
		{"the word twice", []string{"X-Key:{key}", "X-Secret:Secret Secret {secret}"}, 0, "X-Secret has an unknown word"},
		{"a word in x-api-key", []string{"X-Api-Key:Bearer {secret}"}, 0, "does not begin with kss_"},
		{"a no-break space", []string{"X-Api-Key:\u00a0{secret}"}, 0, "does not begin with kss_"},
		{"a folded key", []string{"X-Key:kst_ " + c.key[4:], "X-Secret:{secret}"}, 0, "X-Key has an unknown word"},
		{"an unknown scheme", []string{"Authorization:Digest {secret}"}, 0, "unknown scheme"},
		{"no scheme", []string{"Authorization:{secret}"}, 0, "unknown scheme"},
		{"an empty Authorization", []string{"Authorization:"}, 0, "unknown scheme"},
		{"Bearer alone", []string{"Authorization:Bearer"}, 0, "does not begin with kss_"},
		{"Bearer with two values", []string{"Authorization:Bearer {secret} {secret}"}, 0, "too long"},
		{"Bearer with a comma", []string{"Authorization:Bearer {secret}, Bearer {secret}"}, 0, "too long"},
		{"Basic that is no base64", []string{"Authorization:Basic !!!"}, 0, encoding},
		{"Basic without padding", []string{"Authorization:Basic " + base64.RawStdEncoding.EncodeToString([]byte("ab:c"))[:5]}, 0, encoding},
		{"Basic with bits beyond the end", []string{"Authorization:Basic YTpiYR=="}, 0, encoding},
		{"Basic in the alphabet for URLs", []string{"Authorization:Basic _-8="}, 0, encoding},
		{"Basic with a line end", []string{"Authorization:Basic " + c.basic[:8] + "\r\n" + c.basic[8:]}, 0, encoding},
		{"Basic without a colon", []string{"Authorization:Basic " + encodeBasic(c.secret)}, 0, "no colon"},
		{"Basic with the secret alone", []string{"Authorization:Basic " + encodeBasic(":"+c.secret)}, 0, "does not begin with kst_"},
		{"Basic with a word", []string{"Authorization:Basic " + encodeBasic("Key "+c.key+":"+c.secret)}, 0, "does not begin with kst_"},
	} {
		row.verdict = MalformedCredentials
		t.Run(row.name, row.run(c, newCarriers("X-Key", "X-Secret", nil)))
	}
}

func TestNoCarrierIsMissingCredentials(t *testing.T) {
	t.Parallel()
	c := newCredential()
	for _, row := range []refusedCredentials{
		{"nothing", nil, 0, "No credentials"},
		{"other headers", []string{"Proxy-Authorization:Bearer {secret}", "Cookie:{secret}", "X-Keys:{key}", "Api-Key:{secret}"}, 0, "No credentials"},
	} {
		row.verdict = MissingCredentials
		t.Run(row.name, row.run(c, newCarriers("X-Key", "X-Secret", nil)))
	}
}

func TestIgnoredCarriersAreNotRead(t *testing.T) {
	t.Parallel()
	c := newCredential()
	pair := []string{"X-Key:{key}", "X-Secret:{secret}"}
	for _, row := range []struct {
		name    string
		ignored []Carrier
		lines   []string
		verdict Verdict
	}{
		{"Bearer beside the pair", []Carrier{Bearer}, append([]string{"Authorization:Bearer sdk"}, pair...), Allowed},
		{"Basic beside the pair", []Carrier{Basic}, append([]string{"Authorization:basic sdk"}, pair...), Allowed},
		{"Bearer does not ignore Basic", []Carrier{Bearer}, append([]string{"Authorization:Basic sdk"}, pair...), AmbiguousCredentials},
		{"Bearer does not ignore unknown schemes", []Carrier{Bearer}, append([]string{"Authorization:Digest sdk"}, pair...), AmbiguousCredentials},
		{"both ignore unknown schemes, and two of them", []Carrier{Bearer, Basic}, append([]string{"Authorization:Digest sdk", "Authorization:a"}, pair...), Allowed},
		{"x-api-key, its look-alike and two of it", []Carrier{APIKey}, append([]string{"X-Api-Key:a", "X-Api-Key:b", "x_api_key:c"}, pair...), Allowed},
		{"the pair beside Bearer", []Carrier{KeySecret}, append([]string{"Authorization:Bearer {secret}", "X_Key:a"}, pair...), Allowed},
		{"a valid one that is ignored is none", []Carrier{KeySecret}, pair, MissingCredentials},
		{"everything", []Carrier{KeySecret, Bearer, APIKey, Basic}, append([]string{"Authorization:Bearer {secret}", "X-Api-Key:{secret}"}, pair...), MissingCredentials},
	} {
		t.Run(row.name, func(t *testing.T) {
			carriers := newCarriers("X-Key", "X-Secret", row.ignored)
			secret, refused := carriers.read(c.fill(row.lines...))
			verdict := Allowed
			if refused != nil {
				verdict = refused.verdict
			}
			if verdict != row.verdict || verdict == Allowed && secret.Reveal() != c.secret {
				t.Errorf("%v, not %v", verdict, row.verdict)
			}
		})
	}
}

func TestConfiguredHeaderNamesReplaceTheStandardOnes(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(with *settings) { with.KeyHeader, with.SecretHeader = "x-client-id", "X-CLIENT-SECRET" })
	c := s.dial(t)
	res, body := c.send(s.stranger("GET /a HTTP/1.1", "X-Client-Id: {key}", "X-Client-Secret: {secret}", "X-Key: forwarded")).answer("GET")
	if res.StatusCode != 200 {
		t.Errorf("status %d: %s", res.StatusCode, body)
	}
	if got, want := sortedHead(s.upstream.bytes()), s.forwarded("GET /a HTTP/1.1", "", "X-Key: forwarded"); got != want {
		t.Errorf("the upstream received %q, not %q", got, want)
	}
	_, body = c.send(s.stranger("GET /a HTTP/1.1", "X-Client-Id: {key}")).answer("GET")
	checkRefusal(t, body, "malformed_credentials", "X-Client-Id was sent without X-Client-Secret")
	_, body = c.send(s.stranger("GET /a HTTP/1.1", "X_Client_Id: {key}", "X-Client-Secret: {secret}")).answer("GET")
	checkRefusal(t, body, "ambiguous_credentials", "looks like X-Client-Id")
	_, body = c.send(s.stranger("GET /a HTTP/1.1", "X-Key: {key}", "X-Secret: {secret}")).answer("GET")
	checkRefusal(t, body, "missing_credentials", "")
}

// FuzzCredentials sends arbitrary header lines: reading them never panics, and gives a
// secret only where exactly one carrier holds it.
func FuzzCredentials(f *testing.F) {
	standard := newCarriers("X-Key", "X-Secret", nil)
	f.Fuzz(func(t *testing.T, lines string) {
		h := make(http.Header)
		for line := range strings.SplitSeq(lines, "\n") {
			name, value, _ := strings.Cut(line, ":")
			h.Add(name, value)
		}
		secret, refused := standard.read(h)
		if (refused == nil) != (secret != (keys.Secret{})) {
			t.Fatalf("both or neither: %v", refused)
		}
		if refused == nil {
			checkOneCarrier(t, h, secret.Reveal())
		}
	})
}

// checkOneCarrier asserts, by other means than the code does, that h holds secret in
// exactly one carrier and nothing in the others.
func checkOneCarrier(t *testing.T, h http.Header, secret string) {
	t.Helper()
	var present []string
	for name, values := range h {
		plain := strings.ReplaceAll(strings.ToLower(name), "_", "-")
		if !slices.Contains([]string{"x-key", "x-secret", "x-api-key", "authorization"}, plain) {
			continue
		}
		if len(values) != 1 || strings.Contains(name, "_") {
			t.Fatalf("%q %q was accepted", name, values)
		}
		present = append(present, plain)
		value := values[0]
		if _, encoded, ok := strings.Cut(strings.ToLower(value), "basic"); ok && plain == "authorization" {
			decoded, _ := base64.StdEncoding.DecodeString(strings.Trim(value[len(value)-len(encoded):], " \t"))
			value = string(decoded)
		}
		if plain == "x-key" && !strings.Contains(value, secret[4:26]) || plain != "x-key" && !strings.Contains(value, secret) {
			t.Fatalf("%q %q was accepted for another credential", name, values)
		}
	}
	slices.Sort(present)
	if !slices.Equal(present, []string{"x-key", "x-secret"}) && len(present) != 1 {
		t.Fatalf("the carriers %q were accepted together", present)
	}
}
