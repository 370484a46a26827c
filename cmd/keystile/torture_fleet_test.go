//go:build torture

package main

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestTortureNothingIsAdmittedByAnyOf5ProcessesAfterEverywhere(t *testing.T) {
	e := everywhere{processes: 5, perSecond: 2000, changes: 500, pace: 10}
	report, replies := e.run(t)
	lag := e.fleet.histogram("keystile_revocation_lag_seconds")
	t.Logf("%s; lag from commit to applied: %s", report, lag)
	if p50, p99 := quantile(replies, 0.5), quantile(replies, 0.99); p50 > 150*time.Millisecond || p99 > 400*time.Millisecond {
		t.Errorf("replies took %v and %v (p50, p99), want at most 150 ms and 400 ms", p50, p99)
	}
	if lag.count < float64(e.changes*e.processes) || lag.quantile(0.99) > 0.15 {
		t.Errorf("of %.0f lags the p99 is up to %.3f s, want %d lags of at most 0.150 s", lag.count, lag.quantile(0.99), e.changes*e.processes)
	}
}

// histogram is a Prometheus histogram, added up over processes.
type histogram struct {
	count  float64
	bounds []float64
	upTo   []float64 // observations up to each bound
}

func (f *fleet) histogram(name string) (h histogram) {
	at := map[float64]int{}
	for _, m := range f.members {
		for series, value := range m.metrics() {
			text, isBucket := strings.CutPrefix(series, name+`_bucket{le="`)
			if !isBucket {
				continue
			}
			bound, _ := strconv.ParseFloat(strings.TrimSuffix(text, `"}`), 64) // also +Inf
			if _, known := at[bound]; !known {
				at[bound] = len(h.bounds)
				h.bounds, h.upTo = append(h.bounds, bound), append(h.upTo, 0)
			}
			h.upTo[at[bound]] += value
		}
		h.count += m.metric(name + "_count")
	}
	return h
}

// quantile returns the least bound below which the q-th part lies.
func (h histogram) quantile(q float64) (least float64) {
	least = -1
	for i, n := range h.upTo {
		if n >= q*h.count && (least < 0 || h.bounds[i] < least) {
			least = h.bounds[i]
		}
	}
	return least
}

// String lists the observations up to each bound.
func (h histogram) String() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%.0f lags, p50 <= %g s, p99 <= %g s, up to each bound", h.count, h.quantile(0.5), h.quantile(0.99))
	below := -1.0
	for range h.bounds {
		next := -1
		for i, bound := range h.bounds {
			if bound > below && (next < 0 || bound < h.bounds[next]) {
				next = i
			}
		}
		below = h.bounds[next]
		fmt.Fprintf(&text, " %g:%.0f", below, h.upTo[next])
	}
	return text.String()
}

func TestTortureProcessCutFromRedis100TimesServesUntilMaxStalenessAndNoLonger(t *testing.T) {
	o := outages{processes: 10, rounds: 10, staleness: 10 * time.Second, recovery: time.Second}
	t.Log(o.run(t))
}

func TestTortureProcessStopped20TimesFor10SecondsLearnsBeforeItAdmits(t *testing.T) {
	s := stops{processes: 5, rounds: 4, length: 10 * time.Second, waiting: 200}
	t.Log(s.run(t))
	if most := quantile(s.answers, 1); most > 500*time.Millisecond {
		t.Errorf("a valid key was answered %v after the continuation, want at most 500 ms", most)
	}
}

func TestTortureRedisKilled100TimesKeepsEveryAcknowledgedChange(t *testing.T) {
	c := newCrashes(t)
	for range 100 {
		c.round(c.killRedis)
	}
	t.Log(c.report())
}

func TestTortureProcessesKilled100TimesKeepEveryAcknowledgedChange(t *testing.T) {
	c := newCrashes(t)
	for range 100 {
		c.round(c.killProcess)
	}
	t.Log(c.report())
}

// Two groups at once, because a former primary needs 8 s to come back.
func TestTorture30FailoversReviveNoKey(t *testing.T) {
	for _, replicas := range []int{0, 2} {
		t.Run(fmt.Sprint("waiting for ", replicas, " replicas"), func(t *testing.T) {
			t.Parallel()
			f := newFailovers(t, replicas, 2*time.Second)
			t.Log(f.run(15))
		})
	}
}
