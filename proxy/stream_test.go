package proxy

import (
	"fmt"
	"io"
	"net/http"
	"testing"
)

// TestEachEventReachesTheClientBeforeTheNextIsSent is driven by a handshake: the
// upstream sends event n+1 only when the client has read event n.
func TestEachEventReachesTheClientBeforeTheNextIsSent(t *testing.T) {
	t.Parallel()
	for name, head := range map[string]string{
		"event stream":               "Content-Type: text/event-stream\r\nTransfer-Encoding: chunked",
		"event stream with charset":  "Content-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked",
		"another stream":             "Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked",
		"event stream until the end": "Content-Type: text/event-stream\r\nConnection: close",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eventsBackAndForth(t, head, 200)
		})
	}
}

// TestAnswerOfKnownLengthIsNotHeldBack: such an answer is flushed within flushInterval.
func TestAnswerOfKnownLengthIsNotHeldBack(t *testing.T) {
	t.Parallel()
	eventsBackAndForth(t, fmt.Sprintf("Content-Type: application/json\r\nContent-Length: %d", 20*len(event(0))), 20)
}

func event(n int) string { return fmt.Sprintf("data: %05d\n\n", n) }

func eventsBackAndForth(t *testing.T, head string, count int) {
	t.Helper()
	read := make(chan struct{})
	s := newStage(t, scripted(func(c *upstreamConn) {
		defer c.Close()
		if c.request() == nil {
			return
		}
		write := func(text string) { c.write(text) }
		c.write("HTTP/1.1 200 OK\r\n" + head + "\r\n\r\n")
		c.pause(read) // the head alone has arrived
		chunked := len(head) > 7 && head[len(head)-7:] == "chunked"
		for n := range count {
			if chunked {
				write(chunk(event(n)))
			} else {
				write(event(n))
			}
			c.pause(read)
		}
		if chunked {
			write("0\r\n\r\n")
		}
	}))
	c := s.dial(t).send(s.request("POST /a HTTP/1.1", "Content-Length: 5") + "hello")
	res := c.head("POST")
	read <- struct{}{}
	for n := range count {
		got := make([]byte, len(event(n)))
		if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != event(n) {
			t.Fatalf("event %d: %q, %v", n, got, err)
		}
		read <- struct{}{}
	}
	if rest, err := io.ReadAll(res.Body); err != nil || len(rest) > 0 {
		t.Errorf("after the last: %q, %v", rest, err)
	}
}

// TestAnswerFlowsWhileTheBodyIsStillSent speaks in turns, as clients of a transcription
// do: each answer arrives before the client sends its next part.
func TestAnswerFlowsWhileTheBodyIsStillSent(t *testing.T) {
	t.Parallel()
	s := newStage(t, scripted(func(c *upstreamConn) {
		defer c.Close()
		r, err := http.ReadRequest(c.reader)
		if err != nil {
			return
		}
		c.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		part := make([]byte, 3)
		for {
			if _, err := io.ReadFull(r.Body, part); err != nil {
				break
			}
			c.write(chunk("got " + string(part)))
		}
		c.write("0\r\n\r\n")
	}))
	c := s.dial(t).send(s.request("POST /a HTTP/1.1", "Transfer-Encoding: chunked"))
	res := c.head("POST")
	for _, part := range []string{"one", "two", "six"} {
		c.send(chunk(part))
		got := make([]byte, len("got "+part))
		if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != "got "+part {
			t.Fatalf("after %q the client reads %q, %v", part, got, err)
		}
	}
	c.send("0\r\n\r\n")
	if rest, err := io.ReadAll(res.Body); err != nil || len(rest) > 0 {
		t.Errorf("after the end of the body the client reads %q, %v", rest, err)
	}
}
