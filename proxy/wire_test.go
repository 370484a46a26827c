package proxy

import (
	stdcmp "cmp"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// exchangeRow is a request as bytes and what must come of it on both sides.
type exchangeRow struct {
	name     string
	send     func(*stage) string
	status   int
	code     string              // of the error body; "": the request is forwarded
	received func(*stage) string // by the upstream; nil: nothing
	header   map[string]string   // of the answer
	adjust   func(*settings)     // nil: nothing
	message  string              // part of the error's message
	method   string              // "": GET
}

func (row exchangeRow) run(t *testing.T) {
	t.Parallel()
	row.check(t)
}

// check sends the row's bytes and looks at both ends.
func (row exchangeRow) check(t *testing.T) {
	t.Helper()
	var adjust []func(*settings)
	if row.adjust != nil {
		adjust = append(adjust, row.adjust)
	}
	s := newStage(t, adjust...)
	res, body := s.dial(t).send(row.send(s)).answer(stdcmp.Or(row.method, "GET"))
	if res.StatusCode != row.status {
		t.Errorf("status %d, not %d: %s", res.StatusCode, row.status, body)
	}
	for name, value := range row.header {
		if got := strings.Join(res.Header.Values(name), "|"); got != value {
			t.Errorf("%s: %q, not %q", name, got, value)
		}
	}
	if row.code != "" {
		checkRefusal(t, body, row.code, row.message)
	}
	if row.received == nil {
		s.untouched(t)
		if n := s.upstream.accepted.Load(); n != 0 {
			t.Errorf("%d connections were made to the upstream", n)
		}
		return
	}
	if diff := cmp.Diff(row.received(s), sortedHead(s.upstream.bytes())); diff != "" {
		t.Errorf("what the upstream received differs (-want +got):\n%s", diff)
	}
	s.blameless(t)
}

func checkRefusal(t *testing.T, body, code, message string) {
	t.Helper()
	var refused errorBody
	if err := json.Unmarshal([]byte(body), &refused); err != nil {
		t.Fatalf("the body %q is not JSON: %v", body, err)
	}
	if refused.Code != code || !strings.Contains(refused.Message, message) {
		t.Errorf("code %q with message %q, not %q with %q", refused.Code, refused.Message, code, message)
	}
}

// asking makes the send of a row with credentials.
func asking(line string, headers ...string) func(*stage) string {
	return func(s *stage) string { return s.request(line, headers...) }
}

// reaching makes the received of a row without a body.
func reaching(line string, headers ...string) func(*stage) string {
	return func(s *stage) string { return s.forwarded(line, "", headers...) }
}

func TestWireTargetThatIsNoPathIsRefused(t *testing.T) {
	t.Parallel()
	for _, row := range []exchangeRow{
		{name: "opaque target", send: asking("GET x:v1/admin HTTP/1.1"), status: 400, code: "bad_request", message: "begins with /"},
		{name: "absolute form, foreign authority", send: asking("GET http://other.test/a HTTP/1.1"), status: 400, code: "bad_request"},
		{name: "absolute form, own authority", send: asking("GET http://proxy.test/a HTTP/1.1"), status: 400, code: "bad_request"},
		{name: "absolute form, https", send: asking("GET https://proxy.test/a HTTP/1.1"), status: 400, code: "bad_request"},
		{name: "asterisk with OPTIONS", send: asking("OPTIONS * HTTP/1.1"), status: 400, code: "bad_request"},
		{name: "fragment", send: asking("GET /a#/b HTTP/1.1"), status: 400, code: "bad_request", message: "#"},
		{name: "fragment in the query", send: asking("GET /a?b#c HTTP/1.1"), status: 400, code: "bad_request", message: "#"},
		{name: "two slashes and a character to be encoded", send: asking("GET //a\"b HTTP/1.1"), status: 400, code: "bad_request", message: "percent-encoded"},
		{name: "strangers are told the same", send: func(s *stage) string { return s.stranger("GET x:v1/admin HTTP/1.1") }, status: 400, code: "bad_request"},
	} {
		t.Run(row.name, row.run)
	}
}

func TestWireOtherMethodsAreRefusedWithAllow(t *testing.T) {
	t.Parallel()
	allow := map[string]string{"Allow": "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"}
	for _, line := range []string{
		"CONNECT other.test:443 HTTP/1.1", "PRI * HTTP/2.0", "TRACE /a HTTP/1.1",
		"get /a HTTP/1.1", "PROPFIND /a HTTP/1.1", "QUERY /a HTTP/1.1",
	} {
		row := exchangeRow{send: asking(line), status: 405, code: "method_not_allowed", header: allow}
		t.Run(strings.Fields(line)[0], row.run)
	}
}

func TestWireMethodsOfTheListAreForwarded(t *testing.T) {
	t.Parallel()
	for _, method := range methods {
		var headers []string
		if method == "POST" || method == "PUT" || method == "PATCH" {
			headers = []string{"Content-Length: 0"} // which net/http adds by itself
		}
		row := exchangeRow{
			send: asking(method + " /a HTTP/1.1"), status: 200, method: method,
			received: reaching(method+" /a HTTP/1.1", headers...),
		}
		if method == "HEAD" {
			row.adjust = answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
		}
		t.Run(method, row.run)
	}
}

func TestWireTargetIsForwardedByteForByte(t *testing.T) {
	t.Parallel()
	for _, target := range []string{
		"/", "/?", "/a?", "/a/%2e%2e/b%2fc", "//a/%2e%2e/b%2fc", "//key/api/v1/run", "/a//b/../c/./d",
		"/a?x=1;y=2", "/a?x=%zz&y", "/a?x=a+b%20c&x=", "/a;v=1/b,c", "/%00%5c\\", "/a|b\"<>^`{}", "/caf\xc3\xa9", "/%E4",
		"/a?q=//http://x/?y", "/:80", "/a?\xff", "/a%2Fb%2fb",
	} {
		row := exchangeRow{
			send: asking("GET " + target + " HTTP/1.1"), status: 200,
			received: reaching("GET " + target + " HTTP/1.1"),
		}
		t.Run(target, row.run)
	}
}

func TestWireTargetIsPutAfterTheBasePathByteForByte(t *testing.T) {
	t.Parallel()
	for _, base := range []string{"/base", "/base/", "/b%2fse"} {
		for _, target := range []string{"/", "//a/%2e%2e/b%2fc", "/a?x=1;y=%zz"} {
			row := exchangeRow{
				send: asking("POST "+target+" HTTP/1.1", "Content-Length: 0"), status: 200,
				received: reaching("POST "+strings.TrimSuffix(base, "/")+target+" HTTP/1.1", "Content-Length: 0"),
				adjust: func(with *settings) {
					with.Upstream, _ = with.Upstream.Parse(base)
				},
			}
			t.Run(base+" "+target, row.run)
		}
	}
}

func TestWireCredentialsNeverReachTheUpstream(t *testing.T) {
	t.Parallel()
	pair := []string{"X-Key: Key {key}", "X-Secret: Secret {secret}"}
	for _, row := range []exchangeRow{
		{
			name: "key and secret", status: 200, received: reaching("GET /a HTTP/1.1", "Accept: a"),
			send: func(s *stage) string { return s.stranger("GET /a HTTP/1.1", append(pair, "Accept: a")...) },
		},
		{
			name: "a credential header named in Connection", status: 200, received: reaching("GET /a HTTP/1.1"),
			send: func(s *stage) string {
				return s.stranger("GET /a HTTP/1.1", append(pair, "Connection: X-Key, X-Secret, close")...)
			},
		},
		{
			name: "two of X-Key", status: 401, code: "ambiguous_credentials", message: "X-Key",
			send: func(s *stage) string { return s.stranger("GET /a HTTP/1.1", append(pair, "X-Key: {key}")...) },
		},
		{
			name: "X_Key beside X-Key", status: 401, code: "ambiguous_credentials", message: "underscore",
			send: func(s *stage) string { return s.stranger("GET /a HTTP/1.1", append(pair, "X_Key: {key}")...) },
		},
		{
			name: "ignored carriers are removed, look-alikes included", status: 200, received: reaching("GET /a HTTP/1.1"),
			send:   asking("GET /a HTTP/1.1", "X-Api-Key: a", "X-Api-Key: b", "X_Api-Key: c", "x-key: d", "X_SECRET: e"),
			adjust: func(with *settings) { with.IgnoreCarriers = []Carrier{APIKey, KeySecret} },
		},
		{
			name: "the upstream's own are set in their place", status: 200,
			received: reaching("GET /a HTTP/1.1", "Authorization: Bearer provider", "X-Key: ours"),
			send:     asking("GET /a HTTP/1.1", "Connection: Authorization"),
			adjust: func(with *settings) {
				with.UpstreamHeaders = map[string][]string{"Authorization": {"Bearer provider"}, "X-Key": {"ours"}}
			},
		},
		{
			name: "a header set for the upstream cannot be removed by the client", status: 200,
			received: reaching("GET /a HTTP/1.1", "X-Account: ours"),
			send:     asking("GET /a HTTP/1.1", "X-Account: theirs", "Connection: close, X-Account"),
			adjust:   func(with *settings) { with.UpstreamHeaders = map[string][]string{"X-Account": {"ours"}} },
		},
		{
			name: "look-alikes of what is set for the upstream are removed", status: 200,
			received: reaching("GET /a HTTP/1.1", "X-Account-Id: ours"),
			send: asking("GET /a HTTP/1.1", "X_Account_Id: a", "x-account_id: b", "X-Account-Id: c", "X_Request_Id: d",
				"Connection: X-Account-Id"),
			adjust: func(with *settings) { with.UpstreamHeaders = map[string][]string{"X-Account-Id": {"ours"}} },
		},
	} {
		t.Run(row.name, row.run)
	}
}

func TestWireForwardingHeadersAreOursAlone(t *testing.T) {
	t.Parallel()
	claims := []string{
		"X-Forwarded-For: 1.2.3.4", "X-Forwarded-Host: evil.test", "X-Forwarded-Proto: https", "X-Forwarded-Port: 1",
		"Forwarded: for=1.2.3.4", "X-Real-IP: 1.2.3.4", "X-Keystile-Account: admin",
		"X_Forwarded_For: 1.2.3.4", "X_Forwarded-Host: evil.test", "X_Real_IP: 1.2.3.4", "X_Keystile_Account: admin", "x-real_ip: 1.2.3.4",
	}
	trusting := func(with *settings) { with.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} }
	for _, row := range []exchangeRow{
		{
			name: "a client's are removed", status: 200, received: reaching("GET /a HTTP/1.1"),
			send: asking("GET /a HTTP/1.1", claims...),
		},
		{
			name: "naming ours in Connection does not remove them", status: 200, received: reaching("GET /a HTTP/1.1"),
			send: asking("GET /a HTTP/1.1", "Connection: X-Forwarded-For, X-Request-Id"),
		},
		{
			name: "a trusted peer's are kept, look-alikes are not", status: 200, adjust: trusting,
			send: asking("GET /a HTTP/1.1", claims...),
			received: func(s *stage) string {
				return sortedHead(s.fill("GET /a HTTP/1.1\r\nHost: {upstream}\r\nX-Request-Id: test-1\r\n" +
					"X-Forwarded-For: 1.2.3.4, 127.0.0.1\r\nX-Forwarded-Host: evil.test\r\nX-Forwarded-Proto: https\r\n" +
					"X-Forwarded-Port: 1\r\nForwarded: for=1.2.3.4\r\nX-Real-Ip: 1.2.3.4\r\n\r\n"))
			},
		},
		{
			name: "Host is the upstream's", status: 200, received: reaching("GET /a HTTP/1.1"),
			send: asking("GET /a HTTP/1.1"),
		},
		{
			name: "Host is the client's with preserve_host", status: 200,
			send: asking("GET /a HTTP/1.1"), adjust: func(with *settings) { with.PreserveHost = true },
			received: func(s *stage) string {
				return strings.Replace(s.forwarded("GET /a HTTP/1.1", ""), "Host: "+s.upstream.address(), "Host: proxy.test", 1)
			},
		},
		{
			name: "hop-by-hop headers end here", status: 200, received: reaching("GET /a HTTP/1.1", "Te: trailers"),
			send: asking("GET /a HTTP/1.1", "Te: trailers, gzip", "Keep-Alive: 5", "Proxy-Connection: x", "Proxy-Authorization: Basic eDp5", "Trailer: X-Account-Id"),
		},
	} {
		t.Run(row.name, row.run)
	}
}

