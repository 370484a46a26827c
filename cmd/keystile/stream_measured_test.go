//go:build !race

package main

import (
	"slices"
	"testing"
	"time"
)

// TestMeasuredEventsReachTheClientWithinTwentyMilliseconds measures from right before an
// event is written at the upstream until the client has read it.
func TestMeasuredEventsReachTheClientWithinTwentyMilliseconds(t *testing.T) {
	took := newPacedStream(200).follow(t)
	slices.Sort(took)
	p50, p99 := took[len(took)/2], took[len(took)*99/100]
	t.Logf("an event takes %v (p50), %v (p99) through the proxy", p50, p99)
	if p50 > 20*time.Millisecond {
		t.Errorf("in the median an event takes %v, want at most 20 ms", p50)
	}
}
