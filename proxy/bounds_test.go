package proxy

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// brief is a bound for what is late in any case. longer is one for what must be in time:
// a busy machine takes seconds now and then.
const brief, longer = 100 * time.Millisecond, 3 * time.Second

func TestWireSlowHeadEndsTheConnection(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(with *settings) { with.server.RequestHeaders = longer })
	silent := s.dial(t)
	c := s.dial(t).send("GET /a HTTP/1.1\r\nHost: proxy.test\r\nX-")
	if res, _ := c.answer("GET"); res.StatusCode != 400 {
		t.Errorf("status %d", res.StatusCode)
	}
	c.ended()
	silent.ended() // not a byte was sent
	s.untouched(t)
}

func TestWireIdleConnectionIsClosed(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(with *settings) { with.server.Idle = longer })
	c := s.dial(t)
	c.send(s.request("GET /a HTTP/1.1")).answer("GET")
	c.send(s.request("GET /a HTTP/1.1")).answer("GET")
	c.ended()
}

func TestWireHeadOver32KiBIsRefused(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	c := s.dial(t).send(s.request("GET /a HTTP/1.1", "X-A: "+strings.Repeat("a", 31<<10)))
	if res, _ := c.answer("GET"); res.StatusCode != 200 {
		t.Errorf("a head of 31 KiB got %d", res.StatusCode)
	}
	before := s.upstream.bytes()
	c = s.dial(t)
	_, _ = io.WriteString(c.conn, s.request("GET /b HTTP/1.1", "X-A: "+strings.Repeat("a", 33<<10)))
	if res, _ := c.answer("GET"); res.StatusCode != 431 {
		t.Errorf("a head of 33 KiB got %d", res.StatusCode)
	}
	if s.upstream.bytes() != before {
		t.Error("the large head reached the upstream")
	}
	s.blameless(t)
}

func TestWireMoreThan100HeaderLinesAreRefused(t *testing.T) {
	t.Parallel()
	many := func(n int) (headers []string) { // Authorization and X-Request-Id come on top
		for i := range n - 2 {
			headers = append(headers, fmt.Sprintf("X-A%d: a", i%40))
		}
		return headers
	}
	s := newStage(t)
	res, body := s.dial(t).send(s.request("GET /a HTTP/1.1", many(101)...)).answer("GET")
	if res.StatusCode != 431 {
		t.Errorf("101 lines got %d", res.StatusCode)
	}
	checkRefusal(t, body, "headers_too_large", "100")
	s.untouched(t)
	if res, _ := s.dial(t).send(s.request("GET /a HTTP/1.1", many(100)...)).answer("GET"); res.StatusCode != 200 {
		t.Errorf("100 lines got %d", res.StatusCode)
	}
}

func TestWireBodyThatStopsArrivingIsRefused(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(with *settings) { with.BodyProgress = brief })
	c := s.dial(t).send(s.request("POST /a HTTP/1.1", "Content-Length: 500") + "hello")
	res, body := c.answer("POST")
	if res.StatusCode != 400 || !res.Close {
		t.Errorf("status %d, close %v", res.StatusCode, res.Close)
	}
	checkRefusal(t, body, "bad_request", "stopped arriving")
	_ = c.conn.(*net.TCPConn).CloseWrite() // or the proxy waits a while for the rest
	c.ended()
	if err := receive(t, "the upstream's connection ends", s.upstream.ended); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the upstream saw %v, not an aborted request", err)
	}
	s.blameless(t)
}

// TestWireRefusedClientThatStopsSendingIsTold: net/http waits for the body before it
// writes the answer, which must not come too late then.
func TestWireRefusedClientThatStopsSendingIsTold(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(with *settings) { with.WriteProgress = 4 * brief })
	c := s.dial(t).send(s.stranger("POST /a HTTP/1.1", "Content-Length: 500") + "hello")
	res, body := c.answer("POST")
	if res.StatusCode != 401 || !res.Close {
		t.Errorf("status %d, close %v", res.StatusCode, res.Close)
	}
	checkRefusal(t, body, "missing_credentials", "")
	c.ended()
}

func TestWireBodyThatKeepsArrivingIsNotCut(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(with *settings) { with.BodyProgress = longer })
	unlessLate(t, longer/3, func() error {
		c := s.dial(t).send(s.request("POST /a HTTP/1.1", "Content-Length: 12"))
		tick := time.NewTicker(longer / 6)
		defer tick.Stop()
		for range 12 { // twice the time that the body may rest
			<-tick.C
			if _, err := io.WriteString(c.conn, "a"); err != nil {
				return err
			}
		}
		if res, body := c.answer("POST"); res.StatusCode != 200 {
			return fmt.Errorf("status %d: %s", res.StatusCode, body)
		}
		return nil
	})
}

