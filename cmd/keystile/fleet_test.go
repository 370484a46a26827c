package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"keystile/admin"
	"keystile/cache/redistest"
)

// fleetToken is the administrator's token of every process of a fleet.
const fleetToken = "fleet-fleet-fleet-fleet-fleet-fleet-fleet"

// fleet is several processes that share one Redis, in front of one upstream.
type fleet struct {
	t       *testing.T
	ledger  *ledger
	members []*member
	latest  func() (string, error) // version of the store; nil: unknown
}

// member is one process of a fleet. Its name is what receipts call it.
type member struct {
	*process
	t      *testing.T
	name   string
	start  func() *process
	api    *adminClient
	client *http.Client     // of the proxy listener
	link   *redistest.Proxy // between it and Redis; nil: none
}

// add starts one more process. env holds what it needs beside a fleet's settings, such
// as the place of its Redis.
func (f *fleet) add(env ...string) *member {
	f.t.Helper()
	m := &member{t: f.t, name: fmt.Sprint("proxy-", len(f.members))}
	c := command{folder: f.t.TempDir(), env: append([]string{
		"KEYSTILE_ADMIN_TOKEN=" + fleetToken, "KEYSTILE_STORE_DRIVER=redis", "KEYSTILE_STORE_REDIS_NAME=" + m.name,
		"KEYSTILE_KEYS_PER_ACCOUNT=100000", "KEYSTILE_PROXY_ACCESS_LOG=false",
	}, env...)}
	m.start = func() *process { return startServe(f.t, f.ledger.url, c) }
	m.launch()
	f.members = append(f.members, m)
	return m
}

// addLinked is add for a process that reaches the server through a proxy of its own.
func (f *fleet) addLinked(server *redistest.Server, env ...string) *member {
	f.t.Helper()
	link := redistest.NewProxy(f.t, server.Addr())
	m := f.add(append(env, redisAt(link.Addr()))...)
	m.link = link
	return m
}

// unhurried has a process wait for all others as long as it may: a busy machine keeps one
// from confirming a change for seconds now and then.
const unhurried = "KEYSTILE_STORE_REDIS_RECEIPT_DEADLINE=30s"

// redisAt is the setting that names one server.
func redisAt(addr string) string { return "KEYSTILE_STORE_REDIS_URL=redis://" + addr + "/0" }

// launch starts the process, for the first time or again, and waits until it is ready.
func (m *member) launch() {
	m.t.Helper()
	m.process = m.start()
	m.api = m.process.client(m.t)
	m.client = newPatientClient(m.t)
	m.awaitReady()
}

func newPatientClient(t testing.TB) *http.Client {
	transport := &http.Transport{MaxIdleConnsPerHost: 512}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}

func (m *member) awaitReady() {
	m.t.Helper()
	eventually(m.t, m.name+" is ready", m.ready)
}

func (m *member) ready() bool {
	got, err := ask(&m.api.http, "GET", m.admin+"/readyz", "")
	return err == nil && got.status == http.StatusOK
}

// settle waits until every process is ready and has applied one and the same version,
// the store's if that is known.
func (f *fleet) settle() {
	f.t.Helper()
	eventually(f.t, "all processes have applied the same version", func() bool {
		versions := map[string]bool{}
		if f.latest != nil {
			version, err := f.latest()
			if err != nil {
				return false
			}
			versions[version] = true
		}
		for _, m := range f.members {
			if !m.ready() {
				return false
			}
			versions[strconv.FormatFloat(m.metric("keystile_applied_version"), 'f', -1, 64)] = true
		}
		return len(versions) == 1
	})
}

// storeVersion asks the server for the version of the store.
func storeVersion(server *redistest.Server) (string, error) {
	return server.Command("HGET", "{keystile}:meta", "version")
}

// metric is the sum of all series of a metric of the process; 0: it cannot be asked.
func (m *member) metric(name string) (sum float64) {
	for series, value := range m.metrics() {
		if series == name || strings.HasPrefix(series, name+"{") {
			sum += value
		}
	}
	return sum
}

// metrics are the values of the process by series.
func (m *member) metrics() map[string]float64 {
	values := map[string]float64{}
	got, err := ask(&m.api.http, "GET", m.admin+"/metrics", "")
	if err != nil {
		return values
	}
	for line := range strings.Lines(string(got.body)) {
		line = strings.TrimSpace(line)
		if at := strings.LastIndexByte(line, ' '); at > 0 && line[0] != '#' {
			values[line[:at]], _ = strconv.ParseFloat(line[at+1:], 64)
		}
	}
	return values
}

