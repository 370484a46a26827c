package admin

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const signInBody = `{"token":"` + testToken + `"}`

// browse calls the API as the console does: with a cookie and without a token.
func (b *bench) browse(method, path, body, cookie string, header ...string) reply {
	b.t.Helper()
	request := b.request(method, path, body)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Sec-Fetch-Site", "same-origin")
	if cookie != "" {
		request.Header.Set("Cookie", cookie)
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	return b.do(request)
}

// signIn signs in and returns the cookie.
func (b *bench) signIn(cookie string) string {
	b.t.Helper()
	got := b.browse("POST", sessionPath, signInBody, cookie).wants(b.t, 200, "")
	given, _, _ := strings.Cut(got.header.Get("Set-Cookie"), ";")
	return given
}

// signInWith signs in with another token, and returns the cookie.
func (b *bench) signInWith(token string) string {
	b.t.Helper()
	got := b.browse("POST", sessionPath, `{"token":"`+token+`"}`, "").wants(b.t, 200, "")
	given, _, _ := strings.Cut(got.header.Get("Set-Cookie"), ";")
	return given
}

// signedIn reports whether a cookie belongs to a session.
func (b *bench) signedIn(cookie string) bool {
	b.t.Helper()
	return b.browse("GET", sessionPath, "", cookie).wants(b.t, 200, "").body["signed_in"] == true
}

func TestSignInOpensTheAPIWithAnHttpOnlyStrictCookie(t *testing.T) {
	b := newBench(t, func(o *Options) { o.ProxyURL = "http://127.0.0.1:7" })
	got := b.browse("POST", sessionPath, signInBody, "").wants(t, 200, "")
	cookie, attributes, _ := strings.Cut(got.header.Get("Set-Cookie"), "; ")
	if attributes != "Path=/; HttpOnly; SameSite=Strict" || !strings.HasPrefix(cookie, "keystile_session=") || len(cookie) < 50 {
		t.Errorf("the cookie is %s; %s", cookie, attributes)
	}
	if got.member("proxy") != "http://127.0.0.1:7" || got.body["signed_in"] != true {
		t.Errorf("sign-in replies %s", got.text)
	}
	made := b.browse("POST", "/api/v1/keys", "{}", cookie).wants(t, 201, "")
	b.browse("DELETE", "/api/v1/keys/"+made.member("key"), "", cookie).wants(t, 200, "")
	b.browse("GET", "/api/v1/keys", "", "").wants(t, 401, "unauthorized")
	if again := b.browse("GET", "/api/v1/keys", "", cookie).wants(t, 200, ""); again.header.Get("Set-Cookie") != "" {
		t.Error("a call sends the cookie again")
	}
}

func TestStrangersLearnOnlyThatTheyAreNotSignedIn(t *testing.T) {
	b := newBench(t, func(o *Options) { o.ProxyURL = "http://127.0.0.1:7" })
	for _, cookie := range []string{"", "keystile_session=", "keystile_session=x", "keystile_session=" + strings.Repeat("A", 43)} {
		got := b.browse("GET", sessionPath, "", cookie).wants(t, 200, "")
		if strings.TrimSpace(got.text) != `{"signed_in":false}` || got.header.Get("Set-Cookie") != "" {
			t.Errorf("%q reads %s with cookie %q", cookie, got.text, got.header.Get("Set-Cookie"))
		}
		b.browse("DELETE", sessionPath, "", cookie).wants(t, 204, "")
		b.browse("GET", "/api/v1/keys", "", cookie).wants(t, 401, "unauthorized")
	}
}

func TestWrongTokenSignsNobodyIn(t *testing.T) {
	registry := prometheus.NewRegistry()
	b := newBench(t, withRegistry(registry))
	for body, code := range map[string]string{
		`{"token":"` + testToken + `x"}`: "unauthorized", `{"token":""}`: "unauthorized", `{}`: "invalid_body", `{"token":7}`: "invalid_body",
		`{"token":"a","token":"` + testToken + `"}`: "bad_request", `{"Token":"` + testToken + `"}`: "invalid_body",
		`{"token":"` + testToken + `","more":1}`: "invalid_body", "": "bad_request",
	} {
		got := b.browse("POST", sessionPath, body, "")
		if got.code() != code || got.header.Get("Set-Cookie") != "" || strings.Contains(got.text, testToken) {
			t.Errorf("%s: got %d, cookie %q: %s", body, got.status, got.header.Get("Set-Cookie"), got.text)
		}
	}
	b.browse("POST", sessionPath, signInBody, "", "Content-Type", "text/plain").wants(t, 415, "unsupported_media_type")
	b.browse("POST", sessionPath, signInBody, "", "Sec-Fetch-Site", "cross-site").wants(t, 403, "forbidden")
	b.browse("POST", sessionPath, signInBody, "", "Authorization", "Bearer wrong").wants(t, 401, "unauthorized")
	if log := b.log.String(); strings.Contains(log, `"level":"INFO"`) || strings.Count(log, `"level":"WARN"`) != 1 || strings.Contains(log, testToken) {
		t.Errorf("strangers write into the log: %s", log)
	}
	if text := b.send("GET", "/metrics", "").text; !strings.Contains(text, `keystile_admin_authentication_failures_total{reason="wrong"} 3`) {
		t.Errorf("the failures are not counted: %s", text)
	}
}

func TestSessionIDComesFromSignInAloneAndIsNewEachTime(t *testing.T) {
	b := newBench(t)
	planted := "keystile_session=" + strings.Repeat("A", 43)
	first := b.signIn(planted)
	if first == planted || b.signedIn(planted) || !b.signedIn(first) {
		t.Errorf("a planted id was taken: %s", first)
	}
	second := b.signIn(first)
	if second == first || b.signedIn(first) || !b.signedIn(second) {
		t.Error("the id outlives a second sign-in")
	}
}

func TestSignOutEndsTheSessionWhereverItsCookieIs(t *testing.T) {
	b := newBench(t)
	cookie, other := b.signIn(""), b.signIn("")
	got := b.browse("DELETE", sessionPath, "", cookie).wants(t, 204, "")
	if got.header.Get("Set-Cookie") != "keystile_session=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict" {
		t.Errorf("the cookie stays: %q", got.header.Get("Set-Cookie"))
	}
	b.browse("GET", "/api/v1/keys", "", cookie).wants(t, 401, "unauthorized")
	if b.signedIn(cookie) || !b.signedIn(other) {
		t.Error("another session has ended than the one of the cookie")
	}
}

func TestChangeBySessionNeedsJSONFromThisOrigin(t *testing.T) {
	b := newBench(t)
	cookie := b.signIn("")
	key, _ := b.create("")
	for _, call := range []struct{ method, path string }{
		{"POST", "/api/v1/keys"}, {"DELETE", "/api/v1/keys/" + key}, {"PATCH", "/api/v1/keys/" + key}, {"DELETE", sessionPath},
	} {
		for _, mediaType := range []string{"", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"} {
			b.browse(call.method, call.path, "", cookie, "Content-Type", mediaType).wants(t, 415, "unsupported_media_type")
		}
		for _, header := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Sec-Fetch-Site", "", "Origin", "http://localhost:1"}} {
			b.browse(call.method, call.path, "", cookie, header...).wants(t, 403, "forbidden")
		}
	}
	if !b.signedIn(cookie) || len(b.store.records) != 1 {
		t.Error("something has changed")
	}
}

