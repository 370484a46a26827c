package apitest

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"mime"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const problemMediaType = "application/problem+json"

// described are the headers that a reply may carry only where its description names them.
var described = []string{"ETag", "Location", "Set-Cookie", "Retry-After", "WWW-Authenticate", "Content-Disposition"}

// outside are the statuses of calls that are not described: what no operation decided.
var outside = []int{400, 401, 403, 404, 405, 413, 415, 421, 503}

// Check returns how a reply differs from its description; nil: it does not. path is without
// query. Replies outside of the API are not looked at.
func (d *Document) Check(method, path string, status int, header http.Header, body []byte) error {
	if !d.covers(path) {
		return nil
	}
	response, err := d.response(method, strings.TrimPrefix(path, d.Base()), status)
	if err == nil {
		err = errors.Join(d.checkHeaders(response, header), d.checkBody(response, method, header, body))
	}
	if err != nil {
		return fmt.Errorf("%s %s answered %d, not as described: %w", method, path, status, err)
	}
	return nil
}

// covers reports whether path is one of the API's.
func (d *Document) covers(path string) bool { return strings.HasPrefix(path, d.Base()+"/") }

// response returns the description of a reply.
func (d *Document) response(method, path string, status int) (*Response, error) {
	operation := d.Find(method, path)
	if operation == nil {
		if !slices.Contains(outside, status) {
			return nil, errors.New("the call is not described")
		}
		return &Response{Content: map[string]Content{problemMediaType: {&Schema{Ref: "#/components/schemas/Problem"}}}}, nil
	}
	response := operation.Responses[strconv.Itoa(status)]
	if response == nil {
		return nil, errors.New("the status is not described")
	}
	return response, nil
}

// Find returns the operation of a path below the base; HEAD is GET. Nil: there is none.
func (d *Document) Find(method, path string) *Operation {
	if method == http.MethodHead {
		method = http.MethodGet
	}
	method = strings.ToLower(method)
	if operation := d.Paths[path][method]; operation != nil {
		return operation // rather than one with parameters
	}
	for template, operations := range d.Paths {
		if operation := operations[method]; operation != nil && matches(template, path) {
			return operation
		}
	}
	return nil
}

// matches reports whether path has the segments of template.
func matches(template, path string) bool {
	want, got := strings.Split(template, "/"), strings.Split(path, "/")
	if len(want) != len(got) {
		return false
	}
	for i, segment := range want {
		if segment != got[i] && (!strings.HasPrefix(segment, "{") || got[i] == "") {
			return false
		}
	}
	return true
}

// checkHeaders checks that headers are there where they must, and only where they may be.
func (d *Document) checkHeaders(response *Response, header http.Header) error {
	var faults []error
	for name, parameter := range response.Headers {
		if parameter.Required && header.Get(name) == "" {
			faults = append(faults, fmt.Errorf("the header %s is missing", name))
		}
	}
	for _, name := range described {
		if _, said := response.Headers[name]; !said && header.Get(name) != "" && response.Description != "" {
			faults = append(faults, fmt.Errorf("the header %s is not described", name))
		}
	}
	return errors.Join(faults...)
}

func (d *Document) checkBody(response *Response, method string, header http.Header, body []byte) error {
	if len(response.Content) == 0 || method == http.MethodHead {
		if len(body) > 0 {
			return fmt.Errorf("there is a body of %d bytes", len(body))
		}
		return nil
	}
	mediaType, _, _ := mime.ParseMediaType(header.Get("Content-Type"))
	content, ok := response.Content[mediaType]
	if !ok {
		return fmt.Errorf("the media type %q is not described", mediaType)
	}
	if !strings.HasSuffix(mediaType, "json") || strings.HasSuffix(mediaType, "ndjson") {
		return nil
	}
	var value any
	if err := json.Unmarshal(body, &value); err != nil {
		return err
	}
	return errors.Join(d.Faults(content.Schema, "body", value)...)
}

