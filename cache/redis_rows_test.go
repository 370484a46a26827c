package cache

import (
	"slices"
	"strings"
	"testing"
	"time"

	"keystile/keys"
)

// handClock is a clock that moves when it is told to.
type handClock struct{ at time.Time }

func newHandClock() *handClock {
	return &handClock{time.Date(2030, time.January, 2, 3, 4, 5, 0, time.UTC)}
}

func (c *handClock) now() time.Time               { return c.at }
func (c *handClock) advance(by time.Duration)     { c.at = c.at.Add(by) }
func (c *handClock) in(d time.Duration) time.Time { return c.at.Add(d) }

// tableTest is a table of proxies under test, and what the server has of it.
type tableTest struct {
	*testing.T
	*rows
	clock *handClock
	there map[string]string
}

// lag is how long a deposed primary may accept writes, in these tests.
const lag = 10 * time.Second

func newTableTest(t *testing.T) *tableTest {
	c := newHandClock()
	return &tableTest{T: t, rows: newRows(10*time.Second, c.now), clock: c, there: map[string]string{}}
}

// has puts a row of a process that is live into the server, under its name.
func (t *tableTest) has(name string, applied, counter uint64, staleness time.Duration) {
	t.there[name] = row{applied: applied, live: true, counter: counter, staleness: staleness, name: name}.String()
}

// wait advances the clock in steps, with a look at the server run at each.
func (t *tableTest) wait(run string, by time.Duration) {
	for by > 0 {
		step := min(by, time.Second)
		t.clock.advance(step)
		by -= step
		t.look(run, t.there)
	}
}

func (t *tableTest) waitsFor(version uint64, fence time.Time, want ...string) {
	t.Helper()
	got := []string{}
	for _, p := range t.pending(version, fence) {
		got = append(got, p.Proxy)
	}
	slices.Sort(got)
	if !slices.Equal(got, append([]string{}, want...)) {
		t.Errorf("version %d is pending for %q, want %q", version, got, want)
	}
}

func TestRowIsReadAsItWasWritten(t *testing.T) {
	for _, want := range []row{
		{staleness: time.Millisecond},
		{applied: 1 << 53, live: true, counter: 1<<64 - 1, staleness: 30 * time.Second, name: "host/123"},
		{applied: 7, staleness: 1500 * time.Millisecond, name: "a name with spaces  in it "},
	} {
		if got, ok := parseRow(want.String()); !ok || got != want {
			t.Errorf("%q is read as %+v, %v", want, got, ok)
		}
	}
	for _, text := range []string{"", "1", "1 1 1 1", "1 1 1 x name", "1 2 1 1 name", "1 1 1 0 name", "1 1 1 -5 name", "1 1 1 9223372036854775807 name", strings.Repeat(" ", 3)} {
		if got, ok := parseRow(text); ok {
			t.Errorf("%q is read as %+v", text, got)
		}
	}
}

func TestChangeIsPendingForEveryLiveRowThatHasNotAppliedIt(t *testing.T) {
	table := newTableTest(t)
	table.waitsFor(1, time.Time{})
	table.has("behind", 4, 1, 10*time.Second)
	table.has("there", 5, 1, 10*time.Second)
	table.has("beyond", 6, 1, 10*time.Second)
	table.there["joining"] = row{applied: 0, live: false, counter: 1, staleness: 10 * time.Second, name: "joining"}.String()
	table.look("A", table.there)
	table.waitsFor(5, time.Time{}, "behind")
	table.has("behind", 5, 2, 10*time.Second)
	table.look("A", table.there)
	table.waitsFor(5, time.Time{})
	table.waitsFor(6, time.Time{}, "behind", "there")
}

