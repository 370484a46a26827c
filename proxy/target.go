package proxy

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// maxHeaderLines is how many header lines a request may have.
const maxHeaderLines = 100

// methods are the methods that are forwarded.
var methods = []string{
	http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut,
	http.MethodPatch, http.MethodDelete, http.MethodOptions,
}

// checkRequest returns why r cannot be forwarded, whoever sent it, or nil.
func (p *Proxy) checkRequest(r *http.Request) *refusal {
	switch {
	case !slices.Contains(methods, r.Method):
		return &refusal{verdict: MethodNotAllowed}
	case !strings.HasPrefix(r.RequestURI, "/"):
		return &refusal{verdict: BadRequest, message: "The request target must be a path that begins with /."}
	case strings.Contains(r.RequestURI, "#"):
		return &refusal{verdict: BadRequest, message: "The request target must not contain #."}
	case headerLines(r.Header) > maxHeaderLines:
		return &refusal{verdict: HeadersTooLarge}
	case r.ContentLength > p.options.MaxBody:
		return &refusal{verdict: BodyTooLarge}
	case !forwardable(r.URL, rawPath(r.RequestURI)):
		return &refusal{verdict: BadRequest, message: "The path has characters that must be percent-encoded (RFC 3986 section 3.3)."}
	}
	return nil
}

func headerLines(h http.Header) (n int) {
	for _, values := range h {
		n += len(values)
	}
	return n
}

// rawPath is the path of a target in origin form, byte for byte.
func rawPath(target string) string {
	path, _, _ := strings.Cut(target, "?")
	return path
}

// forwardable reports whether net/http can send the path as it is: either it writes
// these very bytes by itself, or it can be told to, which it cannot where the path
// begins with // (it would take what follows for a host).
func forwardable(u *url.URL, path string) bool {
	return u.EscapedPath() == path || !strings.HasPrefix(path, "//")
}

// setTarget gives out the target of a request: base (without a slash at its end)
// before the client's path, and its query, byte for byte.
func setTarget(out *url.URL, base string, in *http.Request) {
	raw, query, hasQuery := strings.Cut(in.RequestURI, "?")
	path := base + raw
	out.Path, out.RawPath, out.Opaque = in.URL.Path, in.URL.RawPath, ""
	if base != "" || out.EscapedPath() != path {
		out.Opaque = path // written as it is; base begins with a single slash
	}
	out.RawQuery = query
	out.ForceQuery = hasQuery && query == ""
}
