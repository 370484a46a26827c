package proxy

import (
	"context"
	"io"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const (
	webSocketAnswer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: a\r\n\r\n"
	webSocketFrames = "\x81\x05hello\x81\x05world" // masked or not is for the ends to know
)

// webSocketEcho switches protocols and sends everything back.
func webSocketEcho(c *upstreamConn) {
	defer c.Close()
	if c.request() == nil {
		return
	}
	c.write(webSocketAnswer)
	_, _ = io.Copy(c.Conn, c.reader)
	c.upstream.ended <- io.EOF
}

func webSocketOn(with *settings) {
	with.WebSocket = true
	with.script = webSocketEcho
}

// webSocket sends the handshake and reads the switch.
func (s *stage) webSocket(t *testing.T) *client {
	t.Helper()
	c := s.dial(t).send(s.request("GET /a HTTP/1.1", "Connection: keep-alive, Upgrade", "Upgrade: WebSocket", "Sec-WebSocket-Key: a"))
	if res := c.head("GET"); res.StatusCode != 101 || res.Header.Get("Sec-WebSocket-Accept") != "a" {
		t.Fatalf("status %d, %v", res.StatusCode, res.Header)
	}
	return c
}

// echo sends frames and reads them back.
func (c *client) echo() {
	c.t.Helper()
	got := make([]byte, len(webSocketFrames))
	if _, err := io.ReadFull(c.send(webSocketFrames).reader, got); err != nil || string(got) != webSocketFrames {
		c.t.Fatalf("%q came back, %v", got, err)
	}
}

func TestWireWebSocketIsCarriedWhereConfigured(t *testing.T) {
	t.Parallel()
	s := newStage(t, webSocketOn, func(with *settings) { with.BodyProgress, with.WriteProgress, with.Silence = brief, brief, brief })
	c := s.webSocket(t)
	c.echo()
	<-time.After(3 * brief) // a WebSocket may rest for longer than a body or a stream
	c.echo()
	head, _, _ := strings.Cut(s.upstream.bytes(), "\r\n\r\n")
	want := s.forwarded("GET /a HTTP/1.1", "", "Connection: Upgrade", "Upgrade: WebSocket", "Sec-Websocket-Key: a")
	if got := sortedHead(head + "\r\n\r\n"); got != want {
		t.Errorf("the upstream received %q, not %q", got, want)
	}
	_ = c.conn.Close()
	receive(t, "the upstream's connection ends", s.upstream.ended)
	s.settled()
	if n := s.counter("keystile_requests_total", "allowed", "1xx"); n != 1 {
		t.Errorf("%v requests counted", n)
	}
	if n := s.counter("keystile_body_bytes_total", "in"); n != float64(2*len(webSocketFrames)) {
		t.Errorf("%v bytes counted in", n)
	}
	if n := s.counter("keystile_body_bytes_total", "out"); n != float64(2*len(webSocketFrames)) {
		t.Errorf("%v bytes counted out", n)
	}
	s.blameless(t)
}

func TestWireWebSocketOfAStrangerIsRefused(t *testing.T) {
	t.Parallel()
	exchangeRow{
		status: 401, code: "missing_credentials", adjust: webSocketOn,
		send: func(s *stage) string {
			return s.stranger("GET /a HTTP/1.1", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: a")
		},
	}.check(t)
}

func TestWireWebSocketTheUpstreamDeclinesIsAnOrdinaryAnswer(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(with *settings) { with.WebSocket = true })
	c := s.dial(t).send(s.request("GET /a HTTP/1.1", "Connection: Upgrade", "Upgrade: websocket"))
	if res, body := c.answer("GET"); res.StatusCode != 200 || body != "ok" {
		t.Errorf("status %d, body %q", res.StatusCode, body)
	}
}

func TestWireSwitchToAnotherProtocolThanAskedForIsAFailure(t *testing.T) {
	t.Parallel()
	upstreamFailure{cause: "protocol", code: "upstream_unreachable", status: 502, reached: true}.check(t,
		newStage(t, func(with *settings) {
			with.WebSocket = true
			with.script = func(c *upstreamConn) {
				defer c.Close()
				c.request()
				c.write(strings.Replace(webSocketAnswer, "websocket", "h2c", 1))
				c.untilGone()
			}
		}), "GET /a HTTP/1.1", "Connection: Upgrade", "Upgrade: websocket")
}

// TestWireSwitchThatConnectionDoesNotNameIsAFailure: ReverseProxy refuses it as well, but
// leaves the connection to the upstream to the garbage collector. Who refused it shows
// in the log alone.
func TestWireSwitchThatConnectionDoesNotNameIsAFailure(t *testing.T) {
	t.Parallel()
	log := new(lines)
	s := newStage(t, webSocketOn, func(with *settings) { with.Log = log.logger() })
	upstreamFailure{cause: "protocol", code: "upstream_unreachable", status: 502, reached: true}.check(t,
		s, "GET /a HTTP/1.1", "Connection: keep-alive", "Upgrade: websocket")
	s.proxy.Close()
	if !strings.Contains(log.text(), errUnaskedSwitch.Error()) {
		t.Errorf("logged: %s", log.text())
	}
}

func TestDrainEndsWebSocketsAtItsDeadline(t *testing.T) {
	t.Parallel()
	s := newStage(t, webSocketOn)
	c := s.webSocket(t)
	c.echo()
	ctx, cancel := context.WithTimeout(t.Context(), brief)
	defer cancel()
	s.proxy.Drain(ctx)
	receive(t, "the upstream's connection ends", s.upstream.ended)
	c.ended()
	s.settled()
	s.blameless(t)
}

func TestDrainCutsStreamsAtItsDeadlineAndCountsThem(t *testing.T) {
	t.Parallel()
	s := newStage(t, scripted(endless))
	res := s.dial(t).send(s.request("GET /a HTTP/1.1")).head("GET")
	ctx, cancel := context.WithTimeout(t.Context(), brief)
	defer cancel()
	s.proxy.Drain(ctx)
	if _, err := io.ReadAll(res.Body); err == nil {
		t.Error("the client sees a clean end")
	}
	s.settled()
	if n := s.counter("keystile_requests_total", "shutting_down", "2xx"); n != 1 {
		t.Errorf("%v requests counted as shutting_down", n)
	}
	s.blameless(t)
}

func TestDrainTellsRequestsWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{})
	s := newStage(t, scripted(func(c *upstreamConn) {
		defer c.Close()
		c.request()
		close(arrived)
		c.untilGone()
	}))
	c := s.dial(t).send(s.request("POST /a HTTP/1.1", "Content-Length: 5") + "hello")
	receive(t, "the request arrives", arrived)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.proxy.Drain(ctx)
	res, body := c.answer("POST")
	if res.StatusCode != 503 || res.Header.Get("X-Should-Retry") != "false" {
		t.Errorf("status %d, %v", res.StatusCode, res.Header)
	}
	checkRefusal(t, body, "shutting_down", "")
	s.blameless(t)
}