func TestWireUpgradesOtherThanWebSocketAreDropped(t *testing.T) {
	t.Parallel()
	upgrades := map[string][]string{
		"h2c":                     {"Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"},
		"h2c beside websocket":    {"Connection: Upgrade", "Upgrade: websocket, h2c"},
		"bytes that are no token": {"Connection: Upgrade", "Upgrade: h2c\xff"},
		"HTTP2-Settings alone":    {"HTTP2-Settings: AAMAAABk"},
	}
	for name, headers := range upgrades {
		row := exchangeRow{
			send: asking("GET /a HTTP/1.1", headers...), status: 200, received: reaching("GET /a HTTP/1.1"),
			adjust: func(with *settings) { with.WebSocket = true },
		}
		t.Run(name, row.run)
	}
	off := exchangeRow{
		send: asking("GET /a HTTP/1.1", "Connection: Upgrade", "Upgrade: websocket"), status: 200,
		received: reaching("GET /a HTTP/1.1"),
	}
	t.Run("websocket where it is not configured", off.run)
}

func TestWireHeadThatNetHTTPRefusesGoesNoFurther(t *testing.T) {
	t.Parallel()
	for _, row := range []exchangeRow{
		{name: "no Host", status: 400, send: func(s *stage) string { return s.fill("GET /a HTTP/1.1\r\nAuthorization: Bearer {secret}\r\n\r\n") }},
		{name: "two of Host", status: 400, send: asking("GET /a HTTP/1.1", "Host: other.test")},
		{name: "a space before the colon", status: 400, send: asking("GET /a HTTP/1.1", "X-Key : a")},
		{name: "HTTP/3.0", status: 505, send: asking("GET /a HTTP/3.0")},
		{name: "an unknown transfer coding", status: 501, send: asking("POST /a HTTP/1.1", "Transfer-Encoding: gzip, chunked")},
		{name: "two lengths", status: 400, send: asking("POST /a HTTP/1.1", "Content-Length: 1", "Content-Length: 2")},
		{name: "a NUL in a header", status: 400, send: asking("GET /a HTTP/1.1", "X-A: a\x00b")},
		{name: "another expectation", status: 417, send: asking("POST /a HTTP/1.1", "Expect: 200-ok", "Content-Length: 1")},
	} {
		t.Run(row.name, row.run)
	}
}

