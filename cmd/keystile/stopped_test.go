package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"keystile/admin"
	"keystile/cache/redistest"
)

// stops stands processes of a fleet still while keys end and requests wait in their sockets.
type stops struct {
	processes int // that are stopped; one more never is
	rounds    int
	length    time.Duration
	waiting   int // requests at each stop, half of them with the key that ended

	t       *testing.T
	fleet   *fleet
	manager *member
	stalls  *stalls

	mu       sync.Mutex
	stopped  int
	late     breaches
	hasty    int             // stops after which a valid key was refused because the machine was late
	refusals map[string]int  // of the key that ended
	answers  []time.Duration // from the continuation to the answer to a valid key
}

func (s *stops) run(t *testing.T) (report string) {
	s.t, s.refusals, s.stalls = t, map[string]int{}, watchStalls(t)
	server := redistest.Start(t, redistest.Options{AppendOnly: "everysec"})
	s.fleet = &fleet{t: t, ledger: newLedger(t, nil)}
	for range 1 + s.processes {
		s.fleet.add(redisAt(server.Addr()))
	}
	s.manager = s.fleet.members[0]
	var victims sync.WaitGroup
	for i, m := range s.fleet.members[1:] {
		victims.Go(func() {
			<-time.After(time.Duration(i) * s.length / time.Duration(s.processes)) // one after the other goes on
			old := keptConnections(s.waiting / 2)
			for round := range s.rounds {
				s.stop(m, old, round)
			}
			for _, client := range old {
				client.CloseIdleConnections()
			}
		})
	}
	victims.Wait()
	// Not even such a machine is late most of the time.
	if 2*s.hasty > s.stopped {
		t.Errorf("after %d of %d stops a valid key was refused before the first poll had ended", s.hasty, s.stopped)
	}
	return fmt.Sprintf("%d stops of %v with %d requests waiting: %d requests of the ended key were admitted, its answers %v; valid keys were answered %s after the continuation, and refused after %d stops, while this machine stood still (%v)",
		s.stopped, s.length, s.waiting, s.late.sentAfter+s.late.arrivedAfter, s.refusals, spread(s.answers), s.hasty, s.stalls)
}

// keptConnections are clients that have one connection each and keep it.
func keptConnections(n int) (clients []*http.Client) {
	for range n {
		clients = append(clients, &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1, MaxIdleConnsPerHost: 1}, Timeout: patience})
	}
	return clients
}

// stop is one stop of one process.
func (s *stops) stop(m *member, old []*http.Client, round int) {
	doomed, valid := s.make(m), s.make(m)
	for i, client := range old {
		k := []subject{doomed, valid}[i%2]
		if !s.admitted(m, client, k) {
			s.t.Errorf("%s: a key is not admitted before the stop", m.name)
			return
		}
	}
	if err := m.standStill(); err != nil {
		s.t.Errorf("%s: %v", m.name, err)
		return
	}
	began := time.Now()
	shots := make([]shot, s.waiting)
	var flying sync.WaitGroup
	for i := range shots {
		flying.Go(func() {
			<-time.After(rand.N(s.length * 9 / 10))
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
			if i < len(old) {
				client = old[i]
			}
			shots[i] = m.shootWith(client, s.fleet.ledger, []subject{doomed, valid}[i%2])
		})
	}
	s.endWhileStopped(m, doomed, round)
	<-time.After(time.Until(began.Add(s.length)))
	goesOn := time.Now()
	if err := m.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		s.t.Error(err)
	}
	flying.Wait()
	s.judge(m, doomed, began, goesOn, shots)
}

// admitted has a client use a key until it is admitted.
func (s *stops) admitted(m *member, client *http.Client, k subject) bool {
	for late := time.Now().Add(patience); time.Now().Before(late); {
		if m.shootWith(client, s.fleet.ledger, k).status == http.StatusOK {
			return true
		}
	}
	return false
}

// make creates a key that m knows; others may stand still.
func (s *stops) make(m *member) subject {
	e := s.manager.manage("POST", keysPath, "{}")
	if !e.kept() {
		s.t.Errorf("creating a key for %s: %d %s", m.name, e.status, e.code)
	}
	again(s.t, func() error {
		if !e.names(m) {
			return nil
		}
		now := s.manager.manage("PATCH", keyPath(e.created.Key), `{"active":true}`)
		err := fmt.Errorf("a key for %s: %d %s, %+v, after %v", m.name, now.status, now.code, now.Receipt, now.took)
		switch {
		case !now.kept() || now.names(m) && now.took < defaultConfig().Store.Redis.ReceiptDeadline:
			s.t.Error(err)
		case now.names(m):
			return err // it had all the time that a reply waits, and was late
		}
		return nil
	})
	return subject{e.created.Key, e.created.Secret, e.created.Name}
}

// names reports whether the reply says that a process has not confirmed the change.
func (e effect) names(m *member) bool {
	return slices.ContainsFunc(e.Pending, func(p admin.Pending) bool { return p.Proxy == m.name })
}

// endWhileStopped ends the key at some moment of the stop.
func (s *stops) endWhileStopped(m *member, doomed subject, round int) {
	<-time.After(s.length/20 + rand.N(s.length/2))
	end := s.manager.switchOff
	if round%2 == 1 {
		end = s.manager.remove
	}
	e := end(doomed)
	if !e.kept() || !e.names(m) {
		s.t.Errorf("the reply does not name %s, which stands still: %d %s, %+v", m.name, e.status, e.code, e.Receipt)
	}
}

func (s *stops) judge(m *member, doomed subject, began, goesOn time.Time, shots []shot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped++
	late := s.fleet.ledger.breaches(doomed.key, began)
	s.late.add(late)
	if late != (breaches{}) {
		s.t.Errorf("%s: %d requests of a key that ended during the stop were admitted", m.name, late.sentAfter+late.arrivedAfter)
	}
	hasty := 0
	for i, shot := range shots {
		switch {
		case i%2 == 1 && shot.status == http.StatusOK:
			s.answers = append(s.answers, shot.answered.Sub(goesOn))
		case i%2 == 1 && shot.code == "store_unreachable" && s.stalls.near(goesOn, shot.answered):
			// A request waits for the first poll for a moment only, in which such a machine may get nowhere.
			if hasty++; hasty == 1 {
				s.hasty++
				s.t.Logf("%s: a valid key was refused %v after the continuation", m.name, shot.answered.Sub(goesOn))
			}
		case i%2 == 1:
			s.t.Errorf("%s: a valid key was answered %d %s %v, %v after the continuation", m.name, shot.status, shot.code, shot.err, shot.answered.Sub(goesOn))
		case shot.err != nil:
			s.t.Errorf("%s: %v", m.name, shot.err)
		default:
			s.refusals[shot.code]++
		}
	}
}

func TestStoppedProcessLearnsThatAKeyEndedBeforeItAdmitsAnybody(t *testing.T) {
	s := stops{processes: 2, rounds: 2, length: 3 * time.Second, waiting: 40}
	t.Log(s.run(t))
}
