package proxy

import "net/http"

// Verdict is the outcome of a request. Its word is the same in the metric label, the
// log field and the code of the error body.
type Verdict uint8

// The verdicts, in the order of the path. Allowed is the only one that lets a
// request through; those after InternalError are told after it was let through.
const (
	Allowed Verdict = iota
	BadRequest
	MethodNotAllowed
	HeadersTooLarge
	MissingCredentials
	MalformedCredentials
	AmbiguousCredentials
	StoreUnreachable
	BadCredentials
	KeyInactive
	RateLimited
	BodyTooLarge
	InternalError
	UpstreamUnreachable
	UpstreamTimeout
	ShuttingDown
	ClientGone
	verdictCount
)

// statusClientGone is written to metrics and logs when nobody is there to read a
// status (nginx's number for it).
const statusClientGone = 499

// ruling is what the table says of a verdict.
type ruling struct {
	code    string
	status  int
	message string // for the client; a refusal may carry a more exact one
}

// rulings maps a verdict to its word, its status and its message.
var rulings = [verdictCount]ruling{
	Allowed:              {"allowed", http.StatusOK, ""},
	BadRequest:           {"bad_request", http.StatusBadRequest, "The request cannot be forwarded as it stands."},
	MethodNotAllowed:     {"method_not_allowed", http.StatusMethodNotAllowed, "This method is not forwarded. Use one of the methods in the Allow header."},
	HeadersTooLarge:      {"headers_too_large", http.StatusRequestHeaderFieldsTooLarge, "The request has more than 100 header lines."},
	MissingCredentials:   {"missing_credentials", http.StatusUnauthorized, "No credentials were sent. Send X-Key and X-Secret, or the secret as Authorization: Bearer or x-api-key."},
	MalformedCredentials: {"malformed_credentials", http.StatusUnauthorized, "The credentials are not well formed."},
	AmbiguousCredentials: {"ambiguous_credentials", http.StatusUnauthorized, "More than one set of credentials was sent. Send exactly one."},
	StoreUnreachable:     {"store_unreachable", http.StatusServiceUnavailable, "The keys cannot be verified at the moment. Your credentials were not judged; try again shortly."},
	BadCredentials:       {"bad_credentials", http.StatusUnauthorized, "The key is unknown or the secret is wrong."},
	KeyInactive:          {"key_inactive", http.StatusUnauthorized, "The key, or the account that it belongs to, is switched off. Whoever manages it can switch it on again."},
	RateLimited:          {"rate_limited", http.StatusTooManyRequests, "The key has reached its request rate. Wait as Retry-After says."},
	BodyTooLarge:         {"body_too_large", http.StatusRequestEntityTooLarge, "The request body is larger than this service accepts."},
	InternalError:        {"internal_error", http.StatusInternalServerError, "Something went wrong in the proxy. Quote the request id when you report it."},
	UpstreamUnreachable:  {"upstream_unreachable", http.StatusBadGateway, "The service behind the proxy cannot be reached or broke off."},
	UpstreamTimeout:      {"upstream_timeout", http.StatusGatewayTimeout, "The service behind the proxy did not answer in time."},
	ShuttingDown:         {"shutting_down", http.StatusServiceUnavailable, "The proxy is shutting down. Try again."},
	ClientGone:           {"client_gone", statusClientGone, ""},
}

// String returns the word of the verdict.
func (v Verdict) String() string { return rulings[v].code }

// mayFollowAnyStatus reports whether an answer may already have begun, with any
// status, when the verdict is found.
func (v Verdict) mayFollowAnyStatus() bool {
	switch v {
	case Allowed, BadRequest, BodyTooLarge, InternalError, UpstreamUnreachable, UpstreamTimeout,
		ShuttingDown, KeyInactive, BadCredentials: // the last two: the key was revoked meanwhile
		return true
	}
	return false
}

// errorType is the word that SDKs of OpenAI's and Anthropic's family look at.
func errorType(status int) string {
	switch {
	case status == http.StatusUnauthorized:
		return "authentication_error"
	case status == http.StatusForbidden:
		return "permission_error"
	case status == http.StatusTooManyRequests:
		return "rate_limit_error"
	case status >= 500:
		return "api_error"
	}
	return "invalid_request_error"
}
