package admin

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// everyCall is each call of the API, with a path that exists or not.
var everyCall = []struct{ method, path string }{
	{"GET", "/api/v1/keys"},
	{"POST", "/api/v1/keys"},
	{"GET", "/api/v1/keys/kst_0123456789012345678901"},
	{"PATCH", "/api/v1/keys/kst_0123456789012345678901"},
	{"DELETE", "/api/v1/keys/kst_0123456789012345678901"},
	{"GET", "/api/v1/openapi.json"},
	{"GET", "/api/v1/nothing"},
	{"PUT", "/api/v1/keys"},
}

func TestEveryCallNeedsTheToken(t *testing.T) {
	b := newBench(t)
	for _, call := range everyCall {
		for name, header := range map[string][]string{
			"none":         {},
			"empty":        {""},
			"no token":     {"Bearer "},
			"wrong":        {"Bearer " + strings.Repeat("x", 40)},
			"truncated":    {"Bearer " + testToken[:len(testToken)-1]},
			"longer":       {"Bearer " + testToken + "x"},
			"other case":   {"Bearer " + strings.ToUpper(testToken)},
			"no scheme":    {testToken},
			"other scheme": {"Basic " + testToken},
			"twice":        {"Bearer " + testToken, "Bearer " + testToken},
		} {
			request := b.request(call.method, call.path, "")
			request.Header["Authorization"] = header
			got := b.do(request).wants(t, 401, "unauthorized")
			if got.header.Get("Www-Authenticate") != `Bearer realm="keystile"` {
				t.Errorf("%s: WWW-Authenticate is %q", name, got.header.Get("Www-Authenticate"))
			}
		}
	}
	if len(b.store.records) != 0 {
		t.Error("a key was made without the token")
	}
	request := b.request("GET", "/api/v1/keys", "")
	request.Header.Set("Authorization", "bEARER  "+testToken)
	b.do(request).wants(t, 200, "")
}

func TestZeroTokenAdmitsNobody(t *testing.T) {
	b := newBench(t, func(o *Options) { o.Token = Token{} })
	for _, text := range []string{"", strings.Repeat("\x00", 32), testToken} {
		if (Token{}).Is(text) {
			t.Errorf("the zero token is %q", text)
		}
	}
	b.send("GET", "/api/v1/keys", "").wants(t, 401, "unauthorized")
}

