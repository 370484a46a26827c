package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"
	"github.com/go-chi/chi/v5"

	"keystile/keys"
)

const (
	apiBase        = "/api/v1"
	apiDescription = `Creates, lists, reads, renames, switches, rotates and deletes the keys of a Keystile proxy, lists the
processes that share the store, and exports it.

Every call needs the administrator token, or the cookie of a session, except those about the session. With the cookie, a
change must have Content-Type: application/json even without a body. Errors are problem documents (RFC 9457) with a code. Bodies are strict
JSON of at most 64 KiB: no unknown or repeated names, and names in their exact case.`
)

// setUpHuma sets the variables of package huma, once for the process. By default huma
// accepts names in any case and sends the client's values back in errors.
var setUpHuma = sync.OnceFunc(func() {
	huma.NewError = problemFromHuma
	huma.ValidateStrictCasing = true
})

// operations registers the API and its description on r.
func (a *Admin) operations(r chi.Router, version string) {
	setUpHuma()
	api := humachi.New(r, apiConfig(version))
	api.UseMiddleware(func(ctx huma.Context, next func(huma.Context)) {
		c := callOf(ctx.Context())
		c.operation = ctx.Operation().OperationID
		if id, err := keys.ParseKey(ctx.Param("key")); err == nil {
			c.key = id.String()
		}
		next(ctx)
	})
	register(a, api, http.MethodGet, "/keys", listOperation, a.listKeys)
	register(a, api, http.MethodPost, "/keys", createOperation, a.createKey)
	register(a, api, http.MethodGet, "/keys/{key}", getOperation, a.getKey)
	register(a, api, http.MethodPatch, "/keys/{key}", patchOperation, a.patchKey)
	register(a, api, http.MethodDelete, "/keys/{key}", deleteOperation, a.deleteKey)
	register(a, api, http.MethodPost, "/keys/{key}/rotate", rotateOperation, a.rotateKey)
	register(a, api, http.MethodGet, "/session", getSessionOperation, a.getSession)
	register(a, api, http.MethodPost, "/session", signInOperation, a.signIn)
	register(a, api, http.MethodDelete, "/session", signOutOperation, a.signOut)
	register(a, api, http.MethodGet, "/proxies", proxiesOperation, a.listProxies)
	if a.exporter != nil {
		register(a, api, http.MethodGet, "/store/export", exportOperation, a.exportStore)
	}
	a.describe(api)
}

func apiConfig(version string) huma.Config {
	if version == "" {
		version = "dev"
	}
	config := huma.DefaultConfig("Keystile admin API", version)
	config.Info.Description = apiDescription
	config.Servers = []*huma.Server{{URL: apiBase}}
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"token":   {Type: "http", Scheme: "bearer", Description: "The administrator token."},
		"session": {Type: "apiKey", In: "cookie", Name: sessionCookie, Description: "The session of a console. Over TLS the cookie is " + secureSessionCookie + "."},
	}
	config.Security = []map[string][]string{{"token": {}}, {"session": {}}}
	config.Formats = map[string]huma.Format{"application/json": jsonFormat(), "json": jsonFormat()} // json is for +json
	config.Transformers = []huma.Transformer{finishProblem}
	config.RejectUnknownQueryParameters = true
	config.AllowAdditionalPropertiesByDefault = true // of replies, which may grow; bodies are closed
	config.CreateHooks = nil                         // no $schema in replies
	config.DocsPath = ""                             // its page loads scripts from elsewhere
	config.SchemasPath = ""
	config.OpenAPIPath = "" // describe serves it, made once
	return config
}

// description is what the description of the API says of one operation.
type description struct {
	id, summary, text string
	errors            []kind // beside those that every operation may answer
}

