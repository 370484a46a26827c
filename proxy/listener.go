package proxy

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// reservedFiles are descriptors kept for everything but requests.
	reservedFiles = 200
	// refuseDeadline bounds the answer to a connection beyond the limit.
	refuseDeadline = 250 * time.Millisecond
)

// MaxConnections is how many clients the process can serve at once, by its limit of
// open files (RLIMIT_NOFILE): each needs a connection of its own and one to the
// upstream.
func MaxConnections() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 1000
	}
	files := min(limit.Cur, 1<<30)
	return max(16, (int(files)-reservedFiles)/2)
}

// LimitListener accepts at most limit connections at a time (0: MaxConnections) from
// listener. Those beyond get a 503 and are closed; onRefused, if not nil, is called
// for each. plain says that connections speak HTTP without TLS.
func LimitListener(listener net.Listener, limit int, plain bool, onRefused func()) net.Listener {
	if limit == 0 {
		limit = MaxConnections()
	}
	return &limitListener{Listener: listener, limit: int64(limit), plain: plain, onRefused: onRefused, unused: make(map[*limitedConn]struct{})}
}

type limitListener struct {
	net.Listener
	limit     int64
	plain     bool
	onRefused func()
	open      atomic.Int64

	mu     sync.Mutex
	closed bool
	unused map[*limitedConn]struct{} // accepted, and no byte has come
}

// Accept returns the next connection within the limit.
func (l *limitListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.open.Add(1) <= l.limit {
			return l.admit(conn), nil
		}
		l.refuse(conn)
	}
}

func (l *limitListener) admit(conn net.Conn) net.Conn {
	limitUnsent(conn)
	c := &limitedConn{Conn: conn, listener: l}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		_ = conn.Close() // the server will find it closed
	}
	l.unused[c] = struct{}{}
	return c
}

// Close stops listening and closes connections on which nothing has come yet:
// http.Server.Shutdown would wait five seconds for each.
func (l *limitListener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for c := range l.unused {
		_ = c.Conn.Close()
	}
	return l.Listener.Close()
}

func (l *limitListener) inUse(c *limitedConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.unused, c)
}

// refuse answers in the background, so that accepting goes on; the connection counts
// until it is closed, so that many answers at once are bounded too.
func (l *limitListener) refuse(conn net.Conn) {
	if l.onRefused != nil {
		l.onRefused()
	}
	if !l.plain || l.open.Load() > l.limit+reservedFiles/2 {
		_ = conn.Close()
		l.open.Add(-1)
		return
	}
	go func() {
		defer l.open.Add(-1)
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(refuseDeadline))
		_, _ = conn.Write(tooManyConnections(time.Now()))
		if half, ok := conn.(*net.TCPConn); ok {
			_ = half.CloseWrite()
		}
		_, _ = conn.Read(make([]byte, 4096)) // a close with unread bytes would reset the reply
	}()
}

// tooManyConnections is what a client beyond the limit reads. Nothing of its request was
// read, so the body has no path and no request id.
func tooManyConnections(now time.Time) []byte {
	body, _ := json.Marshal(newErrorBody(http.StatusServiceUnavailable, "too_many_connections",
		"As many clients are connected as may be. Wait as Retry-After says.", now)) // it cannot fail
	return fmt.Appendf(nil, "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nCache-Control: no-store\r\n"+
		"Retry-After: 1\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s\n", len(body)+1, body)
}

// limitedConn counts as open until it is closed for the first time.
type limitedConn struct {
	net.Conn
	listener *limitListener
	used     atomic.Bool
	once     sync.Once
}

// Read reads from the client.
func (c *limitedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && !c.used.Load() {
		c.used.Store(true)
		c.listener.inUse(c)
	}
	return n, err
}

// Close closes the connection and makes room for another.
func (c *limitedConn) Close() error {
	c.once.Do(func() {
		c.listener.open.Add(-1)
		c.listener.inUse(c)
	})
	return c.Conn.Close()
}

// CloseWrite ends one direction, so that net/http can let a client read the last
// answer before the connection closes.
func (c *limitedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}