func TestRowLapsesWhenItStoodStillForItsMaxStalenessAndOnePercent(t *testing.T) {
	for _, staleness := range []time.Duration{500 * time.Millisecond, 10 * time.Second, time.Hour} {
		t.Run(staleness.String(), func(t *testing.T) {
			table := newTableTest(t)
			bound := staleness + staleness/100
			table.has("p", 1, 1, staleness)
			table.look("A", table.there)
			table.clock.advance(bound - time.Millisecond)
			table.has("p", 1, 2, staleness) // it moved in the last millisecond
			table.look("A", table.there)
			table.clock.advance(bound - 1)
			table.look("A", table.there)
			table.waitsFor(2, time.Time{}, "p")
			table.clock.advance(1)
			table.waitsFor(2, time.Time{})
			if alive := table.alive(); len(alive) != 0 {
				t.Errorf("a row that lapsed is said to be alive: %v", alive)
			}
			table.has("p", 1, 3, staleness) // it is back
			table.look("A", table.there)
			table.waitsFor(2, time.Time{}, "p")
		})
	}
}

func TestRowDoesNotLapseWhileAPrimaryThatWasReplacedIsBelieved(t *testing.T) {
	x := newTableTest(t)
	x.replicated(lag + 4*time.Second)
	x.has("short", 1, 1, 5*time.Second)
	x.look("a", x.there)
	x.clock.advance(13 * time.Second) // its process may be with the new primary, and serve
	x.waitsFor(2, time.Time{}, "short")
	x.clock.advance(time.Second)
	x.waitsFor(2, time.Time{})
}

func TestReplicatedServerIsToldToTheTableAndAServerOfItsOwnIsNot(t *testing.T) {
	const fenced = "connected_slaves:1\r\nmin_slaves_good_slaves:1\r\n"
	for info, want := range map[string]time.Duration{fenced: lag + 2*time.Second + deposedMargin, "connected_slaves:0\r\n": 0} {
		r := &Redis{o: RedisOptions{FenceLag: lag, ReceiptDeadline: 2 * time.Second}, table: newRows(time.Second, time.Now)}
		if err := r.checkFence(info); err != nil || r.table.deposed != want {
			t.Errorf("%q: a row waits for %v, want %v; %v", info, r.table.deposed, want, err)
		}
	}
}

// TestRowThatCannotBeReadIsWaitedFor: its process is of another version, and may admit.
func TestRowThatCannotBeReadIsWaitedFor(t *testing.T) {
	for _, text := range []string{"what is this", "1 2 3 10000 more than two states", "1 1 1 x name", "1 1 1 0 name"} {
		table := newTableTest(t)
		table.there["p"] = text
		table.look("A", table.there)
		table.waitsFor(1, time.Time{}, unreadable)
		table.wait("A", 10*time.Second)
		table.waitsFor(1, time.Time{}, unreadable)
		table.there["p"] = text + "!" // it moves
		table.look("A", table.there)
		table.wait("A", 10*time.Second)
		table.waitsFor(1, time.Time{}, unreadable)
		table.wait("A", 100*time.Millisecond)
		table.waitsFor(1, time.Time{})
		table.wait("A", 11*time.Second)
		if dead := table.dead(); !slices.Equal(dead, []any{"p", text + "!"}) {
			t.Errorf("to be buried: %v", dead)
		}
	}
}

func TestRowThatIsNewToUsCountsFromWhenWeSawIt(t *testing.T) {
	table := newTableTest(t)
	table.look("A", table.there)
	table.clock.advance(time.Hour)
	table.has("p", 1, 1, 10*time.Second) // for all we know it was written just now
	table.look("A", table.there)
	table.waitsFor(2, time.Time{}, "p")
	table.wait("A", 10*time.Second)
	table.waitsFor(2, time.Time{}, "p")
	table.wait("A", 100*time.Millisecond)
	table.waitsFor(2, time.Time{})
}

func TestRowThatLeftIsNotWaitedFor(t *testing.T) {
	table := newTableTest(t)
	table.has("p", 1, 1, 10*time.Second)
	table.look("A", table.there)
	delete(table.there, "p")
	table.look("A", table.there)
	table.waitsFor(2, time.Time{})
}