// TestWireStreamOutlastsTheBodyDeadline: net/http ends the request when a deadline for
// reading passes, so it must not stay armed when the body has been read.
func TestWireStreamOutlastsTheBodyDeadline(t *testing.T) {
	t.Parallel()
	for _, framing := range []struct{ header, body string }{
		{"Content-Length: 5", "hello"},
		{"Transfer-Encoding: chunked", chunk("hello") + "0\r\n\r\n"},
	} {
		t.Run(framing.header, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, func(with *settings) { with.BodyProgress = longer }, scripted(func(c *upstreamConn) {
				defer c.Close()
				if c.request() == nil {
					return
				}
				c.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk("a"))
				<-time.After(longer * 4 / 3)
				c.write(chunk("b") + "0\r\n\r\n")
			}))
			unlessLate(t, longer/3, func() error {
				c := s.dial(t).send(s.request("POST /a HTTP/1.1", framing.header) + framing.body[:2])
				<-time.After(longer / 3) // so that the deadline is moved in the read that finds the end
				if _, err := io.WriteString(c.conn, framing.body[2:]); err != nil {
					return err
				}
				res := c.head("POST")
				if body, err := io.ReadAll(res.Body); err != nil || string(body) != "ab" {
					return fmt.Errorf("status %d, body %q, %v", res.StatusCode, body, err)
				}
				return nil
			})
		})
	}
}

