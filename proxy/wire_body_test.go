package proxy

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestWireBodyOfHTTP10IsNeverReadAsAnotherRequest(t *testing.T) {
	t.Parallel()
	for name, length := range map[string][]string{"chunked": nil, "chunked, with a length": {"Content-Length: 0"}} {
		for _, refused := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, refused: %v", name, refused), func(t *testing.T) {
				t.Parallel()
				s := newStage(t)
				head, status := s.request, 200
				if refused {
					head, status = s.stranger, 401
				}
				c := s.dial(t).send(head("POST /a HTTP/1.0", append(length, "Connection: keep-alive", "Transfer-Encoding: chunked")...) +
					s.request("GET /b HTTP/1.0"))
				if res, body := c.answer("POST"); res.StatusCode != status {
					t.Errorf("status %d: %s", res.StatusCode, body)
				}
				c.ended()
				if got := s.upstream.bytes(); strings.Contains(got, "/b") {
					t.Errorf("the upstream received %q", got)
				}
			})
		}
	}
}

func TestWireBodiesAreForwardedByteForByte(t *testing.T) {
	t.Parallel()
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	_, _ = zip.Write([]byte("a body"))
	_ = zip.Close()
	for _, row := range []exchangeRow{
		{
			name: "GET with a body", status: 200,
			send:     func(s *stage) string { return s.request("GET /a HTTP/1.1", "Content-Length: 5") + "hello" },
			received: func(s *stage) string { return s.forwarded("GET /a HTTP/1.1", "hello", "Content-Length: 5") },
		},
		{
			name: "a packed body stays packed", status: 200,
			send: func(s *stage) string {
				return s.request("POST /a HTTP/1.1", "Content-Encoding: gzip", "Transfer-Encoding: chunked") + chunk(packed.String()) + "0\r\n\r\n"
			},
			received: func(s *stage) string {
				return s.forwarded("POST /a HTTP/1.1", chunk(packed.String())+"0\r\n\r\n", "Content-Encoding: gzip", "Transfer-Encoding: chunked")
			},
		},
		{
			name: "a client's trailers end here, announced or not", status: 200,
			send: func(s *stage) string {
				return s.request("POST /a HTTP/1.1", "Trailer: X-Account-Id", "Transfer-Encoding: chunked") +
					chunk("hello") + "0\r\nX-Account-Id: admin\r\nX-Key: other\r\n\r\n"
			},
			received: func(s *stage) string {
				return s.forwarded("POST /a HTTP/1.1", chunk("hello")+"0\r\n\r\n", "Transfer-Encoding: chunked")
			},
		},
		{
			name: "a body that just keeps the limit", status: 200,
			send:     func(s *stage) string { return s.request("POST /a HTTP/1.1", "Content-Length: 5") + "hello" },
			received: func(s *stage) string { return s.forwarded("POST /a HTTP/1.1", "hello", "Content-Length: 5") },
			adjust:   func(with *settings) { with.MaxBody = 5 },
		},
		{
			name: "a declared length over the limit goes nowhere", status: 413, code: "body_too_large",
			send:   func(s *stage) string { return s.request("POST /a HTTP/1.1", "Content-Length: 6") + "hello!" },
			adjust: func(with *settings) { with.MaxBody = 5 },
		},
	} {
		t.Run(row.name, row.run)
	}
}

func TestWirePackedAnswerStaysPacked(t *testing.T) {
	t.Parallel()
	packed := "\x1f\x8b no gzip at all"
	s := newStage(t, answering("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"+chunk(packed)+"0\r\n\r\n"))
	res, body := s.dial(t).send(s.request("GET /a HTTP/1.1")).answer("GET")
	if body != packed || res.Header.Get("Content-Encoding") != "gzip" {
		t.Errorf("the answer arrived as %q with %v", body, res.Header)
	}
}