func TestTokenCountsBeforeTheCookie(t *testing.T) {
	b := newBench(t)
	cookie := b.signIn("")
	b.browse("GET", "/api/v1/keys", "", cookie, "Authorization", "Bearer wrong").wants(t, 401, "unauthorized")
	b.browse("GET", "/api/v1/keys", "", cookie, "Authorization", "").wants(t, 401, "unauthorized")
	b.send("DELETE", "/api/v1/keys/kst_0123456789012345678901", "", "Cookie", cookie).wants(t, 404, "key_not_found") // a script needs no JSON
}

func TestCookieOverTLSIsBoundToTheHost(t *testing.T) {
	b := newBench(t)
	server := httptest.NewTLSServer(b.admin)
	defer server.Close()
	request, _ := http.NewRequest("POST", server.URL+sessionPath, strings.NewReader(signInBody))
	request.Header.Set("Content-Type", "application/json")
	response, err := server.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	cookie, attributes, _ := strings.Cut(response.Header.Get("Set-Cookie"), "; ")
	if !strings.HasPrefix(cookie, "__Host-keystile_session=") || attributes != "Path=/; HttpOnly; Secure; SameSite=Strict" {
		t.Errorf("the cookie is %s; %s", cookie, attributes)
	}
	if b.signedIn(cookie) {
		t.Error("a cookie of TLS counts without it")
	}
}

