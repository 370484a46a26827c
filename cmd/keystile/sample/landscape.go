package sample

import "math/rand/v2"

// sky is the upper part of outdoor scenes: a gradient, a sun or moon with its
// glow, thin clouds, and stars where it is dark.
type sky struct {
	frame
	palette
	grain            *noise
	horizon          float32 // pixels from the top
	sunX, sunY, sunR float32 // pixels
	shift            float32 // where in the noise the clouds are taken from
}

func newSky(f frame, p palette, horizon float32, rng *rand.Rand) *sky {
	return &sky{
		frame: f, palette: p, grain: newNoise(rng),
		horizon: horizon * float32(f.height),
		sunX:    (0.24 + 0.52*rng.Float32()) * float32(f.width),
		sunY:    (0.42 + 0.3*rng.Float32()) * horizon * float32(f.height),
		sunR:    (0.055 + 0.035*rng.Float32()) * f.unit,
		shift:   50 * rng.Float32(),
	}
}

// base returns the colour of the bare sky at a row that need not be in it.
func (s *sky) base(y float32) rgb {
	t := clamp(y / s.horizon)
	if t < 0.55 {
		return mix(s.top, s.middle, smooth(0, 0.55, t))
	}
	return mix(s.middle, s.palette.horizon, smooth(0.5, 1, t))
}

func (s *sky) row(y int, out []rgb) {
	fy := float32(y)
	base := s.base(fy)
	high := clamp(1 - fy/s.horizon)
	glow := mix(s.sun, s.palette.horizon, 0.5*s.stars)
	dy := (fy - s.sunY) / s.sunR
	for x := range out {
		c := base
		if s.stars > 0 {
			c = c.screen(s.sun, s.stars*s.star(x, y)*smooth(0.05, 0.5, high))
		}
		dx := (float32(x) - s.sunX) / s.sunR
		far := dx*dx + dy*dy
		c = c.screen(glow, (0.6/(1+far*0.1)+0.22/(1+far*0.006))*(1-0.5*s.stars))
		if far < 1.3 {
			c = mix(c, s.sun, clamp((1-root(far))*s.sunR+0.5))
		}
		if cloud := s.cloud(float32(x), fy); cloud > 0 {
			c = mix(c, mix(s.palette.horizon, s.sun, 0.5), cloud*(0.25+0.45*high)*(1-0.75*s.stars))
		}
		out[x] = c
	}
}

func (s *sky) cloud(x, y float32) float32 {
	n := s.grain.layers(x/s.unit*2.2+s.shift, y/s.unit*9+s.shift, 3)
	return smooth(0.52, 0.82, n)
}

// star returns the light of the star at a pixel. Each cell of a grid holds one
// at most, at a place taken from the noise's table.
func (s *sky) star(x, y int) float32 {
	return starlight(s.grain, s.unit, x, y)
}

func starlight(grain *noise, unit float32, x, y int) float32 {
	cell := max(unit/26, 4)
	cx, cy := int(float32(x)/cell), int(float32(y)/cell)
	lot := func(k int) float32 {
		return grain.lattice[(cx*73+cy*179+k*997)&(len(grain.lattice)-1)]
	}
	bright := lot(0)
	if bright < 0.35 {
		return 0
	}
	dx := float32(x) - (float32(cx)+0.2+0.6*lot(1))*cell
	dy := float32(y) - (float32(cy)+0.2+0.6*lot(2))*cell
	r := max(unit/1024*(0.5+1.3*bright*bright), 0.5)
	return bright * clamp(1.5-root(dx*dx+dy*dy)/r)
}

// hills is a landscape: ridges one behind the other, paler with distance, and a
// line of trees in front.
type hills struct {
	sky    *sky
	ridges [][]float32 // far to near; the top of the ridge at each column
	feet   []float32   // pixels from the top, where the mist before each lies
}

func newHills(f frame, p palette, rng *rand.Rand) *hills {
	h := &hills{sky: newSky(f, p, 0.62, rng)}
	const count = 6
	for i := range count {
		depth := float32(i) / (count - 1)
		h.feet = append(h.feet, ridgeLevel(depth+1.0/(count-1))*float32(f.height))
		h.ridges = append(h.ridges, h.ridge(depth, rng))
	}
	h.plantTrees(h.ridges[count-2], 0.05, rng)
	h.plantTrees(h.ridges[count-1], 0.1, rng)
	return h
}

// ridgeLevel is how far down the picture a ridge lies: 0 the top, 1 the foot.
func ridgeLevel(depth float32) float32 { return 0.42 + 0.37*depth }

func (h *hills) ridge(depth float32, rng *rand.Rand) []float32 {
	top := make([]float32, h.sky.width)
	height := float32(h.sky.height)
	shift := 60 * rng.Float32()
	level := ridgeLevel(depth)
	rise := 0.3 - 0.17*depth
	for x := range top {
		u := float32(x)/h.sky.unit*(2.6-1.2*depth) + shift
		n := h.sky.grain.layers(u, shift, 5)
		// Distant ridges are peaks, near ones are rounded.
		peak := 1 - 2*max(n-0.5, 0.5-n)
		n = peak*peak*(1-depth) + n*depth
		top[x] = (level + rise*(0.5-n)) * height
	}
	return top
}

// plantTrees raises the ridge to the outline of conifers up to size units high.
func (h *hills) plantTrees(ridge []float32, size float32, rng *rand.Rand) {
	unit := h.sky.unit
	grove := 40 * rng.Float32()
	for at := float32(0); at < float32(len(ridge)); at += unit * size * (0.12 + 0.3*rng.Float32()) {
		tall := unit * size * (0.45 + 0.75*rng.Float32())
		if h.sky.grain.at(at/unit*3.5+grove, grove) < 0.42 {
			continue
		}
		root := ridge[int(at)]
		wide := tall * 0.24
		for x := max(int(at-wide), 0); x < min(int(at+wide)+1, len(ridge)); x++ {
			aside := clamp(max(float32(x)-at, at-float32(x)) / wide)
			step := aside*5 - floor(aside*5)
			ridge[x] = min(ridge[x], root-tall*(1-aside)*(1-0.28*step)+tall*0.08)
		}
	}
}

func (h *hills) row(y int, out []rgb) {
	h.sky.row(y, out)
	for x := range out {
		out[x] = h.land(x, float32(y), out[x])
	}
}

// land lays the ridges over what is behind them at one pixel.
func (h *hills) land(x int, y float32, behind rgb) rgb {
	last := len(h.ridges) - 1
	first := last
	for first > 0 && h.ridges[first][x] > y-0.5 {
		first--
	}
	c := behind
	for i := first; i <= last; i++ {
		below := y - h.ridges[i][x]
		cover := clamp(below + 0.5)
		if cover == 0 {
			continue
		}
		depth := float32(i) / float32(last)
		ground := mix(h.sky.far, h.sky.near, depth*(0.4+0.6*depth))
		ground = ground.screen(h.sky.far, 0.16*depth*(1-smooth(0, 0.12*h.sky.unit, below)))
		mist := mix(h.sky.palette.horizon, h.sky.far, 0.3)
		foot := h.feet[i] + 0.02*h.sky.unit
		ground = mix(ground, mist, 0.55*(1-depth)*smooth(foot-0.26*h.sky.unit, foot, y))
		c = mix(c, ground, cover)
	}
	return c
}
