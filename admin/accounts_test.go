package admin

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"keystile/keys"
)

func TestAccountIsMadeReadChangedAndDeleted(t *testing.T) {
	b := newBench(t)
	const times = `"created":"2026-03-04T12:06:07.008Z","updated":"2026-03-04T12:06:07.008Z"`
	made := b.send("POST", "/api/v1/accounts", `{"account":"a.B_1@x+y-z","name":"  Acme Ltd "}`).wants(t, 201, "")
	want := `{"account":"a.B_1@x+y-z","name":"Acme Ltd","active":true,"limit":10,"default_limit":true,` + times + `,"version":1,"effective":"everywhere"}`
	if strings.TrimSpace(made.text) != want || made.header.Get("ETag") != `"1"` {
		t.Errorf("got  %s %v\nwant %s", made.text, made.header, want)
	}
	path := made.header.Get("Location")
	for _, path := range []string{path, "/api/v1/accounts/a.B_1%40x%2By-z"} {
		got := b.send("GET", path, "").wants(t, 200, "")
		if want := strings.Replace(want, `,"effective":"everywhere"`, "", 1); strings.TrimSpace(got.text) != want || got.header.Get("ETag") != `"1"` {
			t.Errorf("%s: got  %s\nwant %s", path, got.text, want)
		}
		b.send("GET", path, "", "If-None-Match", `"1"`).wants(t, 304, "")
	}

	changed := b.send("PATCH", path, `{"name":"Acme","active":false,"limit":3}`, "If-Match", `"1"`).wants(t, 200, "")
	want = `{"account":"a.B_1@x+y-z","name":"Acme","active":false,"limit":3,` + times + `,"version":2,"effective":"everywhere"}`
	if strings.TrimSpace(changed.text) != want || changed.header.Get("ETag") != `"2"` {
		t.Errorf("got  %s\nwant %s", changed.text, want)
	}
	b.send("PATCH", path, `{"limit":null}`, "If-Match", `"1"`).wants(t, 412, "version_mismatch")
	if got := b.send("PATCH", path, `{"limit":null}`).wants(t, 200, ""); got.body["limit"] != 10.0 || got.body["default_limit"] != true {
		t.Errorf("the limit is not the default: %s", got.text)
	}
	if got := b.send("PATCH", path, `{}`).wants(t, 200, ""); got.body["version"] != 3.0 {
		t.Errorf("nothing has a version: %s", got.text)
	}

	b.send("DELETE", path, "", "If-Match", `"1"`).wants(t, 412, "version_mismatch")
	deleted := b.send("DELETE", path, "", "If-Match", `"3"`).wants(t, 200, "")
	if want := `{"account":"a.B_1@x+y-z","version":4,"effective":"everywhere"}`; strings.TrimSpace(deleted.text) != want {
		t.Errorf("got %s, want %s", deleted.text, want)
	}
	b.send("GET", path, "").wants(t, 404, "account_not_found")
}

func TestAccountsAreListedById(t *testing.T) {
	b := newBench(t)
	b.account("zeta")
	b.account("acme")
	got := b.send("GET", "/api/v1/accounts", "").wants(t, 200, "")
	a, d, z := strings.Index(got.text, `"acme"`), strings.Index(got.text, `"default"`), strings.Index(got.text, `"zeta"`)
	if a < 0 || d < a || z < d {
		t.Errorf("got %s", got.text)
	}
	if always := `{"account":"default","active":true,"limit":10,"default_limit":true,"version":0}`; !strings.Contains(got.text, always) {
		t.Errorf("the default account is not %s: %s", always, got.text)
	}
	b.send("GET", "/api/v1/accounts/default", "", "If-None-Match", `"0"`).wants(t, 304, "")
}

