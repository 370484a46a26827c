package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"keystile/keys"
)

// tries is how often each way of holding a request back is repeated; together they
// are two hundred.
const tries = 100

// disable switches the key off as a store does: the records first, then Changed. When
// it returns, the reply may go out.
func (s *stage) disable(id keys.ID) {
	grant := s.records.change(id, func(g *keys.Grant) { g.Active = false })
	s.proxy.Changed(id, grant, true)
}

// enable switches it on again.
func (s *stage) enable(id keys.ID) {
	grant := s.records.change(id, func(g *keys.Grant) { g.Active = true })
	s.proxy.Changed(id, grant, true)
}

// waiting waits until n requests are in the table of flights.
func (s *stage) waiting(n int64) {
	s.t.Helper()
	eventually(s.t, "the requests are in flight", func() bool { return s.proxy.flights.count.Load() == n })
}

// slow waits until n requests for /slow have arrived.
func (s *stage) slow(n int) {
	s.t.Helper()
	eventually(s.t, "the pool is full", func() bool { return strings.Count(s.upstream.bytes(), " /slow ") == n })
}

// gated answers a request for /slow when it is told to, others at once.
func gated(open <-chan struct{}) func(*upstreamConn) {
	return func(c *upstreamConn) {
		defer c.Close()
		for {
			r := c.request()
			if r == nil {
				return
			}
			if r.URL.Path == "/slow" {
				c.pause(open)
			}
			c.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	}
}

// refusedAs asserts that the request that was held back is refused.
func refusedAs(t *testing.T, c *client, code string) {
	t.Helper()
	res, body := c.answer("POST")
	if res.StatusCode != 401 || res.Header.Get("X-Should-Retry") != "" {
		t.Errorf("status %d, %v", res.StatusCode, res.Header)
	}
	checkRefusal(t, body, code, "")
}

func TestRequestInAFullPoolDoesNotStartAfterItsKeyIsOff(t *testing.T) {
	t.Parallel()
	open := make(chan struct{})
	s := newStage(t, scripted(gated(open)), func(with *settings) { with.transport.MaxConnections = 1 })
	_, otherSecret := s.records.add()
	for n := range tries {
		occupant := s.dial(t).send(s.stranger("GET /slow HTTP/1.1", "X-Api-Key: "+otherSecret.Reveal()))
		s.slow(n + 1)
		held := s.dial(t).send(s.request("POST /held HTTP/1.1", "Content-Length: 5") + "hello")
		s.waiting(2)
		s.disable(s.id)
		refusedAs(t, held, "key_inactive") // although the pool is still full
		open <- struct{}{}
		if res, _ := occupant.answer("GET"); res.StatusCode != 200 {
			t.Errorf("the request of another key got %d", res.StatusCode)
		}
		s.waiting(0)
		s.enable(s.id)
		_, _ = occupant.conn.Close(), held.conn.Close()
	}
	if got := s.upstream.bytes(); strings.Contains(got, "/held") {
		t.Errorf("the upstream received %d requests of the key", strings.Count(got, "/held"))
	}
	s.blameless(t)
}

func TestRequestInASlowDialDoesNotStartAfterItsKeyIsOff(t *testing.T) {
	t.Parallel()
	dialing, dial := make(chan struct{}), make(chan struct{})
	s := newStage(t, func(with *settings) {
		with.transport.Idle = time.Nanosecond // each request dials
		with.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			dialing <- struct{}{}
			<-dial
			return new(net.Dialer).DialContext(context.WithoutCancel(ctx), network, address)
		}
	})
	for n := range int64(tries) {
		held := s.dial(t).send(s.request("POST /held HTTP/1.1", "Content-Length: 5") + "hello")
		receive(t, "the proxy dials", dialing)
		s.waiting(1)
		s.disable(s.id)
		dial <- struct{}{}
		refusedAs(t, held, "key_inactive")
		s.waiting(0)
		s.enable(s.id)
		_ = held.conn.Close()
		eventually(t, "the connection that came too late is closed", func() bool {
			return s.upstream.accepted.Load() == n+1 && s.upstream.count() == 0
		})
	}
	if got := s.upstream.bytes(); got != "" {
		t.Errorf("the upstream received %q", got)
	}
	s.blameless(t)
}

