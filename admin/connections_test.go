package admin

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	administratorsCall = "GET /api/v1/keys HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + testToken + "\r\n\r\n"
	strangersCall      = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"

	// here and away are addresses that clients call from: of this machine, and one that
	// the server takes for another machine's.
	here, away = "127.0.0.1", "127.0.0.9"
)

// crowd is a server of NewServer with the clients that have connected to it.
type crowd struct {
	*bench
	listener *crowdListener
}

// crowdListener is a listener that takes the address away for one of another machine.
type crowdListener struct {
	net.Listener
	mu   sync.Mutex
	open int // accepted, and not closed by the server
	most int // that were open at once
}

func (l *crowdListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open++
	l.most = max(l.most, l.open)
	return &crowdConn{Conn: conn, listener: l}, nil
}

type crowdConn struct {
	net.Conn
	listener *crowdListener
	once     sync.Once
}

func (c *crowdConn) RemoteAddr() net.Addr {
	peer := c.Conn.RemoteAddr().(*net.TCPAddr)
	if peer.IP.String() == away {
		return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 9), Port: peer.Port}
	}
	return peer
}

func (c *crowdConn) Close() error {
	c.once.Do(func() {
		c.listener.mu.Lock()
		defer c.listener.mu.Unlock()
		c.listener.open--
	})
	return c.Conn.Close()
}