func TestWireBrokenBodyIsTheClientsMistake(t *testing.T) {
	t.Parallel()
	smuggled := "GET /smuggled HTTP/1.1\r\nHost: proxy.test\r\n\r\n"
	for name, broken := range map[string]string{
		"length that is no number":    "5\r\nhello\r\nzz\r\n" + smuggled,
		"no line end after a chunk":   "5\r\nhelloX" + smuggled,
		"length that is much too big": "fffffffffffffffff\r\n" + smuggled,
		"trailer that is no header":   "5\r\nhello\r\n0\r\n no header\r\n\r\n" + smuggled,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			c := s.dial(t).send(s.request("POST /a HTTP/1.1", "Transfer-Encoding: chunked") + broken)
			res, body := c.answer("POST")
			if res.StatusCode != 400 || res.Header.Get("Connection") != "close" && !res.Close {
				t.Errorf("status %d, close %v", res.StatusCode, res.Close)
			}
			checkRefusal(t, body, "bad_request", "framed")
			c.ended() // or what followed would be taken for the next request
			if err := receive(t, "the upstream's connection ends", s.upstream.ended); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("the upstream saw %v, not an aborted request", err)
			}
			if got := s.upstream.bytes(); strings.Contains(got, "smuggled") || strings.Contains(got, "0\r\n\r\n") {
				t.Errorf("the upstream received %q", got)
			}
			s.blameless(t)
		})
	}
}

func TestWireBodyOverTheLimitIsAbortedUpstream(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(with *settings) { with.MaxBody = 8 })
	c := s.dial(t).send(s.request("POST /a HTTP/1.1", "Transfer-Encoding: chunked") + chunk("hello") + chunk("world") + "0\r\n\r\n")
	res, body := c.answer("POST")
	if res.StatusCode != 413 {
		t.Errorf("status %d", res.StatusCode)
	}
	checkRefusal(t, body, "body_too_large", "")
	c.ended()
	if err := receive(t, "the upstream's connection ends", s.upstream.ended); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the upstream saw %v, not an aborted request", err)
	}
	s.blameless(t)
}

// TestWireEarlyAnswer holds a client to the framing of the body that it began: the
// answer comes at once, and what follows is body, never a request.
func TestWireEarlyAnswerLeavesNoRequestBehind(t *testing.T) {
	t.Parallel()
	s := newStage(t, scripted(func(c *upstreamConn) {
		defer c.Close()
		if _, err := http.ReadRequest(c.reader); err != nil {
			return
		}
		c.write("HTTP/1.1 422 Unprocessable Entity\r\nContent-Length: 2\r\n\r\nno")
		c.untilGone()
	}))
	smuggled := s.request("GET /smuggled HTTP/1.1") + s.request("GET /smuggled HTTP/1.1")
	c := s.dial(t).send(s.request("POST /a HTTP/1.1", "Transfer-Encoding: chunked") + chunk("hello"))
	res, body := c.answer("POST")
	if res.StatusCode != 422 || body != "no" || !res.Close {
		t.Errorf("status %d, body %q, close %v", res.StatusCode, body, res.Close)
	}
	_, _ = io.WriteString(c.conn, "zz\r\n"+smuggled) // broken framing, then a request
	c.ended()
	if got := s.upstream.bytes(); strings.Contains(got, "smuggled") {
		t.Errorf("the upstream received %q", got)
	}
	s.blameless(t)
}

// kept has connections to the upstream rest for as long as a test may take.
func kept(with *settings) { with.transport.Idle = time.Hour }

func TestWireOnlySafeRequestsAreTriedTwice(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, line string
		headers    []string
		again      bool
	}{
		{"GET", "GET /b HTTP/1.1", nil, true},
		{"POST", "POST /b HTTP/1.1", nil, false},
		{"POST with Idempotency-Key", "POST /b HTTP/1.1", []string{"Idempotency-Key: a"}, false},
		{"POST with X-Idempotency-Key", "POST /b HTTP/1.1", []string{"X-Idempotency-Key: a", "Content-Length: 0"}, false},
		{"DELETE with Idempotency-Key", "DELETE /b HTTP/1.1", []string{"idempotency-key: a"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, kept, scripted(func(u *upstreamConn) {
				defer u.Close()
				if u.request() == nil {
					return
				}
				u.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				if u.number == 0 {
					u.request() // and then the connection is closed without an answer
				}
			}))
			client := s.dial(t)
			client.send(s.request("GET /a HTTP/1.1")).answer("GET")
			res, _ := client.send(s.request(c.line, c.headers...)).answer("GET")
			attempts := strings.Count(s.upstream.bytes(), " /b HTTP/1.1\r\n")
			if c.again && (res.StatusCode != 200 || attempts != 2) {
				t.Errorf("status %d after %d attempts", res.StatusCode, attempts)
			}
			if !c.again && (res.StatusCode != 502 || attempts != 1 || res.Header.Get("X-Should-Retry") != "false") {
				t.Errorf("status %d after %d attempts, %v", res.StatusCode, attempts, res.Header)
			}
			for _, header := range c.headers {
				name, value, _ := strings.Cut(header, ": ")
				if name != "Content-Length" && !strings.Contains(s.upstream.bytes(), "\r\n"+strings.ToLower(name)+": "+value+"\r\n") {
					t.Errorf("%s did not reach the upstream", header)
				}
			}
		})
	}
}

