package keys_test

import (
	"testing"

	"keystile/keys"
)

func TestSecretOfTheLastUseIsToldByItsMark(t *testing.T) {
	present, previous := keys.Digest{Sum: keys.Sum{1}, Scheme: keys.SHA256}, keys.Digest{Sum: keys.Sum{2}, Scheme: keys.HMACSHA256, Until: 1}
	gone, unmarked := keys.Digest{Sum: keys.Sum{3}, Scheme: keys.SHA256}, keys.Digest{Scheme: keys.SHA256}
	for name, c := range map[string]struct {
		digests [2]keys.Digest
		mark    keys.Mark
		want    string
	}{
		"the present":          {[2]keys.Digest{present, previous}, present.Mark(), "present"},
		"the previous":         {[2]keys.Digest{present, previous}, previous.Mark(), "previous"},
		"the only one":         {[2]keys.Digest{present}, present.Mark(), "present"},
		"one that is gone":     {[2]keys.Digest{present, previous}, gone.Mark(), ""},
		"no mark":              {[2]keys.Digest{present, previous}, keys.Mark{}, ""},
		"no mark, one secret":  {[2]keys.Digest{present}, keys.Mark{}, ""},
		"no mark, a zero sum":  {[2]keys.Digest{unmarked, previous}, keys.Mark{}, ""},
		"a place that is free": {[2]keys.Digest{present, {Sum: gone.Sum}}, gone.Mark(), ""},
	} {
		r := keys.Record{Digests: c.digests, LastUsed: keys.Use{At: now, Mark: c.mark}}
		if got := r.LastSecret(); got != c.want {
			t.Errorf("%s: got %q", name, got)
		}
	}
	if last := (keys.Digest{Sum: keys.Sum{7: 1, 8: 1}}).Mark(); last != (keys.Mark{7: 1}) {
		t.Errorf("a mark is %x", last)
	}
}
