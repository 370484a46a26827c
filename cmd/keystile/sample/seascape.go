package sample

import "math/rand/v2"

// sea is open water under a sky, with islands at the horizon, the sun's path on
// the waves, and a boat.
type sea struct {
	sky     *sky
	islands [2][]float32 // far and near; the top of the land at each column
	boatX   float32      // pixels
	boatY   float32      // pixels, of the waterline
	boat    float32      // pixels, height of the mast
}

func newSea(f frame, p palette, rng *rand.Rand) *sea {
	s := &sea{sky: newSky(f, p, 0.56, rng)}
	s.sky.sunY = s.sky.horizon - (0.05+0.17*rng.Float32())*f.unit
	for i := range s.islands {
		s.islands[i] = s.island(0.11-0.05*float32(i), rng)
	}
	s.boat = (0.11 + 0.04*rng.Float32()) * f.unit
	s.boatX = s.sky.sunX + (0.2+0.12*rng.Float32())*float32(f.width)
	if s.sky.sunX > float32(f.width)/2 {
		s.boatX -= 2 * (s.boatX - s.sky.sunX)
	}
	s.boatY = s.sky.horizon + 0.07*float32(f.height)
	return s
}

func (s *sea) island(rise float32, rng *rand.Rand) []float32 {
	top := make([]float32, s.sky.width)
	shift := 60 * rng.Float32()
	for x := range top {
		n := s.sky.grain.layers(float32(x)/s.sky.unit*2.1+shift, shift, 5)
		top[x] = s.sky.horizon - max(n-0.48, 0)*3*rise*s.sky.unit
	}
	return top
}

func (s *sea) row(y int, out []rgb) {
	if float32(y) < s.sky.horizon {
		s.sky.row(y, out)
		s.shores(y, out)
	} else {
		s.water(y, out)
	}
	s.sail(y, out)
}

// shores lays the islands over a row of the sky.
func (s *sea) shores(y int, out []rgb) {
	for i, top := range s.islands {
		land := mix(mix(s.sky.far, s.sky.near, 0.12+0.4*float32(i)), s.sky.palette.horizon, 0.18)
		for x := range out {
			out[x] = mix(out[x], land, clamp(float32(y)-top[x]+0.5))
		}
	}
}

// water mirrors the sky, darker towards the viewer, broken by waves that grow
// with nearness.
func (s *sea) water(y int, out []rgb) {
	sky := s.sky
	depth := (float32(y) - sky.horizon) / (float32(sky.height) - sky.horizon)
	near := 0.025 + depth
	mirror := sky.base(sky.horizon * (1 - 0.9*depth))
	deep := mix(sky.near, sky.top, 0.35)
	base := mix(mirror, deep, 0.3+0.45*depth)
	wide := (0.05 + 0.16*depth) * sky.unit
	for x := range out {
		u := (float32(x) - float32(sky.width)/2) / sky.unit
		wave := sky.grain.layers(u*4.6/near+sky.shift, 11/near, 2)
		c := mix(base, deep, 0.5*smooth(0.5, 0.85, wave)*(0.35+0.65*depth))
		c = c.screen(sky.palette.horizon, 0.25*smooth(0.5, 0.2, wave)*(1-0.6*depth))
		off := (float32(x) - sky.sunX) / wide
		path := 1 / (1 + off*off*off*off)
		glint := smooth(0.42+0.24*path, 0.22+0.24*path, wave)
		c = c.screen(sky.sun, path*(0.18+0.12*(1-depth)))
		out[x] = c.screen(sky.sun, clamp(glint*path*0.95+0.1*glint/(1+off*off)))
	}
}

// sail draws the part of the boat, and of its reflection, that is in a row.
func (s *sea) sail(y int, out []rgb) {
	up := (s.boatY - float32(y)) / s.boat
	strength := float32(1)
	if up < 0 { // the reflection, half as deep as the boat is tall
		up, strength = -2*up, 0.35*clamp(1+2*up)
	}
	if up > 1 || strength <= 0 {
		return
	}
	colour := mix(s.sky.near, s.sky.palette.horizon, 0.06)
	canvas := mix(s.sky.sun, s.sky.accent, 0.3)
	for _, part := range [...]struct {
		from, to float32 // in masts, from the mast
		of       rgb
		drawn    bool
	}{
		{-0.42 + 0.6*up, 0.36 - 0.9*up, colour, up < 0.12},
		{-0.36 * (1 - up), -0.02, canvas, up > 0.15 && up < 0.97},
		{0.02, 0.3 * (0.85 - up) / 0.7, mix(canvas, s.sky.palette.horizon, 0.35), up > 0.15 && up < 0.85},
		{-0.012, 0.012, colour, up > 0.1},
	} {
		if part.drawn {
			s.span(out, s.boatX+part.from*s.boat, s.boatX+part.to*s.boat, part.of, strength)
		}
	}
}

// span colours out between two columns, which need not be whole.
func (s *sea) span(out []rgb, from, to float32, c rgb, strength float32) {
	for x := max(int(from), 0); x <= min(int(to)+1, len(out)-1); x++ {
		cover := clamp(float32(x)+0.5-from) * clamp(to+0.5-float32(x))
		out[x] = mix(out[x], c, cover*strength)
	}
}
