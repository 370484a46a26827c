package admin

import (
	"fmt"
	"io"
	"maps"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"keystile/keys"
)

// rules says of every operation who may call it, with a path, and a body that it takes.
// A new operation fails the tests below until somebody has decided.
var rules = map[string]struct {
	access access
	body   string
}{
	"GET /keys":                              {accountsToo, ""},
	"POST /keys":                             {accountsToo, "{}"},
	"GET /keys/{key}":                        {accountsToo, ""},
	"PATCH /keys/{key}":                      {accountsToo, `{"active":true}`},
	"DELETE /keys/{key}":                     {accountsToo, ""},
	"POST /keys/{key}/rotate":                {accountsToo, "{}"},
	"GET /accounts":                          {administratorsOnly, ""},
	"POST /accounts":                         {administratorsOnly, `{"account":"other"}`},
	"GET /accounts/{account}":                {administratorsOnly, ""},
	"PATCH /accounts/{account}":              {administratorsOnly, `{"limit":1000}`},
	"DELETE /accounts/{account}":             {administratorsOnly, ""},
	"GET /accounts/{account}/tokens":         {administratorsOnly, ""},
	"POST /accounts/{account}/tokens":        {administratorsOnly, ""},
	"DELETE /accounts/{account}/tokens/{id}": {administratorsOnly, ""},
	"GET /audit":                             {administratorsOnly, ""},
	"GET /proxies":                           {administratorsOnly, ""},
	"GET /store/export":                      {administratorsOnly, ""},
	"GET /session":                           {everybody, ""},
	"POST /session":                          {everybody, signInBody},
	"DELETE /session":                        {everybody, ""},
	"GET /openapi.json":                      {accountsToo, ""},
}

// operations returns the calls that the description has.
func (b *bench) operations(t *testing.T) (calls []string) {
	d, _ := describe(t, b)
	for path, methods := range d.Paths {
		for method := range methods {
			calls = append(calls, strings.ToUpper(method)+" "+path)
		}
	}
	slices.Sort(calls)
	return calls
}

func TestEveryOperationHasItsRule(t *testing.T) {
	got, want := newExportBench(t, writes("")).operations(t), slices.Sorted(maps.Keys(rules))
	if !slices.Equal(got, want) {
		t.Errorf("the API has  %v\nrules are for %v", got, want)
	}
}

// called fills a path in.
func called(path, key, account, token string) string {
	return apiBase + strings.NewReplacer("{key}", key, "{account}", account, "{id}", token).Replace(path)
}

// TestAccountCallsWhatItMay calls every operation with the token of an active and of an
// inactive account, on what is its own.
func TestAccountCallsWhatItMay(t *testing.T) {
	for call, rule := range rules {
		for _, active := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s active %v", call, active), func(t *testing.T) {
				b := newExportBench(t, writes(""))
				token := b.account("acme")
				key := b.as(token, "POST", "/api/v1/keys", "").wants(t, 201, "").member("key")
				b.send("PATCH", "/api/v1/accounts/acme", fmt.Sprintf(`{"active":%v}`, active)).wants(t, 200, "")
				before := b.store.version
				method, path, _ := strings.Cut(call, " ")
				got := b.as(token, method, called(path, key, "acme", token[4:17]), rule.body)
				switch {
				case rule.access == administratorsOnly:
					got.wants(t, 403, "forbidden")
				case !active && method != "GET" && rule.access == accountsToo:
					got.wants(t, 403, "account_inactive")
				case got.status >= 300:
					t.Errorf("it is refused: %s", got.text)
				}
				if got.status == 403 && b.store.version != before {
					t.Error("something has changed")
				}
			})
		}
	}
}

func TestAdministratorCallsEverything(t *testing.T) {
	for call, rule := range rules {
		b := newExportBench(t, writes(""))
		token := b.account("acme")
		key, _ := b.create("")
		if strings.HasPrefix(call, "DELETE /accounts") {
			b.send("PATCH", "/api/v1/accounts/acme", `{"active":false}`).wants(t, 200, "")
		}
		method, path, _ := strings.Cut(call, " ")
		if got := b.send(method, called(path, key, "acme", token[4:17]), rule.body); got.status >= 300 {
			t.Errorf("%s: %s", call, got.text)
		}
	}
}

