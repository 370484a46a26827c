package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"keystile/keys"
)

const (
	problemMediaType = "application/problem+json"
	maxFaults        = 8  // entries of "errors"
	maxShown         = 80 // bytes of a client's text that are sent back
)

// kind is one row of the table of refusals: what a client reads, and with which status.
type kind struct {
	code   string
	status int
	detail string // what is said when nothing more exact is known
}

// The table of refusals. A code has one status and is never renamed.
var (
	badRequest      = kind{"bad_request", 400, "the request is malformed"}
	unauthorized    = kind{"unauthorized", 401, "the token is missing or wrong"}
	forbidden       = kind{"forbidden", 403, "the call is for administrators, or a browser sent it from another page than this listener's own"}
	accountInactive = kind{"account_inactive", 403, "the account is inactive: it can read, and an administrator can switch it on"}
	keyNotFound     = kind{"key_not_found", 404, "there is no such key"}
	accountNotFound = kind{"account_not_found", 404, "there is no such account"}
	tokenNotFound   = kind{"token_not_found", 404, "the account has no such token"}
	pathNotFound    = kind{"not_found", 404, "there is nothing at this path"}
	wrongMethod     = kind{"method_not_allowed", 405, "the method is not allowed here: see Allow"}
	keyLimitReached = kind{"key_limit_reached", 409, "the account has all the keys it may have: delete one first"}
	accountExists   = kind{"account_exists", 409, "there is an account with this id"}
	accountHasKeys  = kind{"account_has_keys", 409, "the account still has keys: delete them first, or with it by ?with_keys=true"}
	defaultAccount  = kind{"default_account", 409, `the account "default" cannot be deleted: switch it off instead`}
	nameTaken       = kind{"name_taken", 409, "another key of the account has this name"}
	overlapRunning  = kind{"overlap_running", 409, "the previous secret still works: wait until previous_valid_until, end it by {\"previous_secret\": null}, or rotate without an overlap, which ends the present one at once"}
	versionMismatch = kind{"version_mismatch", 412, "it has changed since: read it again"}
	bodyTooLarge    = kind{"body_too_large", 413, "the body may have at most 16 KiB"}
	wrongMediaType  = kind{"unsupported_media_type", 415, "the body must be sent as Content-Type: application/json, in UTF-8 and not compressed"}
	unknownHost     = kind{"unknown_host", 421, "this listener does not answer to the name in the Host header: add the name to admin.hosts, or use localhost or the address"}
	invalidBody     = kind{"invalid_body", 422, "the body does not fit the schema: see errors"}
	invalidName     = kind{"invalid_name", 422, "the name is not acceptable"}
	invalidAccount  = kind{"invalid_account", 422, "an account's id has 1 to 64 ASCII letters, digits and ._@+-, of which the first is a letter or digit"}
	operationReused = kind{"idempotency_key_reused", 422, "this Idempotency-Key was used for another request within the last 24 hours"}
	rateLimited     = kind{"rate_limited", 429, "the account has changed its keys 100 times at once, and then may once a second: wait as long as Retry-After says"}
	internalError   = kind{"internal_error", 500, "something went wrong inside: the log has more under the request id"}
	storeDown       = kind{"store_unreachable", 503, "the key store cannot be reached, or did not confirm the change: read what it was to change before trying again, or repeat a creation with the same Idempotency-Key"}
)

// storeErrors maps what a store says to what the client reads.
var storeErrors = []struct {
	err  error
	kind kind
}{
	{keys.ErrNotFound, keyNotFound},
	{keys.ErrNoAccount, accountNotFound},
	{keys.ErrNoToken, tokenNotFound},
	{keys.ErrAccountExists, accountExists},
	{keys.ErrAccountHasKeys, accountHasKeys},
	{keys.ErrDefaultAccount, defaultAccount},
	{keys.ErrNameTaken, nameTaken},
	{keys.ErrOperationReused, operationReused},
	{keys.ErrOverlap, overlapRunning},
	{keys.ErrUnavailable, storeDown},
	{context.Canceled, storeDown}, // the client has gone
	{context.DeadlineExceeded, storeDown},
	{errVersionMismatch, versionMismatch},
}

// problem is a problem document (RFC 9457).
type problem struct {
	Type      string  `json:"type" enum:"about:blank" doc:"Always about:blank: the code tells problems apart."`
	Title     string  `json:"title" doc:"The name of the status."`
	Status    int     `json:"status" doc:"The HTTP status."`
	Detail    string  `json:"detail" doc:"What went wrong here, for people."`
	Code      string  `json:"code" doc:"What went wrong, for programs. It has one status and is never renamed."`
	RequestID string  `json:"request_id" doc:"As in X-Request-Id and in the log."`
	Limit     int     `json:"limit,omitempty" doc:"With key_limit_reached: how many keys the account may have."`
	Errors    []fault `json:"errors,omitempty" nullable:"false" doc:"With invalid_body: what is wrong, at most 8 entries."`

	header http.Header
}