func TestEffectiveByIsNeverBeforeTheProxyRefusesByItself(t *testing.T) {
	for _, staleness := range []time.Duration{time.Second, 10*time.Second + 1, 30 * time.Second} {
		table := newTableTest(t)
		table.clock.advance(123_456_789)
		sent := table.clock.now() // the proxy's own bound counts from here
		table.clock.advance(2 * time.Millisecond)
		table.has("p", 1, 1, staleness)
		table.look("A", table.there)
		by := table.pending(2, time.Time{})[0].EffectiveBy
		refuses := sent.Add(staleness)
		if by.Before(refuses) || by.Before(table.seen["p"].effectiveBy()) {
			t.Errorf("effective by %v, while the proxy refuses from %v and the row lapses at %v", by, refuses, table.seen["p"].effectiveBy())
		}
		if by.Nanosecond()%int(time.Millisecond) != 0 || by.Location() != time.UTC {
			t.Errorf("effective by %v is not in whole milliseconds of UTC", by)
		}
		if late := by.Sub(table.seen["p"].effectiveBy()); late >= time.Millisecond {
			t.Errorf("effective by is rounded up by %v", late)
		}
	}
}

func TestFirstServerNeedsNoFence(t *testing.T) {
	table := newTableTest(t)
	table.has("p", 1, 1, 10*time.Second)
	table.look("A", table.there)
	if until := table.fence(-1, lag); !until.IsZero() {
		t.Errorf("a fence until %v", until)
	}
}

func TestFenceStandsUntilNobodyCanBelieveTheServerBefore(t *testing.T) {
	table := newTableTest(t)
	table.has("slow", 1, 1, 20*time.Second) // the largest max_staleness counts
	table.look("B", table.there)            // this process was not there before
	const age = 3 * time.Second
	want := table.clock.in(20*time.Second + lag + time.Second - age)
	if got := table.fence(age, lag); !got.Equal(want) {
		t.Errorf("the fence stands until %v, want %v", got, want)
	}
	table.clock.advance(want.Sub(table.clock.now()) - 1)
	table.has("slow", 1, 2, 20*time.Second)
	table.look("B", table.there)
	if got := table.fence(age+28*time.Second-1, lag); got.IsZero() {
		t.Error("the fence is gone before its time")
	}
	table.clock.advance(1)
	if got := table.fence(age+28*time.Second, lag); !got.IsZero() {
		t.Errorf("the fence still stands at its end, until %v", got)
	}
}

// takeover is a table that was seen at the server A and is now seen at B, for the first
// time, with what A had given B of it.
func takeover(t *testing.T, lost ...string) *tableTest {
	table := newTableTest(t)
	for _, name := range []string{"p", "q"} {
		table.has(name, 1, 1, 10*time.Second)
	}
	table.look("A", table.there)
	table.clock.advance(time.Second)
	for _, name := range []string{"p", "q"} { // they polled A once more, which B has
		table.has(name, 1, 2, 10*time.Second)
	}
	for _, name := range lost {
		delete(table.there, name)
	}
	table.look("B", table.there)
	return table
}

func (t *tableTest) isFenced(want bool) {
	t.Helper()
	if until := t.fence(time.Second, lag); until.IsZero() == want {
		t.Errorf("the fence stands until %v, want one: %v", until, want)
	}
}

// everybodyPolls has all processes poll the server run for so long.
func (t *tableTest) everybodyPolls(run string, by time.Duration) {
	for ; by > 0; by -= time.Second {
		for name := range t.there {
			t.has(name, 1, uint64(t.clock.at.UnixMilli()), 10*time.Second)
		}
		t.wait(run, min(by, time.Second))
	}
}

// TestFenceStandsAlthoughEverybodyKnownIsThere: one whom nobody here has seen may have
// joined the server before, and its row may be lost.
func TestFenceStandsAlthoughEverybodyKnownIsThere(t *testing.T) {
	table := takeover(t)
	table.everybodyPolls("B", 21*time.Second-1)
	table.isFenced(true)
	table.everybodyPolls("B", 1)
	table.isFenced(false)
}