func TestDrainReturnsAtOnceWhenIdle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		records := newRecords()
		_, secret := records.add()
		p := New(Options{Records: records, Upstream: &url.URL{Scheme: "http", Host: "upstream.test"}, Transport: stub(stubOK)})
		defer p.Close()
		if w := judged(p, secret.Reveal()); w.Code != 200 {
			t.Fatalf("status %d: %s", w.Code, w.Body)
		}
		began := time.Now()
		p.Drain(t.Context())
		if took := time.Since(began); took != 0 { // by the clock of the bubble
			t.Errorf("it took %v", took)
		}
	})
}

func TestDrainWaitsForARequestThatEndsInTime(t *testing.T) {
	t.Parallel()
	gate := make(chan struct{})
	s := newStage(t, scripted(func(c *upstreamConn) {
		defer c.Close()
		if c.request() != nil {
			c.pause(gate)
			c.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	}))
	c := s.dial(t).send(s.request("GET /a HTTP/1.1"))
	eventually(t, "the request is in flight", func() bool { return s.upstream.bytes() != "" })
	drained := make(chan struct{})
	go func() { defer close(drained); s.proxy.Drain(t.Context()) }()
	close(gate)
	if res, body := c.answer("GET"); res.StatusCode != 200 || body != "ok" {
		t.Errorf("status %d, body %q", res.StatusCode, body)
	}
	receive(t, "draining ends", drained)
}
