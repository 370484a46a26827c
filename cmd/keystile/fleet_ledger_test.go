package main

import (
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"
)

// What a client tells the ledger beside its credentials, which are removed on the way.
const (
	ledgerKey  = "X-Ledger-Key"
	ledgerVia  = "X-Ledger-Via"
	ledgerSent = "X-Ledger-Sent"
)

// ledger is an upstream that notes when requests of each key arrive. All times are of
// this process, so they can be compared by the monotonic clock.
type ledger struct {
	url   string
	epoch time.Time
	delay func() time.Duration // before an answer; nil: none

	mu         sync.Mutex
	admissions map[string][]admission // by key
}

// admission is one admitted request.
type admission struct {
	via      string    // name of the process that admitted it
	sent, at time.Time // by the client, and when it reached the upstream
}

func newLedger(t testing.TB, delay func() time.Duration) *ledger {
	l := &ledger{epoch: time.Now(), admissions: map[string][]admission{}, delay: delay}
	server := httptest.NewServer(l)
	t.Cleanup(server.Close)
	l.url = server.URL
	return l
}

// ServeHTTP notes the request before anything else.
func (l *ledger) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	at := time.Now()
	nanos, _ := strconv.ParseInt(r.Header.Get(ledgerSent), 10, 64)
	a := admission{via: r.Header.Get(ledgerVia), sent: l.epoch.Add(time.Duration(nanos)), at: at}
	l.mu.Lock()
	l.admissions[r.Header.Get(ledgerKey)] = append(l.admissions[r.Header.Get(ledgerKey)], a)
	l.mu.Unlock()
	if l.delay != nil {
		time.Sleep(l.delay()) // the upstream's work
	}
}

// of returns the admissions of a key that are wanted.
func (l *ledger) of(key string, wanted func(admission) bool) (found []admission) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.admissions[key] {
		if wanted(a) {
			found = append(found, a)
		}
	}
	return found
}

// breaches counts requests of a key that were admitted after it had ended, at the given
// time: sent after it, which must never be; and sent before, but arrived after, which
// may be by the microseconds between the last look and the write, and by how late this
// process notes one. latest is by how much.
type breaches struct {
	sentAfter, arrivedAfter int
	latest                  time.Duration
}

func (l *ledger) breaches(key string, end time.Time) breaches {
	return breachesOf(l.of(key, func(a admission) bool { return a.at.After(end) }), end)
}

// breachesOf counts admissions that arrived after the end.
func breachesOf(late []admission, end time.Time) (b breaches) {
	for _, a := range late {
		if a.sent.After(end) {
			b.sentAfter++
		} else {
			b.arrivedAfter++
			b.latest = max(b.latest, a.at.Sub(end))
		}
	}
	return b
}

func (b *breaches) add(more breaches) {
	b.sentAfter += more.sentAfter
	b.arrivedAfter += more.arrivedAfter
	b.latest = max(b.latest, more.latest)
}

// shot is one request to a proxy.
type shot struct {
	sent, answered time.Time
	status         int // 0: no answer
	code           string
	err            error
}

// shoot sends a request with the secret of k through the process.
func (m *member) shoot(l *ledger, k subject) shot { return m.shootWith(m.client, l, k) }

func (m *member) shootWith(client *http.Client, l *ledger, k subject) shot {
	request, err := http.NewRequest("GET", m.proxy+"/", nil)
	if err != nil {
		return shot{err: err}
	}
	request.Header.Set("Authorization", "Bearer "+k.secret)
	request.Header.Set(ledgerKey, k.key)
	request.Header.Set(ledgerVia, m.name)
	s := shot{sent: time.Now()}
	request.Header.Set(ledgerSent, strconv.FormatInt(int64(s.sent.Sub(l.epoch)), 10))
	got, err := send(client, request)
	s.answered, s.err = time.Now(), err
	if err == nil {
		s.status, s.code = got.status, got.code()
	}
	return s
}

// openLoop calls fire at a rate, each time in a goroutine of its own, whether or not the
// calls before have ended, until stop is closed. It returns how many it called, once
// all have ended.
func openLoop(stop <-chan struct{}, perSecond int, fire func()) (fired int) {
	var flying sync.WaitGroup
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); ; {
		select {
		case <-stop:
			flying.Wait()
			return fired
		case <-tick.C:
		}
		for due := int(time.Since(began).Seconds() * float64(perSecond)); fired < due; fired++ {
			flying.Go(fire)
		}
	}
}
