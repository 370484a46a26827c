package apitest

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Maker makes up requests from a description, the same ones for the same seed.
type Maker struct {
	d      *Document
	random *rand.Rand
	plain  bool // take the first of what may be taken, and everything that is optional
}

// NewMaker returns a Maker.
func NewMaker(d *Document, seed uint64) *Maker {
	return &Maker{d: d, random: rand.New(rand.NewPCG(seed, seed))}
}

// Request is a made up request.
type Request struct {
	Method string
	Path   string // of the server, with the query
	Header http.Header
	Body   string
	// Odd is true when something of it may be refused whatever it is about.
	Odd bool
	// Mistake is the name of the Mistake that the body is; empty: it fits the description.
	Mistake string
}

// words are values of texts, some of which fit no schema.
var words = []string{"a", "Build server", "Ключ", "クラウド", "e\u0301", "0", "24h", "90s", "null", "a/b?c#d%25", "<b>&amp;", strings.Repeat("n", 64)}

// oddWords are values of parameters that may be refused.
var oddWords = []string{"", " ", "*", `"1"`, `"999999", "1"`, `W/"1"`, `"`, "1", strings.Repeat("x", 300), "\u00e9", "-1", "1e9", "\x7f"}

// Request returns a request of c with the values of the parameters in its path; in about half
// of them everything fits the description. The values must need no escape.
func (m *Maker) Request(c Call, path map[string]string) Request {
	r := Request{Method: c.Method, Path: m.d.Base() + Fill(c.Path, path), Header: http.Header{}}
	query := url.Values{}
	for _, p := range c.Parameters {
		if p.In == "path" || !p.Required && m.chance(2) {
			continue
		}
		value, odd := m.parameter(p)
		r.Odd = r.Odd || odd
		if p.In == "query" {
			query.Set(p.Name, value)
		} else {
			r.Header.Set(p.Name, strings.Trim(value, "\x7f")) // which no client may send
		}
	}
	if m.chance(16) {
		query.Set(words[m.index(len(words))], "1")
		r.Odd = true
	}
	if len(query) > 0 {
		r.Path += "?" + query.Encode()
	}
	if schema := m.d.BodySchema(c); schema != nil {
		m.addBody(c, schema, &r)
	}
	return r
}

// Fill returns the path with the values of its parameters.
func Fill(path string, values map[string]string) string {
	for name, value := range values {
		path = strings.ReplaceAll(path, "{"+name+"}", value)
	}
	return path
}

func (m *Maker) parameter(p Parameter) (value string, odd bool) {
	if m.chance(3) {
		return oddWords[m.index(len(oddWords))], true
	}
	switch p.Name {
	case "If-Match", "If-None-Match":
		return fmt.Sprintf(`"%d"`, m.index(5)), false
	}
	text := fmt.Sprint(m.Value(p.Schema))
	return strings.Map(func(r rune) rune { // of a header, only ASCII is sure to arrive
		if r > '~' {
			return '?'
		}
		return r
	}, text), false
}

func (m *Maker) addBody(c Call, schema *Schema, r *Request) {
	r.Header.Set("Content-Type", "application/json")
	switch {
	case m.chance(4):
		mistakes := m.d.Mistakes(c)
		mistake := mistakes[m.index(len(mistakes))]
		r.Body, r.Mistake, r.Odd = mistake.Body, mistake.Name, true
		return
	case m.chance(16):
		r.Header.Set("Content-Type", "text/plain")
		r.Odd = true
	case m.chance(8):
		r.Odd = r.Odd || c.RequestBody.Required
		return // none
	}
	r.Body = encoded(m.Value(schema))
}

// Value returns a value that fits s.
func (m *Maker) Value(s *Schema) any {
	s = m.d.Resolve(s)
	switch pool := slices.Concat(s.Enum, s.Examples); {
	case len(s.Enum) > 0, len(pool) > 0 && m.chance(2):
		return pool[m.index(len(pool))]
	case len(s.AnyOf) > 0:
		return m.Value(s.AnyOf[m.index(len(s.AnyOf))])
	case len(s.Type) == 0:
		return nil
	}
	switch s.Type[m.index(len(s.Type))] {
	case "boolean":
		return m.chance(2)
	case "integer":
		return float64(m.index(1000)) + orZero(s.Minimum)
	case "number":
		return float64(m.index(4000)+1)/4 + orZero(s.ExclusiveMinimum)
	case "string":
		return m.text(s)
	case "array":
		return []any{}
	case "object":
		return m.members(s)
	}
	return nil
}

// members returns an object with the required members, and some of the others.
func (m *Maker) members(s *Schema) map[string]any {
	members := map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		if slices.Contains(s.Required, name) || m.chance(2) {
			members[name] = m.Value(s.Properties[name])
		}
	}
	return members
}

// text returns a word that fits s, or the shortest text that does.
func (m *Maker) text(s *Schema) string {
	for range 20 {
		if word := words[m.index(len(words))]; len(stringFaults(s, "", word)) == 0 {
			return word
		}
	}
	return strings.Repeat("a", max(1, orZero(s.MinLength)))
}

// chance is true once in n times.
func (m *Maker) chance(n int) bool { return m.index(n) == 0 }

// index returns one of 0 to n-1.
func (m *Maker) index(n int) int {
	if m.plain {
		return 0
	}
	return m.random.IntN(n)
}

func orZero[T int | float64](p *T) T {
	if p == nil {
		return 0
	}
	return *p
}

func encoded(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err) // it is made of what JSON has
	}
	return string(text)
}
