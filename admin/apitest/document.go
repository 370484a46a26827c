// Package apitest knows the admin API by its description alone (OpenAPI 3.1). Tests use it
// to check that replies are as described, and to make requests that fit the description or
// that differ from it in one point.
//
// It reads the part of OpenAPI and of JSON Schema that the description uses; a description
// with more does not load, so that nothing in it goes unchecked. It shares no code with
// what makes the description. Checks are stricter than the description in one point:
// members of replies that are not described are mistakes, although clients must bear them.
//
// Not checked: what a description cannot say, such as which code belongs to which mistake.
package apitest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// Document is a description of the API.
type Document struct {
	OpenAPI string `json:"openapi"`
	Info    struct {
		Title, Version, Description string
	}
	Servers    []struct{ URL string }
	Paths      map[string]map[string]*Operation // by path and method in lower case
	Security   []map[string][]string
	Components struct {
		Schemas         map[string]*Schema
		SecuritySchemes map[string]struct{ Type, Scheme, In, Name, Description string } `json:"securitySchemes"`
	}
}

// Operation is one call.
type Operation struct {
	OperationID string `json:"operationId"`
	Summary     string
	Description string
	Parameters  []Parameter
	RequestBody *RequestBody          `json:"requestBody"` // nil: it takes none
	Responses   map[string]*Response  // by status
	Security    []map[string][]string // nil: as of the document; an empty map within: nothing is needed
	Callers     []string              `json:"x-callers"` // of "administrator", "account" and "stranger"
}

// Parameter is a part of a request outside of its body, or a header of a response.
type Parameter struct {
	Name        string
	In          string // "path", "query" or "header"; of a response's header, nothing
	Description string
	Required    bool
	Explode     *bool
	Example     any
	Schema      *Schema
}

// RequestBody is what a call takes.
type RequestBody struct {
	Description string
	Required    bool
	Content     map[string]Content // by media type
}

// Response is one answer of a call.
type Response struct {
	Description string
	Headers     map[string]*Parameter
	Content     map[string]Content // by media type; empty: it has no body
}

// Content is a body.
type Content struct{ Schema *Schema }

// Schema says what a value may be (JSON Schema 2020-12). The zero Schema allows everything.
type Schema struct {
	Ref                  string    `json:"$ref"`
	AnyOf                []*Schema `json:"anyOf"`
	Type                 Types
	Title                string
	Description          string
	Format               string
	Pattern              string
	PatternDescription   string `json:"patternDescription"`
	Examples             []any
	Default              any
	Enum                 []any
	Minimum              *float64
	Maximum              *float64
	ExclusiveMinimum     *float64 `json:"exclusiveMinimum"`
	MinLength            *int     `json:"minLength"` // in characters
	MaxLength            *int     `json:"maxLength"` // in characters
	MinItems             *int     `json:"minItems"`
	MaxItems             *int     `json:"maxItems"`
	Items                *Schema
	Properties           map[string]*Schema
	Required             []string
	AdditionalProperties *bool  `json:"additionalProperties"`
	ContentMediaType     string `json:"contentMediaType"`
	ContentEncoding      string `json:"contentEncoding"`
}

// Types are the names of the types that a value may have; none: all of them.
type Types []string

// UnmarshalJSON reads a name or a list of names.
func (t *Types) UnmarshalJSON(text []byte) error {
	if bytes.HasPrefix(text, []byte(`"`)) {
		*t = Types{""}
		return json.Unmarshal(text, &(*t)[0])
	}
	return json.Unmarshal(text, (*[]string)(t))
}

// Read reads the description in the file.
func Read(file string) (*Document, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	d, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return d, nil
}

// Parse reads a description. What this package does not know is an error.
func Parse(text []byte) (*Document, error) {
	d := &Document{}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(d); err != nil {
		return nil, err
	}
	if !strings.HasPrefix(d.OpenAPI, "3.1.") || len(d.Servers) != 1 || len(d.Paths) == 0 {
		return nil, fmt.Errorf("needs OpenAPI 3.1, one server and paths: has %q, %d and %d", d.OpenAPI, len(d.Servers), len(d.Paths))
	}
	return d, nil
}

// Call is an operation with its place.
type Call struct {
	Method string // in upper case
	Path   string // below the server's, with {parameters}
	*Operation
}

// String returns method and path.
func (c Call) String() string { return c.Method + " " + c.Path }

// Calls returns all calls by path, then method.
func (d *Document) Calls() (calls []Call) {
	for _, path := range slices.Sorted(maps.Keys(d.Paths)) {
		for _, method := range slices.Sorted(maps.Keys(d.Paths[path])) {
			calls = append(calls, Call{strings.ToUpper(method), path, d.Paths[path][method]})
		}
	}
	return calls
}

// Base is the path below which the API is served.
func (d *Document) Base() string { return d.Servers[0].URL }

// Resolve returns the schema that s names, or s itself. It panics when there is none.
func (d *Document) Resolve(s *Schema) *Schema {
	for s.Ref != "" {
		name := strings.TrimPrefix(s.Ref, "#/components/schemas/")
		if d.Components.Schemas[name] == nil {
			panic("there is no schema " + s.Ref)
		}
		s = d.Components.Schemas[name]
	}
	return s
}

// BodySchema returns the schema of the JSON that c takes; nil: it takes none.
func (d *Document) BodySchema(c Call) *Schema {
	if c.RequestBody == nil {
		return nil
	}
	return d.Resolve(c.RequestBody.Content["application/json"].Schema)
}