// inBubble runs a test of sessions in bubble time.
func inBubble(t *testing.T, test func(*testing.T, *sessions)) {
	synctest.Test(t, func(t *testing.T) {
		s := newSessions()
		defer func() {
			synctest.Wait() // the cleaning, begun by a goroutine of its own, is there to be stopped
			s.store.StopCleanup()
		}()
		test(t, s)
	})
}

func TestSessionExpiresWithoutUse(t *testing.T) {
	inBubble(t, func(t *testing.T, s *sessions) {
		id, err := s.start(t.Context(), "", administrator)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(sessionIdle - time.Second)
		if s.principal(t.Context(), id, true) != administrator {
			t.Error("it has expired too early")
		}
		time.Sleep(sessionIdle - time.Second)
		if s.principal(t.Context(), id, false) != administrator {
			t.Error("a use did not keep it")
		}
		time.Sleep(2 * time.Second)
		if s.principal(t.Context(), id, false) != "" {
			t.Error("the console's own reading kept it")
		}
	})
}

func TestSessionExpiresInTheEndHoweverItIsUsed(t *testing.T) {
	inBubble(t, func(t *testing.T, s *sessions) {
		id, err := s.start(t.Context(), "", administrator)
		if err != nil {
			t.Fatal(err)
		}
		for used := time.Duration(0); used < sessionLifetime; used += sessionIdle / 2 {
			if s.principal(t.Context(), id, true) == "" {
				t.Fatalf("it has expired after %v", used)
			}
			time.Sleep(sessionIdle / 2)
		}
		time.Sleep(time.Second)
		if s.principal(t.Context(), id, true) != "" {
			t.Error("it is endless")
		}
	})
}

func TestOldestSessionOfAPrincipalGivesWay(t *testing.T) {
	inBubble(t, func(t *testing.T, s *sessions) {
		start := func(old, principal string) string {
			id, err := s.start(t.Context(), old, principal)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
			return id
		}
		administrators := start("", administrator)
		var ids []string
		for range maxSessions + 3 {
			ids = append(ids, start("", "GEZDGNBVGY3TQ"))
		}
		last := len(ids) - 1
		ids[last] = start(ids[last], "GEZDGNBVGY3TQ") // in the place of the one before
		for i, id := range ids {
			if there := s.principal(t.Context(), id, false) != ""; there != (i >= 3) {
				t.Errorf("session %d is there: %v", i, there)
			}
		}
		if s.principal(t.Context(), administrators, false) == "" {
			t.Error("an account ended the session of an administrator")
		}
	})
}

func TestOnlyAPersonKeepsASessionFromExpiring(t *testing.T) {
	for call, use := range map[string]bool{
		"GET /api/v1/keys": false, "GET /api/v1/proxies": false, "GET /api/v1/session": true, "POST /api/v1/keys": true, "DELETE /api/v1/keys/x": true,
	} {
		method, path, _ := strings.Cut(call, " ")
		if isUse(httptest.NewRequest(method, path, nil)) != use {
			t.Errorf("%s is a use: %v", call, !use)
		}
	}
}

func TestConnectionOfASessionIsTheAdministratorsAndThatOfAStrangerIsNot(t *testing.T) {
	b := newBench(t)
	cookie := b.signIn("")
	for _, row := range []struct {
		method, body, cookie string
		want                 claim
	}{
		{"GET", "", "", noClaim},
		{"POST", `{"token":"wrong"}`, "", noClaim},
		{"POST", signInBody, "", administrates},
		{"GET", "", cookie, administrates},
	} {
		conn := &connection{all: &connections{}}
		r := httptest.NewRequest(row.method, "http://localhost"+sessionPath, strings.NewReader(row.body))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Cookie", row.cookie)
		b.admin.ServeHTTP(httptest.NewRecorder(), r.WithContext(context.WithValue(t.Context(), connectionKey{}, conn)))
		if conn.claim != row.want {
			t.Errorf("after %s %s its connection has claim %d, want %d", row.method, row.body, conn.claim, row.want)
		}
	}
}
