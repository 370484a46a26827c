package sample

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"image"
	"image/png"
	"math/rand/v2"

	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/opentype"
)

const (
	minSide   = 64   // pixels
	maxSide   = 1536 // pixels
	maxImages = 4    // pictures of one request
)

// order is what one generation is asked to draw.
type order struct {
	prompt        string
	width, height int
	count         int
}

// painter draws pictures. It is safe for concurrent use: the font is only read.
type painter struct {
	font *opentype.Font
}

// newPainter parses the font that captions are written in.
func newPainter() (*painter, error) {
	font, err := opentype.Parse(goregular.TTF)
	if err != nil {
		return nil, fmt.Errorf("parsing the caption font: %w", err)
	}
	return &painter{font: font}, nil
}

// picture returns a PNG for the prompt of o. The same prompt, size and variant
// give the same bytes from one build on one kind of machine; the scene is the
// same at every size.
func (p *painter) picture(o order, variant int) ([]byte, error) {
	rng := seeded(o.prompt, variant)
	img := image.NewRGBA(image.Rect(0, 0, o.width, o.height))
	paint(img, newScene(o, rng))
	if err := p.caption(img, o.prompt); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	// The fastest level: a picture is drawn for each request, and thrown away.
	encoder := png.Encoder{CompressionLevel: png.BestSpeed}
	if err := encoder.Encode(&out, img); err != nil {
		return nil, fmt.Errorf("encoding a picture: %w", err)
	}
	return out.Bytes(), nil
}

// seeded returns the random source that prompt and variant stand for.
func seeded(prompt string, variant int) *rand.Rand {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d\x00%s", variant, prompt))
	return rand.New(rand.NewPCG(binary.BigEndian.Uint64(sum[:8]), binary.BigEndian.Uint64(sum[8:16])))
}

// scene is what is to be seen: it gives the colours of one row of pixels.
type scene interface {
	row(y int, out []rgb)
}

// newScene chooses a scene and its colours: by the words of the prompt where it
// says something we can draw, otherwise by chance.
func newScene(o order, rng *rand.Rand) scene {
	subject, mood := hints(o.prompt, rng)
	f := frame{width: o.width, height: o.height, unit: float32(min(o.width, o.height))}
	colours := moodColours(mood)
	switch subject {
	case subjectSea:
		return newSea(f, colours, rng)
	case subjectSpace:
		return newSpace(f, colours, rng)
	case subjectPaper:
		return newPaper(f, colours, rng)
	default:
		return newHills(f, colours, rng)
	}
}

// frame is the size of a picture. Scenes measure in units, so that they look
// the same at every size.
type frame struct {
	width, height int
	unit          float32 // pixels of the shorter side
}

// paint fills img with s, darkening the corners a little. A fine ordered pattern
// is added before rounding: without it slow gradients show bands.
func paint(img *image.RGBA, s scene) {
	size := img.Bounds().Size()
	colours := make([]rgb, size.X)
	edge := vignette(size.X)
	sides := vignette(size.Y)
	for y := range size.Y {
		s.row(y, colours)
		pixels := img.Pix[y*img.Stride:]
		for x, c := range colours {
			light := 255 * (1 - edge[x] - sides[y])
			grain := float32(bayer(x, y))/16 + 1.0/32
			pixels[4*x] = level(c.r*light + grain)
			pixels[4*x+1] = level(c.g*light + grain)
			pixels[4*x+2] = level(c.b*light + grain)
			pixels[4*x+3] = 255
		}
	}
}

// vignette says how much darker each position along a side is.
func vignette(length int) []float32 {
	dark := make([]float32, length)
	for i := range dark {
		d := 2*float32(i)/float32(length) - 1
		dark[i] = 0.09 * d * d * d * d
	}
	return dark
}

// bayer returns the threshold, 0 to 15, of a 4 by 4 ordered dither.
func bayer(x, y int) int {
	const rows = "\x00\x08\x02\x0a\x0c\x04\x0e\x06\x03\x0b\x01\x09\x0f\x07\x0d\x05"
	return int(rows[y&3<<2|x&3])
}

func level(v float32) uint8 {
	return uint8(min(max(v, 0), 255))
}
