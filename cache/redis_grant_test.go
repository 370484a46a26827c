package cache

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"keystile/keys"
)

// drawText draws the text of a record, as the scripts keep it.
func drawText(t *rapid.T) string {
	digest := rapid.Custom(func(t *rapid.T) keys.Digest {
		d := keys.Digest{
			Scheme: keys.Scheme(rapid.Uint8().Draw(t, "scheme")), Pepper: rapid.Uint32().Draw(t, "pepper"),
			Until: rapid.Int64().Draw(t, "until"),
		}
		copy(d.Sum[:], rapid.SliceOfN(rapid.Byte(), len(d.Sum), len(d.Sum)).Draw(t, "sum"))
		return d
	})
	moment := rapid.Map(rapid.Int64Range(0, 1<<40), func(n int64) time.Time { return time.UnixMilli(n).UTC() })
	record := keys.Record{
		Created: moment.Draw(t, "created"), Updated: moment.Draw(t, "updated"),
		Rate: keys.Rate{
			PerSecond: rapid.Float64Range(0, math.MaxFloat64).Draw(t, "rate"), Burst: rapid.IntRange(-1, math.MaxInt32).Draw(t, "burst"),
		},
		Digests: [2]keys.Digest{digest.Draw(t, "digest"), digest.Draw(t, "digest before")},
	}
	tail, err := encodeRest(&record)
	if err != nil {
		t.Fatal(err)
	}
	number, word := rapid.StringMatching("[0-9]{1,21}"), rapid.StringMatching("[^\n]{0,8}")
	return strings.Join([]string{
		number.Draw(t, "version"), number.Draw(t, "born"), word.Draw(t, "account"), word.Draw(t, "name"),
		rapid.SampledFrom([]string{"0", "1"}).Draw(t, "active"), tail,
	}, "\n")
}

func TestGrantReadByHandIsTheOneOfTheRecord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id, text := keys.NewID(), drawText(t)
		if rapid.Bool().Draw(t, "damaged") {
			at := rapid.IntRange(0, len(text)-1).Draw(t, "at")
			text = text[:at] + rapid.StringMatching(`[\n0-9a-z"{},: ]{0,3}`).Draw(t, "instead") + text[at+1:]
		}
		want, err := decodeText(id, text)
		if err != nil {
			return // what cannot be read in full may still be judged by
		}
		if got, err := decodeGrant(id, text); err != nil || got != want.Grant() {
			t.Fatalf("%+v, %v, want %+v", got, err, want.Grant())
		}
	})
}

func TestTextThatIsNoRecordIsRefused(t *testing.T) {
	for _, text := range []string{"", "1", "1\n1\na\nn\n1\n", "1\n1\na\nn\n1\n{", "x\n1\na\nn\n1\n{}"} {
		if grant, err := decodeGrant(keys.NewID(), text); err == nil {
			t.Errorf("%q was read as %+v", text, grant)
		}
	}
}

func TestWatchersAreToldWhatAResyncChanged(t *testing.T) {
	same, other, gone, added := keys.NewID(), keys.NewID(), keys.NewID(), keys.NewID()
	from, next := newTable(), newNextSet(9)
	for i, id := range []keys.ID{same, other, gone} {
		from.put(grant(id, uint64(i+1)))
	}
	off := grant(other, 7)
	off.Active = false
	next.put(added, grant(added, 8), "text")
	next.put(same, grant(same, 1), "text")
	next.put(other, off, "text")
	next.put(gone, grant(gone, 3), "text")
	next.put(gone, keys.Grant{}, "")
	want := []keys.Change{
		{Version: 7, ID: other, Grant: off}, {Version: 8, ID: added, Grant: grant(added, 8)}, {Version: 9, ID: gone, Deleted: true},
	}
	if got := differences(from, next); !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}
