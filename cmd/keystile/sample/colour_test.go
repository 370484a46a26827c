package sample

import (
	"bytes"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

func TestNoiseStaysInRangeAndHasNoSteps(t *testing.T) {
	n := newNoise(rand.New(rand.NewPCG(1, 2)))
	const step = 1.0 / 256
	for _, start := range []float32{-70.5, -1, 0, 63, 200.25} {
		last := n.layers(start, start/3, 1)
		for i := range 1024 {
			v := n.layers(start+float32(i)*step, start/3, 1)
			if v < 0 || v > 1 {
				t.Fatalf("%v at %v", v, start+float32(i)*step)
			}
			if d := max(v-last, last-v); d > 2*step {
				t.Fatalf("a step of %v at %v", d, start+float32(i)*step)
			}
			last = v
		}
	}
}

func TestSmoothRunsFromNothingToAllInEitherDirection(t *testing.T) {
	for _, c := range []struct{ from, to, at, want float32 }{
		{0, 1, -1, 0},
		{0, 1, 0.5, 0.5},
		{0, 1, 2, 1},
		{1, 0, 2, 0},
		{1, 0, 0.5, 0.5},
		{1, 0, -1, 1},
	} {
		if got := smooth(c.from, c.to, c.at); got != c.want {
			t.Errorf("smooth(%v, %v, %v) = %v, want %v", c.from, c.to, c.at, got, c.want)
		}
	}
}

func TestLightLaidOverAColourNeverBurnsOut(t *testing.T) {
	c := hex(0xff8000)
	for range 20 {
		c = c.screen(rgb{1, 1, 1}, 0.7)
		if c.r > 1 || c.g > 1 || c.b > 1 {
			t.Fatalf("%v", c)
		}
	}
	if level(-1) != 0 || level(300) != 255 || level(254.5) != 254 {
		t.Error("a level leaves its range")
	}
}

func TestDitherUsesEveryThresholdOnce(t *testing.T) {
	seen := map[int]int{}
	for y := range 4 {
		for x := range 4 {
			seen[bayer(x, y)]++
			if bayer(x, y) != bayer(x+4, y+8) {
				t.Errorf("the pattern does not repeat at %d, %d", x, y)
			}
		}
	}
	for i := range 16 {
		if seen[i] != 1 {
			t.Errorf("threshold %d is used %d times", i, seen[i])
		}
	}
}

func TestPicturesDrawnAtOnceDoNotDisturbEachOther(t *testing.T) {
	p := testPainter(t)
	prompts := []string{"море, рассвет", "planet at night", "paper in spring", "winter hills"}
	var want [][]byte
	for _, prompt := range prompts {
		want = append(want, drawn(t, p, order{prompt: prompt, width: 96, height: 80}, 0))
	}
	var group sync.WaitGroup
	for range 4 {
		for i, prompt := range prompts {
			group.Go(func() {
				got, err := p.picture(order{prompt: prompt, width: 96, height: 80}, 0)
				if err != nil || !bytes.Equal(got, want[i]) {
					t.Errorf("%s: another picture (%v)", prompt, err)
				}
			})
		}
	}
	group.Wait()
}

func TestZeroOptionsAreReadyAndNegativeTimesMeanNone(t *testing.T) {
	zero := Options{}.withDefaults()
	if zero.TokenDelay != 60*time.Millisecond || zero.RenderDelay != 600*time.Millisecond || zero.ResultTTL != 10*time.Minute ||
		zero.QueueSize != 64 || zero.MaxResults != 1024 || zero.SpeechProgram != "espeak-ng" {
		t.Errorf("%+v", zero)
	}
	if zero.Log == nil || zero.Now == nil || zero.Wait == nil {
		t.Error("something is missing")
	}
	none := Options{TokenDelay: -1, RenderDelay: -5, QueueSize: 5000, MaxResults: 10}.withDefaults()
	if none.TokenDelay != 0 || none.RenderDelay != 0 || none.MaxResults != 5000 {
		t.Errorf("%+v", none)
	}
}
