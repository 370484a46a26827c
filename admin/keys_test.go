package admin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"keystile/keys"
)

func TestNewKeyComesWithItsSecretAndReceipt(t *testing.T) {
	b := newBench(t)
	made := b.send("POST", "/api/v1/keys", `{"name":"  Build server "}`).wants(t, 201, "")
	key := made.member("key")
	want := fmt.Sprintf(`{"key":%q,"account":"default","name":"Build server","active":true,`+
		`"created":"2026-03-04T12:06:08.008Z","updated":"2026-03-04T12:06:08.008Z","version":1,"secret":%q,"effective":"everywhere"}`,
		key, made.member("secret"))
	if strings.TrimSpace(made.text) != want {
		t.Errorf("got  %s\nwant %s", made.text, want)
	}
	if got := made.header.Get("Location"); got != "/api/v1/keys/"+key {
		t.Errorf("Location is %q", got)
	}
	if got := made.header.Get("ETag"); got != `"1"` {
		t.Errorf("ETag is %q", got)
	}
	b.send("GET", made.header.Get("Location"), "").wants(t, 200, "")
}

func TestNewSecretProvesItsKey(t *testing.T) {
	peppers, err := keys.NewPeppers([]byte(strings.Repeat("p", keys.MinPepperLength)))
	if err != nil {
		t.Fatal(err)
	}
	for name, peppers := range map[string]*keys.Peppers{"without pepper": nil, "with pepper": peppers} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, func(o *Options) { o.Peppers = peppers })
			key, text := b.create("")
			id, err := keys.ParseKey(key)
			if err != nil {
				t.Fatal(err)
			}
			secret, err := keys.ParseSecret(text)
			if err != nil {
				t.Fatal(err)
			}
			record := b.store.records[id]
			grant := record.Grant()
			if proved, ok := peppers.Match(&grant, secret, testTime); !ok || proved != peppers.Digest(secret) {
				t.Errorf("the secret does not prove the key it came with: %+v", proved)
			}
		})
	}
}

func TestKeyWithoutNameGetsTheFirstFreeOne(t *testing.T) {
	b := newBench(t)
	for _, body := range []string{"", "{}", `{"account":"default"}`, `{"rate":null}`} {
		b.create(body)
	}
	listed := b.send("GET", "/api/v1/keys", "").wants(t, 200, "")
	for n := 1; n <= 4; n++ {
		if !strings.Contains(listed.text, fmt.Sprintf(`"API key %d"`, n)) {
			t.Errorf("API key %d is missing: %s", n, listed.text)
		}
	}
}

func TestListHasTheNewestLastAndTheLimit(t *testing.T) {
	b := newBench(t)
	if empty := b.send("GET", "/api/v1/keys", "").wants(t, 200, ""); strings.TrimSpace(empty.text) != `{"keys":[],"limit":10}` {
		t.Errorf("an empty list is %s", empty.text)
	}
	first, _ := b.create("")
	second, _ := b.create("")
	for _, path := range []string{"/api/v1/keys", "/api/v1/keys?account=default"} {
		var listed struct {
			Keys  []Record
			Limit int
		}
		if err := json.Unmarshal([]byte(b.send("GET", path, "").wants(t, 200, "").text), &listed); err != nil {
			t.Fatal(err)
		}
		if len(listed.Keys) != 2 || listed.Keys[0].Key != first || listed.Keys[1].Key != second || listed.Limit != testLimit {
			t.Errorf("%s lists %+v", path, listed)
		}
	}
}

func TestEleventhKeyIsRefusedWithTheLimit(t *testing.T) {
	b := newBench(t)
	for range testLimit {
		b.create("")
	}
	refused := b.send("POST", "/api/v1/keys", "").wants(t, 409, "key_limit_reached")
	if refused.body["limit"] != float64(testLimit) {
		t.Errorf("the limit is not told: %s", refused.text)
	}
}

func TestSecondIdenticalNameIsRefused(t *testing.T) {
	b := newBench(t)
	b.create(`{"name":"caf\u00e9"}`)
	for _, same := range []string{`café`, `cafe\u0301`, `  café\t`} {
		b.send("POST", "/api/v1/keys", `{"name":"`+same+`"}`).wants(t, 409, "name_taken")
	}
	other, _ := b.create(`{"name":"Café"}`)
	b.send("PATCH", "/api/v1/keys/"+other, `{"name":"cafe\u0301"}`).wants(t, 409, "name_taken")
}

