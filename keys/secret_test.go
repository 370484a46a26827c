package keys_test

import (
	"fmt"
	"hash/crc32"
	"regexp"
	"strings"
	"testing"

	"keystile/keys"

	"pgregory.net/rapid"
)

const (
	base62    = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	sealStart = 70 // bytes before the checksum
)

// seal makes the text of a secret as its definition says.
func seal(id, random string) string {
	body := "kss_" + id + "_" + random
	digits, sum := "", crc32.ChecksumIEEE([]byte(body))
	for ; sum > 0; sum /= 62 {
		digits = base62[sum%62:][:1] + digits
	}
	return body + fmt.Sprintf("%06s", digits)
}

func mustParse(t rapid.TB, text string) keys.Secret {
	t.Helper()
	secret, err := keys.ParseSecret(text)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return secret
}

func whole(pattern string) *regexp.Regexp { return regexp.MustCompile("^(?:" + pattern + ")$") }

func TestSecretsPrintAndParseBack(t *testing.T) {
	pattern := whole(keys.SecretPattern)
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.StringMatching(`[0-9A-Za-z]{22}`).Draw(t, "id")
		text := seal(id, rapid.StringMatching(`[0-9A-Za-z]{43}`).Draw(t, "random"))
		secret := mustParse(t, text)
		if secret.Reveal() != text || secret.ID().String() != "kst_"+id {
			t.Fatalf("%s became %s of %s", text, secret.Reveal(), secret.ID())
		}
		if !pattern.MatchString(text) {
			t.Fatalf("%s is accepted but not of the published pattern", text)
		}
	})
}

func TestNewSecretsAreOfThePatternAndParseBack(t *testing.T) {
	pattern, seen := whole(keys.SecretPattern), map[string]bool{}
	for range 2000 {
		id := keys.NewID()
		secret := keys.NewSecret(id)
		text := secret.Reveal()
		if !pattern.MatchString(text) {
			t.Fatalf("%s is not of the published pattern", text)
		}
		if parsed := mustParse(t, text); parsed.ID() != id || secret.ID() != id || parsed.Reveal() != text {
			t.Fatalf("%s did not come back as it was made", text)
		}
		if random := text[27:sealStart]; seen[random] || seen[id.String()] {
			t.Fatal("the same random characters twice")
		} else {
			seen[random], seen[id.String()] = true, true
		}
	}
}

// Whatever ParseSecret accepts has the pattern's shape, and what has the shape is
// refused for its checksum alone.
func TestPatternAndParserAgreeOnTheShape(t *testing.T) {
	pattern := whole(keys.SecretPattern)
	const checksum = "the checksum of the secret is wrong: it was mistyped or damaged"
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(
			rapid.StringMatching(keys.SecretPattern),
			rapid.StringMatching(`k[st]s_[0-9A-Za-z_-]{21,23}_[0-9A-Za-z_]{48,50}`),
			rapid.StringMatching(`kss_[\x00-\x7f]{72}`),
			rapid.String(),
		).Draw(t, "text")
		_, err := keys.ParseSecret(text)
		shaped := err == nil || err.Error() == checksum
		if shaped != pattern.MatchString(text) {
			t.Fatalf("%q: the pattern says %v, the parser %v", text, !shaped, err)
		}
	})
}

// A CRC-32 finds every error within 32 neighbouring bits.
func TestEveryChangeOfOneByteIsRefused(t *testing.T) {
	texts := []string{keys.NewSecret(keys.NewID()).Reveal()}
	for _, v := range readVectors(t).Valid {
		texts = append(texts, v.Secret)
	}
	for _, text := range texts {
		for position := range len(text) {
			damaged := []byte(text)
			for b := range 256 {
				if byte(b) == text[position] {
					continue
				}
				damaged[position] = byte(b)
				if _, err := keys.ParseSecret(string(damaged)); err == nil {
					t.Fatalf("%q is accepted: byte %d of %q was changed", damaged, position, text)
				}
			}
		}
	}
}

func TestNeighboursSwappedAreRefused(t *testing.T) {
	for range 200 {
		text := keys.NewSecret(keys.NewID()).Reveal()
		for i := range len(text) - 1 {
			if i == sealStart-1 || text[i] == text[i+1] { // the swap reaches into the checksum itself, or changes nothing
				continue
			}
			swapped := text[:i] + text[i+1:i+2] + text[i:i+1] + text[i+2:]
			if _, err := keys.ParseSecret(swapped); err == nil {
				t.Fatalf("%q is accepted: %d and %d of %q were swapped", swapped, i, i+1, text)
			}
		}
	}
}