// continuing asks for the body before it answers.
func continuing(c *upstreamConn) {
	defer c.Close()
	r, err := http.ReadRequest(c.reader)
	if err != nil {
		return
	}
	c.write("HTTP/1.1 100 Continue\r\n\r\n")
	if _, err := io.ReadAll(r.Body); err == nil {
		c.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	}
	c.untilGone()
}

func TestWireExpectContinue(t *testing.T) {
	t.Parallel()
	t.Run("a refused client is never asked for its body", func(t *testing.T) {
		t.Parallel()
		s := newStage(t, scripted(continuing))
		c := s.dial(t).send(s.stranger("POST /a HTTP/1.1", "Expect: 100-continue", "Content-Length: 5"))
		res, body := c.answer("POST")
		if res.StatusCode != 401 {
			t.Errorf("status %d", res.StatusCode)
		}
		checkRefusal(t, body, "missing_credentials", "")
		_ = c.conn.(*net.TCPConn).CloseWrite() // or the proxy waits a while for the body
		c.ended()
		s.untouched(t)
	})
	t.Run("the upstream asks for it", func(t *testing.T) {
		t.Parallel()
		s := newStage(t, scripted(continuing))
		c := s.dial(t).send(s.request("POST /a HTTP/1.1", "Expect: 100-continue", "Content-Length: 5"))
		if res := c.head("POST"); res.StatusCode != 100 {
			t.Fatalf("status %d before the body", res.StatusCode)
		}
		if got := s.upstream.bytes(); !strings.HasSuffix(got, "\r\n\r\n") {
			t.Errorf("the upstream received %q before the body was sent", got)
		}
		if res, body := c.send("hello").answer("POST"); res.StatusCode != 200 || body != "ok" {
			t.Errorf("status %d, body %q", res.StatusCode, body)
		}
		if got := s.upstream.bytes(); !strings.HasSuffix(got, "\r\n\r\nhello") {
			t.Errorf("the upstream received %q", got)
		}
	})
	t.Run("the upstream refuses without asking", func(t *testing.T) {
		t.Parallel()
		unhurried := func(with *settings) {
			with.round = func(next http.RoundTripper) http.RoundTripper {
				next.(*http.Transport).ExpectContinueTimeout = patience // or it asks for the body by itself
				return next
			}
		}
		s := newStage(t, unhurried, scripted(func(c *upstreamConn) {
			defer c.Close()
			if _, err := http.ReadRequest(c.reader); err == nil {
				c.write("HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno")
			}
		}))
		c := s.dial(t).send(s.request("POST /a HTTP/1.1", "Expect: 100-continue", "Content-Length: 5"))
		if res, body := c.answer("POST"); res.StatusCode != 403 || body != "no" || !res.Close {
			t.Errorf("status %d, body %q, close %v", res.StatusCode, body, res.Close)
		}
		s.blameless(t)
	})
}

func TestWireInformationalAnswersAndTrailersArePassedOn(t *testing.T) {
	t.Parallel()
	s := newStage(t, answering("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"+
		"HTTP/1.1 200 OK\r\nTrailer: X-Announced\r\nTransfer-Encoding: chunked\r\n\r\n"+
		chunk("hello")+"0\r\nX-Announced: 1\r\nX-Sudden: 2\r\n\r\n"))
	c := s.dial(t).send(s.request("GET /a HTTP/1.1", "Te: trailers"))
	if early := c.head("GET"); early.StatusCode != 103 || early.Header.Get("Link") != "</a.css>" {
		t.Errorf("first came %d with %v", early.StatusCode, early.Header)
	}
	res, body := c.answer("GET")
	if res.StatusCode != 200 || body != "hello" || res.Header.Get("Link") != "" {
		t.Errorf("status %d, body %q, %v", res.StatusCode, body, res.Header)
	}
	if res.Trailer.Get("X-Announced") != "1" || res.Trailer.Get("X-Sudden") != "2" {
		t.Errorf("trailers %v", res.Trailer)
	}
}

