package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"keystile/cache/redistest"
)

// everywhere is a fleet under load while keys end one after the other.
type everywhere struct {
	processes int
	perSecond int // requests, over all processes
	changes   int // half of them switch off, half delete
	pace      int // changes in a second

	fleet *fleet
	keys  rotation
	mu    sync.Mutex
	ended []ending
	shots map[string]int // by what was answered
}

// ending is a key that was ended, and the reply.
type ending struct {
	subject
	effect
}

// rotation is which keys clients use: some that work, and those that ended last.
type rotation struct {
	mu               sync.Mutex
	fresh, hot, gone []subject
}

// Sizes of a rotation. Few keys, so that each is in use at any moment.
const rotationHot, rotationGone = 20, 10

func (r *rotation) init(all []subject) {
	n := min(rotationHot, len(all))
	r.hot, r.fresh = all[:n:n], all[n:]
}

func (r *rotation) pick() subject {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.gone); len(r.hot) == 0 || n > 0 && rand.IntN(4) == 0 {
		return r.gone[rand.IntN(n)]
	}
	return r.hot[rand.IntN(len(r.hot))]
}

// take chooses a key to end. Clients go on using it.
func (r *rotation) take() subject {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := rand.IntN(len(r.hot))
	k := r.hot[i]
	if len(r.fresh) > 0 {
		r.hot[i], r.fresh = r.fresh[0], r.fresh[1:]
	} else {
		r.hot = append(r.hot[:i:i], r.hot[i+1:]...)
	}
	r.gone = append(r.gone, k)
	r.gone = r.gone[max(0, len(r.gone)-rotationGone):]
	return k
}

// run fails the test for every request that is admitted after a reply of everywhere.
func (e *everywhere) run(t *testing.T) (report string, replies []time.Duration) {
	server := redistest.Start(t, redistest.Options{AppendOnly: "everysec"})
	// Requests wait for upstream connections now and then: none may start after its key ended.
	e.fleet = &fleet{t: t, ledger: newLedger(t, func() time.Duration { return time.Duration(rand.IntN(4000)) * time.Microsecond })}
	for range e.processes {
		e.fleet.add(redisAt(server.Addr()), unhurried, fmt.Sprint("KEYSTILE_PROXY_UPSTREAM_MAX_CONNECTIONS=", 4))
	}
	e.shots = map[string]int{}
	e.keys.init(e.fleet.makeMany(e.changes, "key"))
	stop, fired, began := make(chan struct{}), make(chan int), time.Now()
	go func() { fired <- openLoop(stop, e.perSecond, e.fire) }()
	e.end()
	took := time.Since(began)
	close(stop)
	n := <-fired
	rate := float64(n) / took.Seconds()
	verdict, replies := e.judge(t)
	for _, m := range e.fleet.members {
		for line := range strings.Lines(m.stderr.text()) {
			if strings.Contains(line, "upstream_") { // its failures are logged
				t.Logf("%s: %s", m.name, line)
			}
		}
	}
	return fmt.Sprintf("%d requests at %.0f/s through %d processes, answers %v; %s", n, rate, e.processes, e.shots, verdict), replies
}

// fire sends one request through one of the processes.
func (e *everywhere) fire() {
	s := e.fleet.members[rand.IntN(e.processes)].shoot(e.fleet.ledger, e.keys.pick())
	e.count(s)
}

func (e *everywhere) count(s shot) {
	word := s.code
	if s.status == http.StatusOK {
		word = "admitted"
	} else if word == "" {
		word = fmt.Sprint(s.status, " ", s.err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.shots[word]++
}

// end ends keys at the pace, through all processes in turn.
func (e *everywhere) end() {
	turns := make(chan int)
	var workers sync.WaitGroup
	for range 2 * e.processes {
		workers.Go(func() {
			for i := range turns {
				e.endOne(i)
			}
		})
	}
	tick := time.NewTicker(time.Second / time.Duration(e.pace))
	defer tick.Stop()
	for i := range e.changes {
		<-tick.C
		turns <- i
	}
	close(turns)
	workers.Wait()
}

// endOne ends a key and, as soon as the reply is there, tries it everywhere.
func (e *everywhere) endOne(i int) {
	k, m := e.keys.take(), e.fleet.members[i%e.processes]
	end := m.switchOff
	if i/e.processes%2 == 1 {
		end = m.remove
	}
	o := end(k)
	var tries sync.WaitGroup
	for _, m := range e.fleet.members {
		tries.Go(func() { e.count(m.shoot(e.fleet.ledger, k)) })
	}
	tries.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ended = append(e.ended, ending{k, o})
}

func (e *everywhere) judge(t *testing.T) (report string, replies []time.Duration) {
	var total breaches
	pending := 0
	for _, k := range e.ended {
		replies = append(replies, k.took)
		if !k.kept() || !k.everywhere() {
			pending++
			t.Logf("the end of %s was answered with %d %s, %+v", k.name, k.status, k.code, k.Receipt)
			continue
		}
		b := e.fleet.ledger.breaches(k.key, k.at)
		if b.sentAfter > 0 {
			t.Errorf("%d requests of %s were admitted that were sent after the reply of everywhere", b.sentAfter, k.name)
		}
		total.add(b)
	}
	if pending*100 > len(e.ended) {
		t.Errorf("%d of %d changes were not effective everywhere although nothing failed", pending, len(e.ended))
	}
	return fmt.Sprintf("%d keys ended, %d pending; admitted after the reply: %d sent after it, %d sent before it (at most %v later); replies %s",
		len(e.ended), pending, total.sentAfter, total.arrivedAfter, total.latest, spread(replies)), replies
}

func TestNothingIsAdmittedByAnyProcessAfterEverywhere(t *testing.T) {
	e := everywhere{processes: 3, perSecond: 150, changes: 40, pace: 10}
	report, _ := e.run(t)
	t.Log(report)
}
