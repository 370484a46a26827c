//go:build !race

package sample

import (
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMeasuredPictureIsDrawnQuickly counts the CPU time of the drawing thread,
// the best of a few: it aims at 150 ms, and fails at twice that.
func TestMeasuredPictureIsDrawnQuickly(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p := testPainter(t)
	for _, prompt := range []string{"hills", "sea", "planet", "paper"} {
		best := time.Hour
		for range 4 {
			before := threadTime(t)
			drawn(t, p, order{prompt: prompt, width: 1024, height: 1024}, 0)
			best = min(best, threadTime(t)-before)
		}
		t.Logf("%s: %v", prompt, best)
		if best > 300*time.Millisecond {
			t.Errorf("%s: a picture costs %v", prompt, best)
		}
	}
}

func threadTime(t *testing.T) time.Duration {
	t.Helper()
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
