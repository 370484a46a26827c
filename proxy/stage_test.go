package proxy

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"keystile/keys"
)

// patience bounds every wait of these tests. It is long, because it only passes when
// something is broken.
const patience = 30 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// records is a table of grants with a method: what a mirror is to the proxy.
type records struct {
	mu     sync.Mutex
	grants map[keys.ID]keys.Grant
	stale  error
	gets   atomic.Int64
	// afterGet, if not nil, runs once the next Get has made its answer.
	afterGet func()
}

func newRecords() *records { return &records{grants: make(map[keys.ID]keys.Grant)} }

func (r *records) Get(id keys.ID) (*keys.Grant, bool) {
	r.gets.Add(1)
	r.mu.Lock()
	grant, ok := r.grants[id]
	hook := r.afterGet
	r.afterGet = nil
	r.mu.Unlock()
	if hook != nil {
		hook()
	}
	return &grant, ok
}

func (r *records) Current(id keys.ID, version uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	latest, ok := r.grants[id]
	return ok && latest.Version == version
}

func (r *records) Fresh() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stale
}

func (r *records) setStale(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stale = err
}

// change gives the key another grant, one version higher, and returns it.
func (r *records) change(id keys.ID, change func(*keys.Grant)) keys.Grant {
	r.mu.Lock()
	defer r.mu.Unlock()
	grant := r.grants[id]
	change(&grant)
	grant.Version++
	r.grants[id] = grant
	return grant
}

func (r *records) remove(id keys.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.grants, id)
}

// add makes an active key.
func (r *records) add() (keys.ID, keys.Secret) {
	id := keys.NewID()
	secret := keys.NewSecret(id)
	var peppers *keys.Peppers
	r.change(id, func(g *keys.Grant) {
		g.ID, g.Active, g.Account = id, true, keys.DefaultAccount
		g.Digests[0] = peppers.Digest(secret)
	})
	return id, secret
}

// settings are what a test may adjust before the servers start.
type settings struct {
	Options
	server    ServerOptions
	transport TransportOptions
	limit     int                                       // of connections; 0: none
	round     func(http.RoundTripper) http.RoundTripper // around the transport
	dial      func(context.Context, string, string) (net.Conn, error)
	script    func(*upstreamConn) // of the upstream
}

// stage is a proxy that listens, and an upstream behind it that records every byte.
type stage struct {
	t         testing.TB
	proxy     *Proxy
	server    *http.Server
	transport *http.Transport
	records   *records
	registry  *prometheus.Registry
	address   string
	upstream  *upstream
	id        keys.ID
	secret    keys.Secret
}

func newStage(t testing.TB, adjust ...func(*settings)) *stage {
	t.Helper()
	s := &stage{t: t, records: newRecords(), registry: prometheus.NewRegistry()}
	s.id, s.secret = s.records.add()
	with := settings{Options: Options{Records: s.records, Registerer: s.registry}, script: answerAll}
	s.upstream = newUpstream(t)
	with.Upstream = &url.URL{Scheme: "http", Host: s.upstream.address()}
	for _, f := range adjust {
		f(&with)
	}
	s.upstream.serve(with.script)
	s.transport = NewTransport(with.transport)
	if with.dial != nil {
		s.transport.DialContext = with.dial
	}
	if with.Transport == nil {
		with.Transport = s.transport
	}
	if with.round != nil {
		with.Transport = with.round(with.Transport)
	}
	s.proxy = New(with.Options)
	s.listen(with)
	return s
}

func (s *stage) listen(with settings) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	s.address = listener.Addr().String()
	if with.limit > 0 {
		listener = LimitListener(listener, with.limit, with.server.Certificate == nil, s.proxy.TurnedAway)
	}
	s.server = NewServer(s.proxy, with.server)
	var serving sync.WaitGroup
	serving.Go(func() {
		if with.server.Certificate != nil {
			_ = s.server.ServeTLS(listener, "", "")
			return
		}
		_ = s.server.Serve(listener)
	})
	s.t.Cleanup(func() {
		_ = s.server.Close()
		serving.Wait()
		s.transport.CloseIdleConnections()
		s.upstream.close()
		s.proxy.Close()
	})
}

// fill puts this stage's credentials into text.
func (s *stage) fill(text string) string {
	basic := base64.StdEncoding.EncodeToString([]byte(s.id.String() + ":" + s.secret.Reveal()))
	return strings.NewReplacer("{key}", s.id.String(), "{secret}", s.secret.Reveal(),
		"{basic}", basic, "{upstream}", s.upstream.address()).Replace(text)
}

// request is the head of a request with credentials, and a body after it.
func (s *stage) request(line string, headers ...string) string {
	return s.stranger(line, append([]string{"Authorization: Bearer {secret}"}, headers...)...)
}

// stranger is the head of a request without credentials.
func (s *stage) stranger(line string, headers ...string) string {
	lines := append([]string{line, "Host: proxy.test", "X-Request-Id: test-1"}, headers...)
	return s.fill(strings.Join(lines, "\r\n") + "\r\n\r\n")
}

// forwarded is what the upstream must receive for a request made as above: these
// header lines and no other, in any order, then the body.
func (s *stage) forwarded(line, body string, headers ...string) string {
	lines := append([]string{
		"Host: {upstream}", "X-Forwarded-For: 127.0.0.1", "X-Forwarded-Host: proxy.test",
		"X-Forwarded-Proto: http", "X-Request-Id: test-1",
	}, headers...)
	return sortedHead(s.fill(strings.Join(append([]string{line}, lines...), "\r\n") + "\r\n\r\n" + body))
}

