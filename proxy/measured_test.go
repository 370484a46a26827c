//go:build !race

package proxy

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"keystile/keys"
)

const (
	strangers       = 100_000
	strangersOnWire = 5_000   // of them, over sockets
	strangersHeap   = 8 << 20 // bytes that the live heap may grow by
	streams         = 2_000   // aborted by their clients
	streamsOver     = 20 * time.Second
	streamsBaseline = 5 * time.Second        // until everything they used is given back
	streamsCancel   = 100 * time.Millisecond // 99 of 100 upstreams are told within
)

// randomCredentials returns header lines as strangers send them: well formed for keys
// that do not exist or with a wrong secret, damaged, doubled, or junk.
func randomCredentials(random *rand.Rand, known keys.ID) []string {
	id := known
	if random.IntN(2) == 0 {
		id = keys.NewID()
	}
	key, secret := id.String(), keys.NewSecret(id).Reveal()
	at := random.IntN(len(secret))
	damaged := secret[:at] + string(rune('!'+random.IntN(94))) + secret[min(at+1, len(secret)):]
	junk := fmt.Sprintf("%x", random.Uint64())
	carriers := [][]string{
		{"X-Key: " + key, "X-Secret: " + secret},
		{"X-Key: Key " + key, "X-Secret: Secret " + secret},
		{"Authorization: Bearer " + secret},
		{"Authorization: Basic " + encodeBasic(key+":"+secret)},
		{"X-Api-Key: " + secret},
		{"X-Api-Key: " + damaged},
		{"Authorization: Bearer " + secret[:at]},
		{"Authorization: Basic " + junk},
		{"Authorization: " + junk},
		{"X-Key: " + key},
		{"X_Key: " + key, "X-Secret: " + secret},
		{"X-Key: " + keys.NewID().String(), "X-Secret: " + secret},
		{"X-Api-Key: " + secret, "Authorization: Bearer " + secret},
		{"X-" + junk + ": " + junk},
	}
	return carriers[random.IntN(len(carriers))]
}

func TestMeasuredStrangersReachNothingAndLeaveNothing(t *testing.T) {
	s := newStage(t)
	random := rand.New(rand.NewPCG(1, 2))
	ask := func() {
		r := httptest.NewRequest([]string{"GET", "POST"}[random.IntN(2)], fmt.Sprintf("/%x", random.Uint64()), nil)
		for _, line := range randomCredentials(random, s.id) {
			name, value, _ := strings.Cut(line, ": ")
			r.Header.Add(name, value)
		}
		w := httptest.NewRecorder()
		s.proxy.ServeHTTP(w, r)
		if w.Code != 401 {
			t.Fatalf("%v got %d", r.Header, w.Code)
		}
	}
	for range 1000 { // so that pools and buffers are there before
		ask()
	}
	series, heap := s.series(), liveHeap()
	for range strangers - strangersOnWire {
		ask()
	}
	s.askOnWire(t, random)
	s.settled()
	grown := int64(liveHeap()) - int64(heap)
	t.Logf("live heap: %+d bytes after %d requests", grown, strangers)
	if grown > strangersHeap {
		t.Errorf("the live heap grew by %d bytes", grown)
	}
	if after := s.series(); after != series {
		t.Errorf("%d series, %d before", after, series)
	}
	if n := s.counter("keystile_requests_total", "4xx"); n != strangers+1000 {
		t.Errorf("%v requests were counted as refused", n)
	}
	if used, buckets := s.proxy.TakeUsed(), s.proxy.limits.count(); len(used)+buckets > 0 || s.upstream.accepted.Load() > 0 {
		t.Errorf("%d keys used, %d buckets, %d connections to the upstream", len(used), buckets, s.upstream.accepted.Load())
	}
	s.untouched(t)
}

