package proxy

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"keystile/keys"
)

func cutting(with *settings) { with.CutStreams = true }

func TestStreamOfAKeyThatIsSwitchedOffIsBrokenOff(t *testing.T) {
	t.Parallel()
	s := newStage(t, cutting, scripted(endless))
	cut := 0.0
	again(t, func() error {
		s.enable(s.id)
		res := s.dial(t).send(s.request("GET /a HTTP/1.1")).head("GET")
		off := time.Now()
		s.disable(s.id)
		if _, err := io.ReadAll(res.Body); err == nil {
			t.Error("the client sees a clean end")
		}
		cut++
		if took := time.Since(off); took > time.Second {
			return fmt.Errorf("the stream went on for %v", took)
		}
		return nil
	})
	s.settled()
	if n := s.counter("keystile_requests_total", "key_inactive", "2xx"); n != cut {
		t.Errorf("%v of %v requests counted as key_inactive", n, cut)
	}
	s.blameless(t)
}

func TestWebSocketOfADeletedKeyIsEnded(t *testing.T) {
	t.Parallel()
	s := newStage(t, cutting, webSocketOn)
	c := s.webSocket(t)
	c.echo()
	s.records.remove(s.id)
	s.proxy.Changed(s.id, keys.Grant{}, false)
	receive(t, "the upstream's connection ends", s.upstream.ended)
	c.ended()
	s.settled()
	if n := s.counter("keystile_requests_total", "bad_credentials", "1xx"); n != 1 {
		t.Errorf("%v requests counted as bad_credentials", n)
	}
}

func TestRequestOfARevokedKeyWithoutAnAnswerYetIsToldNotToBeRepeated(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{})
	s := newStage(t, cutting, scripted(func(c *upstreamConn) {
		defer c.Close()
		c.request()
		close(arrived)
		c.untilGone()
	}))
	c := s.dial(t).send(s.request("POST /a HTTP/1.1", "Content-Length: 5") + "hello")
	receive(t, "the request arrives", arrived)
	s.disable(s.id)
	res, body := c.answer("POST")
	if res.StatusCode != http.StatusUnauthorized || res.Header.Get("X-Should-Retry") != "false" {
		t.Errorf("status %d, %v", res.StatusCode, res.Header)
	}
	checkRefusal(t, body, "key_inactive", "")
	s.blameless(t)
}

func TestStreamsGoOnWhereTheyAreNotToBeCut(t *testing.T) {
	t.Parallel()
	open := make(chan struct{})
	s := newStage(t, scripted(func(c *upstreamConn) {
		defer c.Close()
		if c.request() != nil {
			c.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
			c.pause(open)
			c.write("cd")
		}
	}))
	res := s.dial(t).send(s.request("GET /a HTTP/1.1")).head("GET")
	s.disable(s.id)
	close(open)
	if body, err := io.ReadAll(res.Body); err != nil || string(body) != "abcd" {
		t.Errorf("%q, %v", body, err)
	}
}

func TestStreamOfARotatedSecretIsBrokenOffWhenItIsEnded(t *testing.T) {
	t.Parallel()
	end := func(g *keys.Grant) { g.Digests[1] = keys.Digest{} }
	for name, c := range map[string]struct {
		passed time.Duration // since a rotation with an overlap of an hour
		change func(*keys.Grant)
	}{
		"early":                     {0, end},
		"afterwards":                {2 * time.Hour, end},
		"afterwards, by any change": {2 * time.Hour, func(*keys.Grant) {}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			now := newClock()
			s := newStage(t, cutting, webSocketOn, func(with *settings) { with.Now = now.read })
			client := s.webSocket(t)
			s.proxy.Changed(s.id, s.records.change(s.id, rotate(now.read().Add(time.Hour))), true)
			now.move(c.passed)
			client.echo() // that its time is over does not break it off
			s.proxy.Changed(s.id, s.records.change(s.id, c.change), true)
			receive(t, "the upstream's connection ends", s.upstream.ended)
			client.ended()
		})
	}
}

func TestARateChangeCutsNothing(t *testing.T) {
	t.Parallel()
	s := newStage(t, cutting, webSocketOn)
	c := s.webSocket(t)
	grant := s.records.change(s.id, func(g *keys.Grant) { g.Rate.PerSecond, g.Rate.Burst = 1, 1 })
	s.proxy.Changed(s.id, grant, true)
	c.echo()
}

func TestRequestWhoseRecordsWentStaleWhileItWaitedDoesNotStart(t *testing.T) {
	t.Parallel()
	open := make(chan struct{})
	s := newStage(t, scripted(gated(open)), func(with *settings) { with.transport.MaxConnections = 1 })
	occupant := s.dial(t).send(s.request("GET /slow HTTP/1.1"))
	s.slow(1)
	held := s.dial(t).send(s.request("GET /held HTTP/1.1"))
	s.waiting(2)
	s.records.setStale(errors.New("cut off from the store"))
	close(open)
	occupant.answer("GET")
	res, body := held.answer("GET")
	if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" {
		t.Errorf("status %d, %v", res.StatusCode, res.Header)
	}
	checkRefusal(t, body, "store_unreachable", "")
	if n := strings.Count(s.upstream.bytes(), " /held "); n != 0 {
		t.Errorf("%d requests arrived", n)
	}
	s.blameless(t)
}