// sortedHead sorts the header lines of a message and leaves the rest as it is.
func sortedHead(message string) string {
	head, body, _ := strings.Cut(message, "\r\n\r\n")
	lines := strings.Split(head, "\r\n")
	slices.Sort(lines[1:])
	return strings.Join(lines, "\r\n") + "\r\n\r\n" + body
}

// counter returns the sum of a metric over the series that have the label values.
func (s *stage) counter(name string, values ...string) float64 {
	s.t.Helper()
	families, err := s.registry.Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	sum := 0.0
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			found := family.GetName() == name
			for _, value := range values {
				labelled := false
				for _, label := range metric.GetLabel() {
					labelled = labelled || label.GetValue() == value
				}
				found = found && labelled
			}
			if found {
				sum += metric.GetCounter().GetValue() + metric.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// untouched asserts that nothing reached the upstream and nothing was put down to it.
func (s *stage) untouched(t testing.TB) {
	t.Helper()
	if got := s.upstream.bytes(); got != "" {
		t.Errorf("the upstream received %q", got)
	}
	s.blameless(t)
}

// blameless asserts that no failure was put down to the upstream.
func (s *stage) blameless(t testing.TB) {
	t.Helper()
	if n := s.counter("keystile_upstream_failures_total"); n != 0 {
		t.Errorf("%v failures were put down to the upstream", n)
	}
}

// settled waits until no request is being served, so that counters are final.
func (s *stage) settled() {
	s.t.Helper()
	eventually(s.t, "no request is in flight", func() bool {
		return s.counter("keystile_requests_in_flight") == 0
	})
}

// eventually polls until condition holds.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !condition(); {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", patience, what)
		}
		<-time.After(time.Millisecond)
	}
}

// again makes up to three attempts at something that has to be in time. Only lateness may
// be returned; a wrong outcome is t.Errorf inside attempt.
func again(t testing.TB, attempt func() error) {
	t.Helper()
	var err error
	for n := range 3 {
		if err = attempt(); err == nil {
			return
		}
		t.Logf("attempt %d: %v", n+1, err)
	}
	t.Error(err)
}

// unlessLate is again for an attempt whose outcome is wrong when this process stands still
// for too long. The error of one in which it never stood still for longer than allowed
// fails the test at once.
func unlessLate(t testing.TB, allowed time.Duration, attempt func() error) {
	t.Helper()
	again(t, func() error {
		stop := measureStalls()
		defer stop()
		err := attempt()
		longest := stop()
		if err == nil || longest > allowed {
			return err
		}
		t.Errorf("%v, and this process stood still for %v at most", err, longest)
		return nil
	})
}

// measureStalls begins to watch this process, until stop is called. stop returns the
// longest time for which it stood still, and may be called again.
func measureStalls() (stop func() time.Duration) {
	end, longest := make(chan struct{}), time.Duration(0)
	var watching sync.WaitGroup
	watching.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for last := time.Now(); ; {
			select {
			case <-end:
				return
			case <-tick.C:
			}
			now := time.Now()
			longest, last = max(longest, now.Sub(last)), now
		}
	})
	return sync.OnceValue(func() time.Duration {
		close(end)
		watching.Wait()
		return longest
	})
}

// unusedAddress returns an address of this machine at which nobody listens, as long as
// the test runs: its port is that of a connection, so the system gives it to nobody else.
func unusedAddress(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn.LocalAddr().String()
}

// receive takes the next value, or fails.
func receive[T any](t testing.TB, what string, from <-chan T) (value T) {
	t.Helper()
	select {
	case value = <-from:
	case <-time.After(patience):
		t.Fatalf("not within %v: %s", patience, what)
	}
	return value
}

// client is a raw connection to the proxy.
type client struct {
	t      testing.TB
	conn   net.Conn
	reader *bufio.Reader
}

func (s *stage) dial(t testing.TB) *client {
	t.Helper()
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	return newClient(t, conn)
}

func newClient(t testing.TB, conn net.Conn) *client {
	_ = conn.SetDeadline(time.Now().Add(3 * patience))
	t.Cleanup(func() { _ = conn.Close() })
	return &client{t: t, conn: conn, reader: bufio.NewReader(conn)}
}

// send writes bytes as they are.
func (c *client) send(text string) *client {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, text); err != nil {
		c.t.Fatalf("writing to the proxy: %v", err)
	}
	return c
}

// head reads the head of an answer, whose body stays to be read.
func (c *client) head(method string) *http.Response {
	c.t.Helper()
	res, err := http.ReadResponse(c.reader, &http.Request{Method: method})
	if err != nil {
		c.t.Fatalf("reading the answer: %v", err)
	}
	return res
}

// answer reads a whole answer.
func (c *client) answer(method string) (*http.Response, string) {
	c.t.Helper()
	res := c.head(method)
	body, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatalf("reading the body of the answer: %v", err)
	}
	return res, string(body)
}

// ended asserts that the proxy closes the connection and sends nothing more.
func (c *client) ended() {
	c.t.Helper()
	rest, err := io.ReadAll(c.reader)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Error("the connection stays open")
	}
	if len(rest) > 0 {
		c.t.Errorf("more was sent: %q", rest)
	}
}