var (
	listOperation = description{
		"list-keys", "List keys", "All keys, newest last, and how many an account may have.",
		[]kind{accountNotFound, storeDown},
	}
	createOperation = description{
		"create-key", "Create a key", "Makes an active key and its secret. The secret is in this reply and nowhere else. No body is the same as {}. A repeated Idempotency-Key replies 200.",
		[]kind{accountNotFound, keyNotFound, keyLimitReached, nameTaken, bodyTooLarge, wrongMediaType, invalidBody, invalidName, operationReused, storeDown},
	}
	getOperation = description{
		"get-key", "Read a key", "One key, without its secret.",
		[]kind{keyNotFound, storeDown},
	}
	patchOperation = description{
		"update-key", "Change a key", "Renames a key, switches it on or off, sets its rate, ends its previous secret. What is absent stays; {} changes nothing. The reply tells how far the change has reached.",
		[]kind{keyNotFound, nameTaken, versionMismatch, bodyTooLarge, wrongMediaType, invalidBody, invalidName, storeDown},
	}
	deleteOperation = description{
		"delete-key", "Delete a key", "Deletes a key for ever; its id is never used again. The reply tells how far the deletion has reached.",
		[]kind{keyNotFound, versionMismatch, storeDown},
	}
	rotateOperation = description{
		"rotate-key", "Rotate the secret",
		"Makes a new secret of the same key. It is in this reply and nowhere else; the old one goes on for the overlap. No body is the same as {}. A key has two secrets at most: while the previous one works, another overlap is refused with overlap_running, so that a call whose reply was lost can be repeated and ends nothing. A rotation without an overlap then replaces the present secret at once, such as one that never arrived, and leaves the previous one its end.",
		[]kind{keyNotFound, overlapRunning, versionMismatch, bodyTooLarge, wrongMediaType, invalidBody, storeDown},
	}
	proxiesOperation = description{
		"list-proxies", "List proxies", "The processes that share the store, as this one knows them: alive, by what version each judges requests. It may be a second behind; one that stopped stays until it refuses requests by itself.",
		nil,
	}
	getSessionOperation = description{
		"get-session", "Ask for the session", "Tells whether the cookie of the request belongs to a session, which it also keeps from expiring: after 30 minutes without use, or 12 hours.", nil,
	}
	signInOperation = description{
		"sign-in", "Sign in", "Begins a session under a new id, kept by a cookie. The answer to a wrong token may come late.",
		[]kind{bodyTooLarge, wrongMediaType, invalidBody},
	}
	signOutOperation = description{
		"sign-out", "Sign out", "Ends the session of the request, wherever its cookie has got to.", []kind{wrongMediaType},
	}
	describeOperation = description{"describe", "Describe the API", "This document, in OpenAPI 3.1.", nil}
)

// register adds one operation to the API and its description.
func register[I, O any](a *Admin, api huma.API, method, path string, d description, do func(context.Context, *I) (*O, error)) {
	operation := d.operation(api, method, path)
	switch d.id {
	case createOperation.id:
		schema := api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[Created](), true, "")
		operation.DefaultStatus = http.StatusCreated
		operation.Responses["200"] = &huma.Response{
			Description: "Replayed",
			Content:     map[string]*huma.MediaType{"application/json": {Schema: schema}},
		}
	case getSessionOperation.id, signInOperation.id, signOutOperation.id:
		operation.Security = []map[string][]string{{}} // nothing is needed
	case exportOperation.id:
		operation.Responses["200"] = exportResponse()
	case listOperation.id, getOperation.id:
		operation.Responses["304"] = &huma.Response{Description: "If-None-Match names what there is now"}
	}
	huma.Register(api, operation, reporting(a, do))
}

// operation returns what huma needs to know.
func (d description) operation(api huma.API, method, path string) huma.Operation {
	kinds := append([]kind{badRequest, unauthorized, unknownHost, internalError}, d.errors...)
	if !safeMethod(method) {
		kinds = append(kinds, forbidden)
	}
	return huma.Operation{
		OperationID: d.id, Method: method, Path: path, Summary: d.summary, Description: d.text,
		MaxBodyBytes: maxBody + 1, // huma refuses a body of exactly the limit
		Responses:    problemResponses(api, kinds),
	}
}

// problemResponses describes the refusals of an operation by status.
func problemResponses(api huma.API, kinds []kind) map[string]*huma.Response {
	schema := api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[problem](), true, "")
	said := map[string][]string{}
	for _, k := range kinds {
		status := strconv.Itoa(k.status)
		said[status] = append(said[status], k.code+": "+k.detail+".")
	}
	responses := map[string]*huma.Response{}
	for status, sentences := range said {
		slices.Sort(sentences)
		responses[status] = &huma.Response{
			Description: strings.Join(sentences, "\n\n"),
			Content:     map[string]*huma.MediaType{problemMediaType: {Schema: schema}},
		}
	}
	return responses
}

type describeOutput struct {
	ContentType string `header:"Content-Type" hidden:"true"`
	Body        []byte
}

// describe serves the description of the API, itself included. It is made here, once: huma
// would make it at the first request, and two first requests would race.
func (a *Admin) describe(api huma.API) {
	var document []byte
	operation := describeOperation.operation(api, http.MethodGet, "/openapi.json")
	operation.Responses["200"] = &huma.Response{
		Description: "The document",
		Content:     map[string]*huma.MediaType{"application/openapi+json": {Schema: &huma.Schema{Type: huma.TypeObject}}},
	}
	huma.Register(api, operation, func(context.Context, *struct{}) (*describeOutput, error) {
		return &describeOutput{"application/openapi+json", document}, nil
	})
	var err error
	if document, err = json.Marshal(api.OpenAPI()); err != nil {
		panic(err) // nothing in it is decided at run time
	}
}
