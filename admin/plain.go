package admin

import (
	"bytes"
	"net/http"
	"net/url"
	"reflect"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"
)

// plainHandler answers a request, unless it returns an error.
type plainHandler func(w http.ResponseWriter, r *http.Request) error

// plain adds one operation that has no body to the API and its description, as register
// does. huma.Register is compiled anew for each call, 45 kB of program every time, so calls
// that need nothing of it but a word of the path do without.
func (a *Admin) plain(api huma.API, method, path string, d description, do plainHandler, replies map[string]*huma.Response, parameters ...*huma.Param) {
	operation := d.operation(api, method, path)
	operation.Parameters = parameters
	for status, r := range replies {
		operation.Responses[status] = r
	}
	api.OpenAPI().AddOperation(&operation)
	api.Adapter().Handle(&operation, api.Middlewares().Handler(func(ctx huma.Context) {
		r, w := humachi.Unwrap(ctx)
		err := knownQuery(r, parameters)
		if err == nil {
			err = do(w, r)
		}
		if err != nil {
			writeProblem(w, r, a.refuse(r.Context(), err))
		}
	}))
}

// knownQuery refuses a query that says what the operation does not ask for.
func knownQuery(r *http.Request, parameters []*huma.Param) error {
	query := r.URL.Query()
	for _, p := range parameters {
		if p.In == "query" {
			query.Del(p.Name)
		}
	}
	for name := range query {
		return badRequest.problem(shown("query." + name + ": unknown query parameter"))
	}
	return nil
}

// pathValue returns a part of the path, unescaped.
func pathValue(r *http.Request, name string) string {
	value := r.PathValue(name)
	if r.URL.RawPath == "" {
		return value // nothing is escaped
	}
	if unescaped, err := url.PathUnescape(value); err == nil {
		return unescaped
	}
	return value
}

// pathParam describes a part of the path.
func pathParam(name, doc, example string) *huma.Param {
	return &huma.Param{Name: name, In: "path", Required: true, Description: doc, Example: example, Schema: &huma.Schema{Type: huma.TypeString}}
}

// replyOf describes the reply 200 whose JSON has the type T.
func replyOf[T any](api huma.API) map[string]*huma.Response {
	schema := api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[T](), true, "")
	return map[string]*huma.Response{"200": {
		Description: "OK",
		Content:     map[string]*huma.MediaType{"application/json": {Schema: schema}},
	}}
}

// answer replies 200 with the JSON of v.
func answer(w http.ResponseWriter, v any) error {
	var text bytes.Buffer
	if err := writeJSON(&text, v); err != nil {
		return err
	}
	answerText(w, "application/json", text.Bytes())
	return nil
}

func answerText(w http.ResponseWriter, mediaType string, text []byte) {
	w.Header().Set("Content-Type", mediaType)
	_, _ = w.Write(text)
}
