//go:build !race

package keys

import (
	"testing"
	"time"
)

// A key check allocates nothing, so that strangers with junk cannot make the
// collector work. The secret stays in its caller: that is what the proxy does.
func TestMeasuredKeyCheckAllocatesNothing(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for _, c := range checkCases(t) {
		t.Run(c.name, func(t *testing.T) {
			allocations := testing.AllocsPerRun(1000, func() {
				secret, err := ParseSecret(c.text)
				if err != nil {
					t.Fatal(err)
				}
				if _, proved := c.peppers.Match(&c.grant, secret, now); proved != c.proves {
					t.Fatalf("Match returned %v, want %v", proved, c.proves)
				}
			})
			if allocations != 0 {
				t.Errorf("%v allocations for a check, want 0", allocations)
			}
		})
	}
}

func TestMeasuredRefusedTextAllocatesNothing(t *testing.T) {
	text := NewSecret(NewID()).Reveal()
	damaged := []byte(text)
	damaged[40] ^= 3
	for name, text := range map[string]string{
		"empty": "", "no prefix": text[4:], "truncated": text[:50], "too long": text + "0",
		"shape": text[:26] + "-" + text[27:], "alphabet": text[:30] + "-" + text[31:],
		"checksum": string(damaged), "key": KeyPrefix + text[4:26],
	} {
		if allocations := testing.AllocsPerRun(1000, func() {
			if _, err := ParseSecret(text); err == nil {
				t.Fatal("accepted")
			}
		}); allocations != 0 {
			t.Errorf("%s: %v allocations for a refusal, want 0", name, allocations)
		}
	}
}

func TestMeasuredParsingAKeyAndRedactingOrdinaryTextAllocateNothing(t *testing.T) {
	key := NewID().String()
	if allocations := testing.AllocsPerRun(1000, func() { _, _ = ParseKey(key) }); allocations != 0 {
		t.Errorf("%v allocations to parse a key, want 0", allocations)
	}
	if allocations := testing.AllocsPerRun(1000, func() { _ = Redact("/v1/images/generations") }); allocations != 0 {
		t.Errorf("%v allocations to redact text without a secret, want 0", allocations)
	}
}