func TestRefusedAccountIsNotMade(t *testing.T) {
	b := newBench(t)
	b.account("acme")
	before := b.store.version
	longID := `{"account":"` + strings.Repeat("a", 65) + `"}`
	longName := `{"account":"a","name":"` + strings.Repeat("n", 65) + `"}`
	longBody := `{"account":"` + strings.Repeat("a", maxBody) + `"}`
	for body, code := range map[string]string{
		`{"account":"acme"}`:             "409 account_exists",
		`{"account":"default"}`:          "409 account_exists",
		`{"account":""}`:                 "422 invalid_account",
		`{"account":"-a"}`:               "422 invalid_account",
		`{"account":"a/b"}`:              "422 invalid_account",
		`{"account":"é"}`:                "422 invalid_account",
		longID:                           "422 invalid_account",
		`{"account":"kac_0123"}`:         "422 invalid_account",
		`{"account":"a","name":""}`:      "422 invalid_name",
		`{"account":"a","name":"kac_x"}`: "422 invalid_name",
		longName:                         "422 invalid_name",
		`{"account":"a","name":null}`:    "422 invalid_body",
		`{"account":null}`:               "422 invalid_body",
		`{}`:                             "422 invalid_body",
		``:                               "400 bad_request",
		`{"account":"a","limit":0}`:      "422 invalid_body",
		`{"account":"a","limit":-1}`:     "422 invalid_body",
		`{"account":"a","limit":1001}`:   "422 invalid_body",
		`{"account":"a","limit":1.5}`:    "422 invalid_body",
		`{"account":"a","limit":"1"}`:    "422 invalid_body",
		`{"account":"a","active":true}`:  "422 invalid_body",
		`{"account":"a","Limit":1}`:      "422 invalid_body",
		`{"account":"a","account":"b"}`:  "400 bad_request",
		`{"account":"a","limit":1e400}`:  "400 bad_request",
		longBody:                         "413 body_too_large",
	} {
		got := b.send("POST", "/api/v1/accounts", body)
		if fmt.Sprint(got.status, " ", got.code()) != code || strings.Contains(got.text, "kac_") {
			t.Errorf("%.80s: want %s, got %s", body, code, got.text)
		}
	}
	for body, code := range map[string]string{
		`{"limit":0}`: "422 invalid_body", `{"limit":1001}`: "422 invalid_body", `{"name":""}`: "422 invalid_name", `{"name":null}`: "422 invalid_body",
		`{"active":null}`: "422 invalid_body", `{"active":1}`: "422 invalid_body", `{"account":"b"}`: "422 invalid_body", ``: "400 bad_request",
	} {
		got := b.send("PATCH", "/api/v1/accounts/acme", body)
		if fmt.Sprint(got.status, " ", got.code()) != code {
			t.Errorf("%s: want %s, got %s", body, code, got.text)
		}
	}
	if b.store.version != before {
		t.Error("something has changed")
	}
}

func TestCallOnAnAccountThatDoesNotExistIsNotFound(t *testing.T) {
	b := newBench(t)
	for _, id := range []string{"nobody", "-", "a%2Fb", "%00", "Default", strings.Repeat("a", 65)} {
		path := "/api/v1/accounts/" + id
		for _, got := range []reply{
			b.send("GET", path, ""), b.send("PATCH", path, `{"active":true}`), b.send("DELETE", path, ""), b.send("GET", path+"/tokens", ""),
			b.send("POST", path+"/tokens", ""), b.send("DELETE", path+"/tokens/AAAAAAAAAAAAA", ""),
		} {
			got.wants(t, 404, "account_not_found")
		}
	}
	for _, id := range []string{"nobody", "%25", "a/b"} {
		b.send("GET", "/api/v1/keys?account="+id, "").wants(t, 404, "account_not_found")
		b.send("POST", "/api/v1/keys", `{"account":"`+id+`"}`).wants(t, 404, "account_not_found")
	}
	b.send("POST", "/api/v1/keys", `{"account":""}`).wants(t, 404, "account_not_found")
}

func TestAccountWithKeysIsDeletedWithThemOnly(t *testing.T) {
	b := newBench(t)
	b.account("acme")
	key, _ := b.create(`{"account":"acme"}`)
	for _, query := range []string{"", "?with_keys=false"} {
		b.send("DELETE", "/api/v1/accounts/acme"+query, "").wants(t, 409, "account_has_keys")
	}
	for _, query := range []string{"?with_keys=maybe", "?withkeys=true", "?with_keys=true&with_keys=true"} {
		b.send("DELETE", "/api/v1/accounts/acme"+query, "").wants(t, 400, "bad_request")
	}
	b.send("DELETE", "/api/v1/accounts/default?with_keys=true", "").wants(t, 409, "default_account")
	b.send("GET", "/api/v1/keys/"+key, "").wants(t, 200, "")
	b.send("DELETE", "/api/v1/accounts/acme?with_keys=true", "").wants(t, 200, "")
	b.send("GET", "/api/v1/keys/"+key, "").wants(t, 404, "key_not_found")
}

func TestKeysOfAnInactiveAccountAreSuspendedAndKeepTheirSwitch(t *testing.T) {
	b := newBench(t)
	b.account("acme")
	key, _ := b.create(`{"account":"acme"}`)
	path := "/api/v1/keys/" + key
	if got := b.send("GET", path, ""); strings.Contains(got.text, "suspended") {
		t.Errorf("an active account's is %s", got.text)
	}
	b.send("PATCH", "/api/v1/accounts/acme", `{"active":false}`).wants(t, 200, "")
	for _, got := range []reply{b.send("GET", path, ""), b.send("PATCH", path, `{"active":true}`), b.send("POST", "/api/v1/keys", `{"account":"acme"}`)} {
		if got.body["suspended"] != true || got.body["active"] != true {
			t.Errorf("got %s", got.text)
		}
	}
	b.send("PATCH", "/api/v1/accounts/acme", `{"active":true}`).wants(t, 200, "")
	if got := b.send("GET", path, ""); strings.Contains(got.text, "suspended") || got.body["active"] != true {
		t.Errorf("got %s", got.text)
	}
}

