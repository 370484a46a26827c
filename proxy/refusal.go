package proxy

import (
	"cmp"
	"encoding/json"
	"math"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"keystile/keys"
)

const (
	// maxEchoedPath bounds how much of a path an error body repeats, in bytes.
	maxEchoedPath = 256
	// drainDeadline bounds how long a refused client may take to send the body that
	// nobody will read.
	drainDeadline = 5 * time.Second
)

// refusal is a verdict and what the client is told beside the table's words.
type refusal struct {
	verdict    Verdict
	message    string        // "": the table's
	retryAfter time.Duration // rounded up to seconds where waiting helps; 0: none
	noRetry    bool          // the upstream may have been charged: SDKs must not repeat
}

// errorBody is one body that Spring-style, OpenAI-style and Anthropic-style clients
// all understand.
type errorBody struct {
	Type      string      `json:"type"`
	Status    int         `json:"status"`
	Code      string      `json:"code"`
	Message   string      `json:"message"`
	RequestID string      `json:"request_id"`
	Timestamp string      `json:"timestamp"`
	Path      string      `json:"path"`
	Error     errorDetail `json:"error"`
}

type errorDetail struct {
	Type    string `json:"type"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

// refuse ends the exchange with an error body.
func (p *Proxy) refuse(x *exchange, r refusal) {
	x.verdict = r.verdict
	ruling := rulings[r.verdict]
	message := cmp.Or(r.message, ruling.message)
	h := x.out.Header()
	clear(h) // what an informational response may have left
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set(requestIDHeader, x.requestID)
	switch {
	case ruling.status == http.StatusUnauthorized:
		h.Set("WWW-Authenticate", `Bearer realm="keystile"`)
	case ruling.status == http.StatusMethodNotAllowed:
		h.Set("Allow", strings.Join(methods, ", "))
	}
	if r.retryAfter > 0 && (ruling.status == http.StatusTooManyRequests || ruling.status == http.StatusServiceUnavailable) {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(r.retryAfter.Seconds()))))
	}
	if r.noRetry {
		h.Set("X-Should-Retry", "false")
	}
	if x.body.unread() {
		h.Set("Connection", "close")
	}
	// Halved, because the answer is written only when the body has been waited for.
	x.out.boundBody(x.in, min(drainDeadline, p.options.WriteProgress/2))
	told := newErrorBody(ruling.status, ruling.code, message, p.options.Now())
	told.RequestID, told.Path = x.requestID, pathOf(x.in)
	body, _ := json.Marshal(told) // strings and numbers: it cannot fail
	x.out.WriteHeader(ruling.status)
	_, _ = x.out.Write(append(body, '\n'))
}

func newErrorBody(status int, code, message string, now time.Time) errorBody {
	return errorBody{
		Type: "error", Status: status, Code: code, Message: message,
		Timestamp: now.UTC().Format("2006-01-02T15:04:05.000Z07:00"),
		Error:     errorDetail{Type: errorType(status), Code: code, Message: message},
	}
}

// pathOf returns the path as the client sent it, for people to read: without the
// query, without anything that looks like a secret, and bounded.
func pathOf(r *http.Request) string {
	path, _, _ := strings.Cut(r.RequestURI, "?")
	if hidesSecret(path) {
		path = "/[redacted]"
	}
	path = keys.Redact(path)
	if len(path) > maxEchoedPath {
		path = path[:maxEchoedPath]
	}
	return strings.ToValidUTF8(path, "\uFFFD")
}

// percentEncoded is one encoded byte. url.PathUnescape would stop at the first that is
// malformed.
var percentEncoded = regexp.MustCompile("%[0-9A-Fa-f]{2}")

// hidesSecret reports whether a secret shows once percent-encoding is undone, up to
// three times over.
func hidesSecret(path string) bool {
	for range 3 {
		if !strings.Contains(path, "%") {
			return false
		}
		path = percentEncoded.ReplaceAllStringFunc(path, func(code string) string {
			b, _ := strconv.ParseUint(code[1:], 16, 8)
			return string([]byte{byte(b)})
		})
		if strings.Contains(path, keys.SecretPrefix) {
			return true
		}
	}
	return false
}
