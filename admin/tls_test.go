package admin

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// newTLSListener serves b by a server of NewServer, with a certificate that its client
// trusts.
func newTLSListener(t *testing.T, b *bench, log *slog.Logger) *httptest.Server {
	t.Helper()
	listener := httptest.NewUnstartedServer(nil)
	listener.Config = NewServer(b.admin, log)
	listener.StartTLS()
	t.Cleanup(listener.Close)
	return listener
}

// browser calls a listener with the cookies that it was given, by it or at first.
type browser struct {
	t      *testing.T
	url    string
	client http.Client
}

func newBrowser(t *testing.T, listener *httptest.Server, cookies ...*http.Cookie) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	at, err := url.Parse(listener.URL)
	if err != nil {
		t.Fatal(err)
	}
	jar.SetCookies(at, cookies)
	return &browser{t, listener.URL, http.Client{Transport: listener.Client().Transport, Jar: jar}}
}

// calls sends what the console would, and expects a status.
func (b *browser) calls(method, path, body string, status int) *http.Response {
	b.t.Helper()
	request, err := http.NewRequest(method, b.url+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Sec-Fetch-Site", "same-origin")
	response, err := b.client.Do(request)
	if err != nil {
		b.t.Fatal(err)
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil || response.StatusCode != status {
		b.t.Errorf("%s %s: %s, want %d; %v", method, path, response.Status, status, err)
	}
	return response
}

func TestSessionOverTLSLivesFromSignInToSignOut(t *testing.T) {
	b := newBench(t)
	listener := newTLSListener(t, b, nil)
	console := newBrowser(t, listener)
	console.calls("POST", "/api/v1/keys", "{}", 401)
	signedIn := console.calls("POST", sessionPath, signInBody, 200)
	if signedIn.Proto != "HTTP/1.1" || signedIn.Header.Get("Strict-Transport-Security") != "" {
		t.Errorf("%s, %v", signedIn.Proto, signedIn.Header)
	}
	cookies := signedIn.Cookies()
	if len(cookies) != 1 || !strings.HasPrefix(cookies[0].Name, "__Host-") || !cookies[0].Secure {
		t.Fatalf("the cookies are %v", cookies)
	}
	copied := newBrowser(t, listener, cookies...)
	console.calls("POST", "/api/v1/keys", "{}", 201)
	copied.calls("POST", "/api/v1/keys", "{}", 201)
	console.calls("DELETE", sessionPath, "", 204)
	console.calls("GET", "/api/v1/keys", "", 401)
	copied.calls("GET", "/api/v1/keys", "", 401)
	copied.calls("POST", "/api/v1/keys", "{}", 401)
	if len(b.store.records) != 2 {
		t.Errorf("there are %d keys", len(b.store.records))
	}
}

// TestSignOutEndsARequestThatIsOnItsWay has a request wait for its body, which the server
// asks for once it has seen the cookie, until another has signed out.
func TestSignOutEndsARequestThatIsOnItsWay(t *testing.T) {
	b := newBench(t)
	listener := newTLSListener(t, b, nil)
	console := newBrowser(t, listener)
	cookie := console.calls("POST", sessionPath, signInBody, 200).Cookies()[0]
	conn, err := tls.Dial("tcp", listener.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	text := bufio.NewReader(conn)
	fmt.Fprintf(conn, "POST /api/v1/keys HTTP/1.1\r\nHost: localhost\r\nCookie: %s=%s\r\nContent-Type: application/json\r\n"+
		"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n", cookie.Name, cookie.Value)
	if got, err := http.ReadResponse(text, nil); err != nil || got.StatusCode != http.StatusContinue {
		t.Fatalf("the body is not asked for: %v, %v", got, err)
	}
	console.calls("DELETE", sessionPath, "", 204)
	fmt.Fprint(conn, "{}")
	got, err := http.ReadResponse(text, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got.StatusCode != http.StatusUnauthorized || len(b.store.records) != 0 {
		t.Errorf("after sign-out it gets %s, and there are %d keys", got.Status, len(b.store.records))
	}
}

// TestMadeUpCookieNeverBecomesASession: neither by being used nor by a sign-out, over TLS
// as little as without.
func TestMadeUpCookieNeverBecomesASession(t *testing.T) {
	listener := newTLSListener(t, newBench(t), nil)
	for _, name := range []string{secureSessionCookie, sessionCookie} {
		madeUp := &http.Cookie{Name: name, Value: strings.Repeat("A", 43), Path: "/", Secure: true}
		forger := newBrowser(t, listener, madeUp)
		forger.calls("GET", "/api/v1/keys", "", 401)
		forger.calls("POST", "/api/v1/keys", "{}", 401)
		if got := forger.calls("GET", sessionPath, "", 200); len(got.Cookies()) > 0 {
			t.Errorf("%s: asking for the session gives cookies: %v", name, got.Cookies())
		}
		forger.calls("GET", "/api/v1/keys", "", 401)
		forger.calls("DELETE", sessionPath, "", 204)
		again := newBrowser(t, listener, madeUp)
		again.calls("GET", "/api/v1/keys", "", 401)
		if got := again.calls("POST", sessionPath, signInBody, 200).Cookies(); got[0].Value == madeUp.Value {
			t.Errorf("%s: sign-in takes the made-up id", name)
		}
		newBrowser(t, listener, madeUp).calls("GET", "/api/v1/keys", "", 401)
	}
}

// TestBrokenHandshakesDoNotFillTheLog: strangers can make as many as they like.
func TestBrokenHandshakesDoNotFillTheLog(t *testing.T) {
	said := new(lockedBuffer)
	listener := newTLSListener(t, newBench(t), slog.New(slog.NewTextHandler(said, &slog.HandlerOptions{Level: slog.LevelDebug})))
	conn, err := net.Dial("tcp", listener.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	fmt.Fprint(conn, "no handshake at all\r\n")
	_, _ = io.Copy(io.Discard, conn) // its end comes after the line
	if log := said.String(); strings.Count(log, "TLS handshake error") != 1 || !strings.Contains(log, "level=DEBUG") || strings.Contains(log, "level=WARN") {
		t.Errorf("the log is %q", log)
	}
}

// TestConnectionOverTLSIsClosedWithoutWaitingForItsPeer: the farewell of TLS would take
// five seconds of all who come, with a peer that reads nothing.
func TestConnectionOverTLSIsClosedWithoutWaitingForItsPeer(t *testing.T) {
	certificates := newTLSListener(t, newBench(t), nil).TLS.Certificates
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer theirs.Close()
		server := tls.Server(ours, &tls.Config{Certificates: certificates, SessionTicketsDisabled: true})
		client := tls.Client(theirs, &tls.Config{InsecureSkipVerify: true})
		go func() { _ = client.Handshake() }()
		if err := server.Handshake(); err != nil {
			t.Fatal(err)
		}
		all := &connections{onClose: func() {}}
		all.opened(t.Context(), server)
		for range MaxConnections - 1 {
			one, other := net.Pipe()
			defer one.Close()
			defer other.Close()
			all.opened(t.Context(), one)
		}
		one, other := net.Pipe()
		defer one.Close()
		defer other.Close()
		began := time.Now()
		all.opened(t.Context(), one)
		if took := time.Since(began); took > 0 {
			t.Errorf("it took %v", took)
		}
		if _, err := theirs.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the oldest connection is open: %v", err)
		}
	})
}
