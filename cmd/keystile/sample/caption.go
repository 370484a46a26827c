package sample

import (
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"strings"
	"unicode"

	"golang.org/x/image/font"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"
)

const (
	captionRunes = 1000 // of a longer prompt only this much is considered
	plateShare   = 0.34 // of the picture's height, at most, is covered by the plate
)

// caption writes text on a dark plate at the foot of img: in letters as large
// as fit, cut with an ellipsis where even the smallest do not. An empty text
// leaves the picture alone.
func (p *painter) caption(img *image.RGBA, text string) error {
	words := captionWords(text)
	if len(words) == 0 {
		return nil
	}
	size := img.Bounds().Size()
	unit := float64(min(size.X, size.Y))
	inset := max(int(unit)/32, 3)
	limit := int(plateShare * float64(size.Y))
	shares := [...]float64{0.04, 0.033, 0.027, 0.022}
	for i, share := range shares {
		last := i == len(shares)-1
		face, err := p.face(max(unit*share, 8))
		if err != nil {
			return err
		}
		pad := face.Metrics().Height.Ceil() / 2
		lines := wrap(face, words, size.X-2*(inset+pad))
		room := max((limit-2*pad)/face.Metrics().Height.Ceil(), 1)
		if len(lines) <= room || last {
			writePlate(img, face, cutLines(lines, room), inset, pad)
			return face.Close()
		}
		if err := face.Close(); err != nil {
			return err
		}
	}
	return nil
}

// captionWords returns the words of text with everything unprintable left out.
func captionWords(text string) []string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if runes := []rune(text); len(runes) > captionRunes {
		text = string(runes[:captionRunes]) + "…"
	}
	return strings.Fields(strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || unicode.IsPrint(r) {
			return r
		}
		return -1
	}, text))
}

// face returns the font at a size in pixels. A face keeps buffers of its own,
// so each picture takes a new one.
func (p *painter) face(pixels float64) (font.Face, error) {
	face, err := opentype.NewFace(p.font, &opentype.FaceOptions{Size: pixels, DPI: 72})
	if err != nil {
		return nil, fmt.Errorf("opening the caption font: %w", err)
	}
	return face, nil
}

// wrap sets words in lines at most width pixels wide, breaking a word only
// where it is wider than a line.
func wrap(face font.Face, words []string, width int) []string {
	var lines []string
	line := ""
	for _, word := range words {
		joined := strings.TrimPrefix(line+" "+word, " ")
		if font.MeasureString(face, joined).Ceil() <= width {
			line = joined
			continue
		}
		if line != "" {
			lines = append(lines, line)
		}
		pieces := breakWord(face, word, width)
		lines = append(lines, pieces[:len(pieces)-1]...)
		line = pieces[len(pieces)-1]
	}
	return append(lines, line)
}

// breakWord splits word into pieces at most width pixels wide, or of a single
// letter each; there is always one piece at least.
func breakWord(face font.Face, word string, width int) []string {
	var pieces []string
	start := 0
	var used fixed.Int26_6
	for i, r := range word {
		advance, _ := face.GlyphAdvance(r)
		if i > start && (used+advance).Ceil() > width {
			pieces = append(pieces, word[start:i])
			start, used = i, 0
		}
		used += advance
	}
	return append(pieces, word[start:])
}

// cutLines keeps at most room lines and ends the last of them with an ellipsis
// where something was left out.
func cutLines(lines []string, room int) []string {
	if len(lines) <= room {
		return lines
	}
	kept := append([]string(nil), lines[:room]...)
	last := []rune(kept[room-1])
	kept[room-1] = string(last[:max(len(last)-2, 0)]) + "…"
	return kept
}

// writePlate darkens a rounded plate at the foot of img and writes lines on it.
// The plate lets a quarter of the picture through, so that white letters keep a
// contrast above 7 to 1 on the brightest of pictures.
func writePlate(img *image.RGBA, face font.Face, lines []string, inset, pad int) {
	metrics := face.Metrics()
	height := metrics.Height.Ceil()
	widest := 0
	for _, line := range lines {
		widest = max(widest, font.MeasureString(face, line).Ceil())
	}
	size := img.Bounds().Size()
	bottom := size.Y - inset
	plate := image.Rect(inset, bottom-len(lines)*height-pad, min(inset+widest+2*pad, size.X-inset), bottom)
	draw.DrawMask(img, plate, image.NewUniform(color.RGBA{10, 12, 20, 255}), image.Point{},
		roundedPlate{bounds: plate, radius: float32(pad) * 0.8}, plate.Min, draw.Over)
	text := font.Drawer{Dst: img, Src: image.NewUniform(color.RGBA{252, 250, 245, 255}), Face: face}
	for i, line := range lines {
		text.Dot = fixed.P(plate.Min.X+pad, plate.Min.Y+pad/2+i*height+metrics.Ascent.Ceil())
		text.DrawString(line)
	}
}

// roundedPlate is a mask: three quarters opaque inside a rounded rectangle.
type roundedPlate struct {
	bounds image.Rectangle
	radius float32
}

func (p roundedPlate) ColorModel() color.Model { return color.AlphaModel }
func (p roundedPlate) Bounds() image.Rectangle { return p.bounds }

func (p roundedPlate) At(x, y int) color.Color {
	dx := p.corner(x, p.bounds.Min.X, p.bounds.Max.X)
	dy := p.corner(y, p.bounds.Min.Y, p.bounds.Max.Y)
	cover := clamp(p.radius - root(dx*dx+dy*dy) + 0.5)
	return color.Alpha{level(cover * 191)}
}

// corner returns how far a position reaches into the rounded part of a side.
func (p roundedPlate) corner(at, from, to int) float32 {
	middle := float32(at) + 0.5
	return max(float32(from)+p.radius-middle, middle-(float32(to)-p.radius), 0)
}