// fault is one mistake in a body.
type fault struct {
	Location string `json:"location" doc:"Where, such as body.rate.burst." example:"body.active"`
	Message  string `json:"message" doc:"What is wrong there." example:"expected boolean"`
}

// problem returns the problem document of k; an empty detail means the usual one.
func (k kind) problem(detail string) *problem {
	if detail == "" {
		detail = k.detail
	}
	return &problem{
		Type: "about:blank", Title: http.StatusText(k.status), Status: k.status,
		Detail: detail, Code: k.code,
	}
}

// Error returns the detail.
func (p *problem) Error() string { return p.Detail }

// GetStatus returns the HTTP status.
func (p *problem) GetStatus() int { return p.Status }

// ContentType says what huma is to call the document.
func (*problem) ContentType(string) string { return problemMediaType }

// problemOf returns what a client may read about err.
func problemOf(err error) *problem {
	if p := (*problem)(nil); errors.As(err, &p) {
		return p
	}
	if full := (*keys.LimitError)(nil); errors.As(err, &full) {
		p := keyLimitReached.problem("")
		p.Limit = full.Limit
		return p
	}
	if name := (*keys.NameError)(nil); errors.As(err, &name) {
		return invalidName.problem(name.Error())
	}
	for _, row := range storeErrors {
		if errors.Is(err, row.err) {
			p := row.kind.problem("")
			if p.Status == http.StatusServiceUnavailable {
				p.header = http.Header{"Retry-After": {"1"}}
			}
			return p
		}
	}
	return internalError.problem("")
}

// writeProblem answers with p, outside of huma.
func writeProblem(w http.ResponseWriter, r *http.Request, p *problem) {
	p.RequestID = callOf(r.Context()).id
	for name, values := range p.header {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Type", problemMediaType)
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p)
}

// finishProblem is a huma transformer: it completes the problems that huma writes.
func finishProblem(ctx huma.Context, _ string, v any) (any, error) {
	p, ok := v.(*problem)
	if !ok {
		return v, nil
	}
	p.RequestID = callOf(ctx.Context()).id
	for name, values := range p.header {
		ctx.SetHeader(name, strings.Join(values, ", "))
	}
	return p, nil
}

// reporting wraps an operation: it turns its error into what the client may read, and
// logs the rest.
func reporting[I, O any](a *Admin, operation func(context.Context, *I) (*O, error)) func(context.Context, *I) (*O, error) {
	return func(ctx context.Context, in *I) (*O, error) {
		out, err := operation(ctx, in)
		if err == nil {
			return out, nil
		}
		return nil, a.refuse(ctx, err)
	}
}

// refuse returns what a client may read about err, and logs what is no fault of the client.
func (a *Admin) refuse(ctx context.Context, err error) *problem {
	p := problemOf(err)
	if p.Status >= http.StatusInternalServerError {
		a.logFailure(ctx, err)
	}
	return p
}

// problemFromHuma makes the problem of a request that huma refused. The values that huma
// would send back are dropped: they are the client's body, secrets and all.
func problemFromHuma(status int, message string, errs ...error) huma.StatusError {
	var faults []fault
	body := false
	for _, err := range errs {
		if p := (*problem)(nil); errors.As(err, &p) {
			return p
		}
		detail := (*huma.ErrorDetail)(nil)
		if errors.As(err, &detail) && len(faults) < maxFaults {
			body = body || strings.HasPrefix(detail.Location, "body")
			faults = append(faults, fault{shown(detail.Location), shown(detail.Message)})
		}
	}
	switch {
	case status == http.StatusUnprocessableEntity && body:
		p := invalidBody.problem("")
		p.Errors = faults
		return p
	case status == http.StatusBadRequest || status == http.StatusUnprocessableEntity:
		return badRequest.problem(badRequestDetail(message, faults))
	case status == http.StatusRequestEntityTooLarge:
		return bodyTooLarge.problem("")
	case status == http.StatusUnsupportedMediaType:
		return wrongMediaType.problem("")
	}
	return internalError.problem("")
}

func badRequestDetail(message string, faults []fault) string {
	if len(faults) == 0 {
		return message
	}
	return faults[0].Location + ": " + faults[0].Message
}

// mayHoldSecret reports whether a secret or a token could be in a client's text, even a damaged one.
func mayHoldSecret(text string) bool {
	return strings.Contains(text, keys.SecretPrefix) || strings.Contains(text, keys.AdminTokenPrefix) ||
		strings.Contains(text, keys.AccountTokenPrefix)
}

// shown returns text of a client so that it can be sent back or logged: short, and nothing of
// it when mayHoldSecret.
func shown(text string) string {
	if mayHoldSecret(text) {
		return redacted
	}
	if len(text) > maxShown {
		text = text[:maxShown] + "..."
	}
	if !utf8.ValidString(text) {
		text = strings.ToValidUTF8(text, "")
	}
	return text
}
