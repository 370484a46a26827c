package cache

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	"keystile/keys"
)

// row is what a process writes about itself with each poll.
type row struct {
	applied   uint64        // it judges by this version
	live      bool          // it may admit requests
	counter   uint64        // rises with each poll
	staleness time.Duration // it refuses by itself this long after its last good poll
	name      string        // for people
}

func (r row) String() string {
	return fmt.Sprintf("%d %s %d %d %s", r.applied, digit(r.live), r.counter, r.staleness.Milliseconds(), r.name)
}

func parseRow(text string) (row, bool) {
	parts := strings.SplitN(text, " ", 5)
	if len(parts) != 5 {
		return row{}, false
	}
	staleness, err := strconv.ParseInt(parts[3], 10, 64)
	const most = math.MaxInt64 / int64(2*time.Millisecond) // with its 1 % a Duration holds it
	if err != nil || staleness <= 0 || staleness > most || parts[1] != "0" && parts[1] != "1" {
		return row{}, false
	}
	return row{
		applied: parseNumber(parts[0]), live: parts[1] == "1", counter: parseNumber(parts[2]),
		staleness: time.Duration(staleness) * time.Millisecond, name: parts[4],
	}, true
}

// rows is what this process has itself seen of all rows, by its own clock: nobody
// else's is trusted.
type rows struct {
	now func() time.Time
	own time.Duration // this process's max_staleness: others have about the same

	mu sync.Mutex
	// deposed is how long a primary that was replaced may accept changes, and a change
	// there take; 0: there is nobody to replace it.
	deposed time.Duration
	seen    map[string]*seenRow
	// looked says that there was a look, the last one at the server run; took is when that
	// server took over, as far as this process knows (zero: it has not asked).
	looked bool
	run    string
	took   time.Time
	// elsewhere are the processes that were not seen to poll the present server. What it
	// has of them may come from the server before, where they may still be.
	elsewhere map[string]bool
}

// unreadable is the name of a process whose row cannot be read.
const unreadable = "unknown (its row in the table of proxies cannot be read)"

// seenRow is a row and when its text was last seen to change, under which server.
type seenRow struct {
	row
	text  string
	moved time.Time
	run   string
	grace time.Duration // without a move for this long, it has lapsed
}

func newRows(own time.Duration, now func() time.Time) *rows {
	return &rows{now: now, own: own, seen: make(map[string]*seenRow), elsewhere: make(map[string]bool)}
}

// look takes a reading of the table from the server run.
func (t *rows) look(run string, texts map[string]string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	first := !t.looked || run != t.run // look at this server
	if first {
		t.arrive(run, texts, now)
	}
	for id, text := range texts {
		if have := t.seen[id]; have != nil && have.text == text {
			continue
		}
		r, ok := parseRow(text)
		if !ok { // of another version, say: it may admit by anything
			r = row{live: true, staleness: t.own, name: unreadable}
		}
		t.seen[id] = &seenRow{row: r, text: text, moved: now, run: run, grace: max(r.staleness+r.staleness/100, t.deposed)}
		if !first {
			delete(t.elsewhere, id)
		}
	}
	for id, s := range t.seen {
		// A row that is gone has left. One that only an earlier server had may be lost:
		// its process counts until it has lapsed.
		if _, there := texts[id]; !there && (s.run == run || s.lapsed(now)) {
			delete(t.seen, id)
		}
	}
}

// arrive notes that the server run is another than the last, or the first.
func (t *rows) arrive(run string, texts map[string]string, now time.Time) {
	for id := range t.seen {
		t.elsewhere[id] = true
	}
	for id := range texts {
		t.elsewhere[id] = true
	}
	t.took = time.Time{}
	if t.looked { // it took over since the last look
		t.took = now
	}
	t.looked, t.run = true, run
}

// replicated says for how long a primary that was replaced may accept changes. A process
// that has moved to the new one stands still for whoever asks the old one: it must not
// count as lapsed as long as the old one is believed.
func (t *rows) replicated(deposed time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.deposed = deposed
}

// lapsed reports whether the row's process refuses by itself: its row has stood
// still for its max_staleness and 1 %, or longer where a primary can be replaced.
func (s *seenRow) lapsed(now time.Time) bool { return !now.Before(s.effectiveBy()) }

// effectiveBy is when the row's process refuses by itself at the latest.
func (s *seenRow) effectiveBy() time.Time { return s.moved.Add(s.grace) }

// pending returns the rows that have neither applied version nor lapsed. A process that
// was not seen to poll the present server may be with the one before, and renew what it
// believes there, until the fence.
func (t *rows) pending(version uint64, fence time.Time) (pending []keys.Pending) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	for id, s := range t.seen {
		if !s.live || s.applied >= version || s.lapsed(now) {
			continue
		}
		by := roundUp(s.effectiveBy())
		if t.elsewhere[id] && fence.After(by) {
			by = fence
		}
		pending = append(pending, keys.Pending{Proxy: s.name, EffectiveBy: by})
	}
	return pending
}

// fence returns until when a process may admit requests by what a server that was taken
// over from told it, whether or not its row is known: the present server may have lost
// it. Zero: there is none. Of a server that was there before the first look, runAge says
// how long ago it took over, by its own clock, which is believed once (negative: it is the
// first).
func (t *rows) fence(runAge, lag time.Duration) time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	if runAge < 0 {
		return time.Time{}
	}
	now, staleness := t.now(), t.own
	if t.took.IsZero() {
		t.took = now.Add(-runAge)
	}
	for _, s := range t.seen {
		staleness = max(staleness, s.staleness)
	}
	until := t.took.Add(staleness + lag + time.Second)
	if !until.After(now) {
		clear(t.elsewhere)
		return time.Time{}
	}
	return roundUp(until)
}

// alive returns the processes that are there, with their applied versions.
func (t *rows) alive() (alive []Proxy) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	for id, s := range t.seen {
		if !s.lapsed(now) {
			alive = append(alive, Proxy{ID: id, Name: s.name, Applied: s.applied, Serving: s.live})
		}
	}
	return alive
}

// dead returns the rows that have lapsed for long, as id and text in turn: nobody
// waits for them, and their process, should it come back, writes its row again.
func (t *rows) dead() (pairs []any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	for id, s := range t.seen {
		if s.lapsed(now.Add(-s.staleness)) {
			pairs = append(pairs, id, s.text)
		}
	}
	return pairs
}

// roundUp rounds to whole milliseconds of UTC, never down.
func roundUp(t time.Time) time.Time {
	return t.Add(time.Millisecond - 1).UTC().Truncate(time.Millisecond)
}

// Proxy is a process that shares the store.
type Proxy struct {
	ID      string
	Name    string
	Applied uint64 // version it judges by
	Serving bool   // it may admit requests
}
