package keys

import (
	"bytes"
	"crypto/rand"
	"io"
	"strings"
	"testing"
)

// counter reads as 0, 1, ... 255 and again from 0.
type counter struct{ next byte }

func (c *counter) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = c.next
		c.next++
	}
	return len(p), nil
}

// readRandomFrom puts source in the place of crypto/rand for one test.
func readRandomFrom(t *testing.T, source io.Reader) {
	original := rand.Reader
	rand.Reader = source
	t.Cleanup(func() { rand.Reader = original })
}

// Of the 256 values of a byte, 248 give each character four times and 8 are drawn
// again: one more would favour a character, one fewer would miss one.
func TestEveryCharacterComesFromFourOf248Bytes(t *testing.T) {
	readRandomFrom(t, &counter{})
	got := make([]byte, 3*4*62)
	fillBase62(got)
	if want := strings.Repeat(base62, 3*4); string(got) != want {
		t.Errorf("got %s, want the alphabet 12 times", got)
	}
}

func TestIDsAndSecretsTakeNoBytesTheyMustRefuse(t *testing.T) {
	source := io.MultiReader(bytes.NewReader(bytes.Repeat([]byte{255}, 64)), bytes.NewReader(bytes.Repeat([]byte{248, 247}, 512)))
	readRandomFrom(t, source)
	if got, want := NewID().String(), "kst_"+strings.Repeat("z", 22); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := NewSecret(ID{}).Reveal()[secretRandomStart:secretSumStart], strings.Repeat("z", 43); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// The statistic is near 61 with a deviation of 11 for a fair source; taking every
// byte modulo 62 instead would give about 8000.
func TestCharactersAreEquallyLikely(t *testing.T) {
	const perCharacter = 20_000
	sample := make([]byte, 62*perCharacter)
	fillBase62(sample)
	chiSquare := 0.0
	for _, c := range base62 {
		difference := float64(bytes.Count(sample, []byte(string(c))) - perCharacter)
		chiSquare += difference * difference / perCharacter
	}
	if chiSquare < 10 || chiSquare > 180 {
		t.Errorf("chi-square is %.0f over 61 degrees of freedom", chiSquare)
	}
}

func TestNewIDsAndSecretsVaryInEveryPosition(t *testing.T) {
	var seenID [idLength]map[byte]bool
	var seenSecret [randomLength]map[byte]bool
	see := func(seen []map[byte]bool, text string) {
		for i := range seen {
			if seen[i] == nil {
				seen[i] = map[byte]bool{}
			}
			seen[i][text[i]] = true
		}
	}
	for range 2000 { // the chance that any of 65 * 62 characters is missing is below 10^-10
		id := NewID()
		see(seenID[:], string(id[:]))
		see(seenSecret[:], NewSecret(id).Reveal()[secretRandomStart:secretSumStart])
	}
	for i, seen := range append(seenID[:], seenSecret[:]...) {
		if len(seen) != 62 {
			t.Errorf("position %d had %d of 62 characters", i, len(seen))
		}
	}
}