func TestBadNameIsRefusedWithTheReason(t *testing.T) {
	b := newBench(t)
	key, secret := b.create("")
	for name, word := range map[string]string{
		"":                       "empty",
		`   `:                    "empty",
		strings.Repeat("n", 65):  "too long",
		`a\u0000b`:               "control",
		`a\nb`:                   "control",
		`a\u202eb`:               "text-direction",
		secret:                   "secret",
		"my " + secret[:60]:      "secret",
		strings.Repeat("n", 1e4): "too long",
	} {
		for method, path := range map[string]string{"POST": "/api/v1/keys", "PATCH": "/api/v1/keys/" + key} {
			refused := b.send(method, path, `{"name":"`+name+`"}`).wants(t, 422, "invalid_name")
			if !strings.Contains(refused.member("detail"), word) {
				t.Errorf("%s %.20q: the detail does not say %q: %s", method, name, word, refused.text)
			}
		}
	}
}

func TestOnlyTheDefaultAccountExists(t *testing.T) {
	b := newBench(t)
	b.send("GET", "/api/v1/keys?account=other", "").wants(t, 404, "account_not_found")
	b.send("POST", "/api/v1/keys", `{"account":"other"}`).wants(t, 404, "account_not_found")
	b.send("POST", "/api/v1/keys", `{"account":""}`).wants(t, 404, "account_not_found")
}

func TestPatchChangesWhatIsSentAndNothingElse(t *testing.T) {
	b := newBench(t)
	key, _ := b.create(`{"name":"one","rate":{"per_second":0.5,"burst":3}}`)
	path := "/api/v1/keys/" + key
	steps := []struct {
		body, name string
		active     bool
		rate       any
		version    float64
	}{
		{`{"name":"two"}`, "two", true, map[string]any{"per_second": 0.5, "burst": 3.0}, 2},
		{`{"active":false}`, "two", false, map[string]any{"per_second": 0.5, "burst": 3.0}, 3},
		{`{}`, "two", false, map[string]any{"per_second": 0.5, "burst": 3.0}, 3},
		{`{"name":"two"}`, "two", false, map[string]any{"per_second": 0.5, "burst": 3.0}, 3},
		{`{"rate":{"per_second":20,"burst":40}}`, "two", false, map[string]any{"per_second": 20.0, "burst": 40.0}, 4},
		{`{"rate":null,"active":true}`, "two", true, nil, 5},
	}
	for _, step := range steps {
		changed := b.send("PATCH", path, step.body).wants(t, 200, "")
		for _, r := range []reply{changed, b.send("GET", path, "").wants(t, 200, "")} {
			got := fmt.Sprint(r.body["name"], r.body["active"], r.body["rate"], r.body["version"], r.header.Get("ETag"))
			want := fmt.Sprint(step.name, step.active, step.rate, step.version, fmt.Sprintf(`"%g"`, step.version))
			if got != want {
				t.Errorf("after %s: got %s, want %s", step.body, got, want)
			}
		}
		if changed.member("effective") != "everywhere" {
			t.Errorf("no receipt: %s", changed.text)
		}
	}
}

func TestDeletedKeyIsGone(t *testing.T) {
	b := newBench(t)
	key, _ := b.create("")
	gone := b.send("DELETE", "/api/v1/keys/"+key, "").wants(t, 200, "")
	if want := fmt.Sprintf(`{"key":%q,"version":2,"effective":"everywhere"}`, key); strings.TrimSpace(gone.text) != want {
		t.Errorf("got %s, want %s", gone.text, want)
	}
	for method, body := range map[string]string{"GET": "", "PATCH": "{}", "DELETE": ""} {
		b.send(method, "/api/v1/keys/"+key, body).wants(t, 404, "key_not_found")
	}
}