func TestOperationWithoutARuleIsForAdministrators(t *testing.T) {
	var forgotten description
	someone := principal{token: "T", account: keys.Account{ID: "acme", Active: true}}
	if p := someone.refused(forgotten.access, "GET"); p == nil || p.Code != "forbidden" {
		t.Errorf("an account gets %+v", p)
	}
	if p := (principal{}).refused(accountsToo, "GET"); p == nil {
		t.Error("nobody is let in")
	}
}

// TestForeignKeyReadsLikeOneThatDoesNotExist compares whole replies, headers included.
func TestForeignKeyReadsLikeOneThatDoesNotExist(t *testing.T) {
	b := newBench(t)
	token := b.account("acme")
	foreign := b.as(b.account("rival"), "POST", "/api/v1/keys", `{"name":"theirs"}`).wants(t, 201, "").member("key")
	byAdministrator, _ := b.create("")
	before := fmt.Sprint(b.store.records)
	for call, rule := range rules {
		method, path, _ := strings.Cut(call, " ")
		if !strings.Contains(path, "{key}") {
			continue
		}
		for _, header := range [][]string{{}, {"If-Match", `"1"`}, {"If-Match", `"999"`}, {"If-Match", "*"}, {"If-None-Match", "*"}} {
			unknown := b.as(token, method, called(path, keys.NewID().String(), "", ""), rule.body, append(header, "X-Request-Id", "same")...)
			unknown.wants(t, 404, "key_not_found")
			for _, key := range []string{foreign, byAdministrator} {
				got := b.as(token, method, called(path, key, "", ""), rule.body, append(header, "X-Request-Id", "same")...)
				unknown.header.Del("Date")
				got.header.Del("Date")
				if got.status != unknown.status || got.text != unknown.text || fmt.Sprint(got.header) != fmt.Sprint(unknown.header) {
					t.Errorf("%s %v: got %s %v\nwant %s %v", call, header, got.text, got.header, unknown.text, unknown.header)
				}
			}
		}
	}
	for _, taken := range []string{"theirs", "API key 1"} { // names are the account's own
		b.as(token, "PATCH", "/api/v1/keys/"+foreign, `{"name":"`+taken+`"}`).wants(t, 404, "key_not_found")
	}
	if fmt.Sprint(b.store.records) != before {
		t.Error("a foreign key has changed")
	}
}

func TestAccountSeesAndMakesItsOwnKeysAlone(t *testing.T) {
	b := newBench(t)
	token := b.account("acme")
	b.send("PATCH", "/api/v1/accounts/acme", `{"limit":1}`).wants(t, 200, "")
	b.account("rival")
	b.create(`{"account":"rival"}`)
	made := b.as(token, "POST", "/api/v1/keys", `{"account":"acme"}`).wants(t, 201, "")
	if made.member("account") != "acme" || made.member("name") != "API key 1" {
		t.Errorf("it made %s", made.text)
	}
	for _, path := range []string{"/api/v1/keys", "/api/v1/keys?account=acme"} {
		got := b.as(token, "GET", path, "").wants(t, 200, "")
		if list, _ := got.body["keys"].([]any); len(list) != 1 || !strings.Contains(got.text, made.member("key")) || got.body["limit"] != 1.0 {
			t.Errorf("%s lists %s", path, got.text)
		}
	}
	full := b.as(token, "POST", "/api/v1/keys", "").wants(t, 409, "key_limit_reached")
	if full.body["limit"] != 1.0 {
		t.Errorf("the limit is not told: %s", full.text)
	}
	for _, other := range []string{"rival", "default", "nobody", "ACME", "%", ""} {
		b.as(token, "POST", "/api/v1/keys", `{"account":"`+other+`"}`).wants(t, 404, "account_not_found")
	}
	for _, other := range []string{"rival", "default", "nobody", "ACME", "%25"} {
		b.as(token, "GET", "/api/v1/keys?account="+other, "").wants(t, 404, "account_not_found")
	}
}

