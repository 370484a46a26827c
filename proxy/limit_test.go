package proxy

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"keystile/keys"
)

// clock is a time that a test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)} }

func (c *clock) read() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) move(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(by)
}

func TestKeyIsHeldToItsRate(t *testing.T) {
	t.Parallel()
	var l limiters
	l.init(keys.Rate{PerSecond: 2, Burst: 3})
	now := newClock()
	one, other := &keys.Grant{ID: keys.NewID()}, &keys.Grant{ID: keys.NewID()}
	for i := range 3 {
		if wait := l.take(one, now.read()); wait != 0 {
			t.Fatalf("request %d of the burst has to wait %v", i, wait)
		}
	}
	for range 10 { // a refused request takes nothing
		if wait := l.take(one, now.read()); wait != 500*time.Millisecond {
			t.Fatalf("beyond the burst the wait is %v", wait)
		}
	}
	if wait := l.take(other, now.read()); wait != 0 {
		t.Errorf("another key has to wait %v", wait)
	}
	now.move(499 * time.Millisecond)
	if wait := l.take(one, now.read()); wait != time.Millisecond {
		t.Errorf("just before the next the wait is %v", wait)
	}
	now.move(time.Millisecond)
	if wait := l.take(one, now.read()); wait != 0 {
		t.Errorf("after the wait it is %v", wait)
	}
	now.move(time.Hour)
	for i := range 4 {
		if wait := l.take(one, now.read()); (wait == 0) != (i < 3) {
			t.Errorf("after a rest request %d has to wait %v", i, wait)
		}
	}
}

func TestRateOfTheRecordComesBeforeTheDefaultAndAtOnce(t *testing.T) {
	t.Parallel()
	var l limiters
	l.init(keys.Rate{})
	now := newClock().read()
	g := &keys.Grant{ID: keys.NewID()}
	for range 1000 {
		if wait := l.take(g, now); wait != 0 {
			t.Fatalf("without a rate it has to wait %v", wait)
		}
	}
	g.Rate = keys.Rate{PerSecond: 1, Burst: 1}
	if l.take(g, now) != 0 || l.take(g, now) != time.Second {
		t.Error("a rate of one does not hold from the next request on")
	}
	g.Rate = keys.Rate{PerSecond: 1, Burst: 2}
	for i := range 3 {
		if wait := l.take(g, now); (wait == 0) != (i < 2) {
			t.Errorf("at a changed rate request %d has to wait %v", i, wait)
		}
	}
}

func TestDeletedKeyLeavesNoBucket(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(with *settings) { with.DefaultRate = keys.Rate{PerSecond: 1000, Burst: 1000} })
	s.dial(t).send(s.request("GET /a HTTP/1.1")).answer("GET")
	if n := s.proxy.limits.count(); n != 1 {
		t.Fatalf("%d buckets", n)
	}
	s.records.remove(s.id)
	s.proxy.Changed(s.id, keys.Grant{}, false)
	if n := s.proxy.limits.count(); n != 0 {
		t.Errorf("%d buckets are left", n)
	}
}

// count returns how many buckets there are.
func (l *limiters) count() (n int) {
	for i := range l.shards {
		l.shards[i].mu.Lock()
		n += len(l.shards[i].keys)
		l.shards[i].mu.Unlock()
	}
	return n
}

// stub answers every request that reaches the upstream, without one.
type stub func(*http.Request) (*http.Response, error)

func (s stub) RoundTrip(r *http.Request) (*http.Response, error) { return s(r) }

func stubOK(r *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: 200, ProtoMajor: 1, ProtoMinor: 1, Header: make(http.Header), Body: http.NoBody, Request: r,
	}, nil
}

// judged serves one request without a socket.
func judged(p *Proxy, secret string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", "/a", nil)
	r.Header.Set("X-Api-Key", secret)
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	return w
}

func TestRateLimitedClientIsToldWhenToComeAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		records := newRecords()
		id, secret := records.add()
		p := New(Options{Records: records, Upstream: &url.URL{Scheme: "http", Host: "upstream.test"}, Transport: stub(stubOK), DefaultRate: keys.Rate{PerSecond: 0.4, Burst: 1}})
		defer p.Close()
		if w := judged(p, secret.Reveal()); w.Code != 200 {
			t.Fatalf("status %d: %s", w.Code, w.Body)
		}
		time.Sleep(200 * time.Millisecond) // of the bubble's clock
		w := judged(p, secret.Reveal())
		if w.Code != 429 || w.Header().Get("Retry-After") != "3" { // 2.3 s, rounded up
			t.Errorf("status %d, Retry-After %q", w.Code, w.Header().Get("Retry-After"))
		}
		checkRefusal(t, w.Body.String(), "rate_limited", "Retry-After")
		if w := judged(p, keys.NewSecret(id).Reveal()); w.Code != 401 {
			t.Errorf("a stranger got %d", w.Code)
		}
		time.Sleep(2300 * time.Millisecond)
		if w := judged(p, secret.Reveal()); w.Code != 200 {
			t.Errorf("status %d after the wait", w.Code)
		}
	})
}

func TestStrangersHaveNoBucket(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(with *settings) { with.DefaultRate = keys.Rate{PerSecond: 1, Burst: 1} })
	for range 100 {
		if w := judged(s.proxy, keys.NewSecret(keys.NewID()).Reveal()); w.Code != 401 {
			t.Fatalf("status %d", w.Code)
		}
		if w := judged(s.proxy, keys.NewSecret(s.id).Reveal()); w.Code != 401 || strings.Contains(w.Body.String(), "rate") {
			t.Fatalf("status %d: %s", w.Code, w.Body)
		}
	}
	if n := s.proxy.limits.count(); n != 0 {
		t.Errorf("%d buckets", n)
	}
}