func newCrowd(t *testing.T, b *bench) *crowd {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &crowd{b, &crowdListener{Listener: inner}}
	server := NewServer(b.admin, nil)
	go func() { _ = server.Serve(c.listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return c
}

// visitor is a client's end of a connection.
type visitor struct {
	net.Conn
	t    testing.TB
	text *bufio.Reader
}

// dial connects from an address of this machine.
func (c *crowd) dial(from string) *visitor {
	c.t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := dialer.Dial("tcp", c.listener.Addr().String())
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetReadDeadline(time.Now().Add(30 * time.Second))
	return &visitor{conn, c.t, bufio.NewReader(conn)}
}

// send writes, to a connection that may have been closed.
func (v *visitor) send(text string) *visitor {
	_, _ = io.WriteString(v, text)
	return v
}

// answered expects a reply.
func (v *visitor) answered(status int) *visitor {
	v.t.Helper()
	response, err := http.ReadResponse(v.text, nil)
	if err != nil {
		v.t.Fatalf("no reply: %v", err)
	}
	if _, err := io.Copy(io.Discard, response.Body); err != nil || response.StatusCode != status {
		v.t.Fatalf("got %d, want %d: %v", response.StatusCode, status, err)
	}
	return v
}

// ended expects that the server has closed the connection.
func (v *visitor) ended() {
	v.t.Helper()
	if _, err := v.text.ReadByte(); err == nil || strings.Contains(err.Error(), "timeout") {
		v.t.Fatalf("the connection is open: %v", err)
	}
}

// TestWhoeverTakesEveryConnectionKeepsNobodyOut: whatever is done with them, and
// wherever both sides are, an administrator who comes later is served.
func TestWhoeverTakesEveryConnectionKeepsNobodyOut(t *testing.T) {
	for name, row := range map[string]func(*visitor){
		"silent":                func(*visitor) {},
		"half a head":           func(v *visitor) { v.send("GET /healthz HTTP/1.1\r\nHo") },
		"idle":                  func(v *visitor) { v.send(strangersCall).answered(200) },
		"idle, with the token":  func(v *visitor) { v.send(administratorsCall).answered(200) },
		"half of the next head": func(v *visitor) { v.send(strangersCall).answered(200).send("GET / HT") },
		"half a body": func(v *visitor) {
			v.send("POST /api/v1/keys HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
		},
	} {
		for _, others := range []string{here, away} {
			for _, operator := range []string{here, away} {
				t.Run(fmt.Sprintf("%s from %s against %s", name, others, operator), func(t *testing.T) {
					t.Parallel()
					c := newCrowd(t, newBench(t))
					first := c.dial(others)
					row(first)
					for range 2 * MaxConnections {
						row(c.dial(others))
					}
					first.ended()
					c.dial(operator).send(administratorsCall).answered(200)
				})
			}
		}
	}
}

// TestConnectionsAreBoundedAndCounted counts those that the server has not closed, and
// has the server count the others.
func TestConnectionsAreBoundedAndCounted(t *testing.T) {
	c := newCrowd(t, newBench(t, withRegistry(prometheus.NewRegistry())))
	for range 3 * MaxConnections {
		c.dial(away)
	}
	c.dial(here).send(administratorsCall).answered(200)
	c.listener.mu.Lock()
	defer c.listener.mu.Unlock()
	if c.listener.most > MaxConnections+1 || c.listener.open > MaxConnections {
		t.Errorf("%d were open at a time, %d at last", c.listener.most, c.listener.open)
	}
	metrics := c.send("GET", "/metrics", "").wants(t, 200, "").text
	if want := fmt.Sprintf("keystile_admin_connections_displaced_total %d\n", 2*MaxConnections+1); !strings.Contains(metrics, want) {
		t.Errorf("not among the metrics: %s\n%s", want, metrics)
	}
}

// TestFloodClosesNoConnectionThatHasAClaim: a connection of this machine and one that
// brought the token outlast a flood of strangers, though they are older and idle.
func TestFloodClosesNoConnectionThatHasAClaim(t *testing.T) {
	c := newCrowd(t, newBench(t))
	silent, remote := c.dial(here), c.dial(away).send(administratorsCall).answered(200)
	for range 3 * MaxConnections {
		c.dial(away)
	}
	silent.send(administratorsCall).answered(200)
	remote.send(administratorsCall).answered(200)
}

// TestTokenClaimsMoreThanThisMachine: where all come from this machine, as behind a
// reverse proxy on it, the token still counts.
func TestTokenClaimsMoreThanThisMachine(t *testing.T) {
	c := newCrowd(t, newBench(t))
	operator := c.dial(here).send(administratorsCall).answered(200)
	for range 3 * MaxConnections {
		c.dial(here)
	}
	operator.send(administratorsCall).answered(200)
}

// TestRequestOfAnAdministratorIsNotCutForANewConnection: not by strangers, and not by
// administrators when all connections are theirs.
func TestRequestOfAnAdministratorIsNotCutForANewConnection(t *testing.T) {
	served, release := make(chan struct{}, 2*MaxConnections), make(chan struct{})
	b := newExportBench(t, func(_ context.Context, w io.Writer) error {
		served <- struct{}{}
		<-release
		_, err := io.WriteString(w, "done\n")
		return err
	})
	c := newCrowd(t, b)
	var all []*visitor
	for range MaxConnections + 1 {
		all = append(all, c.dial(away).send(strings.Replace(administratorsCall, "/api/v1/keys", exportPath, 1)))
		<-served
	}
	newest := c.dial(here).send(administratorsCall).answered(200)
	close(release)
	for _, v := range all {
		v.answered(200)
	}
	newest.send(administratorsCall).answered(200)
}

func TestConnectionOfAnAccountGivesWayToTheAdministrators(t *testing.T) {
	b := newBench(t)
	token := b.account("acme")
	for _, row := range []struct {
		token        string
		before, want claim
	}{
		{token, noClaim, ofAccount},
		{token, onThisHost, ofAccount},
		{token, ofAdministrator, ofAdministrator},
		{testToken, ofAccount, administrates},
		{"wrong", onThisHost, onThisHost},
	} {
		conn := &connection{all: &connections{}, claim: row.before}
		r := httptest.NewRequest("GET", "http://localhost/api/v1/keys", nil)
		r.Header.Set("Authorization", "Bearer "+row.token)
		b.admin.ServeHTTP(httptest.NewRecorder(), r.WithContext(context.WithValue(t.Context(), connectionKey{}, conn)))
		if conn.claim != row.want {
			t.Errorf("%+v: its claim is %d", row, conn.claim)
		}
	}
}
