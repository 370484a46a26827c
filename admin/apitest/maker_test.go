package apitest

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

func thingBody() Call {
	body := &RequestBody{Content: map[string]Content{"application/json": {&Schema{Ref: "#/components/schemas/Thing"}}}}
	return Call{"POST", "/things/{id}", &Operation{RequestBody: body, Parameters: []Parameter{
		{Name: "id", In: "path", Required: true, Schema: &Schema{Type: Types{"string"}}},
		{Name: "Thing", In: "header", Schema: &Schema{Type: Types{"string"}}},
	}}}
}

func TestMadeValuesFitTheirSchema(t *testing.T) {
	d := parse(t, strings.Replace(small, `"type": "string", "format": "date-time"`, `"type": "string"`, 1))
	m, s, seen := NewMaker(d, 1), d.Components.Schemas["Thing"], map[string]bool{}
	for range 500 {
		text := encoded(m.Value(s))
		var value any
		if err := json.Unmarshal([]byte(text), &value); err != nil {
			t.Fatal(err)
		}
		if faults := d.Faults(s, "body", value); faults != nil {
			t.Fatalf("%s: %v", text, faults)
		}
		seen[text] = true
	}
	if len(seen) < 100 {
		t.Errorf("only %d differ", len(seen))
	}
}

func TestSameSeedMakesTheSameRequests(t *testing.T) {
	d, c := parse(t, small), thingBody()
	one, other, odd := NewMaker(d, 7), NewMaker(d, 7), 0
	for range 200 {
		a, b := one.Request(c, map[string]string{"id": "x"}), other.Request(c, map[string]string{"id": "y"})
		if a.Body != b.Body || a.Odd != b.Odd || a.Header.Get("Thing") != b.Header.Get("Thing") || strings.Replace(a.Path, "/x", "/y", 1) != b.Path {
			t.Fatalf("%+v and %+v", a, b)
		}
		if a.Odd {
			odd++
		}
	}
	if odd < 50 || odd > 150 {
		t.Errorf("%d of 200 are odd", odd)
	}
}

// TestNoMistakeFits has encoding/json and the schema judge them: what passes both must repeat a name, be
// too large hold half a surrogate or be no UTF-8, which neither of the two sees.
func TestNoMistakeFits(t *testing.T) {
	d := parse(t, small)
	mistakes := d.Mistakes(thingBody())
	for _, mistake := range mistakes {
		var value any
		err := json.Unmarshal([]byte(mistake.Body), &value)
		unseen := strings.Contains(mistake.Name, "twice") || strings.Contains(mistake.Name, "surrogate") || strings.Contains(mistake.Name, "UTF-8") || len(mistake.Body) > maxBody
		if err == nil && !unseen && d.Faults(d.Components.Schemas["Thing"], "body", value) == nil {
			t.Errorf("%s: %s", mistake.Name, mistake.Body)
		}
	}
	for _, want := range []string{"name: missing", "name: twice", "size: 1.5", "rest: 7", "kind: in upper case", `the unknown member "extra"`, "size: 0", "list: {}", `name: "aaaa"`} {
		if !slices.ContainsFunc(mistakes, func(m Mistake) bool { return m.Name == want }) {
			t.Errorf("%q is not made", want)
		}
	}
	if d.Mistakes(d.Calls()[0]) != nil {
		t.Error("a call without a body has mistakes")
	}
}