func TestTruncationAtEveryLengthIsRefused(t *testing.T) {
	text := keys.NewSecret(keys.NewID()).Reveal()
	for length := range len(text) {
		_, err := keys.ParseSecret(text[:length])
		want := "the secret is truncated: it has fewer than 76 characters"
		if length < len(keys.SecretPrefix) {
			want = "the secret does not begin with kss_"
		}
		wantFormatError(t, err, want)
		if _, err := keys.ParseSecret(text[len(text)-length:]); err == nil {
			t.Errorf("the last %d characters alone are accepted", length)
		}
		if _, err := keys.ParseSecret(text[:length] + text[length+1:]); err == nil {
			t.Errorf("accepted without character %d", length)
		}
	}
}

func TestPaddedSecretsAreRefused(t *testing.T) {
	text := keys.NewSecret(keys.NewID()).Reveal()
	for _, pad := range []string{" ", "\t", "\n", "\x00", "\r\n", "\"", "=", "0", "\ufeff", "\u00a0"} {
		for _, padded := range []string{pad + text, text + pad, pad + text + pad} {
			if _, err := keys.ParseSecret(padded); err == nil {
				t.Errorf("%q is accepted", padded)
			}
		}
	}
}

func TestRedactLeavesNoSecret(t *testing.T) {
	one, two := keys.NewSecret(keys.NewID()).Reveal(), keys.NewSecret(keys.NewID()).Reveal()
	accountToken := keys.AccountTokenPrefix + strings.Repeat("A", 13) + "_" + strings.Repeat("Z7", 26)
	adminToken := keys.AdminTokenPrefix + strings.Repeat("Q2", 26)
	for _, c := range []struct{ in, want string }{
		{"", ""},
		{"/v1/images", "/v1/images"},
		{"kss_", "kss_"},
		{"the secret begins with kss_ and so on", "the secret begins with kss_ and so on"},
		{"key " + keys.KeyPrefix + one[4:26], "key " + keys.KeyPrefix + one[4:26]},
		{one[:26] + " is only an id", one[:26] + " is only an id"},
		{one, "[redacted]"},
		{"/v1/" + one + "/image", "/v1/[redacted]/image"},
		{`{"secret":"` + one + `"}`, `{"secret":"[redacted]"}`},
		{one + " " + two, "[redacted] [redacted]"},
		{"kss_" + one, "kss_[redacted]"},
		{"x" + one + "?" + two + ".", "x[redacted]?[redacted]."},
		{"\xff" + one + "\xff\x00", "\xff[redacted]\xff\x00"},
		{one[:len(one)-1] + "!", "[redacted]!"},
		{one[:sealStart] + " lacks its checksum", "[redacted] lacks its checksum"},
		{"cut off: " + one[:50] + "…", "cut off: [redacted]…"},
		{one + "0 too long", "[redacted] too long"},
		{one + two, "[redacted]"},
		{one[:40] + two, "[redacted]"},
		{one + "_" + two[4:], "[redacted]"},
		{"an account's token: " + accountToken + ".", "an account's token: [redacted]."},
		{"cut off: " + accountToken[:30], "cut off: [redacted]"},
		{accountToken[:17] + " is only an id", accountToken[:17] + " is only an id"},
		{accountToken + one, "[redacted]"},
		{"/" + adminToken + "/x " + adminToken[:20], "/[redacted]/x [redacted]"},
		{"they begin with kac_ and kat_", "they begin with kac_ and kat_"},
		{strings.Repeat(one+"\n", 3), strings.Repeat("[redacted]\n", 3)},
	} {
		if got := keys.Redact(c.in); got != c.want {
			t.Errorf("Redact(%q) is %q, want %q", c.in, got, c.want)
		}
	}
}

// However secrets are cut and run into each other, nothing of them stays: here they
// bring every base62 character of the text.
func TestRedactFindsSecretsInAnySurroundings(t *testing.T) {
	const others = `[ /?&="_.:\x00\n\x80-\x{ffff}-]{0,4}`
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(others).Draw(t, "before")
		for range rapid.IntRange(1, 4).Draw(t, "secrets") {
			secret := seal(rapid.StringMatching(`[0-9A-Za-z]{22}`).Draw(t, "id"), rapid.StringMatching(`[0-9A-Za-z]{43}`).Draw(t, "random"))
			text += secret[:rapid.IntRange(28, len(secret)).Draw(t, "length")] + rapid.StringMatching(others).Draw(t, "after")
		}
		redacted := keys.Redact(text)
		if strings.ContainsAny(strings.ReplaceAll(redacted, "[redacted]", ""), base62) {
			t.Fatalf("%q became %q", text, redacted)
		}
	})
}