// TestRateOfAKeyIsSetByAdministratorsAlone also holds that a foreign key stays unknown.
func TestRateOfAKeyIsSetByAdministratorsAlone(t *testing.T) {
	b := newBench(t)
	token := b.account("acme")
	foreign, _ := b.create("")
	own := b.as(token, "POST", "/api/v1/keys", "").wants(t, 201, "").member("key")
	for _, rate := range []string{`{"per_second":1000,"burst":1000}`, "null"} {
		body := `{"rate":` + rate + `}`
		b.as(token, "POST", "/api/v1/keys", body).wants(t, 403, "forbidden")
		b.as(token, "PATCH", "/api/v1/keys/"+own, body).wants(t, 403, "forbidden")
		b.as(token, "PATCH", "/api/v1/keys/"+foreign, body).wants(t, 404, "key_not_found")
		b.send("PATCH", "/api/v1/keys/"+own, body).wants(t, 200, "")
	}
}

func TestIdempotencyKeyIsScopedToThePrincipal(t *testing.T) {
	b := newBench(t)
	acme, rival := b.account("acme"), b.account("rival")
	made := map[string]bool{}
	for _, token := range []string{testToken, acme, rival} {
		first := b.as(token, "POST", "/api/v1/keys", "", "Idempotency-Key", "same").wants(t, 201, "").member("key")
		again := b.as(token, "POST", "/api/v1/keys", "", "Idempotency-Key", "same").wants(t, 200, "")
		if made[first] || again.member("key") != first || again.body["replayed"] != true {
			t.Errorf("%s was made, then %s", first, again.text)
		}
		made[first] = true
	}
}

// TestIdempotencyKeyEndsWithItsAccount has another customer get the id of one that has gone.
func TestIdempotencyKeyEndsWithItsAccount(t *testing.T) {
	b := newBench(t)
	b.as(b.account("acme"), "POST", "/api/v1/keys", "", "Idempotency-Key", "1").wants(t, 201, "")
	b.send("DELETE", "/api/v1/accounts/acme?with_keys=true", "").wants(t, 200, "")
	token := b.account("acme")
	again := b.store.accounts["acme"]
	again.Created = again.Created.Add(time.Millisecond)
	b.store.accounts["acme"] = again
	b.as(token, "POST", "/api/v1/keys", `{"name":"other"}`, "Idempotency-Key", "1").wants(t, 201, "")
	b.as(token, "POST", "/api/v1/keys", `{"name":"other"}`, "Idempotency-Key", "1").wants(t, 200, "")
}

func TestIdempotencyKeyIsRefusedWhereNobodyRemembersIt(t *testing.T) {
	for call, rule := range rules {
		method, path, _ := strings.Cut(call, " ")
		if method != "POST" || path == "/keys" {
			continue
		}
		b := newBench(t)
		b.account("acme")
		key, _ := b.create("")
		before := b.store.version
		got := b.send(method, called(path, key, "acme", ""), rule.body, "Idempotency-Key", "x").wants(t, 400, "bad_request")
		if b.store.version != before || got.header.Get("Set-Cookie") != "" || !strings.Contains(got.member("detail"), "no Idempotency-Key: ") {
			t.Errorf("%s: %s", call, got.text)
		}
	}
}