func TestWireFoldedCredentialIsMalformed(t *testing.T) {
	t.Parallel()
	for _, row := range []exchangeRow{
		{name: "X-Key", status: 401, code: "malformed_credentials", send: func(s *stage) string {
			return s.stranger("GET /a HTTP/1.1", "X-Key: kst_\r\n "+s.id.String()[4:], "X-Secret: {secret}")
		}},
		{name: "Bearer", status: 401, code: "malformed_credentials", send: func(s *stage) string {
			return s.stranger("GET /a HTTP/1.1", "Authorization: Bearer kss_\r\n\t"+s.secret.Reveal()[4:])
		}},
	} {
		t.Run(row.name, row.run)
	}
}

func TestWireLengthAndChunkedNeverGoOnTogether(t *testing.T) {
	t.Parallel()
	exchangeRow{
		status: 200, method: "POST",
		send: func(s *stage) string {
			return s.request("POST /a HTTP/1.1", "Content-Length: 3", "Transfer-Encoding: chunked") + chunk("abcdef") + "0\r\n\r\n"
		},
		received: func(s *stage) string {
			return s.forwarded("POST /a HTTP/1.1", chunk("abcdef")+"0\r\n\r\n", "Transfer-Encoding: chunked")
		},
	}.check(t)
}

// TestWireNotYet names the rows that hold only once there is more than net/http in
// front, or scopes.
func TestWireNotYet(t *testing.T) {
	for name, reason := range map[string]string{
		"obs-fold_and_bare_LF_are_refused":             "net/http unfolds headers and takes a bare LF before a handler sees them",
		"length_beside_chunked_is_refused":             "net/http drops Content-Length before a handler sees it",
		"scopes_judge_the_string_that_is_forwarded":    "there are no scopes yet",
		"ambiguous_paths_are_refused_where_scopes_are": "there are no scopes yet",
	} {
		t.Run(name, func(t *testing.T) { t.Skip(reason) })
	}
}