// sum adds a metric up over all processes.
func (f *fleet) sum(metric string) (sum float64) {
	for _, m := range f.members {
		sum += m.metric(metric)
	}
	return sum
}

// effect is what became of a call that manages a key.
type effect struct {
	status  int
	code    string
	at      time.Time // when the reply had been read
	took    time.Duration
	created admin.Created // of a creation
	admin.Receipt
}

func (o effect) everywhere() bool { return o.Effective == "everywhere" }

// kept reports whether the change was acknowledged at all.
func (o effect) kept() bool { return o.status == http.StatusOK || o.status == http.StatusCreated }

// safe reports whether as many replicas as are wanted have the change.
func (o effect) safe() bool { return o.kept() && o.Replicas == nil }

// manage calls the API of a process. A call without an answer has status 0.
func (m *member) manage(method, path, body string, headers ...string) effect {
	began := time.Now()
	got, err := m.api.try(method, path, body, headers...)
	o := effect{at: time.Now()}
	o.took = o.at.Sub(began)
	if err != nil {
		return o
	}
	o.status, o.code = got.status, got.code()
	if o.kept() {
		_ = json.Unmarshal(got.body, &o.Receipt)
		_ = json.Unmarshal(got.body, &o.created)
	}
	return o
}

// subject is a key under observation.
type subject struct{ key, secret, name string }

// make creates a key, and returns when it is effective everywhere.
func (m *member) make(name string) subject {
	m.t.Helper()
	o := m.manage("POST", keysPath, nameBody(name))
	if !o.kept() {
		m.t.Errorf("%s: creating %s: %d %s, %+v", m.name, name, o.status, o.code, o.Receipt)
	}
	k := subject{o.created.Key, o.created.Secret, name}
	for late := time.Now().Add(patience); !o.everywhere(); {
		if time.Now().After(late) {
			m.t.Errorf("%s: %s is not known everywhere: %d %s, %+v", m.name, name, o.status, o.code, o.Receipt)
			break
		}
		o = m.manage("PATCH", keyPath(k.key), `{"active":true}`)
	}
	return k
}

// makeMany creates keys through all processes at once.
func (f *fleet) makeMany(n int, name string) []subject {
	f.t.Helper()
	made := make([]subject, n)
	var workers sync.WaitGroup
	for i, m := range f.members {
		workers.Go(func() {
			for at := i; at < n; at += len(f.members) {
				made[at] = m.make(fmt.Sprint(name, " ", at))
			}
		})
	}
	workers.Wait()
	if f.t.Failed() {
		f.t.FailNow()
	}
	return made
}

// switchOff and remove end a key.
func (m *member) switchOff(k subject) effect {
	return m.manage("PATCH", keyPath(k.key), `{"active":false}`)
}

func (m *member) remove(k subject) effect { return m.manage("DELETE", keyPath(k.key), "") }

// quantile returns the q-th part of durations; 0 of none.
func quantile(durations []time.Duration, q float64) time.Duration {
	if len(durations) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(durations))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))].Round(100 * time.Microsecond)
}

// spread is how durations are written in a report.
func spread(durations []time.Duration) string {
	return fmt.Sprintf("p50 %v, p99 %v, most %v (of %d)", quantile(durations, 0.5), quantile(durations, 0.99), quantile(durations, 1), len(durations))
}

// stalls are the times in which this process, and so perhaps the machine, stood still. A
// process that others depend on may have stood still too.
type stalls struct {
	mu    sync.Mutex
	found [][2]time.Time
}

// stallsFrom is what counts as standing still, and stallsAfter how long it has effects.
const stallsFrom, stallsAfter = 200 * time.Millisecond, 2 * time.Second

func watchStalls(t *testing.T) *stalls {
	s, tick, last := &stalls{}, time.NewTicker(5*time.Millisecond), time.Now()
	t.Cleanup(tick.Stop)
	go func() {
		for {
			select {
			case <-t.Context().Done():
				return
			case <-tick.C:
			}
			now := time.Now()
			if now.Sub(last) > stallsFrom {
				s.mu.Lock()
				s.found = append(s.found, [2]time.Time{last, now})
				s.mu.Unlock()
			}
			last = now
		}
	}()
	return s
}

// near reports whether there was one during a time, or shortly before.
func (s *stalls) near(from, to time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.found, func(stall [2]time.Time) bool {
		return stall[0].Before(to) && from.Before(stall[1].Add(stallsAfter))
	})
}

// String tells how many there were, and the longest.
func (s *stalls) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	longest := time.Duration(0)
	for _, stall := range s.found {
		longest = max(longest, stall[1].Sub(stall[0]))
	}
	return fmt.Sprintf("%d times, at most %v", len(s.found), longest.Round(time.Millisecond))
}
