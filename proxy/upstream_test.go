package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// upstream is a raw TCP server that records what it receives.
type upstream struct {
	t        testing.TB
	listener net.Listener
	scripts  sync.WaitGroup
	accepted atomic.Int64
	// ended gets, for each connection, how reading from it ended.
	ended chan error
	over  chan struct{} // closed when the test is

	mu       sync.Mutex
	received []*bytes.Buffer
	open     map[net.Conn]struct{}
}

func newUpstream(t testing.TB) *upstream {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return &upstream{t: t, listener: listener, ended: make(chan error, 1<<14), over: make(chan struct{}), open: make(map[net.Conn]struct{})}
}

func (u *upstream) address() string { return u.listener.Addr().String() }

func (u *upstream) serve(script func(*upstreamConn)) {
	u.scripts.Go(func() {
		for {
			conn, err := u.listener.Accept()
			if err != nil {
				return
			}
			u.accepted.Add(1)
			u.scripts.Go(func() { script(u.record(conn)) })
		}
	})
}

func (u *upstream) record(conn net.Conn) *upstreamConn {
	u.mu.Lock()
	defer u.mu.Unlock()
	c := &upstreamConn{Conn: conn, upstream: u, received: new(bytes.Buffer), number: len(u.received)}
	c.reader = bufio.NewReader(c)
	u.received = append(u.received, c.received)
	u.open[conn] = struct{}{}
	return c
}

// bytes returns what all connections received, one after the other.
func (u *upstream) bytes() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	var all strings.Builder
	for _, received := range u.received {
		all.Write(received.Bytes())
	}
	return all.String()
}

// count returns how many connections are open.
func (u *upstream) count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.open)
}

func (u *upstream) close() {
	_ = u.listener.Close()
	close(u.over)
	u.mu.Lock()
	for conn := range u.open {
		_ = conn.Close()
	}
	u.mu.Unlock()
	u.scripts.Wait()
}

// upstreamConn is one connection to the upstream.
type upstreamConn struct {
	net.Conn
	upstream *upstream
	number   int // of the connection, from 0
	reader   *bufio.Reader
	received *bytes.Buffer
}

// Read records what it reads.
func (c *upstreamConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.upstream.mu.Lock()
	c.received.Write(b[:n])
	c.upstream.mu.Unlock()
	return n, err
}

// Close closes the connection, which then no longer has to be closed at the end.
func (c *upstreamConn) Close() error {
	c.upstream.mu.Lock()
	delete(c.upstream.open, c.Conn)
	c.upstream.mu.Unlock()
	return c.Conn.Close()
}

// request reads a request with its body; nil when there is none.
func (c *upstreamConn) request() *http.Request {
	r, err := http.ReadRequest(c.reader)
	if err == nil {
		var body []byte
		body, err = io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	if err != nil {
		c.upstream.ended <- err
		return nil
	}
	return r
}

// pause waits until gate opens, or the test is over.
func (c *upstreamConn) pause(gate <-chan struct{}) {
	select {
	case <-gate:
	case <-c.upstream.over:
	}
}

// write writes bytes as they are.
func (c *upstreamConn) write(text string) bool {
	_, err := io.WriteString(c.Conn, text)
	return err == nil
}

// untilGone reads until the proxy closes the connection.
func (c *upstreamConn) untilGone() {
	_, err := io.Copy(io.Discard, c.reader)
	if err == nil {
		err = io.EOF
	}
	c.upstream.ended <- err
}

// answerAll answers every request with "ok".
func answerAll(c *upstreamConn) {
	defer c.Close()
	for c.request() != nil {
		c.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	}
}

// answering is a script that answers every request with these bytes.
func answering(text string) func(*settings) {
	return scripted(func(c *upstreamConn) {
		defer c.Close()
		for c.request() != nil {
			c.write(text)
		}
	})
}

// scripted gives the upstream a script.
func scripted(script func(*upstreamConn)) func(*settings) {
	return func(s *settings) { s.script = script }
}

// chunk is one chunk of a chunked body.
func chunk(text string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(text), text) }
