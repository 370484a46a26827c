package keys_test

import (
	"errors"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"keystile/keys"

	"golang.org/x/text/unicode/norm"
)

// FuzzSecret holds that ParseSecret accepts exactly what its definition says,
// returns it unchanged, and refuses the rest with one of the published sentences,
// which therefore contain nothing of what was sent.
func FuzzSecret(f *testing.F) {
	sentences := map[string]bool{}
	v := readVectors(f)
	for _, each := range v.Valid {
		f.Add(each.Secret)
	}
	for _, each := range v.InvalidSecrets {
		sentences[each.Message] = true
		f.Add(each.Secret)
	}
	pattern, anywhere := whole(keys.SecretPattern), regexp.MustCompile(keys.SecretPattern)
	tokens := regexp.MustCompile(keys.AdminTokenPrefix + "|" + keys.AccountTokenPrefix)
	f.Fuzz(func(t *testing.T, text string) {
		secret, err := keys.ParseSecret(text)
		defined := pattern.MatchString(text) && text == seal(text[4:26], text[27:sealStart])
		if (err == nil) != defined {
			t.Errorf("%q: %v", text, err)
		}
		if err == nil {
			id, keyErr := keys.ParseKey("kst_" + text[4:26])
			if secret.Reveal() != text || secret.ID() != id || keyErr != nil {
				t.Errorf("%q became %q of %s (%v)", text, secret.Reveal(), secret.ID(), keyErr)
			}
		} else {
			var format *keys.FormatError
			if !errors.As(err, &format) || !sentences[err.Error()] || secret != (keys.Secret{}) {
				t.Errorf("%q is refused with %q", text, err)
			}
		}
		if redacted := keys.Redact(text); anywhere.MatchString(redacted) || !tokens.MatchString(text) && !strings.Contains(text, keys.SecretPrefix) && redacted != text {
			t.Errorf("%q became %q", text, redacted)
		}
	})
}

// FuzzName holds that an accepted name is one line of 1 to 64 characters in NFC,
// trimmed, and stays as it is when it is normalized again.
func FuzzName(f *testing.F) {
	sentences := map[string]bool{nameEmpty: true, nameTooLong: true, nameEncoding: true, nameCharacter: true}
	for _, seed := range []string{"", "API key 1", " e\u0301 ", "\u202e", "\xff", "\u1112\u1161\u11ab", strings.Repeat("é", 65)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		name, err := keys.NormalizeName(in)
		if err != nil {
			var refusal *keys.NameError
			if !errors.As(err, &refusal) || !sentences[err.Error()] || name != "" {
				t.Errorf("%q is refused with %q and %q", in, name, err)
			}
			return
		}
		wantGoodName(t, name)
		if strings.ContainsFunc(name, func(r rune) bool {
			return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029'
		}) {
			t.Errorf("%q is kept as a name", name)
		}
		if norm.NFC.String(strings.TrimSpace(in)) != name {
			t.Errorf("%q became %q, which is another name", in, name)
		}
	})
}