func TestFailedAuthenticationsFillNeitherLogNorMetrics(t *testing.T) {
	now := time.Unix(1000, 0)
	registry := prometheus.NewRegistry()
	b := newBench(t, withRegistry(registry), func(o *Options) { o.Now = func() time.Time { return now } })
	refused := func(token string) {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("GET", "http://localhost/api/v1/keys", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		b.admin.ServeHTTP(w, r)
		if w.Code != 401 {
			t.Fatalf("got %d", w.Code)
		}
	}
	for i := range 50 {
		refused(fmt.Sprintf("guess-number-%d-of-very-many-guesses", i))
	}
	if lines := strings.Count(b.log.String(), "authentication failed"); lines != 1 {
		t.Errorf("50 failures within a second made %d lines", lines)
	}
	now = now.Add(time.Second)
	refused("another-guess-another-guess-another-guess")
	if !strings.Contains(b.log.String(), `"level":"WARN","msg":"admin authentication failed","reason":"wrong"`) ||
		!strings.Contains(b.log.String(), `"failures":50`) || strings.Contains(b.log.String(), "guess") {
		t.Errorf("the log is %s", b.log)
	}
	metrics := b.send("GET", "/metrics", "").wants(t, 200, "").text
	if !strings.Contains(metrics, `keystile_admin_authentication_failures_total{reason="wrong"} 51`) {
		t.Errorf("the failures are not counted: %s", metrics)
	}
	if got := strings.Count(metrics, "keystile_admin_"); got != 3*2+7 { // HELP, TYPE and series
		t.Errorf("there are other series: %s", metrics)
	}
}

func TestUnknownHostIsRefused(t *testing.T) {
	b := newBench(t, withRegistry(prometheus.NewRegistry()), func(o *Options) { o.Hosts = []string{"Admin.Example", "ported.example:8081", ""} })
	known := []string{
		"localhost", "localhost:8081", "LOCALHOST.", "127.0.0.1", "127.0.0.1:8081", "10.1.2.3:1", "[::1]", "[::1]:8081",
		"admin.example", "ADMIN.example.:99", "ported.example",
	}
	unknown := []string{
		"evil.example", "evil.example:8081", "localhost.evil.example", "127.0.0.1.evil.example", "xadmin.example", "admin.example.evil",
		"sub.localhost", "2130706433", "0x7f.1",
	}
	for _, path := range []string{"/api/v1/keys", "/api/v1/nothing", "/metrics"} {
		for _, host := range known {
			request := b.request("GET", path, "")
			request.Host = host
			request.Header.Set("Authorization", "Bearer "+testToken)
			if got := b.do(request); got.status == 421 {
				t.Errorf("%s is refused: %s", host, got.text)
			}
		}
		for _, host := range unknown {
			request := b.request("GET", path, "")
			request.Host = host
			request.Header.Set("Authorization", "Bearer "+testToken)
			got := b.do(request).wants(t, 421, "unknown_host")
			if !strings.Contains(got.member("detail"), "admin.hosts") {
				t.Errorf("the detail does not say what to do: %s", got.text)
			}
		}
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		request := b.request("GET", path, "")
		request.Host = "pod-7.example"
		b.do(request).wants(t, 200, "")
	}
	nameless := httptest.NewRequest("GET", "/api/v1/keys", nil)
	nameless.Host = ""
	w := httptest.NewRecorder()
	b.admin.ServeHTTP(w, nameless)
	if w.Code != 421 {
		t.Errorf("a request without a host gets %d", w.Code)
	}
}

func TestBrowserOfAnotherOriginChangesNothing(t *testing.T) {
	b := newBench(t)
	for _, header := range [][]string{
		{"Sec-Fetch-Site", "cross-site"},
		{"Sec-Fetch-Site", "same-site"},
		{"Origin", "https://evil.example"},
		{"Origin", "null"},
	} {
		b.send("POST", "/api/v1/keys", "{}", header...).wants(t, 403, "forbidden")
	}
	if len(b.store.records) != 0 {
		t.Error("a key was made")
	}
	b.send("POST", "/api/v1/keys", "{}", "Sec-Fetch-Site", "same-origin", "Origin", b.url).wants(t, 201, "")
}

func TestMetricsBeyondLoopbackNeedTheToken(t *testing.T) {
	for _, row := range []struct {
		peer, header string
		token        bool
		public       bool
		status       int
	}{
		{peer: "127.0.0.1:5", status: 200},
		{peer: "[::1]:5", status: 200},
		{peer: "[::ffff:127.0.0.1]:5", status: 200},
		{peer: "10.0.0.1:5", status: 401},
		{peer: "10.0.0.1:5", token: true, status: 200},
		{peer: "10.0.0.1:5", public: true, status: 200},
		{peer: "10.0.0.1:5", header: "X-Forwarded-For", status: 401},
		{peer: "127.0.0.1:5", header: "X-Forwarded-For", status: 401},
		{peer: "127.0.0.1:5", header: "X-Forwarded-Proto", status: 401},
		{peer: "127.0.0.1:5", header: "Forwarded", status: 401},
		{peer: "127.0.0.1:5", header: "X-Real-IP", status: 401},
		{peer: "127.0.0.1:5", header: "Via", token: true, status: 200},
		{peer: "", status: 401},
		{peer: "@", status: 401},
	} {
		b := newBench(t, withRegistry(prometheus.NewRegistry()), func(o *Options) { o.MetricsPublic = row.public })
		r := httptest.NewRequest("GET", "http://localhost/metrics", nil)
		r.RemoteAddr = row.peer
		if row.header != "" {
			r.Header.Set(row.header, "127.0.0.1")
		}
		if row.token {
			r.Header.Set("Authorization", "Bearer "+testToken)
		}
		w := httptest.NewRecorder()
		b.admin.ServeHTTP(w, r)
		if w.Code != row.status {
			t.Errorf("%+v gets %d", row, w.Code)
		}
		if open := strings.Contains(w.Body.String(), "keystile_admin_requests_total"); open != (row.status == 200) {
			t.Errorf("%+v reads %s", row, w.Body)
		}
	}
}

func TestQueryIsStrict(t *testing.T) {
	b := newBench(t)
	for _, query := range []string{"acount=default", "account=default&account=default", "account&account=default", "a;b", "%zz", "Account=default"} {
		b.send("GET", "/api/v1/keys?"+query, "").wants(t, 400, "bad_request")
	}
	b.send("GET", "/api/v1/keys?", "").wants(t, 200, "")
}

func TestWrongPathAndMethodAreProblems(t *testing.T) {
	b := newBench(t)
	for _, path := range []string{"/keys", "/api", "/api/v1", "/api/v1/", "/api/v1/keys/", "//api/v1/keys", "/api/v1/keys/x/y", "/api/v2/keys", "/metrics"} {
		b.send("GET", path, "").wants(t, 404, "not_found")
	}
	for _, row := range []struct{ method, path, allow string }{
		{"PUT", "/api/v1/keys", "GET POST HEAD"},
		{"OPTIONS", "/api/v1/keys", "GET POST HEAD"},
		{"FOO", "/api/v1/keys", "GET POST HEAD"},
		{"PUT", "/api/v1/keys/kst_0123456789012345678901", "GET PATCH DELETE HEAD"},
		{"POST", "/api/v1/openapi.json", "GET HEAD"},
		{"POST", "/healthz", "GET HEAD"},
	} {
		got := b.send(row.method, row.path, "").wants(t, 405, "method_not_allowed")
		if allow := strings.Join(got.header.Values("Allow"), " "); allow != row.allow {
			t.Errorf("%s %s: Allow is %q, want %q", row.method, row.path, allow, row.allow)
		}
	}
	b.send("FOO", "/nothing", "").wants(t, 404, "not_found")
}

func TestHeadAnswersAsGetWithoutBody(t *testing.T) {
	b := newBench(t)
	key, _ := b.create("")
	for _, path := range []string{"/api/v1/keys", "/api/v1/keys/" + key, "/healthz", "/readyz"} {
		got := b.send("HEAD", path, "").wants(t, 200, "")
		if got.text != "" || got.header.Get("Content-Length") == "" {
			t.Errorf("%s: %q %v", path, got.text, got.header)
		}
	}
	request := b.request("HEAD", "/api/v1/keys", "")
	if got, err := http.DefaultTransport.RoundTrip(request); err != nil || got.StatusCode != 401 {
		t.Errorf("without the token: %v %v", got, err)
	}
}