func TestReceiptNamesProxiesThatHaveNotConfirmed(t *testing.T) {
	b := newBench(t)
	b.store.pending = []keys.Pending{{Proxy: "p1", EffectiveBy: testTime}}
	want := `"pending":[{"proxy":"p1","effective_by":"2026-03-04T12:06:07.009Z"}]` // rounded up
	made := b.send("POST", "/api/v1/keys", "").wants(t, 201, "")
	path := "/api/v1/keys/" + made.member("key")
	changed := b.send("PATCH", path, `{"active":false}`).wants(t, 200, "")
	deleted := b.send("DELETE", path, "").wants(t, 200, "")
	for _, r := range []reply{made, changed, deleted} {
		if !strings.Contains(r.text, want) || strings.Contains(r.text, "everywhere") {
			t.Errorf("got %s, want %s", r.text, want)
		}
	}
}

func TestReceiptWithTooFewReplicasIsNotEverywhere(t *testing.T) {
	for _, test := range []struct {
		replicas keys.Replicas
		pending  []keys.Pending
		want     string
	}{
		{keys.Replicas{Want: 2, Have: 1}, nil, `"replicas":{"want":2,"have":1}}`},
		{keys.Replicas{Want: 2}, []keys.Pending{{Proxy: "p1", EffectiveBy: testTime}}, `"pending":[{"proxy":"p1","effective_by":"2026-03-04T12:06:07.009Z"}],"replicas":{"want":2,"have":0}}`},
		{keys.Replicas{Want: 2, Have: 2}, nil, `"effective":"everywhere"}`},
		{keys.Replicas{Want: 1, Have: 2}, nil, `"effective":"everywhere"}`},
	} {
		b := newBench(t)
		b.store.replicas, b.store.pending = test.replicas, test.pending
		made := b.send("POST", "/api/v1/keys", "").wants(t, 201, "")
		path := "/api/v1/keys/" + made.member("key")
		changed := b.send("PATCH", path, `{"active":false}`).wants(t, 200, "")
		deleted := b.send("DELETE", path, "").wants(t, 200, "")
		for _, r := range []reply{made, changed, deleted} {
			if !strings.HasSuffix(strings.TrimSpace(r.text), test.want) {
				t.Errorf("%+v: got %s, want %s", test.replicas, r.text, test.want)
			}
		}
	}
}

func TestLastUseIsShownAndChangesNoETag(t *testing.T) {
	b := newBench(t)
	key, _ := b.create("")
	id, _ := keys.ParseKey(key)
	if err := b.store.Touch(t.Context(), map[keys.ID]keys.Use{id: {At: testTime}}); err != nil {
		t.Fatal(err)
	}
	got := b.send("GET", "/api/v1/keys/"+key, "").wants(t, 200, "")
	if got.member("last_used") != "2026-03-04T12:06:07.008Z" || got.header.Get("ETag") != `"1"` {
		t.Errorf("got %s with ETag %s", got.text, got.header.Get("ETag"))
	}
}

func TestMalformedKeyIsNotFoundAndNotEchoed(t *testing.T) {
	b := newBench(t)
	_, secret := b.create("")
	for path, word := range map[string]string{
		"short":                          "kst_",
		"kst_tooshort":                   "truncated",
		"kst_" + strings.Repeat("x", 40): "too long",
		"kst_" + strings.Repeat("-", 22): "0-9",
		"kst_aaaaaaaaaaaaaaaaaaaaa%2F":   "0-9",
		secret:                           "is a secret",
		secret[:70]:                      "is a secret",
	} {
		for method, body := range map[string]string{"GET": "", "PATCH": "{}", "DELETE": ""} {
			refused := b.send(method, "/api/v1/keys/"+path, body).wants(t, 404, "key_not_found")
			if !strings.Contains(refused.member("detail"), word) || strings.Contains(refused.text, secret[27:70]) {
				t.Errorf("%s: detail of %s", path, refused.text)
			}
		}
	}
}

