package main

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"keystile/cache/redistest"
)

// outages cuts several processes of a fleet from Redis at once, round after round, while
// clients use a key that works all the time and one that is switched off meanwhile.
type outages struct {
	processes int // that are cut; one more never is
	rounds    int
	staleness time.Duration
	recovery  time.Duration // a process must admit again so soon after Redis is back

	t       *testing.T
	fleet   *fleet
	manager *member // never cut
	lasting subject // works all the time

	doomed     subject        // of this round
	faults     map[string]int // by kind
	total      breaches       // after max_staleness
	doomedLate breaches       // after effective_by
	complaints []string       // of this round, which a machine that stands still may explain
	refused    int            // answers of 503 inside the bound
	excused    int            // those that this machine standing still explains
	stalls     *stalls
	recovered  []time.Duration
	named      int
}

// outage is one cut of one process.
type outage struct {
	victim   *member
	kind     redistest.Mode
	lapses   bool      // it outlasts max_staleness
	from     time.Time // before the first byte was lost
	cut      time.Time // when nothing arrived any more
	isCut    chan struct{}
	back     time.Time // when Redis could be reached again
	shots    []shot    // with the key that works
	shotsMu  sync.Mutex
	doomedBy time.Time // the instant that the reply named
}

// kinds are the faults; Slow is by more than a poll may take.
func kinds() []redistest.Mode {
	return []redistest.Mode{redistest.Cut, redistest.BlackHole, redistest.HalfOpen, redistest.Slow, redistest.Drip}
}

func (o *outages) run(t *testing.T) string {
	o.t, o.faults = t, map[string]int{}
	server := redistest.Start(t, redistest.Options{AppendOnly: "everysec"})
	o.fleet = &fleet{t: t, ledger: newLedger(t, nil)}
	staleness := "KEYSTILE_STORE_REDIS_MAX_STALENESS=" + o.staleness.String()
	o.manager = o.fleet.add(redisAt(server.Addr()), staleness)
	for range o.processes {
		o.fleet.addLinked(server, staleness)
	}
	o.lasting, o.stalls = o.manager.make("lasting"), watchStalls(t)
	for round := range o.rounds {
		again(t, func() error { return o.round(round) })
	}
	return fmt.Sprintf("%d cuts %v, each named in a reply: %d; admitted later than max_staleness: %d sent after it, %d sent before it (at most %v later); "+
		"admitted later than effective_by: %d, %d (at most %v later); valid requests refused inside 0.9 of the bound: %d, and %d while this machine stood still (%v); recovery %s",
		o.processes*o.rounds, o.faults, o.named, o.total.sentAfter, o.total.arrivedAfter, o.total.latest,
		o.doomedLate.sentAfter, o.doomedLate.arrivedAfter, o.doomedLate.latest, o.refused, o.excused, o.stalls, spread(o.recovered))
}

// round cuts all processes once. What it returns may be this machine's doing.
func (o *outages) round(round int) error {
	o.fleet.settle()
	o.doomed, o.complaints = o.manager.make(fmt.Sprint("doomed ", time.Now().UnixNano())), nil
	all := make([]*outage, o.processes)
	var running sync.WaitGroup
	ends := make(chan struct{})
	for i := range all {
		out := &outage{victim: o.fleet.members[1+i], kind: kinds()[(round+i)%len(kinds())], lapses: (round+i)%2 == 0, isCut: make(chan struct{})}
		all[i] = out
		running.Go(func() { openLoop(ends, 30, func() { o.use(out) }) })
	}
	var cuts sync.WaitGroup
	for _, out := range all {
		cuts.Go(func() { out.run(o.staleness) })
	}
	ended := o.endDoomed(all)
	cuts.Wait()
	o.judgeReceipt(ended, all)
	<-time.After(2 * o.recovery)
	close(ends)
	running.Wait()
	for _, out := range all {
		o.judge(out)
	}
	if len(o.complaints) > 0 {
		return errors.New(strings.Join(o.complaints, "; "))
	}
	return nil
}

// complain notes what a machine that stands still can bring about.
func (o *outages) complain(format string, args ...any) {
	o.complaints = append(o.complaints, fmt.Sprintf(format, args...))
}

// use sends a request with each of both keys.
func (o *outages) use(out *outage) {
	s := out.victim.shoot(o.fleet.ledger, o.lasting)
	out.shotsMu.Lock()
	out.shots = append(out.shots, s)
	out.shotsMu.Unlock()
	out.victim.shoot(o.fleet.ledger, o.doomed)
}

// run cuts the process off, for less than 0.9 of the bound or for more than all of it.
func (out *outage) run(staleness time.Duration) {
	length := staleness * 88 / 100
	if out.lapses {
		length = staleness * 120 / 100
	}
	<-time.After(staleness / 20) // clients have begun
	out.from = time.Now()
	if out.kind == redistest.Slow {
		out.victim.link.Slow(400 * time.Millisecond)
	} else {
		out.victim.link.SetMode(out.kind)
	}
	out.cut = time.Now()
	close(out.isCut)
	<-time.After(length)
	out.back = time.Now()
	out.victim.link.SetMode(redistest.Pass)
}

