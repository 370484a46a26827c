package keys

import (
	"bytes"
	"testing"
	"time"
)

// checkCase is a check as the proxy makes it: text from a client against a grant.
type checkCase struct {
	name    string
	peppers *Peppers
	grant   Grant
	text    string
	proves  bool
}

// checkCases are the kinds of check that differ in their work.
func checkCases(t testing.TB) []checkCase {
	first := bytes.Repeat([]byte{1}, MinPepperLength)
	second := bytes.Repeat([]byte{2}, MinPepperLength)
	peppered, old := peppersOf(t, first), peppersOf(t, second)
	rotated := peppersOf(t, first, second)

	id := NewID()
	secret, wrong := NewSecret(id), NewSecret(id).Reveal()
	grant := func(digests ...Digest) Grant {
		g := Grant{ID: id, Active: true, Account: DefaultAccount}
		copy(g.Digests[:], digests)
		return g
	}
	var plain *Peppers
	return []checkCase{
		{"plain", plain, grant(plain.Digest(secret)), secret.Reveal(), true},
		{"plain, wrong secret", plain, grant(plain.Digest(secret)), wrong, false},
		{"plain, unknown key", plain, Grant{}, secret.Reveal(), false},
		{"pepper", peppered, grant(peppered.Digest(secret)), secret.Reveal(), true},
		{"pepper, wrong secret", peppered, grant(peppered.Digest(secret)), wrong, false},
		{"pepper, unknown key", peppered, Grant{}, secret.Reveal(), false},
		{"pepper, rotated secret", peppered, grant(peppered.Digest(NewSecret(id)), peppered.Digest(secret)), secret.Reveal(), true},
		{"pepper, rotated pepper", rotated, grant(peppered.Digest(NewSecret(id)), old.Digest(secret)), secret.Reveal(), true},
	}
}

func peppersOf(t testing.TB, secrets ...[]byte) *Peppers {
	t.Helper()
	peppers, err := NewPeppers(secrets...)
	if err != nil {
		t.Fatal(err)
	}
	return peppers
}

// BenchmarkKeyCheck is what a request pays for its credentials once they are read.
func BenchmarkKeyCheck(b *testing.B) {
	now := time.Unix(1_800_000_000, 0)
	for _, c := range checkCases(b) {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				secret, err := ParseSecret(c.text)
				if err != nil {
					b.Fatal(err)
				}
				if _, proved := c.peppers.Match(&c.grant, secret, now); proved != c.proves {
					b.Fatalf("Match returned %v, want %v", proved, c.proves)
				}
			}
		})
	}
}
