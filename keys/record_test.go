package keys_test

import (
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"keystile/keys"

	"github.com/google/go-cmp/cmp"
)

func TestRatesAreZeroOrPositiveAndFinite(t *testing.T) {
	for _, c := range []struct {
		rate keys.Rate
		want bool
	}{
		{keys.Rate{}, true},
		{keys.Rate{PerSecond: math.Copysign(0, -1)}, true},
		{keys.Rate{PerSecond: 1, Burst: 1}, true},
		{keys.Rate{PerSecond: 0.001, Burst: 1}, true},
		{keys.Rate{PerSecond: math.SmallestNonzeroFloat64, Burst: 1}, true},
		{keys.Rate{PerSecond: math.MaxFloat64, Burst: math.MaxInt32}, true},
		{keys.Rate{PerSecond: 1}, false},
		{keys.Rate{Burst: 1}, false},
		{keys.Rate{PerSecond: 1, Burst: -1}, false},
		{keys.Rate{PerSecond: 1, Burst: math.MinInt}, false},
		{keys.Rate{PerSecond: 1, Burst: math.MaxInt32 + 1}, false},
		{keys.Rate{PerSecond: 1, Burst: math.MaxInt}, false},
		{keys.Rate{PerSecond: -1, Burst: 1}, false},
		{keys.Rate{PerSecond: -1}, false},
		{keys.Rate{PerSecond: -math.SmallestNonzeroFloat64, Burst: 1}, false},
		{keys.Rate{PerSecond: math.NaN()}, false},
		{keys.Rate{PerSecond: math.NaN(), Burst: 1}, false},
		{keys.Rate{PerSecond: math.Inf(1), Burst: 1}, false},
		{keys.Rate{PerSecond: math.Inf(-1), Burst: 1}, false},
		{keys.Rate{PerSecond: math.Inf(1)}, false},
	} {
		if got := c.rate.Valid(); got != c.want {
			t.Errorf("%+v: Valid returned %v", c.rate, got)
		}
	}
}

func TestGrantAdmitsTheProvedDigestOnly(t *testing.T) {
	present, former := keys.Sum{1}, keys.Sum{2}
	digest := func(sum keys.Sum, until int64) keys.Digest {
		return keys.Digest{Sum: sum, Scheme: keys.HMACSHA256, Pepper: 7, Until: until}
	}
	soon, past := now.Add(time.Hour).UnixMilli(), now.Add(-time.Hour).UnixMilli()
	proved := digest(present, 0)
	otherScheme := proved
	otherScheme.Scheme = keys.SHA256
	for name, c := range map[string]struct {
		grant  keys.Grant
		proved keys.Digest
		want   bool
	}{
		"present":                      {keys.Grant{Active: true, Digests: [2]keys.Digest{proved}}, proved, true},
		"rotated, still in overlap":    {keys.Grant{Active: true, Digests: [2]keys.Digest{digest(former, 0), digest(present, soon)}}, proved, true},
		"rotated, overlap over":        {keys.Grant{Active: true, Digests: [2]keys.Digest{digest(former, 0), digest(present, past)}}, proved, false},
		"rotated away":                 {keys.Grant{Active: true, Digests: [2]keys.Digest{digest(former, 0)}}, proved, false},
		"given no end since":           {keys.Grant{Active: true, Digests: [2]keys.Digest{proved}}, digest(present, past), true},
		"switched off":                 {keys.Grant{Digests: [2]keys.Digest{proved}}, proved, false},
		"deleted":                      {keys.Grant{}, proved, false},
		"no digest":                    {keys.Grant{Active: true}, proved, false},
		"of another scheme":            {keys.Grant{Active: true, Digests: [2]keys.Digest{proved}}, otherScheme, false},
		"nothing proved":               {keys.Grant{Active: true, Digests: [2]keys.Digest{proved}}, keys.Digest{}, false},
		"nothing proved, no digest":    {keys.Grant{Active: true}, keys.Digest{}, false},
		"a sum of zeros, empty digest": {keys.Grant{Active: true}, keys.Digest{Scheme: keys.SHA256}, false},
	} {
		if got := c.grant.Admits(c.proved, now); got != c.want {
			t.Errorf("%s: Admits returned %v", name, got)
		}
	}
}