func TestWireHeadHasTheLengthAndNoBody(t *testing.T) {
	t.Parallel()
	s := newStage(t, answering("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"))
	c := s.dial(t).send(s.request("HEAD /a HTTP/1.1"))
	if res := c.head("HEAD"); res.ContentLength != 7 {
		t.Errorf("length %d", res.ContentLength)
	}
	if res := c.send(s.request("HEAD /b HTTP/1.1")).head("HEAD"); res.StatusCode != 200 {
		t.Errorf("the next request on the connection got %d", res.StatusCode)
	}
	if res := c.send(s.stranger("HEAD /b HTTP/1.1")).head("HEAD"); res.StatusCode != 401 {
		t.Errorf("a stranger on the connection got %d", res.StatusCode)
	}
}

// endless answers with a stream that never ends by itself.
func endless(c *upstreamConn) {
	defer c.Close()
	if c.request() == nil {
		return
	}
	c.write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk("data: 1\n\n"))
	c.untilGone()
}

func TestWireClientThatLeavesEndsTheUpstreamRequest(t *testing.T) {
	t.Parallel()
	log := new(lines)
	s := newStage(t, scripted(endless), func(with *settings) { with.Log = log.logger() })
	gone := 0.0
	again(t, func() error {
		c := s.dial(t).send(s.request("GET /a HTTP/1.1"))
		if _, err := io.ReadFull(c.head("GET").Body, make([]byte, 9)); err != nil {
			t.Fatal(err)
		}
		left := time.Now()
		_ = c.conn.Close()
		receive(t, "the upstream's connection ends", s.upstream.ended)
		gone++
		if took := time.Since(left); took > time.Second {
			return fmt.Errorf("the upstream was told after %v", took)
		}
		return nil
	})
	s.settled()
	if n := s.counter("keystile_requests_total", "client_gone", "4xx"); n != gone {
		t.Errorf("%v of %v requests counted as client_gone", n, gone)
	}
	s.blameless(t)
	if text := log.text(); text != "" {
		t.Errorf("logged: %s", text)
	}
}

func TestWireClientThatLeavesBeforeTheAnswerEndsTheUpstreamRequest(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{})
	s := newStage(t, scripted(func(c *upstreamConn) {
		defer c.Close()
		if c.request() != nil {
			close(arrived)
			c.untilGone()
		}
	}))
	c := s.dial(t).send(s.request("POST /a HTTP/1.1", "Content-Length: 5") + "hello")
	receive(t, "the request arrives", arrived)
	_ = c.conn.Close()
	receive(t, "the upstream's connection ends", s.upstream.ended)
	s.settled()
	if n := s.counter("keystile_requests_total", "client_gone", "4xx"); n != 1 {
		t.Errorf("%v requests counted as client_gone", n)
	}
	s.blameless(t)
}

func TestWireClientThatLeavesWithinItsBodyIsNotTheUpstreamsFault(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	c := s.dial(t).send(s.request("POST /a HTTP/1.1", "Content-Length: 500") + "hello")
	eventually(t, "the body begins to arrive", func() bool { return strings.HasSuffix(s.upstream.bytes(), "hello") })
	_ = c.conn.Close()
	if err := receive(t, "the upstream's connection ends", s.upstream.ended); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the upstream saw %v", err)
	}
	s.settled()
	if n := s.counter("keystile_requests_total", "client_gone", "4xx"); n != 1 {
		t.Errorf("%v requests counted as client_gone", n)
	}
	s.blameless(t)
}

func TestWireUpstreamThatBreaksOffIsABrokenTransfer(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"chunked":                   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk("hello"),
		"of a known length":         "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nhello",
		"framing that is no number": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk("hello") + "zz\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, scripted(func(c *upstreamConn) {
				defer c.Close()
				if c.request() != nil {
					c.write(answer)
				}
			}))
			c := s.dial(t).send(s.request("GET /a HTTP/1.1"))
			res, err := http.ReadResponse(c.reader, nil) // the head may not have left yet
			if err == nil {
				_, err = io.ReadAll(res.Body)
			}
			if !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("error %v: a clean end", err)
			}
			s.settled()
			if n := s.counter("keystile_upstream_failures_total", "broken"); n != 1 {
				t.Errorf("%v failures counted as broken", n)
			}
			if n := s.counter("keystile_requests_total", "upstream_unreachable", "2xx"); n != 1 {
				t.Errorf("%v requests counted as upstream_unreachable", n)
			}
		})
	}
}