func TestChangeWhileThePoolFreesUpEitherRefusesOrForwards(t *testing.T) {
	t.Parallel()
	open := make(chan struct{})
	s := newStage(t, scripted(gated(open)), func(with *settings) { with.transport.MaxConnections = 1 })
	_, otherSecret := s.records.add()
	refused := 0
	for n := range tries {
		occupant := s.dial(t).send(s.stranger("GET /slow HTTP/1.1", "X-Api-Key: "+otherSecret.Reveal()))
		s.slow(n + 1)
		before := strings.Count(s.upstream.bytes(), "/held")
		held := s.dial(t).send(s.request("POST /held HTTP/1.1", "Content-Length: 5") + "hello")
		s.waiting(2)
		if n%2 == 0 {
			go func() { open <- struct{}{} }()
		} else {
			open <- struct{}{}
		}
		s.disable(s.id)
		res, body := held.answer("POST")
		s.waiting(0)
		arrived := strings.Count(s.upstream.bytes(), "/held") > before
		if (res.StatusCode == 200) != arrived || res.StatusCode == 401 && !strings.Contains(body, "key_inactive") {
			t.Fatalf("status %d, arrived: %v: %s", res.StatusCode, arrived, body)
		}
		if !arrived {
			refused++
		}
		occupant.answer("GET")
		s.enable(s.id)
		_, _ = occupant.conn.Close(), held.conn.Close()
	}
	t.Logf("%d of %d were refused", refused, tries)
	s.blameless(t)
}

// TestChangeBetweenReadingAndEntering: the change does not find the request in the
// table yet, so the request has to find the change.
func TestChangeBetweenReadingAndEnteringIsSeen(t *testing.T) {
	t.Parallel()
	for code, change := range map[string]func(*stage){
		"key_inactive": func(s *stage) { s.disable(s.id) },
		"bad_credentials": func(s *stage) {
			s.records.remove(s.id)
			s.proxy.Changed(s.id, keys.Grant{}, false)
		},
		"store_unreachable": func(s *stage) { s.records.setStale(errors.New("stale")) },
	} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			s.records.afterGet = func() { change(s) }
			_, body := s.dial(t).send(s.request("GET /a HTTP/1.1")).answer("GET")
			checkRefusal(t, body, code, "")
			s.untouched(t)
		})
	}
}

// rotate gives the key another secret; the old one ends at a time.
func rotate(until time.Time) func(*keys.Grant) {
	return func(g *keys.Grant) {
		g.Digests[1] = g.Digests[0]
		g.Digests[1].Until = until.UnixMilli()
		g.Digests[0] = (*keys.Peppers)(nil).Digest(keys.NewSecret(g.ID))
	}
}

func TestChangeThatStillAdmitsEndsNothing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*keys.Grant)
		status int
	}{
		"a rename":                   {func(*keys.Grant) {}, 200},
		"another rate":               {func(g *keys.Grant) { g.Rate = keys.Rate{PerSecond: 1, Burst: 1} }, 200},
		"a rotation with overlap":    {rotate(time.Now().Add(time.Hour)), 200},
		"a rotation without overlap": {rotate(time.Now().Add(-time.Hour)), 401},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			open := make(chan struct{})
			s := newStage(t, scripted(gated(open)), func(with *settings) { with.transport.MaxConnections = 1 })
			_, otherSecret := s.records.add()
			s.dial(t).send(s.stranger("GET /slow HTTP/1.1", "X-Api-Key: "+otherSecret.Reveal()))
			s.slow(1)
			held := s.dial(t).send(s.request("GET /held HTTP/1.1"))
			s.waiting(2)
			s.proxy.Changed(s.id, s.records.change(s.id, c.change), true)
			close(open)
			if res, body := held.answer("GET"); res.StatusCode != c.status {
				t.Errorf("status %d: %s", res.StatusCode, body)
			}
		})
	}
}