// askOnWire sends the strangers' requests that go over sockets.
func (s *stage) askOnWire(t *testing.T, random *rand.Rand) {
	c := s.dial(t)
	for range strangersOnWire {
		lines := append([]string{"GET /a HTTP/1.1", "Host: proxy.test"}, randomCredentials(random, s.id)...)
		if res, body := c.send(strings.Join(lines, "\r\n") + "\r\n\r\n").answer("GET"); res.StatusCode != 401 {
			t.Fatalf("%q got %d: %s", lines, res.StatusCode, body)
		}
	}
	_ = c.conn.Close()
}

func liveHeap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// cancellations notes, for each stream, when its client left and when its upstream
// was told.
type cancellations struct {
	mu   sync.Mutex
	left map[string]time.Time
	took []time.Duration
	told int
}

func (c *cancellations) leave(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left[id] = time.Now()
}

func (c *cancellations) tell(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.told++
	if at, ok := c.left[id]; ok {
		c.took = append(c.took, time.Since(at))
	}
}

// stream sends an event every few milliseconds until it is cancelled.
func (c *cancellations) stream(w http.ResponseWriter, r *http.Request) {
	id := r.URL.Query().Get("id")
	w.Header().Set("Content-Type", "text/event-stream")
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		_, _ = io.WriteString(w, event(n))
		_ = http.NewResponseController(w).Flush()
		select {
		case <-r.Context().Done():
			c.tell(id)
			return
		case <-tick.C:
		}
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestMeasuredAbortedStreamsGiveEverythingBack(t *testing.T) {
	c := &cancellations{left: make(map[string]time.Time)}
	generator := httptest.NewServer(http.HandlerFunc(c.stream))
	t.Cleanup(generator.Close)
	s := newStage(t, func(with *settings) { with.Upstream, _ = url.Parse(generator.URL) })
	s.abort(t, c, "warm", time.Millisecond)
	eventually(t, "the first stream is over", func() bool { return s.upstreamIdle(c, 1) })
	goroutines, files := runtime.NumGoroutine(), descriptors(t)
	var clients sync.WaitGroup
	random := rand.New(rand.NewPCG(3, 4))
	next := time.NewTicker(streamsOver / streams)
	defer next.Stop()
	for n := range streams {
		<-next.C
		stay := time.Duration(random.Int64N(int64(time.Second)))
		clients.Go(func() { s.abort(t, c, strconv.Itoa(n), stay) })
	}
	clients.Wait()
	ended := time.Now()
	eventually(t, "the baseline is reached", func() bool {
		return s.upstreamIdle(c, streams+1) && runtime.NumGoroutine() <= goroutines && descriptors(t) <= files
	})
	back := time.Since(ended)
	slices.Sort(c.took)
	at := func(percent int) time.Duration { return c.took[(len(c.took)-1)*percent/100] }
	t.Logf("%d streams: upstream told after %v (p50), %v (p99), %v (most); baseline of %d goroutines and %d descriptors after %v",
		len(c.took), at(50), at(99), at(100), goroutines, files, back)
	if back > streamsBaseline {
		t.Errorf("the baseline was reached after %v", back)
	}
	if at(99) > streamsCancel {
		t.Errorf("p99 of the cancellations is %v", at(99))
	}
	if n := s.counter("keystile_requests_total", "client_gone", "4xx"); n != streams+1 {
		t.Errorf("%v requests were counted as client_gone", n)
	}
	s.blameless(t)
}

// upstreamIdle reports whether n upstream requests were told and none is in flight.
func (s *stage) upstreamIdle(c *cancellations, n int) bool {
	c.mu.Lock()
	told := c.told
	c.mu.Unlock()
	return told == n && s.counter("keystile_requests_in_flight") == 0
}

// abort reads a stream for a while and then closes the connection.
func (s *stage) abort(t *testing.T, c *cancellations, id string, after time.Duration) {
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, s.request("GET /a?id="+id+" HTTP/1.1"))
	buffer := make([]byte, 4096)
	if _, err := conn.Read(buffer); err != nil {
		t.Error(err)
		return
	}
	_ = conn.SetReadDeadline(time.Now().Add(after))
	for err == nil {
		_, err = conn.Read(buffer)
	}
	c.leave(id)
}
