package admin

import (
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
)

// statusHeaders are the headers that a status always has, whatever the operation.
var statusHeaders = map[int]struct{ name, text string }{
	http.StatusNotModified:        {"ETag", "As sent in If-None-Match."},
	http.StatusUnauthorized:       {"WWW-Authenticate", "How to authenticate (RFC 6750)."},
	http.StatusTooManyRequests:    {"Retry-After", "Seconds until another try is worth it."},
	http.StatusServiceUnavailable: {"Retry-After", "Seconds until another try is worth it."},
}

// optionalHeaders are left out where they have no value. Others that huma finds in an
// output are always there.
var optionalHeaders = map[string]bool{"Set-Cookie": true}

// callers is an extension of OpenAPI: who may call an operation.
const callers = "x-callers"

// complete adds to a description what huma leaves out.
func complete(document *huma.OpenAPI) {
	for _, item := range document.Paths {
		for _, operation := range []*huma.Operation{item.Get, item.Post, item.Patch, item.Delete} {
			if operation != nil {
				rule, _ := operation.Metadata[accessRule].(access)
				operation.Extensions = map[string]any{callers: rule.callers()}
				describeHeaders(operation)
			}
		}
	}
}

// callers returns the words for whose calls are taken.
func (a access) callers() []string {
	switch a {
	case accountsToo:
		return []string{"administrator", "account"}
	case everybody:
		return []string{"administrator", "account", "stranger"}
	}
	return []string{"administrator"}
}

// describeHeaders completes the headers of all responses: huma describes those of an
// output alone, and none as certain.
func describeHeaders(operation *huma.Operation) {
	for status, response := range operation.Responses {
		code, _ := strconv.Atoi(status)
		if header, always := statusHeaders[code]; always {
			response.Headers = map[string]*huma.Header{
				header.name: {Description: header.text, Schema: &huma.Schema{Type: huma.TypeString}},
			}
		}
	}
	if created, replayed := operation.Responses["201"], operation.Responses["200"]; created != nil && replayed != nil {
		replayed.Headers = created.Headers
	}
	for _, response := range operation.Responses {
		for name, header := range response.Headers {
			header.Required = !optionalHeaders[name]
		}
	}
}
