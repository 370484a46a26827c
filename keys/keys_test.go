package keys_test

import (
	"encoding/json"
	"testing"
	"time"

	"keystile/keys"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestKeysPrintAndParseBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := "kst_" + rapid.StringMatching(`[0-9A-Za-z]{22}`).Draw(t, "id")
		id, err := keys.ParseKey(text)
		if err != nil || id.String() != text {
			t.Fatalf("%s became %s, %v", text, id, err)
		}
		marshalled, err := id.MarshalText()
		if err != nil || string(marshalled) != text {
			t.Fatalf("MarshalText returned %q, %v", marshalled, err)
		}
		var back keys.ID
		if err := back.UnmarshalText(marshalled); err != nil || back != id {
			t.Fatalf("UnmarshalText made %s, %v", back, err)
		}
	})
}

func TestEveryOtherByteInAKeyIsRefused(t *testing.T) {
	key := keys.NewID().String()
	for position := range len(key) {
		for b := range 256 {
			changed := key[:position] + string([]byte{byte(b)}) + key[position+1:]
			allowed := position >= 4 && whole("[0-9A-Za-z]").MatchString(changed[position:position+1])
			if _, err := keys.ParseKey(changed); (err == nil) != (allowed || changed == key) {
				t.Errorf("%q: %v", changed, err)
			}
		}
	}
	for length := range len(key) {
		if _, err := keys.ParseKey(key[:length]); err == nil {
			t.Errorf("the first %d characters are accepted", length)
		}
	}
}

func TestIDIsAKeyOfJSONMaps(t *testing.T) {
	used := map[keys.ID]time.Time{keys.NewID(): now.UTC(), keys.NewID(): now.Add(time.Hour).UTC()}
	text, err := json.Marshal(used)
	if err != nil {
		t.Fatal(err)
	}
	plain := map[string]time.Time{}
	if err := json.Unmarshal(text, &plain); err != nil {
		t.Fatal(err)
	}
	for id, when := range used {
		if !plain[id.String()].Equal(when) {
			t.Errorf("%s is not under its key in %s", id, text)
		}
	}
	var back map[keys.ID]time.Time
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(used, back); diff != "" {
		t.Error(diff)
	}
	for _, bad := range []string{`{"":0}`, `{"kst_short":0}`, `{"` + keys.NewSecret(keys.NewID()).Reveal() + `":0}`} {
		if err := json.Unmarshal([]byte(bad), new(map[keys.ID]int)); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
}
