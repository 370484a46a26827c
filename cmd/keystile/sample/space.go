package sample

import "math/rand/v2"

// space is a ringed planet before a nebula.
type space struct {
	frame
	palette
	grain    *noise
	shift    float32
	x, y     float32    // pixels, the planet's centre
	radius   float32    // pixels
	light    [3]float32 // a unit vector towards the sun
	tilt     float32    // how far the ring leans: its rise per run
	flat     float32    // the ring's short axis over its long one
	bands    float32    // stripes from pole to pole
	moonX    float32    // pixels
	moonY    float32    // pixels
	moonSize float32    // pixels, its radius
}

func newSpace(f frame, p palette, rng *rand.Rand) *space {
	s := &space{
		frame: f, palette: p, grain: newNoise(rng), shift: 40 * rng.Float32(),
		x:      (0.42 + 0.16*rng.Float32()) * float32(f.width),
		y:      (0.38 + 0.08*rng.Float32()) * float32(f.height),
		radius: (0.19 + 0.05*rng.Float32()) * f.unit,
		light:  [3]float32{-0.64, -0.42, 0.643},
		tilt:   0.12 + 0.25*rng.Float32(), flat: 0.2 + 0.12*rng.Float32(),
		bands: 5 + 6*rng.Float32(),
	}
	if rng.IntN(2) == 0 {
		s.light[0], s.tilt = -s.light[0], -s.tilt
	}
	s.moonX = s.x - s.light[0]*2.9*s.radius
	s.moonY = s.y - s.radius*(0.9+0.4*rng.Float32())
	s.moonSize = s.radius * (0.12 + 0.08*rng.Float32())
	return s
}

func (s *space) row(y int, out []rgb) {
	fy := float32(y)
	s.backdrop(y, out)
	for x, c := range out {
		fx := float32(x)
		ring, lit := s.ring(fx, fy)
		behind := s.behind(fx, fy)
		if behind {
			c = mix(c, lit, ring)
		}
		c = s.ball(fx, fy, s.moonX, s.moonY, s.moonSize, c, false)
		c = s.ball(fx, fy, s.x, s.y, s.radius, c, true)
		if !behind {
			c = mix(c, lit, ring)
		}
		out[x] = c
	}
}

// backdrop fills a row with the nebula and the stars. The nebula is so soft
// that every fourth pixel is enough, which halves the cost of the picture.
func (s *space) backdrop(y int, out []rgb) {
	const step = 4
	left := s.nebula(0, y)
	for x := 0; x < len(out); x += step {
		right := s.nebula(x+step, y)
		for i := range min(step, len(out)-x) {
			c := mix(left, right, float32(i)/step)
			out[x+i] = c.screen(rgb{1, 1, 1}, starlight(s.grain, s.unit, x+i, y))
		}
		left = right
	}
}

// nebula is the dark between the stars with clouds of the palette's colours.
func (s *space) nebula(x, y int) rgb {
	u, v := float32(x)/s.unit, float32(y)/s.unit
	dark := mix(hex(0x04060f), s.near, 0.35)
	two := s.grain.layers(u*1.7, v*1.7+s.shift, 2)
	one := s.grain.layers(u*1.6+1.1*two+s.shift, v*2.2-1.3*two, 4)
	c := dark.screen(mix(s.middle, s.accent, two), 0.75*smooth(0.42, 0.85, one))
	return c.screen(s.top, 0.5*smooth(0.65, 0.2, one))
}

// ball lays a lit sphere over c; the planet is striped, the moon is not.
func (s *space) ball(x, y, cx, cy, r float32, c rgb, planet bool) rgb {
	dx, dy := (x-cx)/r, (y-cy)/r
	far := dx*dx + dy*dy
	if far > 1.5 {
		return c
	}
	if planet && far > 1 { // a thin glow of air on the side of the sun
		day := clamp(0.35 + dx*s.light[0] + dy*s.light[1])
		c = c.screen(mix(s.horizon, s.accent, 0.3), 0.55*day*smooth(1.45, 1, far)*smooth(1.45, 1, far))
	}
	cover := clamp((1-root(far))*r + 0.5)
	if cover == 0 {
		return c
	}
	dz := root(max(1-far, 0))
	day := smooth(-0.12, 0.95, dx*s.light[0]+dy*s.light[1]+dz*s.light[2])
	ground := mix(s.far, s.sun, 0.5)
	if planet {
		ground = s.stripe(dx, dy, dz)
	}
	ground = mix(ground.scale(0.06), ground, day)
	ground = ground.screen(mix(s.horizon, s.accent, 0.3), 0.45*(1-dz)*(1-dz)*day)
	return mix(c, ground, cover)
}

// stripe is the planet's surface: bands along its tilted latitude, stirred.
func (s *space) stripe(dx, dy, dz float32) rgb {
	latitude := dy - s.tilt*dx
	stir := s.grain.layers(dx*3/(0.5+dz)+s.shift, latitude*7, 3)
	band := s.grain.at(s.shift, (latitude+0.16*(stir-0.5))*s.bands+20)
	fine := s.grain.at(s.shift+9, (latitude+0.1*(stir-0.5))*s.bands*3+20)
	c := mix(s.far, s.horizon, smooth(0.15, 0.85, band))
	return mix(c, s.accent, 0.55*smooth(0.45, 0.95, fine)).scale(0.9 + 0.2*stir)
}

// ring returns how much the ring covers at a pixel, and its colour there.
func (s *space) ring(x, y float32) (float32, rgb) {
	dx := (x - s.x) / s.radius
	dy := ((y-s.y)/s.radius - s.tilt*dx) / s.flat
	far := root(dx*dx + dy*dy)
	if far < 1.3 || far > 2.35 {
		return 0, rgb{}
	}
	groove := s.grain.layers(far*14, s.shift, 2)
	cover := smooth(1.3, 1.42, far) * smooth(2.35, 2.2, far) * (0.25 + 0.75*smooth(0.3, 0.6, groove))
	cover *= 1 - 0.85*smooth(0.035, 0.015, max(far-1.93, 1.93-far))
	lit := mix(s.horizon, s.accent, 0.25+0.4*groove)
	// The planet's shadow falls on the part of the ring opposite the sun.
	shade := smooth(1.05, 0.85, max(dy*s.flat, -dy*s.flat)*1.3) * smooth(0, 0.4, -(dx*s.light[0]))
	shade *= smooth(0.1, -0.4, dy)
	return 0.9 * cover, lit.scale(1 - 0.75*shade)
}

// behind reports whether the ring passes behind the planet at a pixel.
func (s *space) behind(x, y float32) bool {
	return (y-s.y)-s.tilt*(x-s.x) < 0
}
