package apitest

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// maxBody is how many bytes a body may have.
const maxBody = 16 << 10

// Mistake is a body that must be refused.
type Mistake struct{ Name, Body string }

// Mistakes returns bodies of c that must be refused whatever they are about: what is no
// JSON or no I-JSON (RFC 7493), what is too large or too deep, and for each member
// of the schema what does not fit. None when c takes no body.
func (d *Document) Mistakes(c Call) []Mistake {
	s := d.BodySchema(c)
	if s == nil {
		return nil
	}
	base := (&Maker{d: d, plain: true}).members(s)
	list := wholeMistakes(encoded(base))
	for _, name := range []string{"extra", "", "$schema", "__proto__", "constructor", "id", "Key", "\u0000"} {
		if s.Properties[name] == nil {
			list = append(list, Mistake{fmt.Sprintf("the unknown member %q", name), with(base, encoded(name)+":1")})
		}
	}
	if !slices.Contains(s.Type, "null") {
		list = append(list, Mistake{"null", "null"})
	}
	return append(list, d.memberMistakes(s, base, "", func(members string) string { return members })...)
}

// wholeMistakes are those of the text as a whole.
func wholeMistakes(valid string) []Mistake {
	inside := func(member string) string {
		return strings.Replace(strings.Replace(valid, "{", "{"+member+",", 1), ",}", "}", 1)
	}
	return []Mistake{
		{"white space alone", " "},
		{"an array", "[]"},
		{"an array of the body", "[" + valid + "]"},
		{"a text", `"x"`},
		{"a number", "7"},
		{"a boolean", "true"},
		{"cut short", valid[:len(valid)-1]},
		{"followed by a text", valid + " x"},
		{"two of them", valid + valid},
		{"a byte order mark", "\ufeff" + valid},
		{"a comment", "/**/" + valid},
		{"a comma too many", valid[:len(valid)-1] + ",}"},
		{"names without quotes", "{name:1}"},
		{"names in single quotes", "{'name':1}"},
		{"not UTF-8 in a name", inside("\"a\xff\":1")},
		{"an overlong form in a name", inside("\"a\xc0\xaf\":1")},
		{"half a surrogate in a name", inside(`"\ud800":1`)},
		{"the wrong half first in a name", inside(`"\udc00\ud800":1`)},
		{"too many bytes", valid + strings.Repeat(" ", maxBody+1-len(valid))},
		{"a name with too many bytes", inside(`"` + strings.Repeat("n", maxBody) + `":1`)},
		{"arrays without end", strings.Repeat("[", maxBody-1)},
		{"deep arrays", strings.Repeat("[", 1000) + strings.Repeat("]", 1000)},
		{"deep objects", strings.Repeat(`{"a":`, 1000) + "1" + strings.Repeat("}", 1000)},
	}
}

// wrongValues are one or more values of each type.
var wrongValues = []string{
	`null`, `true`, `7`, `-1`, `1.5`, `1e400`, `-1e400`, `9223372036854775808`, `99999999999999999999999999`, `"7"`, `""`, `[]`, `["a"]`, `{}`, `{"a":1}`,
}

// memberMistakes are those of each member of base, an object of the schema s; whole puts the text of
// such an object into its place in the body.
func (d *Document) memberMistakes(s *Schema, base map[string]any, at string, whole func(string) string) (list []Mistake) {
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		others := maps.Clone(base)
		delete(others, name)
		put := func(named, value string) string { return whole(with(others, named+":"+value)) }
		add := func(what, body string) { list = append(list, Mistake{at + name + ": " + what, body}) }
		valid, quoted := encoded(base[name]), encoded(name)
		add("twice", put(quoted+":"+valid+","+quoted, valid))
		add("twice, once by an escape", put(quoted+":"+valid+","+escaped(name), valid))
		add("in upper case", put(strings.ToUpper(quoted), valid))
		add("deep", put(quoted, strings.Repeat(`[`, 100)+strings.Repeat("]", 100)))
		add("not UTF-8", put(quoted, "\"a\xff\""))
		for _, half := range []string{`"\ud800"`, `"\udc00\ud800"`, `"\ud83dx"`, `"\ud800\\udc00"`} {
			add("half a surrogate", put(quoted, half))
		}
		if slices.Contains(s.Required, name) {
			add("missing", whole(encoded(others)))
		}
		property := d.Resolve(s.Properties[name])
		for _, value := range d.misfits(property) {
			add(value, put(quoted, value))
		}
		if members, nested := base[name].(map[string]any); nested && property.Properties != nil {
			list = append(list, d.memberMistakes(property, members, at+name+".", func(text string) string { return put(quoted, text) })...)
			add("an unknown member", put(quoted, strings.Replace(valid, "{", `{"extra":1,`, 1)))
		}
	}
	return list
}

// with returns the text of an object and one more member.
func with(members map[string]any, member string) string {
	if len(members) == 0 {
		return "{" + member + "}"
	}
	return strings.TrimSuffix(encoded(members), "}") + "," + member + "}"
}

// misfits returns values that do not fit s.
func (d *Document) misfits(s *Schema) (list []string) {
	candidates := slices.Clone(wrongValues)
	if s.MaxLength != nil {
		candidates = append(candidates, encoded(strings.Repeat("a", *s.MaxLength+1)))
	}
	if s.Maximum != nil {
		candidates = append(candidates, encoded(*s.Maximum+1))
	}
	if s.Minimum != nil {
		candidates = append(candidates, encoded(*s.Minimum-1))
	}
	for _, text := range candidates {
		var value any
		err := json.Unmarshal([]byte(text), &value)
		if err != nil || len(d.Faults(s, "", value)) > 0 { // such as 1e400, which is JSON and no float64
			list = append(list, text)
		}
	}
	return list
}

// escaped returns a name in quotes, with its first letter as an escape.
func escaped(name string) string {
	return fmt.Sprintf(`"\u%04x%s"`, name[0], name[1:])
}
