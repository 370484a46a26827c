package sample

import (
	"math"
	"math/rand/v2"
)

// paper is a stack of cut sheets, each with a wavy upper edge that throws a
// shadow on the sheet behind it.
type paper struct {
	frame
	palette
	sheets           [][]float32 // back to front; the upper edge at each column
	colours          []rgb       // of the wall, then of each sheet
	discX, discY     float32     // pixels
	discR            float32     // pixels
	fibre            *noise
	shadow, softness float32 // pixels
}

func newPaper(f frame, p palette, rng *rand.Rand) *paper {
	a := &paper{
		frame: f, palette: p, fibre: newNoise(rng),
		discX: (0.28 + 0.44*rng.Float32()) * float32(f.width),
		discY: (0.24 + 0.08*rng.Float32()) * float32(f.height),
		discR: (0.13 + 0.05*rng.Float32()) * f.unit,
	}
	a.shadow, a.softness = 0.012*f.unit, 0.03*f.unit
	count := 6 + rng.IntN(3)
	a.colours = append(a.colours, mix(p.horizon, p.middle, 0.25))
	for i := range count {
		t := float32(i) / float32(count-1)
		a.sheets = append(a.sheets, a.sheet(t, rng))
		a.colours = append(a.colours, a.tint(t))
	}
	return a
}

// tint runs from the sky's colours at the back to the land's in front.
func (a *paper) tint(t float32) rgb {
	switch {
	case t < 0.35:
		return mix(mix(a.horizon, a.accent, 0.35), a.accent, t/0.35)
	case t < 0.7:
		return mix(a.accent, mix(a.far, a.top, 0.5), (t-0.35)/0.35)
	default:
		return mix(mix(a.far, a.top, 0.5), a.near, (t-0.7)/0.3)
	}
}

func (a *paper) sheet(t float32, rng *rand.Rand) []float32 {
	edge := make([]float32, a.width)
	long, short := 0.7+0.7*rng.Float32(), 1.6+1.4*rng.Float32()
	p1, p2 := 2*math.Pi*rng.Float64(), 2*math.Pi*rng.Float64()
	swing := 0.05 + 0.045*rng.Float32()
	for x := range edge {
		u := float64(x) / float64(a.unit) * 2 * math.Pi
		wave := math.Sin(u*float64(long)+p1) + 0.45*math.Sin(u*float64(short)+p2)
		edge[x] = (0.3 + 0.55*t + swing*float32(wave)) * float32(a.height)
	}
	return edge
}

func (a *paper) row(y int, out []rgb) {
	fy := float32(y)
	for x := range out {
		front := len(a.sheets)
		for front > 0 && a.sheets[front-1][x] > fy+0.5 {
			front--
		}
		c := a.cut(x, fy, front)
		if front > 0 {
			if cover := clamp(fy - a.sheets[front-1][x] + 0.5); cover < 1 {
				c = mix(a.cut(x, fy, front-1), c, cover)
			}
		}
		out[x] = c.scale(0.985 + 0.03*a.fibre.at(float32(x)/a.unit*300, fy/a.unit*300))
	}
}

// cut is the colour of one sheet, 0 being the wall with its disc, at a pixel.
func (a *paper) cut(x int, y float32, sheet int) rgb {
	c := a.colours[sheet]
	if sheet == 0 {
		c = a.disc(float32(x), y, c)
	} else {
		below := y - a.sheets[sheet-1][x]
		c = c.screen(rgb{1, 1, 1}, 0.16*clamp(1-below/(0.004*a.unit))+0.08*clamp(1-below/(0.14*a.unit)))
	}
	if sheet < len(a.sheets) {
		gap := (a.sheets[sheet][x] - a.shadow - y) / a.softness
		c = c.scale(1 - 0.42/(1+max(gap, 0)*max(gap, 0)*2))
	}
	return c
}

// disc lays the sun, itself cut from paper, on the wall.
func (a *paper) disc(x, y float32, wall rgb) rgb {
	dx, dy := x-a.discX, y-a.discY
	away := root(dx*dx+dy*dy) - a.discR
	lower := root(dx*dx+(dy-a.shadow)*(dy-a.shadow)) - a.discR
	c := wall.scale(1 - 0.3/(1+max(lower/a.softness, 0)*max(lower/a.softness, 0)*3))
	for ring := range 3 {
		edge := away + float32(ring)*0.28*a.discR
		face := mix(a.accent, a.sun, 0.35+0.3*float32(ring))
		c = mix(c, face, clamp(0.5-edge))
	}
	return c
}
