package redistest

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// connected returns a server, a proxy to it, and a client of the proxy that was answered already.
func connected(t *testing.T) (*Server, *Proxy, *client) {
	t.Helper()
	s := Start(t, Options{})
	p := NewProxy(t, s.Addr())
	c := dial(t, p.Addr())
	c.send("PING")
	c.hears("+PONG")
	return s, p, c
}

// reaches waits until n has the value at the server itself.
func reaches(t *testing.T, s *Server, value string) {
	t.Helper()
	s.await("the request to reach the server", func() error {
		if got, err := s.Command("GET", "n"); got != value {
			return fmt.Errorf("n is %q, %v", got, err)
		}
		return nil
	})
}

func TestPassDeliversAndCounts(t *testing.T) {
	t.Parallel()
	_, p, c := connected(t)
	if server, client := p.Bytes(); server != int64(len("PING\r\n")) || client != int64(len("+PONG\r\n")) {
		t.Errorf("counted %d bytes to the server, %d back", server, client)
	}
	dial(t, p.Addr()).send("QUIT")
	counted := func() error {
		accepted, open := p.Connections()
		server, client := p.Bytes()
		if accepted != 2 || open != 1 || server != int64(len("PING\r\nQUIT\r\n")) || client != int64(len("+PONG\r\n+OK\r\n")) {
			return fmt.Errorf("counted %d connections, %d open, %d bytes to the server, %d back", accepted, open, server, client)
		}
		return nil
	}
	if err := poll(patience, counted); err != nil {
		t.Error(err)
	}
	c.send("PING")
	c.hears("+PONG")
}

func TestServersLastWordsArriveBeforeItsClose(t *testing.T) {
	t.Parallel()
	s, p, c := connected(t)
	s.Must("SET", "long", strings.Repeat("x", 64<<10))
	// The client's side takes a part only: the rest is still to be sent when the proxy closes.
	if err := c.conn.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	c.send("GET long\r\nQUIT")
	closed := func() error {
		if _, open := p.Connections(); open != 0 {
			return fmt.Errorf("%d connections are open", open)
		}
		return nil
	}
	if err := poll(patience, closed); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"$65536", strings.Repeat("x", 64<<10), "+OK"} {
		c.hears(line)
	}
	c.isCut()
}

func TestCutResetsConnectionsAndRefusesNewOnes(t *testing.T) {
	t.Parallel()
	_, p, c := connected(t)
	p.SetMode(Cut)
	c.isCut()
	if _, err := net.Dial("tcp", p.Addr()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a new connection: %v, want refused", err)
	}
	p.SetMode(Pass)
	again := dial(t, p.Addr())
	again.send("PING")
	again.hears("+PONG")
}

func TestConnectionThatArrivesAsConnectionsAreCutIsResetToo(t *testing.T) {
	t.Parallel()
	_, p, _ := connected(t)
	p.SetMode(Cut)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	c := dial(t, listener.Addr().String())
	accepted, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if newLink(p, accepted.(*net.TCPConn)).enter() {
		t.Error("a connection is let in while the mode is Cut")
	}
	c.isCut()
}

func TestNewConnectionsAreRefusedWhileAnotherProcessHoldsTheSocket(t *testing.T) {
	t.Parallel()
	_, p, _ := connected(t)
	held, err := p.listener.File()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = held.Close() }()
	p.SetMode(Cut)
	if _, err := net.Dial("tcp", p.Addr()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a new connection: %v, want refused", err)
	}
	p.SetMode(Pass)
	again := dial(t, p.Addr())
	again.send("PING")
	again.hears("+PONG")
}

func TestDisconnectResetsConnectionsAndAcceptsNewOnes(t *testing.T) {
	t.Parallel()
	_, p, c := connected(t)
	p.Disconnect()
	c.isCut()
	again := dial(t, p.Addr())
	again.send("PING")
	again.hears("+PONG")
}

func TestBlackHoleSwallowsBothWaysAndResetsWhatLostBytes(t *testing.T) {
	t.Parallel()
	s, p, c := connected(t)
	untouched := dial(t, p.Addr())
	untouched.send("PING")
	untouched.hears("+PONG")
	p.SetMode(BlackHole)
	fresh := dial(t, p.Addr())
	for _, each := range []*client{c, fresh} {
		each.send("SET n 1")
		each.silent()
	}
	if got := s.Must("GET", "n"); got != "" {
		t.Errorf("the request reached the server: n is %q", got)
	}
	p.SetMode(Pass)
	c.isCut()
	fresh.isCut()
	untouched.send("PING")
	untouched.hears("+PONG")
}

func TestBlackHoleHidesTheServersEnd(t *testing.T) {
	t.Parallel()
	s, p, c := connected(t)
	p.SetMode(BlackHole)
	s.Kill()
	c.silent()
	fresh := dial(t, p.Addr())
	fresh.send("PING")
	fresh.silent()
	p.SetMode(Pass)
	c.isCut()
	fresh.isCut()
}