// endDoomed switches the key off once all processes are cut off.
func (o *outages) endDoomed(all []*outage) effect {
	for _, out := range all {
		<-out.isCut
	}
	return o.manager.switchOff(o.doomed)
}

// judgeReceipt notes by when each process is said to have stopped.
func (o *outages) judgeReceipt(e effect, all []*outage) {
	if !e.kept() {
		o.t.Errorf("switching off while others are cut off: %d %s, %+v", e.status, e.code, e.Receipt)
	}
	for _, out := range all {
		for _, p := range e.Pending {
			if p.Proxy == out.victim.name {
				out.doomedBy, _ = time.Parse(time.RFC3339, p.EffectiveBy)
				o.named++
			}
		}
		// One that came after the cut, or after the process had lapsed, need not name it.
		if out.doomedBy.IsZero() && e.at.Before(out.back) && e.at.Before(out.from.Add(o.staleness)) {
			o.t.Errorf("%s is cut off (%v) and the reply does not name it: %+v", out.victim.name, out.kind, e.Receipt)
		}
		if out.doomedBy.IsZero() {
			o.complain("the reply came %v after %s was cut off", e.at.Sub(out.cut), out.victim.name)
			out.doomedBy = e.at
		}
	}
	if b := o.fleet.ledger.of(o.doomed.key, func(a admission) bool { return a.via == o.manager.name && a.sent.After(e.at) }); len(b) > 0 {
		o.t.Errorf("the process that switched the key off admitted it %d times", len(b))
	}
}

// judge holds an outage to what is promised.
func (o *outages) judge(out *outage) {
	o.faults[out.kind.String()]++
	what := fmt.Sprintf("%s (%v, lapses %t)", out.victim.name, out.kind, out.lapses)
	lapsed, earliest := out.cut.Add(o.staleness), out.from.Add(o.staleness*9/10)
	mine := func(from, to time.Time) func(admission) bool {
		return func(a admission) bool { return a.via == out.victim.name && a.at.After(from) && a.at.Before(to) }
	}
	late := breachesOf(o.fleet.ledger.of(o.lasting.key, mine(lapsed, out.back)), lapsed)
	late.add(breachesOf(o.fleet.ledger.of(o.doomed.key, mine(lapsed, out.back.Add(time.Hour))), lapsed))
	by := breachesOf(o.fleet.ledger.of(o.doomed.key, mine(out.doomedBy, out.back.Add(time.Hour))), out.doomedBy)
	o.total.add(late)
	o.doomedLate.add(by)
	if late.sentAfter > 0 || by.sentAfter > 0 {
		o.t.Errorf("%s: admitted %d requests later than max_staleness, %d later than effective_by", what, late.sentAfter, by.sentAfter)
	}
	o.judgeShots(out, what, earliest)
}

// judgeShots looks at what the key that works was answered: refused only while the
// records were too old. What was under way while this machine stood still is passed
// over: a process that stood still too waits for a poll, which fails.
func (o *outages) judgeShots(out *outage, what string, earliest time.Time) {
	refused := 0
	for _, s := range out.shots {
		switch {
		case s.status == http.StatusOK:
		case s.status != http.StatusServiceUnavailable:
			o.t.Errorf("%s: a valid key was answered %d %s %v", what, s.status, s.code, s.err)
		case s.sent.Before(earliest) || !out.lapses || s.sent.After(out.back.Add(o.recovery)):
			if o.stalls.near(s.sent, s.answered) {
				o.excused++
				continue
			}
			if refused++; refused == 1 {
				o.t.Errorf("%s: a valid key was refused %v after the cut, %v after its end", what, s.sent.Sub(out.from), s.sent.Sub(out.back))
			}
		}
	}
	o.refused += refused
	took := out.recovery(o.fleet.ledger.of(o.doomed.key, func(a admission) bool { return a.via == out.victim.name }))
	o.recovered = append(o.recovered, took)
	if took > o.recovery && !o.stalls.near(out.back, out.back.Add(took)) {
		o.complain("%s: it was as before %v after Redis was back", what, took)
	}
}

// recovery is how long after the end the process refused the key that works, or
// admitted the one that was switched off.
func (out *outage) recovery(doomed []admission) time.Duration {
	last := out.back
	for _, s := range out.shots {
		if s.status != http.StatusOK && s.sent.After(last) {
			last = s.sent
		}
	}
	for _, a := range doomed {
		if a.sent.After(last) {
			last = a.sent
		}
	}
	return last.Sub(out.back)
}

func TestProcessCutFromRedisServesUntilItsRecordsAreTooOldAndNoLonger(t *testing.T) {
	o := outages{processes: 3, rounds: 1, staleness: 4 * time.Second, recovery: 2 * time.Second}
	t.Log(o.run(t))
}
