package apitest

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

const small = `{
	"openapi": "3.1.0", "info": {"title": "t", "version": "1"}, "servers": [{"url": "/api"}],
	"paths": {
		"/things/{id}": {"get": {"operationId": "get", "responses": {
			"200": {"description": "OK", "headers": {"ETag": {"required": true, "schema": {"type": "string"}}},
				"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}}},
			"304": {"description": "Same"}}}},
		"/things/new": {"get": {"operationId": "new", "responses": {"204": {"description": "None"}}}}
	},
	"components": {"schemas": {
		"Problem": {"type": "object", "required": ["code"], "properties": {"code": {"type": "string"}}},
		"Thing": {"type": "object", "required": ["name"], "properties": {
			"name": {"type": "string", "minLength": 1, "maxLength": 3},
			"at": {"type": "string", "format": "date-time"},
			"size": {"type": "integer", "minimum": 1},
			"kind": {"type": "string", "enum": ["a", "b"]},
			"rest": {"type": ["object", "null"]},
			"text": {"anyOf": [{"$ref": "#/components/schemas/Problem"}, {"type": "string"}]},
			"list": {"type": "array", "items": {"$ref": "#/components/schemas/Problem"}}}}
	}}
}`

func parse(t *testing.T, text string) *Document {
	t.Helper()
	d, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func headers(pairs ...string) http.Header {
	h := http.Header{"Content-Type": {"application/json"}, "Etag": {`"1"`}}
	for i := 0; i < len(pairs); i += 2 {
		h.Set(pairs[i], pairs[i+1])
	}
	return h
}

func TestReplyThatIsAsDescribedPasses(t *testing.T) {
	d := parse(t, small)
	for _, body := range []string{
		`{"name":"abc"}`,
		`{"name":"äöü","at":"2026-03-04T12:06:07.008Z","size":3,"kind":"b","rest":{"x":1},"list":[{"code":"c"}]}`,
		`{"name":"a","rest":null}`,
		`{"name":"a","text":"t"}`,
		`{"name":"a","text":{"code":"c"}}`,
	} {
		if err := d.Check("GET", "/api/things/7", 200, headers(), []byte(body)); err != nil {
			t.Error(err)
		}
	}
	for name, err := range map[string]error{
		"a head":               d.Check("HEAD", "/api/things/7", 200, headers(), nil),
		"without a body":       d.Check("GET", "/api/things/7", 304, http.Header{}, nil),
		"a path outside":       d.Check("GET", "/healthz", 200, http.Header{}, []byte("ok")),
		"a method that is not": d.Check("PUT", "/api/things/7", 405, headers("Content-Type", problemMediaType), []byte(`{"code":"c"}`)),
		"a literal":            d.Check("GET", "/api/things/new", 204, http.Header{}, nil),
		"a path that is not":   d.Check("GET", "/api/things/7/8", 404, headers("Content-Type", problemMediaType), []byte(`{"code":"c"}`)),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReplyThatDiffersFromItsDescriptionIsReported(t *testing.T) {
	d := parse(t, small)
	for body, want := range map[string]string{
		`{}`:                                "body: name is missing",
		`{"name":"a","more":1}`:             "body: more is not described",
		`{"name":7}`:                        "body.name: is [integer number], not [string]",
		`{"name":null}`:                     "body.name: is [null]",
		`{"name":""}`:                       "body.name: has 0 characters",
		`{"name":"abcd"}`:                   "body.name: has 4 characters",
		`{"name":"a","at":"today"}`:         "body.at: ",
		`{"name":"a","size":1.5}`:           "body.size: is [number]",
		`{"name":"a","size":0}`:             "body.size: 0 is out of range",
		`{"name":"a","kind":"c"}`:           "body.kind: c is none of [a b]",
		`{"name":"a","rest":[]}`:            "body.rest: is [array]",
		`{"name":"a","list":[{}]}`:          "body.list[0]: code is missing",
		`{"name":"a","list":[{"x":1}]}`:     "body.list[0]: x is not described",
		`{"name":"a","text":{}}`:            "body.text: code is missing",
		`{"name":"a","text":7}`:             "body.text: is [integer number], not [string]",
		`[]`:                                "body: is [array]",
		`{"name":"a"`:                       "unexpected end",
		`{"name":"a","at":null}`:            "body.at: is [null]",
		`{"name":"a","list":null}`:          "body.list: is [null]",
		`{"name":"a","list":[{"code":[]}]}`: "body.list[0].code: is [array]",
	} {
		if err := d.Check("GET", "/api/things/7", 200, headers(), []byte(body)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", body, err, want)
		}
	}
	whole := []byte(`{"name":"a"}`)
	for want, err := range map[string]error{
		"the status is not described":                 d.Check("GET", "/api/things/7", 500, headers(), whole),
		"the call is not described":                   d.Check("PUT", "/api/things/7", 200, headers(), whole),
		"the header ETag is missing":                  d.Check("GET", "/api/things/7", 200, http.Header{"Content-Type": {"application/json"}}, whole),
		"the header Location is not described":        d.Check("GET", "/api/things/7", 200, headers("Location", "/"), whole),
		`the media type "text/html" is not described`: d.Check("GET", "/api/things/7", 200, headers("Content-Type", "text/html"), whole),
		"there is a body of 12 bytes":                 d.Check("GET", "/api/things/7", 304, http.Header{}, whole),
		"code is missing":                             d.Check("GET", "/api/other", 404, headers("Content-Type", problemMediaType), []byte(`{}`)),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestDescriptionWithMoreThanIsCheckedDoesNotLoad(t *testing.T) {
	for _, text := range []string{
		strings.Replace(small, `"minimum": 1`, `"multipleOf": 2`, 1), strings.Replace(small, `"3.1.0"`, `"3.0.3"`, 1), strings.Replace(small, `{"url": "/api"}`, ``, 1),
	} {
		if _, err := Parse([]byte(text)); err == nil {
			t.Error("it loads")
		}
	}
	d := parse(t, strings.Replace(small, `"format": "date-time"`, `"format": "uri"`, 1))
	if err := d.Check("GET", "/api/things/7", 200, headers(), []byte(`{"name":"a","at":"x"}`)); err == nil {
		t.Error("a format that is unknown passes")
	}
}

func TestTransportReportsAndPassesOnWhatCame(t *testing.T) {
	body := `{"name":"a"}`
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("ETag", `"1"`)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(server.Close)
	var reported []error
	client := http.Client{Transport: &Transport{http.DefaultTransport, parse(t, small), func(err error) { reported = append(reported, err) }}}
	get := func(path string) string {
		t.Helper()
		response, err := client.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if got := get("/api/things/7?x=1"); got != body || reported != nil {
		t.Errorf("got %q, reported %v", got, reported)
	}
	body = `{"nam":"a"}`
	if got := get("/elsewhere"); got != body || reported != nil {
		t.Errorf("got %q, reported %v", got, reported)
	}
	if got := get("/api/things/7"); got != body || len(reported) != 1 {
		t.Errorf("got %q, reported %v", got, reported)
	}
}

func TestTransportPassesOnABrokenTransferUnchecked(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, `{"nam`)
	}))
	t.Cleanup(server.Close)
	client := http.Client{Transport: &Transport{http.DefaultTransport, parse(t, small), func(err error) { t.Error(err) }}}
	response, err := client.Get(server.URL + "/api/things/7")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if got, err := io.ReadAll(response.Body); string(got) != `{"nam` || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %q, %v", got, err)
	}
}
