package sample

import (
	"math"
	"math/rand/v2"
	"strings"
)

// rgb is a colour; each part is 0 to 1 in sRGB and may pass 1 before rounding.
type rgb struct{ r, g, b float32 }

func hex(c uint32) rgb {
	return rgb{float32(c>>16&255) / 255, float32(c>>8&255) / 255, float32(c&255) / 255}
}

func mix(a, b rgb, t float32) rgb {
	return rgb{a.r + (b.r-a.r)*t, a.g + (b.g-a.g)*t, a.b + (b.b-a.b)*t}
}

func (c rgb) scale(f float32) rgb { return rgb{c.r * f, c.g * f, c.b * f} }

// screen lays light of colour l and strength t over c; unlike addition it never
// burns out.
func (c rgb) screen(l rgb, t float32) rgb {
	return rgb{c.r + l.r*t*(1-c.r), c.g + l.g*t*(1-c.g), c.b + l.b*t*(1-c.b)}
}

func clamp(v float32) float32 { return min(max(v, 0), 1) }

// smooth rises from 0 at from to 1 at to, with soft ends.
func smooth(from, to, v float32) float32 {
	t := clamp((v - from) / (to - from))
	return t * t * (3 - 2*t)
}

func root(v float32) float32 { return float32(math.Sqrt(float64(v))) }

// subject is what a picture shows.
type subject int

const (
	subjectHills subject = iota
	subjectSea
	subjectSpace
	subjectPaper
	subjects
)

// mood is a family of colours that go together.
type mood int

const (
	moodDawn mood = iota
	moodDusk
	moodNight
	moodSpring
	moodDesert
	moodWinter
	moods
)

// hints looks for words of the prompt, English or Russian, that name a subject
// or a mood, and draws lots for what it does not find.
func hints(prompt string, rng *rand.Rand) (subject, mood) {
	s := subject(rng.IntN(int(subjects)))
	m := mood(rng.IntN(int(moods)))
	text := strings.ToLower(prompt)
	if found, ok := firstHint(text, []string{
		subjectHills: "mountain hill forest tree valley field гор лес холм дерев поле долин",
		subjectSea:   "sea ocean ship boat lighthouse lake island wave море моря морск океан кораб лодк маяк озер остров волн",
		subjectSpace: "planet space galaxy cosmos saturn rocket планет космос галактик ракет сатурн",
		subjectPaper: "abstract pattern paper ribbon абстракт узор бумаг лент",
	}); ok {
		s = subject(found)
	}
	if found, ok := firstHint(text, []string{
		moodDawn:   "dawn sunrise morning рассвет утр",
		moodDusk:   "dusk sunset evening закат вечер",
		moodNight:  "night midnight moon star ноч лун звёзд звезд",
		moodSpring: "spring green summer meadow весн весен зелен зелён лет",
		moodDesert: "desert sand dune autumn пустын песк песок осен",
		moodWinter: "winter snow ice frost зим снег лёд мороз",
	}); ok {
		m = mood(found)
	}
	return s, m
}

// firstHint returns the index of the list with the stem that some word of text
// begins with, the earliest word first.
func firstHint(text string, stems []string) (int, bool) {
	for _, word := range strings.Fields(text) {
		for i, list := range stems {
			for _, stem := range strings.Fields(list) {
				if strings.HasPrefix(word, stem) {
					return i, true
				}
			}
		}
	}
	return 0, false
}

// palette holds the colours of one mood.
type palette struct {
	top, middle, horizon rgb // of the sky
	sun                  rgb
	far, near            rgb // of the land
	accent               rgb
	stars                float32 // 0 none to 1 a clear night
}

// moodColours returns the palette of m.
func moodColours(m mood) palette {
	switch m {
	case moodDawn:
		return palette{hex(0x35477d), hex(0xc08bab), hex(0xffd9ae), hex(0xfff3dc), hex(0xa98cb0), hex(0x1f2145), hex(0xf28f7c), 0.1}
	case moodDusk:
		return palette{hex(0x231546), hex(0xa63d6f), hex(0xff9d5c), hex(0xffe3a8), hex(0x8a3f70), hex(0x170d2b), hex(0xffc15e), 0.35}
	case moodNight:
		return palette{hex(0x050a20), hex(0x142359), hex(0x4768a8), hex(0xf6f2dc), hex(0x2f4a88), hex(0x050917), hex(0x8fd0ff), 1}
	case moodSpring:
		return palette{hex(0x3f9dbf), hex(0x9fd8cf), hex(0xf8f2d0), hex(0xfffbe8), hex(0x8fc4ae), hex(0x103b35), hex(0xf3c75b), 0}
	case moodDesert:
		return palette{hex(0x2f7fa6), hex(0xf0c58a), hex(0xffe7bd), hex(0xfff7e0), hex(0xdd9f69), hex(0x5a2318), hex(0xd9593d), 0}
	default:
		return palette{hex(0x2f5f9a), hex(0x93bfe3), hex(0xf6f1ee), hex(0xffffff), hex(0xaec6df), hex(0x18344f), hex(0xe59aa5), 0}
	}
}

const latticeSide = 64 // a power of two

// noise is smooth randomness over a plane, the same for the same source.
type noise struct {
	lattice [latticeSide * latticeSide]float32
}

func newNoise(rng *rand.Rand) *noise {
	n := new(noise)
	for i := range n.lattice {
		n.lattice[i] = rng.Float32()
	}
	return n
}

// at returns the noise at a point, 0 to 1. One unit is one cell.
func (n *noise) at(x, y float32) float32 {
	fx, fy := floor(x), floor(y)
	tx, ty := x-fx, y-fy
	tx, ty = tx*tx*(3-2*tx), ty*ty*(3-2*ty)
	x0, y0 := int(fx)&(latticeSide-1), int(fy)&(latticeSide-1)
	x1, y1 := (x0+1)&(latticeSide-1), (y0+1)&(latticeSide-1)
	top := n.lattice[y0*latticeSide+x0] + (n.lattice[y0*latticeSide+x1]-n.lattice[y0*latticeSide+x0])*tx
	low := n.lattice[y1*latticeSide+x0] + (n.lattice[y1*latticeSide+x1]-n.lattice[y1*latticeSide+x0])*tx
	return top + (low-top)*ty
}

// layers adds up octaves of at, each twice as fine and half as strong; the
// result is 0 to 1.
func (n *noise) layers(x, y float32, octaves int) float32 {
	var sum, weight float32
	part := float32(1)
	for range octaves {
		sum += part * n.at(x, y)
		weight += part
		part /= 2
		x, y = x*2+17.3, y*2+5.7
	}
	return sum / weight
}

func floor(v float32) float32 {
	i := float32(int(v))
	if i > v {
		return i - 1
	}
	return i
}