func TestStaleIfMatchChangesNothing(t *testing.T) {
	b := newBench(t)
	key, _ := b.create("")
	path := "/api/v1/keys/" + key
	b.send("PATCH", path, `{"active":false}`).wants(t, 200, "") // version 2
	for _, stale := range []string{`"1"`, `"3"`, `W/"2"`, `"1", "3"`, `"02"`, `"2 "`, `""`} {
		b.send("PATCH", path, `{"active":true}`, "If-Match", stale).wants(t, 412, "version_mismatch")
		b.send("DELETE", path, "", "If-Match", stale).wants(t, 412, "version_mismatch")
	}
	for _, malformed := range []string{"2", `"2`, `2"`, "", `W/2`, `"1", x`, "**", `*, "2"`} {
		b.send("PATCH", path, `{"active":true}`, "If-Match", malformed).wants(t, 400, "bad_request")
		b.send("DELETE", path, "", "If-Match", malformed).wants(t, 400, "bad_request")
	}
	if got := b.send("GET", path, ""); got.header.Get("ETag") != `"2"` || got.body["active"] != false {
		t.Errorf("the key changed: %s", got.text)
	}
}

func TestPresentIfMatchAllowsTheChange(t *testing.T) {
	b := newBench(t)
	key, _ := b.create("")
	path := "/api/v1/keys/" + key
	b.send("PATCH", path, `{"active":false}`, "If-Match", `"1"`).wants(t, 200, "")
	b.send("PATCH", path, `{"active":true}`, "If-Match", `"9" ,W/"2", "2"`).wants(t, 200, "")
	b.send("PATCH", path, `{"active":false}`, "If-Match", `"9"`, "If-Match", `"3"`).wants(t, 200, "")
	b.send("PATCH", path, `{"active":true}`, "If-Match", `*`).wants(t, 200, "")
	b.send("DELETE", path, "", "If-Match", `"5"`).wants(t, 200, "")
	b.send("DELETE", path, "", "If-Match", `*`).wants(t, 404, "key_not_found")
}

func TestIfNoneMatchSparesTheBody(t *testing.T) {
	b := newBench(t)
	key, _ := b.create("")
	path := "/api/v1/keys/" + key
	for _, present := range []string{`"1"`, `W/"1"`, `"7","1"`, `*`} {
		got := b.send("GET", path, "", "If-None-Match", present).wants(t, 304, "")
		if got.text != "" || got.header.Get("ETag") != `"1"` {
			t.Errorf("%s: %q with ETag %s", present, got.text, got.header.Get("ETag"))
		}
	}
	b.send("GET", path, "", "If-None-Match", `"2"`).wants(t, 200, "")
	b.send("GET", path, "", "If-None-Match", `1`).wants(t, 400, "bad_request")
}

func TestRepeatedCreationMakesOneKeyAndShowsNoSecret(t *testing.T) {
	b := newBench(t)
	made := b.send("POST", "/api/v1/keys", `{"name":"a","rate":{"per_second":1,"burst":2}}`, "Idempotency-Key", "once").wants(t, 201, "")
	for _, same := range []string{
		`{"name":"a","rate":{"per_second":1,"burst":2}}`,
		` { "rate": {"burst": 2, "per_second": 1.0}, "name": " \u0061", "account": "default" } `,
	} {
		again := b.send("POST", "/api/v1/keys", same, "Idempotency-Key", "once").wants(t, 200, "")
		if again.body["replayed"] != true || again.member("key") != made.member("key") || again.body["secret"] != nil ||
			again.member("effective") != "everywhere" || again.header.Get("Location") != made.header.Get("Location") {
			t.Errorf("the replay is %s", again.text)
		}
	}
	for _, other := range []string{"", `{"name":"b","rate":{"per_second":1,"burst":2}}`, `{"name":"a"}`, `{"name":"a","rate":{"per_second":1,"burst":3}}`} {
		b.send("POST", "/api/v1/keys", other, "Idempotency-Key", "once").wants(t, 422, "idempotency_key_reused")
	}
	if len(b.store.records) != 1 {
		t.Errorf("there are %d keys", len(b.store.records))
	}
	b.send("DELETE", "/api/v1/keys/"+made.member("key"), "").wants(t, 200, "")
	gone := b.send("POST", "/api/v1/keys", `{"name":"a","rate":{"per_second":1,"burst":2}}`, "Idempotency-Key", "once").wants(t, 404, "key_not_found")
	if !strings.Contains(gone.member("detail"), "deleted") {
		t.Errorf("the detail is %s", gone.text)
	}
}

func TestIdempotencyKeyBelongsToItsPrincipal(t *testing.T) {
	b := newBench(t)
	b.send("POST", "/api/v1/keys", "", "Idempotency-Key", "once").wants(t, 201, "")
	if _, ok := b.store.operations["administrator\x00once"]; !ok {
		t.Errorf("the operations are %v", b.store.operations)
	}
}

