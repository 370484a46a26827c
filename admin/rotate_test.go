package admin

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"keystile/keys"
)

// clocked is a bench whose clock stands still until it is moved.
func clocked(t testing.TB) (*bench, *time.Time) {
	now := testTime
	return newBench(t, func(o *Options) { o.Now = func() time.Time { return now } }), &now
}

// proves reports whether a secret proves its key by the record that is kept.
func (b *bench) proves(secret string, at time.Time) bool {
	b.t.Helper()
	parsed, err := keys.ParseSecret(secret)
	if err != nil {
		b.t.Fatal(err)
	}
	record := b.store.records[parsed.ID()]
	grant := record.Grant()
	_, proved := (*keys.Peppers)(nil).Match(&grant, parsed, at)
	return proved
}

func TestRotationGivesASecretAndSaysHowLongTheOldOneWorks(t *testing.T) {
	b, now := clocked(t)
	key, old := b.create(`{"name":"a"}`)
	path := "/api/v1/keys/" + key
	rotated := b.send("POST", path+"/rotate", `{"overlap":"24h"}`).wants(t, 200, "")
	want := fmt.Sprintf(`{"key":%q,"account":"default","name":"a","active":true,"created":"2026-03-04T12:06:08.008Z",`+
		`"updated":"2026-03-04T12:06:09.008Z","version":2,"previous_valid_until":"2026-03-05T12:06:07.008Z","secret":%q,"effective":"everywhere"}`,
		key, rotated.member("secret"))
	if strings.TrimSpace(rotated.text) != want || rotated.header.Get("ETag") != `"2"` {
		t.Errorf("ETag %s\ngot  %s\nwant %s", rotated.header.Get("ETag"), rotated.text, want)
	}
	end := now.Add(24 * time.Hour).Truncate(time.Millisecond)
	for _, at := range []time.Time{*now, end.Add(-1), end} {
		*now = at
		shown := b.send("GET", path, "").wants(t, 200, "").member("previous_valid_until")
		if works := at.Before(end); b.proves(old, at) != works || (shown != "") != works || !b.proves(rotated.member("secret"), at) {
			t.Errorf("%v before the end: the old secret works: %v, shown: %q", end.Sub(at), b.proves(old, at), shown)
		}
	}
}

func TestRecordTellsWhichSecretWasLastUsedWhileThereAreTwo(t *testing.T) {
	b, now := clocked(t)
	key, _ := b.create("")
	path := "/api/v1/keys/" + key
	id, _ := keys.ParseKey(key)
	shows := func(want string) {
		t.Helper()
		got := b.send("GET", path, "").wants(t, 200, "")
		list := b.send("GET", "/api/v1/keys", "").wants(t, 200, "")
		if got.member("last_used_secret") != want || strings.Contains(list.text, `"last_used_secret":"`+want+`"`) != (want != "") {
			t.Errorf("want %q, got %s in %s", want, got.text, list.text)
		}
		if strings.Contains(strings.ToLower(list.text+got.text), "mark") {
			t.Errorf("the mark is shown: %s", list.text)
		}
	}
	use := func(digest int) {
		use := keys.Use{At: *now, Mark: b.store.records[id].Digests[digest].Mark()}
		if err := b.store.Touch(t.Context(), map[keys.ID]keys.Use{id: use}); err != nil {
			t.Fatal(err)
		}
	}
	use(0)
	shows("") // there is one secret only
	rotated := b.send("POST", path+"/rotate", `{"overlap":"24h"}`).wants(t, 200, "")
	if rotated.member("last_used_secret") != "previous" {
		t.Errorf("got %s", rotated.text)
	}
	shows("previous")
	use(0)
	shows("present")
	use(1)
	shows("previous")
	if tag := b.send("GET", path, "").header.Get("ETag"); tag != rotated.header.Get("ETag") {
		t.Errorf("the ETag became %s", tag)
	}
	*now = now.Add(24 * time.Hour)
	shows("")
}

func TestRotationWithoutOverlapEndsTheOldSecretAtOnce(t *testing.T) {
	for _, body := range []string{"", "{}", `{"overlap":"0"}`, `{"overlap":"0s"}`} {
		b, now := clocked(t)
		key, old := b.create("")
		rotated := b.send("POST", "/api/v1/keys/"+key+"/rotate", body).wants(t, 200, "")
		if b.proves(old, *now) || !b.proves(rotated.member("secret"), *now) || rotated.body["previous_valid_until"] != nil {
			t.Errorf("%q: %s", body, rotated.text)
		}
	}
}

func TestOverlapIsADurationOfAtMostThirtyDays(t *testing.T) {
	b, _ := clocked(t)
	key, old := b.create("")
	path := "/api/v1/keys/" + key + "/rotate"
	for _, overlap := range []string{`""`, `"1d"`, `"24"`, `24`, `null`, `"-1s"`, `"720h0m1ns"`, `"9999999h"`, `"` + old + `"`} {
		refused := b.send("POST", path, `{"overlap":`+overlap+`}`).wants(t, 422, "invalid_body")
		if !strings.Contains(refused.text, `"location":"body.overlap"`) || strings.Contains(refused.text, old[27:60]) {
			t.Errorf("%s: %s", overlap, refused.text)
		}
	}
	b.send("POST", path, `{"Overlap":"1h"}`).wants(t, 422, "invalid_body")
	if got := b.send("GET", "/api/v1/keys/"+key, ""); got.header.Get("ETag") != `"1"` {
		t.Errorf("the key changed: %s", got.text)
	}
	b.send("POST", path, `{"overlap":"720h"}`).wants(t, 200, "")
}

