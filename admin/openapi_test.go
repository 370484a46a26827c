package admin

import (
	"bytes"
	"encoding/json"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"keystile/admin/apitest"
)

// openAPIFile is the description of the API as it is committed.
const openAPIFile = "openapi.json"

var readCommitted = sync.OnceValues(func() (*apitest.Document, error) { return apitest.Read(openAPIFile) })

// committed returns the description that is committed, against which every reply of these tests is checked.
func committed(t testing.TB) *apitest.Document {
	t.Helper()
	d, err := readCommitted()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestCommittedDescriptionIsTheGeneratedOne compares openapi.json with what is served. With
// OPENAPI=write it writes it anew.
func TestCommittedDescriptionIsTheGeneratedOne(t *testing.T) {
	content := generated(t)
	if os.Getenv("OPENAPI") == "write" {
		if err := os.WriteFile(openAPIFile, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if had, err := os.ReadFile(openAPIFile); err != nil || !bytes.Equal(had, content) {
		t.Errorf(notGenerated, openAPIFile, err)
	}
}

// notGenerated says what to do about a file, by its name and what went wrong in reading it.
const notGenerated = "admin/%s is not what the code generates (%v): run  OPENAPI=write go test -run TestCommitted ./admin"

// generated returns the description that a store with everything has, indented.
func generated(t *testing.T) []byte {
	t.Helper()
	r := httptest.NewRequest("GET", "http://localhost/api/v1/openapi.json", nil)
	r.Header.Set("Authorization", "Bearer "+testToken)
	w := httptest.NewRecorder()
	newExportBench(t, writes("")).admin.ServeHTTP(w, r)
	var text bytes.Buffer
	if err := json.Indent(&text, w.Body.Bytes(), "", "  "); err != nil {
		t.Fatal(err)
	}
	text.WriteByte('\n')
	return text.Bytes()
}

func describe(t *testing.T, b *bench) (*apitest.Document, string) {
	t.Helper()
	got := b.send("GET", "/api/v1/openapi.json", "").wants(t, 200, "")
	if got.header.Get("Content-Type") != "application/openapi+json" {
		t.Errorf("Content-Type is %q", got.header.Get("Content-Type"))
	}
	d, err := apitest.Parse([]byte(got.text))
	if err != nil {
		t.Fatal(err)
	}
	return d, got.text
}

func TestDescriptionHasEveryCallAndItsErrors(t *testing.T) {
	d, _ := describe(t, newBench(t, func(o *Options) { o.Version = "1.2.3" }))
	if !strings.HasPrefix(d.OpenAPI, "3.1.") || d.Info.Version != "1.2.3" || d.Servers[0].URL != apiBase {
		t.Errorf("got %+v", d)
	}
	if d.Components.SecuritySchemes["token"].Scheme != "bearer" || len(d.Security) != 2 || d.Security[0]["token"] == nil || d.Security[1]["session"] == nil {
		t.Errorf("the token is not described: %+v %+v", d.Components.SecuritySchemes, d.Security)
	}
	for path, want := range map[string]map[string]string{
		"/keys": {
			"get":  "200 304 400 401 404 421 500 503",
			"post": "200 201 400 401 403 404 409 413 415 421 422 429 500 503",
		},
		"/keys/{key}": {
			"get":    "200 304 400 401 404 421 500 503",
			"patch":  "200 400 401 403 404 409 412 413 415 421 422 429 500 503",
			"delete": "200 400 401 403 404 412 415 421 429 500 503",
		},
		"/session": {
			"get":    "200 400 401 421 500 503",
			"post":   "200 400 401 403 413 415 421 422 500 503",
			"delete": "204 400 401 403 415 421 500 503",
		},
		"/keys/{key}/rotate": {"post": "200 400 401 403 404 409 412 413 415 421 422 429 500 503"},
		"/accounts": {
			"get":  "200 400 401 403 421 500 503",
			"post": "201 400 401 403 409 413 415 421 422 500 503",
		},
		"/accounts/{account}": {
			"get":    "200 304 400 401 403 404 421 500 503",
			"patch":  "200 400 401 403 404 412 413 415 421 422 500 503",
			"delete": "200 400 401 403 404 409 412 415 421 500 503",
		},
		"/accounts/{account}/tokens": {
			"get":  "200 400 401 403 404 421 500 503",
			"post": "201 400 401 403 404 413 415 421 422 500 503",
		},
		"/accounts/{account}/tokens/{id}": {"delete": "200 400 401 403 404 415 421 500 503"},
		"/audit":                          {"get": "200 400 401 403 421 500 503"},
		"/proxies":                        {"get": "200 400 401 403 421 500 503"},
		"/openapi.json":                   {"get": "200 400 401 421 500 503"},
	} {
		if len(d.Paths[path]) != len(want) {
			t.Errorf("%s has %v", path, d.Paths[path])
		}
		for method, statuses := range want {
			call := d.Paths[path][method]
			if call == nil {
				t.Errorf("%s %s is not described", method, path)
				continue
			}
			if call.Summary == "" || call.Description == "" || call.OperationID == "" {
				t.Errorf("%s %s has no words", method, path)
			}
			for _, parameter := range call.Parameters {
				if parameter.Description == "" {
					t.Errorf("%s %s: %s has no words", method, path, parameter.Name)
				}
			}
			for _, status := range strings.Fields(statuses) {
				response := call.Responses[status]
				if response == nil || response.Description == "" {
					t.Errorf("%s %s does not describe %s", method, path, status)
					continue
				}
				content, problem := response.Content[problemMediaType]
				problem = problem && content.Schema.Ref == "#/components/schemas/Problem"
				if problem != (status >= "400") {
					t.Errorf("%s %s: %s is %+v", method, path, status, response)
				}
			}
			if len(call.Responses) != len(strings.Fields(statuses)) {
				t.Errorf("%s %s describes other statuses: %v", method, path, call.Responses)
			}
		}
	}
	if len(d.Paths) != 11 {
		t.Errorf("there are other paths: %v", d.Paths)
	}
}

func TestDescriptionNamesEveryCodeOfAnOperation(t *testing.T) {
	d, _ := describe(t, newBench(t))
	for _, row := range everyKind {
		said := false
		for _, calls := range d.Paths {
			for _, call := range calls {
				response := call.Responses[strconv.Itoa(row.status)]
				said = said || response != nil && strings.Contains("\n"+response.Description, "\n"+row.code+": ")
			}
		}
		if outside := row.code == "not_found" || row.code == "method_not_allowed"; said == outside {
			t.Errorf("%s is described: %v", row.code, said)
		}
	}
}

func TestDescriptionClosesBodiesAndLeavesRepliesOpen(t *testing.T) {
	d, text := describe(t, newBench(t))
	for name, schema := range d.Components.Schemas {
		closed := schema.AdditionalProperties != nil && !*schema.AdditionalProperties
		if body := strings.HasSuffix(name, "Body") && !strings.Contains(name, "Output"); closed != body {
			t.Errorf("%s is closed: %v", name, closed)
		}
	}
	for _, forbidden := range []string{"$schema", "digest", "kss_", "unpkg"} {
		if strings.Contains(text, forbidden) {
			t.Errorf("%s is in the description", forbidden)
		}
	}
}

func TestDescriptionIsTheSameForAll(t *testing.T) {
	b := newBench(t)
	_, want := describe(t, b)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if got := b.send("GET", "/api/v1/openapi.json", ""); got.text != want {
				t.Error("the description changed")
			}
		})
	}
	all.Wait()
}

func TestManyAdminsMayBeMadeAtOnce(t *testing.T) {
	for i := range 8 {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			newBench(t).send("POST", "/api/v1/keys", `{"Name":"a"}`).wants(t, 422, "invalid_body")
		})
	}
}
