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
	apiDescription = `Creates, lists, reads, renames, switches, rotates and deletes the keys of a Keystile proxy. For
administrators it does the same with accounts and their tokens, shows the audit trail, lists the processes that share the
store, and exports it.

Every call needs a token, or the cookie of a session, except those about the session. The administrator token opens every
call. An account's token opens those about keys, for the account's own ones alone: another's key is answered like one that
does not exist. While its account is inactive it can only read. With the cookie, a change must have Content-Type:
application/json even without a body.

Errors are problem documents (RFC 9457) with a code. Bodies are strict JSON of at most 16 KiB: no unknown or repeated names,
and names in their exact case.`
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
	}, a.admit)
	register(a, api, http.MethodGet, "/keys", listOperation, a.listKeys)
	register(a, api, http.MethodPost, "/keys", createOperation, a.createKey)
	register(a, api, http.MethodGet, "/keys/{key}", getOperation, a.getKey)
	register(a, api, http.MethodPatch, "/keys/{key}", patchOperation, a.patchKey)
	register(a, api, http.MethodDelete, "/keys/{key}", deleteOperation, a.deleteKey)
	register(a, api, http.MethodPost, "/keys/{key}/rotate", rotateOperation, a.rotateKey)
	a.plain(api, http.MethodGet, "/accounts", listAccountsOperation, a.listAccounts, replyOf[AccountList](api))
	register(a, api, http.MethodPost, "/accounts", createAccountOperation, a.createAccount)
	register(a, api, http.MethodGet, "/accounts/{account}", getAccountOperation, a.getAccount)
	register(a, api, http.MethodPatch, "/accounts/{account}", patchAccountOperation, a.patchAccount)
	register(a, api, http.MethodDelete, "/accounts/{account}", deleteAccountOperation, a.deleteAccount)
	a.plain(api, http.MethodGet, "/accounts/{account}/tokens", listTokensOperation, a.listTokens, replyOf[TokenList](api), accountParam)
	register(a, api, http.MethodPost, "/accounts/{account}/tokens", createTokenOperation, a.createToken)
	a.plain(api, http.MethodDelete, "/accounts/{account}/tokens/{id}", deleteTokenOperation, a.deleteToken, replyOf[DeletedToken](api), accountParam, tokenParam)
	a.plain(api, http.MethodGet, "/audit", auditOperation, a.readAudit, replyOf[AuditPage](api), auditParams...)
	a.plain(api, http.MethodGet, "/session", getSessionOperation, a.getSession, replyOf[SessionState](api))
	register(a, api, http.MethodPost, "/session", signInOperation, a.signIn)
	a.plain(api, http.MethodDelete, "/session", signOutOperation, a.signOut, signedOutReply())
	a.plain(api, http.MethodGet, "/proxies", proxiesOperation, a.listProxies, replyOf[ProxyList](api))
	if a.exporter != nil {
		a.plain(api, http.MethodGet, "/store/export", exportOperation, a.exportStore, exportReply())
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
		"token":   {Type: "http", Scheme: "bearer", Description: "The administrator token, or an account's."},
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

// access says whose calls an operation takes. The zero access is the narrowest, so that
// an operation whose rule was forgotten is closed.
type access int

const (
	administratorsOnly access = iota
	accountsToo               // an account's token too, for what is its own
	everybody                 // also who sent no token
)

// accessRule is where an operation of huma has its access.
const accessRule = "access"

// description is what the description of the API says of one operation, and who may call it.
type description struct {
	id, summary, text string
	access            access
	errors            []kind // beside those that every operation may answer
}

var (
	listOperation = description{
		id: "list-keys", summary: "List keys", access: accountsToo,
		text:   "Keys, newest last, and how many an account may have. Without account, an administrator's call lists the keys of all accounts, an account's its own.",
		errors: []kind{accountNotFound},
	}
	createOperation = description{
		id: "create-key", summary: "Create a key", access: accountsToo,
		text:   "Makes an active key and its secret. The secret is in this reply and nowhere else. No body is the same as {}. A repeated Idempotency-Key replies 200.",
		errors: []kind{accountNotFound, keyNotFound, keyLimitReached, nameTaken, bodyTooLarge, invalidBody, invalidName, operationReused},
	}
	getOperation = description{
		id: "get-key", summary: "Read a key", access: accountsToo,
		text:   "One key, without its secret.",
		errors: []kind{keyNotFound},
	}
	patchOperation = description{
		id: "update-key", summary: "Change a key", access: accountsToo,
		text:   "Renames a key, switches it on or off, sets its rate, ends its previous secret. What is absent stays; {} changes nothing. The reply tells how far the change has reached.",
		errors: []kind{keyNotFound, nameTaken, versionMismatch, bodyTooLarge, invalidBody, invalidName},
	}
	deleteOperation = description{
		id: "delete-key", summary: "Delete a key", access: accountsToo,
		text:   "Deletes a key for ever; its id is never used again. The reply tells how far the deletion has reached.",
		errors: []kind{keyNotFound, versionMismatch},
	}
	rotateOperation = description{
		id: "rotate-key", summary: "Rotate the secret", access: accountsToo,
		text:   "Makes a new secret of the same key. It is in this reply and nowhere else; the old one goes on for the overlap. No body is the same as {}. A key has two secrets at most: while the previous one works, another overlap is refused with overlap_running, so that a call whose reply was lost can be repeated and ends nothing. A rotation without an overlap then replaces the present secret at once, such as one that never arrived, and leaves the previous one its end.",
		errors: []kind{keyNotFound, overlapRunning, versionMismatch, bodyTooLarge, invalidBody},
	}
	proxiesOperation = description{
		id: "list-proxies", summary: "List proxies",
		text: "The processes that share the store, as this one knows them: alive, by what version each judges requests. It may be a second behind; one that stopped stays until it refuses requests by itself.",
	}
	getSessionOperation = description{
		id: "get-session", summary: "Ask for the session", access: everybody,
		text: "Tells whether the cookie of the request belongs to a session, and whose. To ask is to use the session, which expires after 30 minutes without use, or 12 hours. The session of an account's token ends with that token.",
	}
	signInOperation = description{
		id: "sign-in", summary: "Sign in", access: everybody,
		text:   "Begins a session under a new id, kept by a cookie. The answer to a wrong token may come late. Of one token there are 100 sessions at most: for one more the oldest ends.",
		errors: []kind{bodyTooLarge, invalidBody},
	}
	signOutOperation = description{
		id: "sign-out", summary: "Sign out", access: everybody,
		text: "Ends the session of the request, wherever its cookie has got to.",
	}
	describeOperation = description{
		id: "describe", summary: "Describe the API", access: accountsToo,
		text: "This document, in OpenAPI 3.1.",
	}
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
	case createAccountOperation.id, createTokenOperation.id:
		operation.DefaultStatus = http.StatusCreated
	case listOperation.id, getOperation.id, getAccountOperation.id:
		operation.Responses["304"] = &huma.Response{Description: "If-None-Match names what there is now"}
	}
	huma.Register(api, operation, reporting(a, do))
}

