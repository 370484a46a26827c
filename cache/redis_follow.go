package cache

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"keystile/keys"
)

const (
	pollInterval = 200 * time.Millisecond
	// hintGap is the least time between two polls, however many hints come.
	hintGap = 10 * time.Millisecond
	// rowsInterval is how often a poll asks for the whole table of proxies.
	rowsInterval = time.Second
	// pollEntries is how many entries a poll takes at most.
	pollEntries = 512
	// stepTimeout bounds connecting, checking and polling together. It is well below
	// pauseAfter, so that a server that is dead, slow or half open makes no request wait.
	stepTimeout = 500 * time.Millisecond
)

// ResyncCause says why the whole set was read again.
type ResyncCause string

// The causes of a resync.
const (
	ResyncStart    ResyncCause = "start"
	ResyncGap      ResyncCause = "gap"       // the log does not reach back to where we are
	ResyncWentBack ResyncCause = "went_back" // the store lacks changes that we have applied
	ResyncDigest   ResyncCause = "digest"    // same version, another set
)

// ResyncCauses returns all causes.
func ResyncCauses() []ResyncCause {
	return []ResyncCause{ResyncStart, ResyncGap, ResyncWentBack, ResyncDigest}
}

// follower is the one goroutine that polls the store and applies what it learns.
type follower struct {
	r       *Redis
	session *session
	counter uint64
	loaded  bool        // the Mirror holds a set, and our row says that we may admit
	resync  ResyncCause // the set must be read again; "": no
	fork    uint64      // the store may lack what we know of later versions than this
	asked   time.Time   // when we last asked for all rows
	checked time.Time   // when the server was last checked
	told    []failure   // kinds of failures since a poll succeeded, each of which was logged
	first   sync.Once   // the Mirror was proved fresh
}

// follow polls until ctx is done.
func (r *Redis) follow(ctx context.Context) {
	f := &follower{r: r, resync: ResyncStart}
	defer func() { f.session.close() }()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		began := r.clock()
		again := f.step(ctx)
		gap := time.NewTimer(hintGap - elapsed(began, r.clock()))
		select {
		case <-ctx.Done():
			gap.Stop()
			return
		case <-gap.C:
		}
		if again {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-r.wake:
		}
	}
}

// poke makes the follower poll at once.
func (r *Redis) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// step does one poll, or one resync, and reports whether to go on at once.
func (f *follower) step(ctx context.Context) (again bool) {
	sent := f.r.clock()
	again, err := f.try(ctx, sent)
	if observe := f.r.o.Events.Polled; observe != nil && ctx.Err() == nil {
		observe(elapsed(sent, f.r.clock()), err)
	}
	if err == nil {
		f.note(nil)
		return again
	}
	f.r.o.Mirror.fresh.completed(sent)
	if isNetwork(err) || moved(err) || errors.Is(err, errForeign) {
		f.session.close()
		f.session = nil
	}
	if ctx.Err() == nil {
		f.note(err)
	}
	return false
}

// note logs each kind of failure once, and the end of them.
func (f *follower) note(err error) {
	if err == nil {
		if len(f.told) > 0 {
			f.r.o.Log.Info("the store is followed again")
		}
		f.told = nil
		return
	}
	kind := failureOf(err)
	if slices.Contains(f.told, kind) {
		return
	}
	f.told = append(f.told, kind)
	if kind == foreignStore && f.r.o.Events.RolledBack != nil {
		f.r.o.Events.RolledBack()
	}
	f.r.o.Log.Error("store_unreachable: the store cannot be followed; the records in memory serve until they are max_staleness old",
		"error", err, "max_staleness", f.r.o.MaxStaleness.String())
}

// failure is a kind of why a poll can fail: each wants something else to be done.
type failure int

const (
	noAnswer failure = iota
	refusal
	foreignStore
	wrongSetting
)

func failureOf(err error) failure {
	switch {
	case errors.Is(err, errForeign):
		return foreignStore
	case errors.Is(err, ErrSettings), errors.Is(err, ErrPepperMismatch):
		return wrongSetting
	case isNetwork(err):
		return noAnswer
	}
	return refusal
}

func (f *follower) try(ctx context.Context, sent time.Time) (again bool, err error) {
	short, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	if err := f.prepare(short); err != nil {
		return false, err
	}
	if f.resync != "" {
		if err := f.rebuild(ctx); err != nil {
			return false, err
		}
		return true, nil
	}
	answer, err := f.poll(short)
	if err != nil {
		return false, err
	}
	return f.take(answer, sent)
}

// prepare sees to it that there is a session, that the store is the one we know, and
// that the server passes its checks.
func (f *follower) prepare(ctx context.Context) error {
	if f.session == nil {
		ctx, cancel := context.WithTimeout(ctx, pollTimeout)
		defer cancel()
		s, err := f.r.connect(ctx)
		if err != nil {
			return err
		}
		f.session, f.checked = s, time.Time{}
	}
	if f.r.storeID() == "" {
		if err := f.r.find(ctx, f.session); err != nil {
			return err
		}
	}
	if now := f.r.clock(); elapsed(f.checked, now) >= checkInterval {
		f.checked = now
		return f.check(ctx)
	}
	return nil
}

// check looks at the server's settings. Before the first set is loaded, a bad one keeps
// it from being loaded; later it is only reported: refusing valid keys would mend
// nothing.
func (f *follower) check(ctx context.Context) error {
	err := f.r.check(ctx, f.session)
	if !f.loaded || !errors.Is(err, ErrSettings) {
		return err
	}
	f.r.o.Log.Error("the server's settings are no longer what the promise rests on", "error", err)
	return nil
}