// TestFenceIsMeasuredByTheClockOfWhoSawTheServerChange: that of a server may be set.
func TestFenceIsMeasuredByTheClockOfWhoSawTheServerChange(t *testing.T) {
	for _, age := range []time.Duration{0, time.Minute, time.Hour} {
		table := takeover(t)
		want := table.clock.in(21 * time.Second)
		if got := table.fence(age, lag); !got.Equal(want) {
			t.Errorf("for a server that says it took over %v ago the fence stands until %v, want %v", age, got, want)
		}
	}
	late := newTableTest(t) // saw no server before: it believes the age that it is told first
	late.look("B", late.there)
	late.fence(0, lag)
	late.everybodyPolls("B", 21*time.Second)
	late.look("B", late.there)
	if got := late.fence(0, lag); !got.IsZero() {
		t.Errorf("after its time the fence stands until %v", got)
	}
}

func TestProcessWhoseRowWasLostIsWaitedFor(t *testing.T) {
	table := takeover(t, "q")
	table.has("p", 2, 3, 10*time.Second)
	table.look("B", table.there)
	table.waitsFor(2, time.Time{}, "q")
	table.isFenced(true)
	table.wait("B", 11*time.Second) // it may still be with the server before, which accepts writes for the lag
	table.isFenced(true)
}

func TestStandingStillIsNoProofAfterATakeover(t *testing.T) {
	table := takeover(t)
	table.has("p", 2, 3, 10*time.Second)
	table.look("B", table.there)
	fence := table.fence(time.Second, lag)
	for _, p := range table.pending(2, fence) {
		if p.Proxy != "q" || p.EffectiveBy.Before(fence) {
			t.Errorf("pending for %s, effective by %v, but the fence stands until %v", p.Proxy, p.EffectiveBy, fence)
		}
	}
	table.wait("B", 10*time.Second+100*time.Millisecond)
	table.isFenced(true)
}

func TestEachTakeoverIsAFenceOfItsOwn(t *testing.T) {
	table := takeover(t)
	for _, run := range []string{"B", "C", "A"} {
		table.look(run, table.there)
		table.isFenced(true)
		table.everybodyPolls(run, 21*time.Second)
		table.isFenced(false)
	}
}

func TestRowIsBuriedLongAfterItLapsedAndAsItWasSeen(t *testing.T) {
	table := newTableTest(t)
	table.has("p", 1, 1, 10*time.Second)
	table.look("A", table.there)
	table.wait("A", 20*time.Second)
	if dead := table.dead(); len(dead) != 0 {
		t.Errorf("buried too early: %v", dead)
	}
	table.wait("A", 101*time.Millisecond)
	if dead := table.dead(); !slices.Equal(dead, []any{"p", table.there["p"]}) {
		t.Errorf("to be buried: %v", dead)
	}
}

func TestAliveNamesAppliedVersions(t *testing.T) {
	table := newTableTest(t)
	table.has("p", 3, 1, 10*time.Second)
	table.look("A", table.there)
	want := []Proxy{{ID: "p", Name: "p", Applied: 3, Serving: true}}
	if alive := table.alive(); !slices.Equal(alive, want) {
		t.Errorf("alive: %v, want %v", alive, want)
	}
}

// TestReceiptAfterATakeoverNamesTheFence sees that what is pending reaches the reply.
func TestReceiptAfterATakeoverNamesTheFence(t *testing.T) {
	r := &Redis{clock: time.Now}
	fence := time.Now().Add(time.Minute)
	receipt := keys.Receipt{Pending: r.fenced(fence)}
	if receipt.Everywhere() || !receipt.Pending[0].EffectiveBy.Equal(fence) {
		t.Errorf("the receipt says %+v", receipt)
	}
	r.unfenced = true
	if pending := r.fenced(time.Time{}); len(pending) != 1 {
		t.Errorf("on an unfenced primary nothing is ever everywhere: %v", pending)
	}
}