// operation returns what huma needs to know.
func (d description) operation(api huma.API, method, path string) huma.Operation {
	kinds := append([]kind{badRequest, unauthorized, unknownHost, internalError, storeDown}, d.errors...)
	if !safeMethod(method) || d.access == administratorsOnly {
		kinds = append(kinds, forbidden)
	}
	if !safeMethod(method) {
		kinds = append(kinds, wrongMediaType) // of a session every change must be announced as JSON
	}
	if !safeMethod(method) && d.access == accountsToo {
		kinds = append(kinds, accountInactive, rateLimited)
	}
	var security []map[string][]string // nil: as everywhere
	if d.access == everybody {
		security = []map[string][]string{{}} // nothing is needed
	}
	return huma.Operation{
		OperationID: d.id, Method: method, Path: path, Summary: d.summary, Description: d.text,
		MaxBodyBytes: maxBody + 1, // huma refuses a body of exactly the limit
		Responses:    problemResponses(api, kinds),
		Security:     security,
		Metadata:     map[string]any{accessRule: d.access},
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

// describe serves the description of the API, itself included. It is made here, once: huma
// would make it at the first request, and two first requests would race.
func (a *Admin) describe(api huma.API) {
	var document []byte
	a.plain(api, http.MethodGet, "/openapi.json", describeOperation, func(w http.ResponseWriter, _ *http.Request) error {
		answerText(w, "application/openapi+json", document)
		return nil
	}, map[string]*huma.Response{"200": {
		Description: "The document",
		Content:     map[string]*huma.MediaType{"application/openapi+json": {Schema: &huma.Schema{Type: huma.TypeObject}}},
	}})
	complete(api.OpenAPI())
	var err error
	if document, err = json.Marshal(api.OpenAPI()); err != nil {
		panic(err) // nothing in it is decided at run time
	}
}