func testRecord(secret keys.Secret) keys.Record {
	peppers := (*keys.Peppers)(nil)
	former := peppers.Digest(keys.NewSecret(secret.ID()))
	former.Until, former.Pepper, former.Scheme = now.UnixMilli(), math.MaxUint32, keys.HMACSHA256
	return keys.Record{
		ID: secret.ID(), Account: keys.DefaultAccount, Name: "ключ “1” \U0001F511", Active: true,
		Created: now.UTC(), Updated: now.Add(time.Nanosecond).UTC(), Version: math.MaxUint64,
		Rate: keys.Rate{PerSecond: 0.1, Burst: 3}, Digests: [2]keys.Digest{peppers.Digest(secret), former},
		LastUsed: keys.Use{At: now.UTC(), Mark: former.Mark()},
	}
}

func TestRecordsSurviveJSONWithoutSecretOrLastUse(t *testing.T) {
	secret := keys.NewSecret(keys.NewID())
	for name, change := range map[string]func(*keys.Record){
		"full":       func(*keys.Record) {},
		"no rate":    func(r *keys.Record) { r.Rate = keys.Rate{} },
		"one digest": func(r *keys.Record) { r.Digests[1] = keys.Digest{} },
		"inactive":   func(r *keys.Record) { r.Active = false },
	} {
		record := testRecord(secret)
		change(&record)
		text, err := json.Marshal(record)
		if err != nil {
			t.Fatal(err)
		}
		var back keys.Record
		if err := json.Unmarshal(text, &back); err != nil {
			t.Fatal(err)
		}
		want := record
		want.LastUsed = keys.Use{}
		if diff := cmp.Diff(want, back); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if strings.Contains(string(text), secret.Reveal()[27:40]) || strings.Contains(strings.ToLower(string(text)), `"last`) {
			t.Errorf("%s: the secret or the last use is in %s", name, text)
		}
	}
}

func TestRecordJSONIsWhatStoresKeepOnDisk(t *testing.T) {
	id, err := keys.ParseKey("kst_0123456789ABCDEFGHIJKL")
	if err != nil {
		t.Fatal(err)
	}
	record := keys.Record{
		ID: id, Account: "default", Name: "n", Active: true,
		Created: time.Unix(1_800_000_000, 0).UTC(), Updated: time.Unix(1_800_000_001, 500).UTC(), Version: 9,
		Digests: [2]keys.Digest{{Sum: keys.Sum{0xab}, Scheme: keys.HMACSHA256, Pepper: 5}, {Until: 7, Scheme: keys.SHA256}},
	}
	zeros := strings.Repeat("0", 62)
	want := `{"key":"kst_0123456789ABCDEFGHIJKL","account":"default","name":"n","active":true,` +
		`"created":"2027-01-15T08:00:00Z","updated":"2027-01-15T08:00:01.0000005Z","version":9,"digests":[` +
		`{"sum":"ab` + zeros + `","pepper":5,"scheme":2},{"sum":"00` + zeros + `","until":7,"scheme":1}]}`
	if text, err := json.Marshal(record); err != nil || string(text) != want {
		t.Errorf("%s (%v)\nwant %s", text, err, want)
	}
}

func TestGrantTakesOverEveryFieldItShares(t *testing.T) {
	record := testRecord(keys.NewSecret(keys.NewID()))
	grant, from := reflect.ValueOf(record.Grant()), reflect.ValueOf(record)
	for i := range grant.NumField() {
		name := grant.Type().Field(i).Name
		if got, want := grant.Field(i).Interface(), from.FieldByName(name).Interface(); got != want || grant.Field(i).IsZero() {
			t.Errorf("%s is %v in the grant and %v in the record", name, got, want)
		}
	}
}

func TestDigestTextIsRefusedUnless64HexadecimalDigits(t *testing.T) {
	var sum keys.Sum
	for _, bad := range []string{
		"", "00", strings.Repeat("0", 63), strings.Repeat("0", 65), strings.Repeat("0", 66),
		strings.Repeat("g", 64), strings.Repeat("0", 63) + " ",
	} {
		if err := sum.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
	if err := sum.UnmarshalText([]byte(strings.Repeat("0aF", 21) + "9")); err != nil {
		t.Error(err)
	}
}