func TestWrongTokenOfAnAccountReadsLikeAnyOther(t *testing.T) {
	b := newBench(t)
	token := b.account("acme")
	_, unknown := newAccountToken()
	other := "A"
	if strings.HasSuffix(token, "A") {
		other = "B"
	}
	want := b.as("no-token-at-all", "GET", "/api/v1/keys", "", "X-Request-Id", "same").wants(t, 401, "unauthorized").text
	for name, row := range map[string]struct {
		text    string
		lookups int
	}{
		"unknown":       {unknown, 1},
		"wrong secret":  {token[:len(token)-1] + other, 1},
		"other case":    {strings.ToLower(token), 0},
		"longer":        {token + "A", 0},
		"cut off":       {token[:len(token)-1], 0},
		"the id alone":  {token[:17], 0},
		"a prefix more": {"x" + token, 0},
	} {
		b.store.lookups = 0
		got := b.as(row.text, "GET", "/api/v1/keys", "", "X-Request-Id", "same").wants(t, 401, "unauthorized")
		if got.text != want || b.store.lookups != row.lookups {
			t.Errorf("%s: %d lookups, %s", name, b.store.lookups, got.text)
		}
	}
	b.as(token, "GET", "/api/v1/keys", "").wants(t, 200, "")
}

func TestRevokedTokenAndDeletedAccountEndAtOnceWithTheirSessions(t *testing.T) {
	for name, end := range map[string]func(b *bench, id string){
		"token revoked":   func(b *bench, id string) { b.send("DELETE", "/api/v1/accounts/acme/tokens/"+id, "").wants(t, 200, "") },
		"account deleted": func(b *bench, _ string) { b.send("DELETE", "/api/v1/accounts/acme", "").wants(t, 200, "") },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			token, administrators := b.account("acme"), b.signIn("")
			cookie := b.signInWith(token)
			session := b.browse("GET", sessionPath, "", cookie).wants(t, 200, "")
			if want := `{"signed_in":true,"principal":"account","account":"acme"}`; strings.TrimSpace(session.text) != want {
				t.Errorf("the session is %s", session.text)
			}
			b.browse("GET", "/api/v1/keys", "", cookie).wants(t, 200, "")
			b.browse("GET", "/api/v1/accounts", "", cookie).wants(t, 403, "forbidden")
			end(b, token[4:17])
			b.as(token, "GET", "/api/v1/keys", "").wants(t, 401, "unauthorized")
			b.browse("GET", "/api/v1/keys", "", cookie).wants(t, 401, "unauthorized")
			b.browse("POST", "/api/v1/keys", "{}", cookie).wants(t, 401, "unauthorized")
			b.browse("POST", sessionPath, `{"token":"`+token+`"}`, "").wants(t, 401, "unauthorized")
			if b.signedIn(cookie) || !b.signedIn(administrators) {
				t.Error("the wrong session has ended")
			}
		})
	}
}

// slowBody does something before it comes.
type slowBody struct {
	first func()
	io.Reader
}

func (b *slowBody) Read(p []byte) (int, error) {
	if b.first != nil {
		b.first()
		b.first = nil
	}
	return b.Reader.Read(p)
}

func TestNothingIsBegunAfterTheReplyToARevocation(t *testing.T) {
	for name, row := range map[string]struct {
		end    func(b *bench, id string)
		status int
	}{
		"token revoked":   {func(b *bench, id string) { b.send("DELETE", "/api/v1/accounts/acme/tokens/"+id, "").wants(t, 200, "") }, 401},
		"account deleted": {func(b *bench, _ string) { b.send("DELETE", "/api/v1/accounts/acme", "").wants(t, 200, "") }, 401},
		"switched off": {func(b *bench, _ string) {
			b.send("PATCH", "/api/v1/accounts/acme", `{"active":false}`).wants(t, 200, "")
		}, 403},
		"store down": {func(b *bench, _ string) { b.store.err = errDown }, 503},
		"nothing":    {func(*bench, string) {}, 201},
	} {
		for _, by := range []string{"Authorization", "Cookie"} {
			t.Run(name+" "+by, func(t *testing.T) {
				b := newBench(t)
				token := b.account("acme")
				value := map[string]string{"Authorization": "Bearer " + token, "Cookie": b.signInWith(token)}[by]
				body := &slowBody{func() { row.end(b, token[4:17]) }, strings.NewReader("{}")}
				r := httptest.NewRequest("POST", "http://localhost/api/v1/keys", body)
				r.Header.Set("Content-Type", "application/json")
				r.Header.Set(by, value)
				w := httptest.NewRecorder()
				b.admin.ServeHTTP(w, r)
				if w.Code != row.status || len(b.store.records) > 0 != (row.status == 201) {
					t.Errorf("got %d, and %d keys: %s", w.Code, len(b.store.records), w.Body)
				}
			})
		}
	}
}

