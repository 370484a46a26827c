package cache

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"keystile/keys"
)

// newFreshness returns one that goes by time.Now, which in a synctest bubble moves only
// while everybody waits.
func newFreshness() *freshness {
	f := &freshness{}
	f.init(time.Now)
	return f
}

// judged fails the test unless check takes exactly the given time and says whether the
// records are fresh.
func judged(t *testing.T, f *freshness, fresh bool, took time.Duration) {
	t.Helper()
	began := time.Now()
	err := f.check()
	if got := time.Since(began); got != took {
		t.Errorf("the decision took %v, want %v", got, took)
	}
	if fresh != (err == nil) || err != nil && !errors.Is(err, keys.ErrUnavailable) {
		t.Errorf("check says %v, want fresh %v", err, fresh)
	}
}

func TestNothingIsFreshBeforeTheFirstProof(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFreshness()
		judged(t, f, false, 0)
		f.completed(time.Now())
		judged(t, f, false, 0)
		if f.age() != 0 {
			t.Errorf("nothing was proved, and its age is %v", f.age())
		}
		f.renew(time.Now(), time.Minute)
		judged(t, f, true, 0)
	})
}

func TestRequestWaitsOnlyIfTheLastCompletedPollWasSentMoreThanASecondAgo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFreshness()
		f.renew(time.Now(), time.Minute)
		time.Sleep(time.Second)
		judged(t, f, true, 0)
		time.Sleep(time.Nanosecond)
		judged(t, f, false, 300*time.Millisecond)
		f.renew(time.Now(), time.Minute)
		judged(t, f, true, 0)
	})
}

// TestStoppedProcessLearnsOfChangesBeforeItAdmitsAnybody plays a process that stood
// still for ten seconds, with requests waiting: whatever the first poll after it says
// is what they are judged by.
func TestStoppedProcessLearnsOfChangesBeforeItAdmitsAnybody(t *testing.T) {
	for _, c := range []struct {
		name  string
		next  func(f *freshness, stopped time.Time)
		fresh bool
		took  time.Duration
	}{
		{"the next poll proves the records fresh", func(f *freshness, _ time.Time) { f.renew(time.Now(), 30*time.Second) }, true, 100 * time.Millisecond},
		{"the next poll fails, and max_staleness decides", func(f *freshness, _ time.Time) { f.completed(time.Now()) }, true, 100 * time.Millisecond},
		{"the poll that was under way when it stopped says nothing", func(f *freshness, stopped time.Time) { f.renew(stopped, 30*time.Second) }, false, 300 * time.Millisecond},
		{"the poll that was under way when it stopped fails", func(f *freshness, stopped time.Time) { f.completed(stopped) }, false, 300 * time.Millisecond},
		{"the store is closed", func(f *freshness, _ time.Time) { f.set(proof{why: errClosed}) }, false, 100 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFreshness()
				f.renew(time.Now(), 30*time.Second)
				stopped := time.Now()
				time.Sleep(10 * time.Second)
				time.AfterFunc(100*time.Millisecond, func() { c.next(f, stopped) })
				judged(t, f, c.fresh, c.took)
			})
		})
	}
}

func TestFailedPollsLetMaxStalenessDecide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const staleness = 10 * time.Second
		f := newFreshness()
		f.renew(time.Now(), staleness)
		for began := time.Now(); time.Since(began) < staleness; time.Sleep(200 * time.Millisecond) {
			f.completed(time.Now())
			judged(t, f, true, 0)
		}
		f.completed(time.Now())
		judged(t, f, false, 0)
		if f.age() != staleness {
			t.Errorf("the age is %v, want %v", f.age(), staleness)
		}
		f.completed(time.Now())
		judged(t, f, false, 0)
		f.renew(time.Now(), staleness)
		judged(t, f, true, 0)
	})
}

func TestRecordsServeUntilExactlyMaxStalenessAfterThePollWasSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFreshness()
		sent := time.Now()
		time.Sleep(250 * time.Millisecond) // the answer was slow
		f.renew(sent, time.Second)
		time.Sleep(time.Until(sent.Add(time.Second - 1)))
		judged(t, f, true, 0)
		time.Sleep(time.Nanosecond)
		judged(t, f, false, 0)
	})
}

func TestOnePollWakesAllRequestsThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFreshness()
		f.renew(time.Now(), time.Minute)
		time.Sleep(10 * time.Second)
		var waiting sync.WaitGroup
		for range 200 {
			waiting.Go(func() { judged(t, f, true, 100*time.Millisecond) })
		}
		time.Sleep(100 * time.Millisecond)
		f.renew(time.Now(), time.Minute)
		waiting.Wait()
	})
}

func TestReadersAndThePollerDoNotDisturbEachOther(t *testing.T) {
	f, now := &freshness{}, time.Now()
	f.init(func() time.Time { return now }) // a poller that stands still for a while is no matter here
	f.renew(now, time.Minute)
	over := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
				}
				if err := f.check(); err != nil {
					t.Errorf("check: %v", err)
					return
				}
				_ = f.age()
			}
		})
	}
	for i := range 10_000 {
		if i%2 == 0 {
			f.completed(now)
		} else {
			f.renew(now, time.Minute)
		}
	}
	close(over)
	readers.Wait()
}

// moment is a time with a wall clock and a monotonic clock that do not agree, which
// package time makes only after somebody has set the clock. It writes what the package
// documents nowhere, and fails the test if that is no longer so.
func moment(t *testing.T, wall, monotonic time.Duration) time.Time {
	t.Helper()
	at := time.Date(2030, time.January, 1, 0, 0, 0, 0, time.UTC).Add(wall)
	const since1885, hasMonotonic = 30, uint64(1) << 63
	year1885 := time.Date(1885, time.January, 1, 0, 0, 0, 0, time.UTC)
	made := time.Time{}
	fields := (*struct {
		wall uint64
		ext  int64
		loc  *time.Location
	})(unsafe.Pointer(&made))
	fields.wall = hasMonotonic | uint64(at.Unix()-year1885.Unix())<<since1885 | uint64(at.Nanosecond())
	fields.ext = int64(time.Hour + monotonic)
	if !made.Round(0).Equal(at) || !strings.HasSuffix(made.String(), fmt.Sprintf(" m=%+.9f", (time.Hour+monotonic).Seconds())) {
		t.Fatalf("package time no longer keeps its clocks as this test believes: %v is not %v", made, at)
	}
	return made
}

func TestBothClocksMustAgreeThatTheRecordsAreFresh(t *testing.T) {
	const staleness = 10 * time.Second
	for _, c := range []struct {
		name            string
		wall, monotonic time.Duration // passed since the proof
		fresh           bool
	}{
		{"both just before", staleness - 1, staleness - 1, true},
		{"both just after", staleness, staleness, false},
		{"the wall clock was set forward", time.Hour, time.Millisecond, false},
		{"the wall clock was set back, within the bound", -time.Hour, staleness - 1, true},
		{"the wall clock was set back, beyond the bound", -time.Hour, staleness, false},
		{"the monotonic clock stood still while the machine slept", staleness, 0, false},
		{"the monotonic clock stood still, within the bound", staleness - 1, 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFreshness()
			now := moment(t, 0, 0)
			f.now = func() time.Time { return now }
			f.renew(now, staleness)
			now = moment(t, c.wall, c.monotonic)
			// A poll that failed just now: only the age is judged, not the pause.
			f.completed(now)
			if err := f.check(); (err == nil) != c.fresh {
				t.Errorf("check says %v, want fresh %v", err, c.fresh)
			}
			if age := f.age(); age != max(c.wall, c.monotonic) {
				t.Errorf("the age is %v", age)
			}
		})
	}
}

func TestMachineThatSleptWaitsForAPollEvenIfItsMonotonicClockStoodStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFreshness()
		now := moment(t, 0, 0)
		f.now = func() time.Time { return now }
		f.renew(now, time.Minute)
		now = moment(t, 30*time.Second, 0)
		judged(t, f, false, 300*time.Millisecond)
		f.renew(now, time.Minute)
		judged(t, f, true, 0)
	})
}
