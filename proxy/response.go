package proxy

import (
	"bufio"
	"errors"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// responseWriter counts what goes to the client, notes the first byte, and moves
// the write deadline while the client takes what it is sent.
type responseWriter struct {
	http.ResponseWriter
	control  *http.ResponseController
	x        *exchange
	progress time.Duration
	now      func() time.Time

	code     int
	first    time.Time
	armed    time.Time // when the write deadline was last moved
	written  atomic.Int64
	err      error // the first error of a write
	hijacked bool
}

func newResponseWriter(w http.ResponseWriter, x *exchange, progress time.Duration, now func() time.Time) *responseWriter {
	rw := &responseWriter{ResponseWriter: w, control: http.NewResponseController(w), x: x, progress: progress, now: now}
	rw.arm() // also replaces the deadline left by the request before on this connection
	return rw
}

// arm moves the write deadline, at most once a second: a deadline costs more than a
// small write.
func (w *responseWriter) arm() {
	now := w.now()
	if !due(now, w.armed, w.progress) {
		return
	}
	w.armed = now
	_ = w.control.SetWriteDeadline(now.Add(w.progress)) // a recorder in a test has none
}

// due reports whether a rolling deadline has to be moved.
func due(now, armed time.Time, progress time.Duration) bool {
	return now.Sub(armed) >= min(time.Second, progress/4)
}

// WriteHeader passes the status on. Informational statuses (1xx) may precede the
// final one, RFC 9110 section 15.2.
func (w *responseWriter) WriteHeader(status int) {
	w.arm()
	if status >= 200 || status == http.StatusSwitchingProtocols {
		if w.code == 0 {
			w.code, w.first = status, w.now()
		}
		if !w.x.in.ProtoAtLeast(1, 1) {
			// net/http passes over Transfer-Encoding in HTTP/1.0, so what follows may be the body
			// of this request and not another one (RFC 9112 section 6.1).
			w.Header().Set("Connection", "close")
		}
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write passes bytes on and counts them.
func (w *responseWriter) Write(b []byte) (int, error) {
	if w.code == 0 {
		w.WriteHeader(http.StatusOK)
	}
	w.arm()
	n, err := w.ResponseWriter.Write(b)
	w.written.Add(int64(n))
	w.note(err)
	return n, err
}

// FlushError sends what is buffered.
func (w *responseWriter) FlushError() error {
	w.arm()
	err := w.control.Flush()
	w.note(err)
	return err
}

func (w *responseWriter) note(err error) {
	if err != nil && w.err == nil && !errors.Is(err, http.ErrNotSupported) {
		w.err = err
	}
}

// Hijack hands the connection over after a switch of protocols, still counted.
func (w *responseWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffer, err := w.control.Hijack()
	if err != nil {
		return nil, nil, err
	}
	w.hijacked = true
	w.code, w.first = http.StatusSwitchingProtocols, w.now()
	_ = conn.SetDeadline(time.Time{}) // a WebSocket may be quiet for as long as it likes
	return &countedConn{Conn: conn, x: w.x}, buffer, nil
}

// Unwrap lets http.ResponseController reach deadlines and full duplex.
func (w *responseWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// boundBody keeps a refused client from holding the connection with a body that
// nobody will read: net/http reads some of it to keep the connection.
func (w *responseWriter) boundBody(r *http.Request, within time.Duration) {
	if r.Body != nil && r.Body != http.NoBody {
		_ = w.control.SetReadDeadline(w.now().Add(within))
	}
}

func (w *responseWriter) status() int          { return w.code }
func (w *responseWriter) wroteHeader() bool    { return w.code != 0 }
func (w *responseWriter) bytes() int64         { return w.written.Load() }
func (w *responseWriter) firstByte() time.Time { return w.first }
func (w *responseWriter) writeError() error    { return w.err }

// countedConn counts the bytes of a connection that has switched protocols.
type countedConn struct {
	net.Conn
	x *exchange
}

func (c *countedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.x.upgradedIn.Add(int64(n))
	return n, err
}

func (c *countedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.x.out.written.Add(int64(n))
	return n, err
}

// CloseWrite passes a half-close on, which ReverseProxy looks for.
func (c *countedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}