// flood answers with more than any buffer on the way holds.
func flood(c *upstreamConn) {
	defer c.Close()
	if c.request() == nil {
		return
	}
	c.write(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", floodSize))
	for block, n := strings.Repeat("a", 1<<20), 0; n < floodSize; n += len(block) {
		if !c.write(block) {
			break
		}
	}
	c.untilGone()
}

const floodSize = 32 << 20

func TestWireClientThatStopsReadingIsCut(t *testing.T) {
	t.Parallel()
	s := newStage(t, scripted(flood), func(with *settings) { with.WriteProgress = brief })
	c := s.dial(t).send(s.request("GET /a HTTP/1.1"))
	receive(t, "the upstream's connection ends", s.upstream.ended)
	s.settled()
	if n := s.counter("keystile_requests_total", "client_gone", "4xx"); n != 1 {
		t.Errorf("%v requests counted as client_gone", n)
	}
	s.blameless(t)
	if _, err := io.Copy(io.Discard, c.head("GET").Body); err == nil {
		t.Error("the client sees a clean end")
	}
}

// TestWireClientThatPausesIsNotTheUpstreamsSilence: while the client keeps us waiting,
// the upstream cannot send.
func TestWireClientThatPausesIsNotTheUpstreamsSilence(t *testing.T) {
	t.Parallel()
	s := newStage(t, scripted(flood), func(with *settings) { with.Silence = longer })
	unlessLate(t, longer/3, func() error {
		before := s.counter("keystile_upstream_failures_total")
		c := s.dial(t).send(s.request("GET /a HTTP/1.1"))
		<-time.After(longer * 4 / 3)
		n, err := io.Copy(io.Discard, c.head("GET").Body)
		if blamed := s.counter("keystile_upstream_failures_total") - before; err != nil || n != floodSize || blamed != 0 {
			return fmt.Errorf("%d bytes, %v, %v failures put down to the upstream", n, err, blamed)
		}
		return nil
	})
}

func TestWireSilentUpstreamIsCut(t *testing.T) {
	t.Parallel()
	s := newStage(t, scripted(endless), func(with *settings) { with.Silence = brief })
	res := s.dial(t).send(s.request("GET /a HTTP/1.1")).head("GET")
	if body, err := io.ReadAll(res.Body); err == nil || string(body) != "data: 1\n\n" {
		t.Errorf("body %q, error %v: a clean end", body, err)
	}
	receive(t, "the upstream's connection ends", s.upstream.ended)
	s.settled()
	if n := s.counter("keystile_upstream_failures_total", "silence"); n != 1 {
		t.Errorf("%v failures counted as silence", n)
	}
	if n := s.counter("keystile_requests_total", "upstream_timeout", "2xx"); n != 1 {
		t.Errorf("%v requests counted as upstream_timeout", n)
	}
}

// upstreamFailure is a way in which there is no answer.
type upstreamFailure struct {
	name, cause, code string
	status            int
	reached           bool // bytes went upstream: the client is told not to repeat
	adjust            func(*settings)
}

func TestWireUpstreamFailuresAreToldAndCountedByCause(t *testing.T) {
	t.Parallel()
	once := func(answer string) func(*settings) {
		return scripted(func(c *upstreamConn) {
			defer c.Close()
			if c.request() != nil {
				c.write(answer)
			}
		})
	}
	for _, f := range []upstreamFailure{
		{"no answer in time", "timeout", "upstream_timeout", 504, true, func(with *settings) {
			with.transport.ResponseHeaders = brief
			with.script = func(c *upstreamConn) { defer c.Close(); c.request(); c.untilGone() }
		}},
		{"nobody listens", "dial", "upstream_unreachable", 502, false, func(with *settings) {
			with.Upstream = &url.URL{Scheme: "http", Host: unusedAddress(t)}
		}},
		{"closed before an answer", "closed", "upstream_unreachable", 502, true, once("")},
		{"closed within the head", "closed", "upstream_unreachable", 502, true, once("HTTP/1.1 200 OK\r\nServer: a\r\n")},
		{"an answer that is not HTTP", "protocol", "upstream_unreachable", 502, true, once("SSH-2.0-OpenSSH\r\n")},
		{"a status below 100", "protocol", "upstream_unreachable", 502, true, once("HTTP/1.1 099 Odd\r\nContent-Length: 0\r\n\r\n")},
		{"a switch nobody asked for", "protocol", "upstream_unreachable", 502, true, func(with *settings) {
			with.script = func(c *upstreamConn) {
				defer c.Close()
				c.request()
				c.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
				c.untilGone()
			}
		}},
		{"no TLS", "tls", "upstream_unreachable", 502, false, func(with *settings) {
			with.Upstream = &url.URL{Scheme: "https", Host: with.Upstream.Host}
			with.script = func(c *upstreamConn) { c.write("HTTP/1.1 400 Bad Request\r\n\r\n"); _ = c.Close() }
		}},
		{"TLS that takes too long", "tls", "upstream_unreachable", 502, false, func(with *settings) {
			with.Upstream = &url.URL{Scheme: "https", Host: with.Upstream.Host}
			with.transport.TLS = brief
			with.script = func(c *upstreamConn) { defer c.Close(); c.untilGone() }
		}},
	} {
		t.Run(f.name, f.run)
	}
}

func (f upstreamFailure) run(t *testing.T) {
	t.Parallel()
	f.check(t, newStage(t, f.adjust), "POST /a HTTP/1.1", "Content-Length: 0")
}

// check sends a request and looks at what the client is told and what is counted.
func (f upstreamFailure) check(t *testing.T, s *stage, line string, headers ...string) {
	t.Helper()
	res, body := s.dial(t).send(s.request(line, headers...)).answer("POST")
	if res.StatusCode != f.status {
		t.Errorf("status %d", res.StatusCode)
	}
	checkRefusal(t, body, f.code, "")
	if told := res.Header.Get("X-Should-Retry"); told != map[bool]string{true: "false"}[f.reached] {
		t.Errorf("X-Should-Retry: %q", told)
	}
	s.settled()
	if n := s.counter("keystile_upstream_failures_total", f.cause); n != 1 {
		t.Errorf("%v failures counted as %s", n, f.cause)
	}
	if n := s.counter("keystile_upstream_failures_total"); n != 1 {
		t.Errorf("%v failures counted in all", n)
	}
	eventually(t, "no connection to the upstream stays open", func() bool { return s.upstream.count() == 0 })
}

func TestConnectionsBeyondTheLimitAreToldAndClosed(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(with *settings) { with.limit = 2 })
	first, second := s.dial(t), s.dial(t)
	first.send(s.request("GET /a HTTP/1.1")).answer("GET")
	second.send(s.request("GET /a HTTP/1.1")).answer("GET")
	for range 3 {
		c := s.dial(t)
		_, _ = io.WriteString(c.conn, s.request("GET /b HTTP/1.1"))
		res, body := c.answer("GET")
		if res.StatusCode != 503 || !res.Close || res.Header.Get("Retry-After") != "1" {
			t.Errorf("status %d, close %v, %v", res.StatusCode, res.Close, res.Header)
		}
		checkRefusal(t, body, "too_many_connections", "Retry-After")
		c.ended()
	}
	if n := s.counter("keystile_connections_refused_total"); n != 3 {
		t.Errorf("%v connections counted as refused", n)
	}
	if got := s.upstream.bytes(); strings.Contains(got, "/b") {
		t.Errorf("the upstream received %q", got)
	}
	_ = first.conn.Close()
	eventually(t, "a closed connection makes room", func() bool {
		c := s.dial(t)
		defer c.conn.Close()
		_, _ = io.WriteString(c.conn, s.request("GET /c HTTP/1.1"))
		res, err := http.ReadResponse(c.reader, nil)
		return err == nil && res.StatusCode == 200
	})
	second.send(s.request("GET /a HTTP/1.1")).answer("GET")
}

// TestClientThatStopsAfterAnEarlyAnswerIsCutOff: what is left of its body is not waited
// for without end.
func TestClientThatStopsAfterAnEarlyAnswerIsCutOff(t *testing.T) {
	t.Parallel()
	for name, sent := range map[string]struct{ header, body string }{
		"half a body":          {"Content-Length: 10", "12345"},
		"half a chunked body":  {"Transfer-Encoding: chunked", chunk("12345")},
		"Expect: 100-continue": {"Content-Length: 10\r\nExpect: 100-continue", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, func(with *settings) { with.WriteProgress = brief }, scripted(func(c *upstreamConn) {
				defer c.Close()
				if _, err := http.ReadRequest(c.reader); err == nil {
					c.write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly")
					c.untilGone()
				}
			}))
			c := s.dial(t).send(s.request("POST /a HTTP/1.1", sent.header) + sent.body)
			res, body := c.answer("POST")
			if res.StatusCode == http.StatusContinue { // the upstream's answer was not there yet
				res, body = c.answer("POST")
			}
			if res.StatusCode != 200 || body != "early" {
				t.Errorf("status %d, body %q", res.StatusCode, body)
			}
			c.ended()
		})
	}
}