func TestHalfOpenSwallowsRepliesOnly(t *testing.T) {
	t.Parallel()
	s, p, c := connected(t)
	p.SetMode(HalfOpen)
	c.send("SET n 1")
	reaches(t, s, "1")
	c.silent()
	fresh := dial(t, p.Addr())
	fresh.send("SET n 2")
	reaches(t, s, "2")
	fresh.silent()
	p.SetMode(BlackHole)
	c.send("SET n 3")
	c.silent()
	p.SetMode(HalfOpen) // requests were lost: later ones must not pass
	c.isCut()
	fresh.send("SET n 4")
	reaches(t, s, "4")
	p.SetMode(Pass)
	fresh.isCut()
}

func TestSlowDelaysEachWay(t *testing.T) {
	t.Parallel()
	_, p, c := connected(t)
	const delay = 150 * time.Millisecond
	p.Slow(delay)
	for _, each := range []*client{c, dial(t, p.Addr())} {
		sent := time.Now()
		each.send("PING")
		each.hears("+PONG")
		if took := time.Since(sent); took < 2*delay {
			t.Errorf("an answer after %v, want at least %v", took, 2*delay)
		}
	}
	p.Slow(time.Hour)
	c.send("PING")
	c.silent()
	p.SetMode(Pass) // what was on its way arrives
	c.hears("+PONG")
}

func TestDripPassesOneByteASecond(t *testing.T) {
	t.Parallel()
	s, p, c := connected(t)
	p.SetMode(Drip)
	before, _ := p.Bytes()
	started := time.Now()
	c.send("SET n 1")
	err := poll(patience, func() error {
		if now, _ := p.Bytes(); now < before+2 {
			return fmt.Errorf("%d bytes", now-before)
		}
		return nil
	})
	if took := time.Since(started); err != nil || took < 2*dripping {
		t.Errorf("two bytes after %v, %v", took, err)
	}
	if got := s.Must("GET", "n"); got != "" {
		t.Errorf("the request reached the server whole: n is %q", got)
	}
	p.SetMode(Pass)
	c.hears("+OK")
}

func TestLostReplyFollowsARequestThatTheServerDid(t *testing.T) {
	t.Parallel()
	s, p, c := connected(t)
	p.LoseReplies(2, "INCR")
	for i := range 2 {
		c.send("GET other")
		c.hears("$-1")
		c.send("incr n")
		c.isCut()
		if got := s.Must("GET", "n"); got != fmt.Sprint(i+1) {
			t.Errorf("n is %q, want %d", got, i+1)
		}
		c = dial(t, p.Addr())
	}
	c.send("INCR n")
	c.hears(":3")
	if p.Lost() != 2 {
		t.Errorf("%d replies were lost, want 2", p.Lost())
	}
}

func TestNewConnectionsGoToTheNewTarget(t *testing.T) {
	t.Parallel()
	s, p, c := connected(t)
	other := Start(t, Options{})
	s.Must("SET", "n", "1")
	other.Must("SET", "n", "2")
	p.SetTarget(other.Addr())
	for at, each := range map[string]*client{"1": c, "2": dial(t, p.Addr())} {
		each.send("GET n")
		each.hears("$1")
		each.hears(at)
	}
	other.Kill()
	conn, err := net.Dial("tcp", p.Addr())
	if err == nil {
		defer func() { _ = conn.Close() }()
		(&client{t, conn, bufio.NewReader(conn)}).isCut()
	} else if !errors.Is(err, syscall.ECONNRESET) { // the reset may be faster than the system call
		t.Error(err)
	}
}

// TestModesMayChangeUnderLoad is for the race detector and for goleak: nothing may be left behind.
func TestModesMayChangeUnderLoad(t *testing.T) {
	t.Parallel()
	_, p, _ := connected(t)
	done := make(chan struct{})
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if conn, err := net.DialTimeout("tcp", p.Addr(), time.Second); err == nil {
					_ = conn.SetDeadline(time.Now().Add(50 * time.Millisecond))
					_, _ = fmt.Fprint(conn, "PING\r\n")
					_, _ = conn.Read(make([]byte, 16))
					_ = conn.Close()
				}
			}
		})
	}
	for range 20 {
		for mode := Pass; mode <= Drip; mode++ {
			p.LoseReplies(1, "ping")
			p.SetMode(mode)
			p.Disconnect()
		}
	}
	close(done)
	clients.Wait()
	p.close()
	p.SetMode(Pass)
	if accepted, open := p.Connections(); open != 0 {
		t.Errorf("%d of %d connections are open", open, accepted)
	}
	if _, err := net.Dial("tcp", p.Addr()); err == nil {
		t.Error("a closed proxy accepts connections")
	}
}