func TestRequestThatWaitedUntilItsSecretEndedDoesNotStart(t *testing.T) {
	t.Parallel()
	open, now := make(chan struct{}), newClock()
	s := newStage(t, scripted(gated(open)), func(with *settings) { with.transport.MaxConnections, with.Now = 1, now.read })
	_, otherSecret := s.records.add()
	for n, before := range []time.Duration{time.Millisecond, 0} {
		s.dial(t).send(s.stranger("GET /slow HTTP/1.1", "X-Api-Key: "+otherSecret.Reveal()))
		s.slow(n + 1)
		end := now.read().Add(time.Hour)
		_, secret := s.records.add()
		held := s.dial(t).send(s.stranger("GET /held HTTP/1.1", "X-Api-Key: "+secret.Reveal()))
		s.waiting(2)
		s.proxy.Changed(secret.ID(), s.records.change(secret.ID(), rotate(end)), true)
		now.move(time.Hour - before)
		open <- struct{}{}
		if res, body := held.answer("GET"); before == 0 {
			checkRefusal(t, body, "bad_credentials", "")
		} else if res.StatusCode != 200 {
			t.Errorf("%v before the end: status %d: %s", before, res.StatusCode, body)
		}
		s.waiting(0)
	}
	if n := strings.Count(s.upstream.bytes(), " /held "); n != 1 {
		t.Errorf("%d requests arrived", n)
	}
	s.blameless(t)
}

func TestChangeDoesNotEndARequestThatHasStarted(t *testing.T) {
	t.Parallel()
	open := make(chan struct{})
	s := newStage(t, scripted(gated(open)))
	c := s.dial(t).send(s.request("GET /slow HTTP/1.1"))
	eventually(t, "the request arrives", func() bool { return s.upstream.bytes() != "" })
	s.disable(s.id)
	close(open)
	if res, _ := c.answer("GET"); res.StatusCode != 200 {
		t.Errorf("status %d", res.StatusCode)
	}
}

// deaf carries requests without their cancellation, so that only what happens to the
// connection can stop them.
type deaf struct {
	http.RoundTripper
	before func()
}

func (d deaf) RoundTrip(r *http.Request) (*http.Response, error) {
	d.before()
	return d.RoundTripper.RoundTrip(r.WithContext(context.WithoutCancel(r.Context())))
}

func TestConnectionForAnEndedRequestIsClosedBeforeAByteIsWritten(t *testing.T) {
	t.Parallel()
	var s *stage
	s = newStage(t, func(with *settings) {
		with.round = func(next http.RoundTripper) http.RoundTripper {
			return deaf{next, func() { s.disable(s.id) }}
		}
	})
	refusedAs(t, s.dial(t).send(s.request("POST /a HTTP/1.1", "Content-Length: 0")), "key_inactive")
	if err := receive(t, "the upstream's connection ends", s.upstream.ended); !errors.Is(err, io.EOF) {
		t.Errorf("the upstream saw %v", err)
	}
	s.untouched(t)
}

// handed is a connection that notes its end.
type handed struct {
	net.Conn
	closed atomic.Bool
}

func (h *handed) Close() error { h.closed.Store(true); return nil }

func TestFlightStartsOnceAndNotAfterItsEnd(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*stage)
		closed bool
	}{
		"unchanged": {func(*stage) {}, false},
		"ended":     {func(s *stage) { s.disable(s.id) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var s *stage
			conn := new(handed)
			s = newStage(t, func(with *settings) {
				with.Transport = stub(func(r *http.Request) (*http.Response, error) {
					c.change(s)
					httptrace.ContextClientTrace(r.Context()).GotConn(httptrace.GotConnInfo{Conn: conn})
					if conn.closed.Load() {
						return nil, net.ErrClosed
					}
					return stubOK(r)
				})
			})
			s.dial(t).send(s.request("GET /a HTTP/1.1")).answer("GET")
			if conn.closed.Load() != c.closed {
				t.Errorf("closed: %v", conn.closed.Load())
			}
		})
	}
}