// The call whose reply was lost: repeated, it ends nothing; then a rotation without an
// overlap replaces the secret that never arrived, and the one in use keeps its end.
func TestRotationThatIsRepeatedTakesNoSecretFromAnybody(t *testing.T) {
	b, now := clocked(t)
	key, used := b.create("")
	path := "/api/v1/keys/" + key
	lost := b.send("POST", path+"/rotate", `{"overlap":"1h"}`).wants(t, 200, "")
	repeated := b.send("POST", path+"/rotate", `{"overlap":"1h"}`).wants(t, 409, "overlap_running")
	if repeated.body["secret"] != nil || !b.proves(used, *now) || !b.proves(lost.member("secret"), *now) {
		t.Errorf("the repetition: %s", repeated.text)
	}
	again := b.send("POST", path+"/rotate", "").wants(t, 200, "")
	if again.member("previous_valid_until") != lost.member("previous_valid_until") ||
		!b.proves(used, *now) || b.proves(lost.member("secret"), *now) || !b.proves(again.member("secret"), *now) {
		t.Errorf("the rotation without an overlap: %s", again.text)
	}
	*now = now.Add(time.Hour)
	b.send("POST", path+"/rotate", `{"overlap":"1h"}`).wants(t, 200, "")
}

func TestPreviousSecretIsEndedEarlyByNull(t *testing.T) {
	b, now := clocked(t)
	key, old := b.create("")
	path := "/api/v1/keys/" + key
	rotated := b.send("POST", path+"/rotate", `{"overlap":"1h"}`).wants(t, 200, "")
	for _, other := range []string{`true`, `"x"`, `0`, `{}`, `[]`} {
		b.send("PATCH", path, `{"previous_secret":`+other+`}`).wants(t, 422, "invalid_body")
	}
	for _, version := range []float64{3, 3} { // the second time there is nothing to end
		ended := b.send("PATCH", path, `{"previous_secret":null}`).wants(t, 200, "")
		if b.proves(old, *now) || !b.proves(rotated.member("secret"), *now) || ended.body["version"] != version ||
			ended.body["previous_valid_until"] != nil || ended.member("effective") != "everywhere" {
			t.Errorf("ended early: %s", ended.text)
		}
	}
	b.send("POST", path+"/rotate", `{"overlap":"1h"}`).wants(t, 200, "")
}

func TestRotationHonoursIfMatch(t *testing.T) {
	b, _ := clocked(t)
	key, _ := b.create("")
	path := "/api/v1/keys/" + key + "/rotate"
	b.send("POST", path, "", "If-Match", `"1"`).wants(t, 200, "")
	b.send("POST", path, "", "If-Match", `"1"`).wants(t, 412, "version_mismatch") // the same call again
	b.send("POST", path, "", "If-Match", `1`).wants(t, 400, "bad_request")
	if got := b.send("GET", "/api/v1/keys/"+key, ""); got.header.Get("ETag") != `"2"` {
		t.Errorf("the key changed: %s", got.text)
	}
}

func TestRotationRefusesAnIdempotencyKeyThatNobodyWouldRemember(t *testing.T) {
	b, now := clocked(t)
	key, old := b.create("")
	for _, sent := range []string{"once", ""} {
		b.send("POST", "/api/v1/keys/"+key+"/rotate", "", "Idempotency-Key", sent).wants(t, 400, "bad_request")
	}
	if !b.proves(old, *now) {
		t.Error("the old secret was ended all the same")
	}
}

func TestRotationHasAReceiptAndRefusesWhatIsNoKey(t *testing.T) {
	b, _ := clocked(t)
	key, secret := b.create("")
	b.store.pending = []keys.Pending{{Proxy: "p1"}}
	rotated := b.send("POST", "/api/v1/keys/"+key+"/rotate", "").wants(t, 200, "")
	if !strings.Contains(rotated.text, `"pending":[{"proxy":"p1"}]`) || rotated.member("effective") != "" {
		t.Errorf("got %s", rotated.text)
	}
	for _, path := range []string{keys.NewID().String(), "short", secret} {
		b.send("POST", "/api/v1/keys/"+path+"/rotate", "").wants(t, 404, "key_not_found")
	}
}

func TestNewSecretAppearsInTheReplyToTheRotationAlone(t *testing.T) {
	b, _ := clocked(t)
	key, _ := b.create("")
	path := "/api/v1/keys/" + key
	secret := b.send("POST", path+"/rotate", `{"overlap":"1h"}`).wants(t, 200, "").member("secret")
	for _, r := range []reply{
		b.send("GET", "/api/v1/keys", ""),
		b.send("GET", path, ""),
		b.send("POST", path+"/rotate", `{"overlap":"1h"}`),
		b.send("PATCH", path, `{"previous_secret":null}`),
		b.send("POST", path+"/rotate", ""),
	} {
		if strings.Contains(r.text+fmt.Sprint(r.header), secret[27:60]) {
			t.Errorf("shown again: %s", r.text)
		}
	}
	if strings.Contains(b.log.String(), secret[27:60]) {
		t.Errorf("the log shows it: %s", b.log)
	}
}

func TestRotationSignsWithThePepper(t *testing.T) {
	peppers, err := keys.NewPeppers([]byte(strings.Repeat("p", keys.MinPepperLength)))
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t, func(o *Options) { o.Peppers = peppers })
	key, _ := b.create("")
	secret, err := keys.ParseSecret(b.send("POST", "/api/v1/keys/"+key+"/rotate", "").wants(t, 200, "").member("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if kept := b.store.records[secret.ID()].Digests[0]; kept != peppers.Digest(secret) || kept.Scheme != keys.HMACSHA256 {
		t.Errorf("kept %+v", kept)
	}
}
