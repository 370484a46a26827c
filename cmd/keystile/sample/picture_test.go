package sample

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math"
	"math/rand/v2"
	"sort"
	"strings"
	"testing"

	"golang.org/x/image/font"
	"golang.org/x/image/font/sfnt"
)

func testPainter(t testing.TB) *painter {
	t.Helper()
	p, err := newPainter()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func drawn(t testing.TB, p *painter, o order, variant int) []byte {
	t.Helper()
	data, err := p.picture(o, variant)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestSamePromptAndSizeGiveTheSameBytes(t *testing.T) {
	o := order{prompt: "Кот at sea", width: 200, height: 120}
	first := drawn(t, testPainter(t), o, 0)
	if again := drawn(t, testPainter(t), o, 0); !bytes.Equal(first, again) {
		t.Error("the picture changed")
	}
	other := o
	other.prompt = "Кот at sea."
	wider := o
	wider.width++
	for name, data := range map[string][]byte{
		"another variant": drawn(t, testPainter(t), o, 1),
		"another prompt":  drawn(t, testPainter(t), other, 0),
		"another size":    drawn(t, testPainter(t), wider, 0),
	} {
		if bytes.Equal(first, data) {
			t.Errorf("%s gave the same picture", name)
		}
	}
}

// scenes are prompts that between them show every subject in every mood.
func scenes() []string {
	var list []string
	for _, subject := range []string{"hills", "sea", "planet", "paper"} {
		for _, mood := range []string{"dawn", "dusk", "night", "spring", "desert", "winter"} {
			list = append(list, subject+" "+mood)
		}
	}
	return list
}

func TestPicturesHaveTheirSizeAndManyColours(t *testing.T) {
	p := testPainter(t)
	sizes := []image.Point{{64, 64}, {64, 384}, {384, 64}, {128, 96}}
	for i, prompt := range scenes() {
		size := sizes[i%len(sizes)]
		img := decode(t, drawn(t, p, order{prompt: prompt, width: size.X, height: size.Y}, 0))
		if img.Bounds().Size() != size {
			t.Errorf("%s: %v, want %v", prompt, img.Bounds().Size(), size)
		}
		if n := len(colours(img)); n < 300 {
			t.Errorf("%s: only %d colours", prompt, n)
		}
	}
	for _, size := range []image.Point{{maxSide, minSide}, {minSide, maxSide}} {
		img := decode(t, drawn(t, p, order{prompt: "sea", width: size.X, height: size.Y}, 0))
		if img.Bounds().Size() != size {
			t.Errorf("%v, want %v", img.Bounds().Size(), size)
		}
	}
}

func decode(t *testing.T, data []byte) image.Image {
	t.Helper()
	img, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func colours(img image.Image) map[color.Color]bool {
	seen := map[color.Color]bool{}
	b := img.Bounds()
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			seen[img.At(x, y)] = true
		}
	}
	return seen
}

func TestCaptionIsLegibleOnEveryScene(t *testing.T) {
	p := testPainter(t)
	for _, prompt := range scenes() {
		img := decode(t, drawn(t, p, order{prompt: prompt, width: 256, height: 256}, 0))
		// The plate of one short line: inset 8 and as high as a line and a half.
		var light []float64
		for y := 236; y < 246; y++ {
			for x := 14; x < 14+len(prompt)*4; x++ {
				light = append(light, luminance(img.At(x, y)))
			}
		}
		sort.Float64s(light)
		plate, letters := light[len(light)/4], light[len(light)-1-len(light)/50]
		if contrast := (letters + 0.05) / (plate + 0.05); contrast < 7 {
			t.Errorf("%s: contrast %.1f to 1", prompt, contrast)
		}
	}
}

func TestPlateKeepsContrastOnWhite(t *testing.T) {
	img := image.NewRGBA(image.Rect(0, 0, 256, 256))
	for i := range img.Pix {
		img.Pix[i] = 255
	}
	if err := testPainter(t).caption(img, "white"); err != nil {
		t.Fatal(err)
	}
	plate := luminance(img.At(12, 240))
	if contrast := (luminance(color.RGBA{252, 250, 245, 255}) + 0.05) / (plate + 0.05); contrast < 7 {
		t.Errorf("contrast %.1f to 1", contrast)
	}
}

// luminance is the relative luminance of WCAG 2.
func luminance(c color.Color) float64 {
	linear := func(v uint32) float64 {
		s := float64(v) / 0xffff
		if s <= 0.04045 {
			return s / 12.92
		}
		return math.Pow((s+0.055)/1.055, 2.4)
	}
	r, g, b, _ := c.RGBA()
	return 0.2126*linear(r) + 0.7152*linear(g) + 0.0722*linear(b)
}

func TestCaptionHasCyrillicLetters(t *testing.T) {
	p := testPainter(t)
	var buffer sfnt.Buffer
	for _, r := range "абвгдежзийклмнопрстуфхцчшщъыьэюяёАБВГДЕЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯЁ…" {
		if glyph, err := p.font.GlyphIndex(&buffer, r); err != nil || glyph == 0 {
			t.Errorf("%c: no letter (%v)", r, err)
		}
	}
}

func TestCaptionWrapsWithinItsPlate(t *testing.T) {
	p := testPainter(t)
	face, err := p.face(20)
	if err != nil {
		t.Fatal(err)
	}
	defer face.Close()
	text := "Съешь ещё этих мягких французских булок, да выпей чаю " + strings.Repeat("w", 90) + " end"
	lines := wrap(face, captionWords(text), 300)
	for _, line := range lines {
		if font.MeasureString(face, line).Ceil() > 300 {
			t.Errorf("too wide: %q", line)
		}
	}
	if got := strings.Join(lines, ""); strings.ReplaceAll(got, " ", "") != strings.ReplaceAll(text, " ", "") || len(lines) < 5 {
		t.Errorf("letters were lost: %q", lines)
	}
	if got := cutLines([]string{"one", "two", "three"}, 2); len(got) != 2 || got[0] != "one" || got[1] != "t…" {
		t.Errorf("%q", got)
	}
}

func TestLongCaptionLeavesMostOfThePicture(t *testing.T) {
	p := testPainter(t)
	long := strings.Repeat("Длинный запрос ", 300)
	for _, size := range []image.Point{{64, 64}, {512, 256}, {1536, 64}, {64, 1536}} {
		with := image.NewRGBA(image.Rectangle{Max: size})
		if err := p.caption(with, long); err != nil {
			t.Fatal(err)
		}
		top := size.Y
		for y := size.Y - 1; y >= 0; y-- {
			if bytes.ContainsFunc(with.Pix[y*with.Stride:(y+1)*with.Stride], func(r rune) bool { return r != 0 }) {
				top = y
			}
		}
		if top == size.Y || top < size.Y*55/100 {
			t.Errorf("%v: the plate begins at %d", size, top)
		}
	}
}

func TestCaptionLeavesOutWhatCannotBePrinted(t *testing.T) {
	for text, want := range map[string]string{
		"a\x00b\u202ec\nd\te":     "abc d e",
		"bad \xff":                "bad \uFFFD",
		" \n ":                    "",
		strings.Repeat("x", 1001): strings.Repeat("x", 1000) + "…",
	} {
		if got := strings.Join(captionWords(text), " "); got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
}

func TestWordsOfThePromptChooseTheScene(t *testing.T) {
	for prompt, want := range map[string]struct {
		subject subject
		mood    mood
	}{
		"A lighthouse at DAWN":  {subjectSea, moodDawn},
		"ночное море":           {subjectSea, moodNight},
		"snow on the mountains": {subjectHills, moodWinter},
		"Сатурн на закате":      {subjectSpace, moodDusk},
		"an abstract desert":    {subjectPaper, moodDesert},
		"весенний лес":          {subjectHills, moodSpring},
	} {
		for seed := range uint64(20) {
			s, m := hints(prompt, rand.New(rand.NewPCG(seed, 1)))
			if s != want.subject || m != want.mood {
				t.Errorf("%s: subject %d, mood %d", prompt, s, m)
			}
		}
	}
	seen := map[string]bool{}
	for i := range 400 {
		s, m := hints("", seeded(fmt.Sprint(i), 0))
		seen[fmt.Sprint(s, m)] = true
	}
	if len(seen) != int(subjects)*int(moods) {
		t.Errorf("only %d scenes are ever chosen by chance", len(seen))
	}
}

func BenchmarkPicture(b *testing.B) {
	p := testPainter(b)
	for _, prompt := range []string{"hills", "sea", "planet", "paper"} {
		b.Run(prompt, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				drawn(b, p, order{prompt: prompt, width: 1024, height: 1024}, 0)
			}
		})
	}
}