// TestTokenWhoseAccountIsGoneIsNone is about a deletion between two readings.
func TestTokenWhoseAccountIsGoneIsNone(t *testing.T) {
	b := newBench(t)
	token := b.account("acme")
	cookie := b.signInWith(token)
	delete(b.store.accounts, "acme")
	b.as(token, "GET", "/api/v1/keys", "").wants(t, 401, "unauthorized")
	b.browse("GET", "/api/v1/keys", "", cookie).wants(t, 401, "unauthorized")
	if b.signedIn(cookie) {
		t.Error("its session goes on")
	}
}

func TestInactiveAccountSignsInToRead(t *testing.T) {
	b := newBench(t)
	token := b.account("acme")
	b.send("PATCH", "/api/v1/accounts/acme", `{"active":false}`).wants(t, 200, "")
	cookie := b.signInWith(token)
	b.browse("GET", "/api/v1/keys", "", cookie).wants(t, 200, "")
	b.browse("POST", "/api/v1/keys", "{}", cookie).wants(t, 403, "account_inactive")
	b.browse("DELETE", sessionPath, "", cookie).wants(t, 204, "")
}

func TestStoreThatCannotLookATokenUpIsNoWrongToken(t *testing.T) {
	b := newBench(t)
	token := b.account("acme")
	cookie, administrators := b.signInWith(token), b.signIn("")
	b.store.err = errDown
	for name, got := range map[string]reply{
		"token":           b.as(token, "GET", "/api/v1/openapi.json", ""),
		"session":         b.browse("GET", "/api/v1/openapi.json", "", cookie),
		"asked for":       b.browse("GET", sessionPath, "", cookie),
		"signing in":      b.browse("POST", sessionPath, `{"token":"`+token+`"}`, ""),
		"with the cookie": b.browse("POST", sessionPath, `{"token":"`+token+`"}`, cookie),
	} {
		got.wants(t, 503, "store_unreachable")
		if got.header.Get("Retry-After") == "" || strings.Contains(got.text, "inner") || got.header.Get("Set-Cookie") != "" {
			t.Errorf("%s: %v %s", name, got.header, got.text)
		}
	}
	if strings.Contains(b.log.String(), "authentication failed") || !strings.Contains(b.log.String(), "asking inner") {
		t.Errorf("the log is %s", b.log)
	}
	b.send("GET", "/api/v1/openapi.json", "").wants(t, 200, "") // the administrator needs no store for it
	if !b.signedIn(administrators) {
		t.Error("the administrator is signed out")
	}
	b.browse("DELETE", sessionPath, "", cookie).wants(t, 204, "")
	b.store.err = nil
	if b.signedIn(cookie) {
		t.Error("signing out needs the store")
	}
}

func TestLogNamesTheAccountAndNotItsToken(t *testing.T) {
	b := newBench(t)
	token := b.account("acme")
	b.as(token, "POST", "/api/v1/keys", `{"name":"`+token+`"}`).wants(t, 422, "invalid_name")
	b.as(token, "PATCH", "/api/v1/keys/"+token, `{"`+token+`":1}`, "X-Request-Id", token)
	b.send("DELETE", "/api/v1/accounts/acme/tokens/"+token, "").wants(t, 404, "token_not_found")
	b.store.err = fmt.Errorf("%s: %w", token, keys.ErrUnavailable)
	b.as(token, "GET", "/api/v1/keys", "")
	b.store.err = nil
	log := b.log.String()
	if !strings.Contains(log, `"principal":"account:acme","operation":"create-key"`) || strings.Contains(log, token[18:30]) {
		t.Errorf("the log is %s", log)
	}
}