func TestLimitOfTheListIsThatOfTheAccountAskedFor(t *testing.T) {
	b := newBench(t)
	b.send("POST", "/api/v1/accounts", `{"account":"acme","limit":1000}`).wants(t, 201, "")
	for path, limit := range map[string]float64{"": testLimit, "?account=default": testLimit, "?account=acme": keys.MaxLimit} {
		if got := b.send("GET", "/api/v1/keys"+path, "").wants(t, 200, ""); got.body["limit"] != limit {
			t.Errorf("%s: got %s", path, got.text)
		}
	}
}

func TestReceiptOfAnAccountSaysWhoIsPending(t *testing.T) {
	b := newBench(t)
	token := b.account("acme")
	b.store.pending = []keys.Pending{{Proxy: "gate-2/8", EffectiveBy: testTime.Add(time.Minute)}}
	for _, got := range []reply{
		b.send("PATCH", "/api/v1/accounts/acme", `{"active":false}`), b.send("POST", "/api/v1/accounts", `{"account":"other"}`),
		b.send("POST", "/api/v1/accounts/acme/tokens", ""), b.send("DELETE", "/api/v1/accounts/acme/tokens/"+token[4:17], ""),
		b.send("DELETE", "/api/v1/accounts/acme", ""),
	} {
		if !strings.Contains(got.text, `"pending":[{"proxy":"gate-2/8","effective_by":"2026-03-04T12:07:07.009Z"}]`) || strings.Contains(got.text, "everywhere") {
			t.Errorf("got %s", got.text)
		}
	}
}

func TestTokenIsShownOnceThenListedAndRevoked(t *testing.T) {
	b := newBench(t)
	b.send("POST", "/api/v1/accounts", `{"account":"acme"}`).wants(t, 201, "")
	path := "/api/v1/accounts/acme/tokens"
	if empty := b.send("GET", path, "").wants(t, 200, ""); strings.TrimSpace(empty.text) != `{"tokens":[]}` {
		t.Errorf("an empty list is %s", empty.text)
	}
	made := b.send("POST", path, `{"name":" build "}`).wants(t, 201, "")
	id, text := made.member("id"), made.member("token")
	want := fmt.Sprintf(`{"id":%q,"name":"build","created":"2026-03-04T12:06:09.008Z","token":%q,"effective":"everywhere"}`, id, text)
	if strings.TrimSpace(made.text) != want || !accountTokenShape.MatchString(text) || text[4:17] != id {
		t.Errorf("got  %s\nwant %s", made.text, want)
	}
	second := b.send("POST", path, "").wants(t, 201, "")
	if second.member("token") == text || second.member("id") == id {
		t.Error("two tokens are one")
	}
	listed := b.send("GET", path, "").wants(t, 200, "")
	want = fmt.Sprintf(`{"tokens":[{"id":%q,"name":"build","created":"2026-03-04T12:06:09.008Z"},{"id":%q,"created":"2026-03-04T12:06:10.008Z"}]}`, id, second.member("id"))
	if strings.TrimSpace(listed.text) != want {
		t.Errorf("got  %s\nwant %s", listed.text, want)
	}
	if kept := fmt.Sprintf("%+v %s", b.store.tokens, b.store.trail.entries); strings.Contains(kept, text[18:]) || strings.Contains(b.log.String(), text[18:]) {
		t.Error("the token is kept as it is")
	}
	b.send("POST", "/api/v1/accounts", `{"account":"other"}`).wants(t, 201, "")
	for _, wrong := range []string{"/api/v1/accounts/other/tokens/" + id, path + "/AAAAAAAAAAAAA", path + "/" + text, path + "/x", path + "/" + strings.ToLower(id)} {
		b.send("DELETE", wrong, "").wants(t, 404, "token_not_found")
	}
	if got := b.send("DELETE", path+"/"+id, "").wants(t, 200, ""); strings.TrimSpace(got.text) != fmt.Sprintf(`{"id":%q,"effective":"everywhere"}`, id) {
		t.Errorf("got %s", got.text)
	}
	b.send("DELETE", path+"/"+id, "").wants(t, 404, "token_not_found")
	b.store.err = errDown
	b.send("DELETE", path+"/"+text, "").wants(t, 404, "token_not_found") // the store never gets what somebody pasted
	b.store.err = nil
	b.as(text, "GET", "/api/v1/keys", "").wants(t, 401, "unauthorized")
	b.as(second.member("token"), "GET", "/api/v1/keys", "").wants(t, 200, "")
}

func TestRefusedTokenIsNotMade(t *testing.T) {
	b := newBench(t)
	b.send("POST", "/api/v1/accounts", `{"account":"acme"}`).wants(t, 201, "")
	for body, code := range map[string]string{
		`{"name":""}`: "422 invalid_name", `{"name":"my kac_x"}`: "422 invalid_name", `{"name":null}`: "422 invalid_body", `{"token":"x"}`: "422 invalid_body", `[]`: "422 invalid_body",
	} {
		if got := b.send("POST", "/api/v1/accounts/acme/tokens", body); fmt.Sprint(got.status, " ", got.code()) != code {
			t.Errorf("%s: want %s, got %s", body, code, got.text)
		}
	}
	if len(b.store.tokens) != 0 {
		t.Error("a token was made")
	}
}