// Faults returns where value, as encoding/json decodes it into any, does not fit s. at is
// the name of the value in them.
func (d *Document) Faults(s *Schema, at string, value any) (faults []error) {
	s = d.Resolve(s)
	fault := func(format string, a ...any) {
		faults = append(faults, fmt.Errorf("%s: "+format, append([]any{at}, a...)...))
	}
	if kinds := typesOf(value); len(s.Type) > 0 && !slices.ContainsFunc(s.Type, func(t string) bool { return slices.Contains(kinds, t) }) {
		fault("is %v, not %v", kinds, s.Type)
		return faults
	}
	fits := func(one *Schema) bool { return len(d.Faults(one, at, value)) == 0 }
	if len(s.AnyOf) > 0 && !slices.ContainsFunc(s.AnyOf, fits) {
		for _, one := range s.AnyOf {
			faults = append(faults, d.Faults(one, at, value)...)
		}
	}
	if len(s.Enum) > 0 && !slices.ContainsFunc(s.Enum, func(e any) bool { return reflect.DeepEqual(e, value) }) {
		fault("%v is none of %v", value, s.Enum)
	}
	switch value := value.(type) {
	case string:
		faults = append(faults, stringFaults(s, at, value)...)
	case float64:
		if below(value, s.Minimum) || s.Maximum != nil && value > *s.Maximum || s.ExclusiveMinimum != nil && value <= *s.ExclusiveMinimum {
			fault("%v is out of range", value)
		}
	case []any:
		if below(len(value), s.MinItems) || s.MaxItems != nil && len(value) > *s.MaxItems {
			fault("has %d items", len(value))
		}
		for i, item := range value {
			if s.Items != nil {
				faults = append(faults, d.Faults(s.Items, at+"["+strconv.Itoa(i)+"]", item)...)
			}
		}
	case map[string]any:
		faults = append(faults, d.memberFaults(s, at, value)...)
	}
	return faults
}

func (d *Document) memberFaults(s *Schema, at string, members map[string]any) (faults []error) {
	for _, name := range s.Required {
		if _, sent := members[name]; !sent {
			faults = append(faults, fmt.Errorf("%s: %s is missing", at, name))
		}
	}
	if s.Properties == nil {
		return faults // any object
	}
	for name, member := range members {
		if s.Properties[name] == nil {
			faults = append(faults, fmt.Errorf("%s: %s is not described", at, name))
			continue
		}
		faults = append(faults, d.Faults(s.Properties[name], at+"."+name, member)...)
	}
	return faults
}

func stringFaults(s *Schema, at, text string) (faults []error) {
	characters := utf8.RuneCountInString(text)
	if below(characters, s.MinLength) || s.MaxLength != nil && characters > *s.MaxLength {
		faults = append(faults, fmt.Errorf("%s: has %d characters", at, characters))
	}
	if s.Pattern != "" && !regexp.MustCompile(s.Pattern).MatchString(text) {
		faults = append(faults, fmt.Errorf("%s: %q does not match %s", at, text, s.Pattern))
	}
	switch _, err := time.Parse(time.RFC3339, text); {
	case s.Format == "date-time" && err != nil:
		faults = append(faults, fmt.Errorf("%s: %w", at, err))
	case s.Format != "" && s.Format != "date-time":
		faults = append(faults, fmt.Errorf("%s: the format %s is unknown to this check", at, s.Format))
	}
	return faults
}

func below[T int | float64](value T, minimum *T) bool { return minimum != nil && value < *minimum }

// typesOf returns the names of the types that a decoded value has.
func typesOf(value any) []string {
	switch value := value.(type) {
	case nil:
		return []string{"null"}
	case bool:
		return []string{"boolean"}
	case string:
		return []string{"string"}
	case float64:
		if value == math.Trunc(value) {
			return []string{"integer", "number"}
		}
		return []string{"number"}
	case []any:
		return []string{"array"}
	}
	return []string{"object"}
}
