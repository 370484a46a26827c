package proxy

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// exhausted is a listener that runs out of descriptors now and then.
type exhausted struct {
	net.Listener
	failures atomic.Int64
}

func (l *exhausted) Accept() (net.Conn, error) {
	if l.failures.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept", syscall.EMFILE)}
	}
	return l.Listener.Accept()
}

func TestAcceptingSurvivesALackOfDescriptors(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	log := new(lines)
	few := &exhausted{Listener: inner}
	few.failures.Store(3)
	server := NewServer(s.proxy, ServerOptions{Log: log.logger()})
	served := make(chan error, 1)
	go func() { served <- server.Serve(LimitListener(few, 10, true, nil)) }()
	s.address = inner.Addr().String()
	if res, _ := s.dial(t).send(s.request("GET /a HTTP/1.1")).answer("GET"); res.StatusCode != 200 {
		t.Errorf("status %d", res.StatusCode)
	}
	_ = server.Close()
	receive(t, "serving ends", served)
	if text := log.text(); strings.Count(text, `"level":"ERROR"`) != 3 || !strings.Contains(text, "too many open files") {
		t.Errorf("logged: %s", text)
	}
}

func TestFloodBeyondTheLimitIsBounded(t *testing.T) {
	t.Parallel()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var refused atomic.Int64
	limited := LimitListener(inner, 1, true, func() { refused.Add(1) })
	accepted := make(chan net.Conn, 1000)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := limited.Accept()
			if err != nil {
				return
			}
			accepted <- conn
		}
	}()
	var clients []net.Conn
	for range 300 {
		conn, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		clients = append(clients, conn)
	}
	eventually(t, "all beyond the first are refused", func() bool { return refused.Load() == 299 })
	if open := limited.(*limitListener).open.Load(); open > 1+reservedFiles/2+1 { // the last is being looked at
		t.Errorf("%d connections were open at a time", open)
	}
	first := <-accepted
	for _, conn := range clients[1:] {
		_, _ = io.Copy(io.Discard, conn)
		_ = conn.Close()
	}
	_ = first.Close()
	_ = first.Close() // counts once
	eventually(t, "all are counted as closed", func() bool { return limited.(*limitListener).open.Load() == 0 })
	_ = clients[0].Close()
	_ = limited.Close()
	<-ended
}

func TestClosingTheListenerEndsConnectionsThatNeverSentAByte(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(with *settings) { with.limit = 10 })
	silent, busy := s.dial(t), s.dial(t)
	busy.send(s.request("GET /a HTTP/1.1")).answer("GET")
	if err := s.server.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	silent.ended()
	busy.ended()
}

// TestClientThatReadsSlowlyIsNotCut: it takes bytes all the time, but fewer within the
// deadline of a write than the kernel would want gone before it takes more.
func TestClientThatReadsSlowlyIsNotCut(t *testing.T) {
	t.Parallel()
	const progress = 2 * time.Second
	s := newStage(t, scripted(flood), func(with *settings) { with.WriteProgress, with.limit = progress, 10 })
	// The deadline is moved when a quarter of it has passed.
	unlessLate(t, progress/4, func() error {
		body, read := s.flooded(t), int64(0)
		tick := time.NewTicker(40 * time.Millisecond)
		defer tick.Stop()
		for began := time.Now(); time.Since(began) < 2*progress; {
			<-tick.C
			n, err := io.CopyN(io.Discard, body, 16<<10)
			if read += n; err != nil {
				return fmt.Errorf("after %v and %d bytes: %w", time.Since(began), read, err)
			}
		}
		if n, err := io.Copy(io.Discard, body); err != nil || read+n != floodSize {
			return fmt.Errorf("%d bytes, %v", read+n, err)
		}
		return nil
	})
}

// flooded sends a request on a connection that takes few bytes at a time, and returns the
// body of the answer, unread.
func (s *stage) flooded(t *testing.T) io.Reader {
	t.Helper()
	small := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 64<<10) })
	}}
	conn, err := small.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	return newClient(t, conn).send(s.request("GET /a HTTP/1.1")).head("GET").Body
}

func TestMaxConnectionsFollowsTheLimitOfOpenFiles(t *testing.T) {
	t.Parallel()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	want := max(16, (int(min(limit.Cur, 1<<30))-200)/2)
	if got := MaxConnections(); got != want {
		t.Errorf("%d, not %d", got, want)
	}
}