// pollAnswer is what a poll returns.
type pollAnswer struct {
	version, digest uint64
	now             int64 // Unix milliseconds by the server's clock
	entries         []logEntry
}

func (f *follower) poll(ctx context.Context) (pollAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	r := f.r
	f.counter++
	own := row{applied: r.o.Mirror.Version(), live: f.loaded, counter: f.counter, staleness: r.o.MaxStaleness, name: r.o.Name}
	all := elapsed(f.asked, r.clock()) >= rowsInterval
	raw, err := r.scripts.poll.Run(ctx, f.session.conn, r.common(),
		r.storeID(), f.session.run, r.name("hint"), r.row, own.String(), own.applied, pollEntries, digit(all)).Slice()
	if err != nil {
		return pollAnswer{}, err
	}
	answer, table, err := decodePoll(raw)
	if err == nil && all {
		f.asked = r.clock()
		r.table.look(f.session.run, table)
		f.bury(ctx)
	}
	return answer, err
}

// bury removes rows that lapsed long ago.
func (f *follower) bury(ctx context.Context) {
	if dead := f.r.table.dead(); len(dead) > 0 {
		_, _ = f.r.call(ctx, f.session, f.r.scripts.bury, nil, dead...) // the next second tries again
	}
}

func decodePoll(raw []any) (answer pollAnswer, table map[string]string, err error) {
	if len(raw) > 0 && raw[0] == "foreign" {
		return answer, nil, errForeign
	}
	if len(raw) != 7 || raw[0] != "ok" {
		return answer, nil, fmt.Errorf("a poll was answered with %d values", len(raw))
	}
	word := func(i int) string { s, _ := raw[i].(string); return s }
	answer.version, answer.digest, answer.now = parseNumber(word(1)), parseNumber(word(2)), int64(parseNumber(word(4)))
	entries, _ := raw[5].([]any)
	for _, raw := range entries {
		entry, err := decodeEntry(raw)
		if err != nil {
			return answer, nil, err
		}
		answer.entries = append(answer.entries, entry)
	}
	pairs, _ := raw[6].([]any)
	table = make(map[string]string, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		id, _ := pairs[i].(string)
		text, _ := pairs[i+1].(string)
		table[id] = text
	}
	return answer, table, nil
}

// take applies what a poll, sent at the given time, has returned. Freshness is renewed
// only if nothing is left to apply, and the set is the store's to the last bit.
func (f *follower) take(a pollAnswer, sent time.Time) (again bool, err error) {
	mirror := f.r.o.Mirror
	for i := range a.entries {
		if cause, fork := f.fits(&a.entries[i]); cause != "" {
			return f.diverged(sent, cause, fork)
		}
		if err := f.apply(&a.entries[i], a.now); err != nil {
			return false, err
		}
	}
	switch applied := mirror.Version(); {
	case applied > a.version:
		return f.diverged(sent, ResyncWentBack, 0)
	case applied < a.version && len(a.entries) == 0:
		return f.diverged(sent, ResyncGap, nothingLost)
	case applied < a.version: // a process that was stopped admits nobody before the last of many
		return true, nil
	case a.digest != f.r.set.digest:
		return f.diverged(sent, ResyncDigest, 0)
	}
	f.r.state.remember(f.r.storeID(), a.version)
	mirror.fresh.renew(sent, f.r.o.MaxStaleness)
	f.first.Do(func() { close(f.r.serving) })
	return len(a.entries) > 0, nil // then the next poll tells others how far we are
}

// nothingLost is the fork of a store that has all we know.
const nothingLost = math.MaxUint64

// fits says whether an entry continues where this process is. One that follows an
// earlier version passed over ours: the two histories parted there, or earlier. One
// that follows another set with the same number is of another history too.
func (f *follower) fits(e *logEntry) (cause ResyncCause, fork uint64) {
	switch applied := f.r.o.Mirror.Version(); {
	case e.before < applied:
		return ResyncWentBack, e.before
	case e.before > applied:
		return ResyncGap, nothingLost
	case e.digest != f.r.set.digest:
		return ResyncWentBack, 0
	}
	return "", 0
}

// apply takes one entry: Mirror first, whose observers end what the change came
// before, then the watchers.
func (f *follower) apply(e *logEntry, serverNow int64) error {
	change, err := e.change()
	if err != nil {
		return err
	}
	r := f.r
	r.mu.Lock()
	defer r.mu.Unlock()
	before, _ := r.o.Mirror.Get(change.ID)
	r.o.Mirror.Apply(change)
	if change.ID == (keys.ID{}) {
		return nil
	}
	r.set.put(e.id, e.text)
	r.tell(change)
	if r.o.Events.Applied != nil && narrower(&change.Grant, before) {
		r.o.Events.Applied(time.Duration(max(0, serverNow-e.at)) * time.Millisecond)
	}
	return nil
}

// diverged asks for a resync.
func (f *follower) diverged(sent time.Time, cause ResyncCause, fork uint64) (again bool, err error) {
	f.r.o.Log.Error("this process and the store have diverged; the whole set is read again", "cause", cause)
	if cause == ResyncWentBack && f.r.o.Events.RolledBack != nil {
		f.r.o.Events.RolledBack()
	}
	f.resync, f.fork = cause, fork
	f.r.o.Mirror.fresh.completed(sent)
	return true, nil
}

// listen turns hints into polls. What a hint says is not believed. The library
// subscribes again after a failure.
func (r *Redis) listen(ctx context.Context) {
	hints := r.client.Subscribe(ctx, r.name("hint"))
	defer hints.Close()
	for messages := hints.Channel(); ; {
		select {
		case <-ctx.Done():
			return
		case _, ok := <-messages:
			if !ok {
				return
			}
			r.poke()
		}
	}
}
