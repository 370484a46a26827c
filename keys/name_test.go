package keys_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"keystile/keys"

	"golang.org/x/text/unicode/norm"
	"pgregory.net/rapid"
)

const (
	nameEmpty     = "the name is empty: it needs 1 to 64 characters"
	nameTooLong   = "the name is too long: it may have at most 64 characters"
	nameEncoding  = "the name is not valid UTF-8"
	nameCharacter = "the name has a control, line-breaking or text-direction character"
)

func TestNamesAreNormalized(t *testing.T) {
	const family = "\U0001F468\u200d\U0001F469\u200d\U0001F467\u200d\U0001F466"
	for in, want := range map[string]string{
		"a":         "a",
		"API key 1": "API key 1",
		" \t\r\n\v\fpadded\u00a0\u2003\u3000\u0085": "padded",
		"two  spaces stay":                          "two  spaces stay",
		"Case Stays":                                "Case Stays",
		"ключ Ивана":                                "ключ Ивана",
		"é":                                         "é",
		"e\u0301":                                   "é",
		"A\u030a":                                   "Å",
		"\u212b":                                    "Å", // ANGSTROM SIGN
		"q\u0323\u0307":                             "q\u0323\u0307",
		"q\u0307\u0323":                             "q\u0323\u0307", // canonical order of marks
		"\u1112\u1161\u11ab":                        "한",
		"ﬁ ² Ａ":                                     "ﬁ ² Ａ", // compatibility forms stay: this is NFC, not NFKC
		"\u0301alone":                               "\u0301alone",
		"👍🏽":                                        "👍🏽",
		family:                                      family,
		"☠\ufe0f":                                   "☠\ufe0f",
		"می\u200cخواهم":                             "می\u200cخواهم", // the non-joiner is part of Persian spelling
		"مفتاح":                                     "مفتاح",
		"mid\u2003dle":                              "mid\u2003dle",
		"<script>'\"; --":                           "<script>'\"; --",
		strings.Repeat("x", 64):                     strings.Repeat("x", 64),
		strings.Repeat("😀", 64):                     strings.Repeat("😀", 64),
		strings.Repeat("e\u0301", 64):               strings.Repeat("é", 64),
		strings.Repeat("\u1112\u1161\u11ab", 64):    strings.Repeat("한", 64),
		strings.Repeat(" ", 400) + "far" + strings.Repeat(" ", 400): "far",
	} {
		got, err := keys.NormalizeName(in)
		if err != nil || got != want {
			t.Errorf("%q became %q (%v), want %q", in, got, err, want)
		}
		if again, err := keys.NormalizeName(got); err != nil || again != got {
			t.Errorf("%q became %q (%v) the second time", got, again, err)
		}
	}
}

func TestBadNamesAreRefusedWithTheirReason(t *testing.T) {
	for in, want := range map[string]string{
		"": nameEmpty, " ": nameEmpty, "\t\n\u00a0\u2028": nameEmpty,
		strings.Repeat("x", 65):           nameTooLong,
		strings.Repeat("😀", 65):           nameTooLong,
		strings.Repeat("e\u0301", 65):     nameTooLong,
		strings.Repeat("q\u0323", 33):     nameTooLong,
		strings.Repeat("x", 1<<20):        nameTooLong,
		strings.Repeat("\xff", 1025):      nameTooLong,
		strings.Repeat(" ", 1025):         nameTooLong,
		"\xff":                            nameEncoding,
		"a\xc3":                           nameEncoding,
		"\xed\xa0\x80 surrogate":          nameEncoding,
		"\xc0\xafoverlong":                nameEncoding,
		"\xf4\x90\x80\x80beyond the last": nameEncoding,
		strings.Repeat("x", 65) + "\xff":  nameEncoding,
		"a\x00b":                          nameCharacter,
		"a\nb":                            nameCharacter,
		"a\r\nb":                          nameCharacter,
		"a\tb":                            nameCharacter,
		"a\x1b[31mb":                      nameCharacter,
		"a\x7fb":                          nameCharacter,
		"a\u0085b":                        nameCharacter,
		"a\u009bb":                        nameCharacter,
		"a\u2028b":                        nameCharacter,
		"a\u2029b":                        nameCharacter,
		"\x00":                            nameCharacter,
		strings.Repeat("x", 63) + "\x00":  nameCharacter,
		"admin\u202egnp.exe":              nameCharacter,
	} {
		wantNameError(t, in, want)
	}
	for _, control := range "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069" {
		for _, in := range []string{string(control), "a" + string(control), string(control) + "a", "a" + string(control) + "b"} {
			wantNameError(t, in, nameCharacter)
		}
	}
	for control := range rune(0xa0) {
		if control >= 0x20 && control < 0x7f {
			continue
		}
		wantNameError(t, fmt.Sprintf("a%cb", control), nameCharacter)
	}
}

func wantNameError(t *testing.T, in, want string) {
	t.Helper()
	name, err := keys.NormalizeName(in)
	var refusal *keys.NameError
	if !errors.As(err, &refusal) || refusal.Error() != want || name != "" {
		t.Errorf("%.80q: %q, %v, want %q", in, name, err, want)
	}
}

// Names that look the same to a reader because they differ only in form are one.
func TestCanonicallyEqualNamesAreEqual(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.StringN(1, 40, 200).Draw(t, "name")
		composed, err := keys.NormalizeName(in)
		decomposed, errD := keys.NormalizeName(norm.NFD.String(in))
		if composed != decomposed || (err == nil) != (errD == nil) {
			t.Fatalf("%q: %q (%v), decomposed %q (%v)", in, composed, err, decomposed, errD)
		}
	})
}

func wantGoodName(t testing.TB, name string) {
	t.Helper()
	if n := utf8.RuneCountInString(name); n < 1 || n > keys.MaxNameLength || !utf8.ValidString(name) ||
		!norm.NFC.IsNormalString(name) || strings.TrimSpace(name) != name {
		t.Errorf("%q is kept as a name", name)
	}
	if again, err := keys.NormalizeName(name); err != nil || again != name {
		t.Errorf("%q became %q (%v) the second time", name, again, err)
	}
}

func TestDefaultNameIsTheFirstFree(t *testing.T) {
	for _, c := range []struct {
		taken []string
		want  string
	}{
		{nil, "API key 1"},
		{[]string{"API key 1"}, "API key 2"},
		{[]string{"API key 2"}, "API key 1"},
		{[]string{"API key 1", "API key 2", "API key 4"}, "API key 3"},
		{[]string{"api key 1", "API key 01", "API key  1", "API key 0"}, "API key 1"},
		{[]string{"API key 1", "API key 2", "API key 3", "API key 4", "API key 5", "API key 6", "API key 7", "API key 8", "API key 9"}, "API key 10"},
	} {
		asked := 0
		got := keys.DefaultName(func(name string) bool {
			asked++
			for _, taken := range c.taken {
				if name == taken {
					return true
				}
			}
			return false
		})
		if got != c.want || asked > len(c.taken)+1 {
			t.Errorf("with %q taken it is %q after %d questions, want %q", c.taken, got, asked, c.want)
		}
		wantGoodName(t, got)
	}
}