func TestMalformedIdempotencyKeyIsRefused(t *testing.T) {
	b := newBench(t)
	for _, malformed := range []string{"", strings.Repeat("x", 256), "caf\u00e9", "a\tb"} {
		b.send("POST", "/api/v1/keys", "", "Idempotency-Key", malformed).wants(t, 400, "bad_request")
	}
	b.send("POST", "/api/v1/keys", "", "Idempotency-Key", "a", "Idempotency-Key", "a").wants(t, 400, "bad_request")
	if len(b.store.records) != 0 {
		t.Errorf("there are %d keys", len(b.store.records))
	}
	b.send("POST", "/api/v1/keys", "", "Idempotency-Key", strings.Repeat("~ ", 127)+"!").wants(t, 201, "")
}

func TestParallelCreatesStopAtTheLimit(t *testing.T) {
	b := newBench(t)
	var made sync.Map
	var all sync.WaitGroup
	for range 4 * testLimit {
		all.Go(func() {
			r := b.send("POST", "/api/v1/keys", "")
			if r.status == http.StatusCreated {
				made.Store(r.member("key"), true)
			} else if r.code() != "key_limit_reached" {
				t.Errorf("got %s", r.text)
			}
		})
	}
	all.Wait()
	count := 0
	made.Range(func(any, any) bool { count++; return true })
	if count != testLimit {
		t.Errorf("made %d keys", count)
	}
}

func TestSecretAppearsInTheCreateReplyAlone(t *testing.T) {
	b := newBench(t)
	made := b.send("POST", "/api/v1/keys", `{"name":"a"}`, "Idempotency-Key", "once").wants(t, 201, "")
	secret, key := made.member("secret"), made.member("key")
	path := "/api/v1/keys/" + key
	replies := []reply{
		b.send("GET", "/api/v1/keys", ""),
		b.send("GET", path, ""),
		b.send("PATCH", path, `{"active":false}`),
		b.send("POST", "/api/v1/keys", `{"name":"a"}`, "Idempotency-Key", "once"),
		b.send("POST", "/api/v1/keys", `{"name":"`+secret+`"}`),
		b.send("POST", "/api/v1/keys", `{"`+secret+`":1}`),
		b.send("POST", "/api/v1/keys", `{"`+secret[:70]+`":1,"`+secret[:70]+`":1}`),
		b.send("POST", "/api/v1/keys", `{"name":1,"account":["`+secret+`"]}`),
		b.send("POST", "/api/v1/keys", secret),
		b.send("POST", "/api/v1/keys?"+secret+"=1", ""),
		b.send("POST", "/api/v1/keys?a="+secret+"&a=2", ""),
		b.send("POST", "/api/v1/keys?account="+secret, ""),
		b.send("POST", "/api/v1/keys", "", "Idempotency-Key", secret, "Idempotency-Key", secret),
		b.send("GET", path, "", "If-None-Match", secret),
		b.send("GET", "/api/v1/keys/"+secret, ""),
		b.send("GET", "/api/v1/keys/"+secret[:70], ""),
		b.send("GET", "/api/v1/"+secret, ""),
		b.send("GET", "/"+secret, ""),
		b.send(secret, "/api/v1/keys", ""),
		b.send("GET", "/api/v1/keys", "", "X-Request-Id", secret),
		b.send("GET", "/api/v1/keys", "", "X-Request-Id", secret[:64]),
		b.send("GET", "/api/v1/keys", "", "Authorization", "Bearer "+secret),
		b.send("GET", "/api/v1/openapi.json", ""),
		b.send("DELETE", path, ""),
	}
	random := secret[27:60] // so that a damaged secret is found as well
	for i, r := range replies {
		if strings.Contains(r.text+fmt.Sprint(r.header), random) {
			t.Errorf("reply %d shows the secret: %v %s", i, r.header, r.text)
		}
	}
	if strings.Contains(b.log.String(), random) {
		t.Errorf("the log shows the secret: %s", b.log)
	}
	if strings.Contains(b.log.String(), testToken) {
		t.Errorf("the log shows the token: %s", b.log)
	}
}