// TestSecondAttemptReadsTheRecordAgain: net/http repeats a GET when a kept connection
// turns out closed. By then the key may be off, and a started flight is not ended.
func TestSecondAttemptReadsTheRecordAgain(t *testing.T) {
	t.Parallel()
	var s *stage
	s = newStage(t, kept, scripted(func(c *upstreamConn) {
		defer c.Close()
		if c.request() == nil {
			return
		}
		c.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		if c.request() != nil {
			s.disable(s.id)
		}
	}))
	c := s.dial(t)
	c.send(s.request("GET /a HTTP/1.1")).answer("GET")
	_, body := c.send(s.request("GET /b HTTP/1.1")).answer("GET")
	checkRefusal(t, body, "key_inactive", "")
	if n := strings.Count(s.upstream.bytes(), "GET /b"); n != 1 {
		t.Errorf("%d attempts arrived", n)
	}
	if n := s.counter("keystile_upstream_attempts_total"); n != 3 {
		t.Errorf("%v attempts were counted, the closed one included", n)
	}
	s.blameless(t)
}

func TestTableOfFlightsIsEmptyAfterwards(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	c := s.dial(t)
	for range 10 {
		c.send(s.request("GET /a HTTP/1.1")).answer("GET")
		c.send(s.stranger("GET /a HTTP/1.1")).answer("GET")
	}
	s.settled()
	rows := 0
	for i := range s.proxy.flights.shards {
		rows += len(s.proxy.flights.shards[i].rows)
	}
	if rows != 0 || s.proxy.flights.count.Load() != 0 {
		t.Errorf("%d rows, %d flights", rows, s.proxy.flights.count.Load())
	}
}

func TestKeysThatWereUsedAreToldOnce(t *testing.T) {
	t.Parallel()
	now := newClock()
	s := newStage(t, func(with *settings) { with.Now = now.read })
	ask := func(request string) { judged(s.proxy, request) }
	ask(s.secret.Reveal())
	now.move(time.Minute)
	ask(s.secret.Reveal())
	ask(keys.NewSecret(s.id).Reveal()) // proves nothing
	ask(keys.NewSecret(keys.NewID()).Reveal())
	used := s.proxy.TakeUsed()
	if len(used) != 1 || !used[s.id].At.Equal(now.read()) {
		t.Errorf("used: %v", used)
	}
	s.disable(s.id)
	ask(s.secret.Reveal())
	if used := s.proxy.TakeUsed(); len(used) != 0 {
		t.Errorf("used after that: %v", used)
	}
}

func TestLastUseTellsWhichSecretWasProved(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	next := keys.NewSecret(s.id)
	grant := s.records.change(s.id, func(g *keys.Grant) {
		rotate(time.Now().Add(time.Hour))(g)
		g.Digests[0] = (*keys.Peppers)(nil).Digest(next)
	})
	for _, c := range []struct {
		secret keys.Secret
		proved keys.Digest
	}{{s.secret, grant.Digests[1]}, {next, grant.Digests[0]}, {s.secret, grant.Digests[1]}} {
		judged(s.proxy, c.secret.Reveal())
		judged(s.proxy, keys.NewSecret(s.id).Reveal()) // proves nothing
		if used := s.proxy.TakeUsed(); used[s.id].Mark != c.proved.Mark() {
			t.Errorf("used: %v, want the mark of %x", used, c.proved.Sum)
		}
	}
}

func TestRememberingAUseAllocatesNothing(t *testing.T) {
	var table flights
	table.init()
	id, at, digest := keys.NewID(), time.Now(), keys.Digest{Sum: keys.Sum{1}, Scheme: keys.SHA256}
	if n := testing.AllocsPerRun(100, func() { table.use(id, at, digest) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
