package proxy

import (
	"crypto/rand"
	"net/http"
	"strings"
)

// requestIDHeader carries the request id, both ways.
const requestIDHeader = "X-Request-Id"

// maxRequestID is the greatest length of a request id that is taken over.
const maxRequestID = 64

// requestID returns the client's request id where it is well formed (1 to 64
// letters, digits, dots, dashes and underscores, sent once), else a new one.
func requestID(h http.Header) string {
	if values := h[requestIDHeader]; len(values) == 1 && wellFormedRequestID(values[0]) {
		return values[0]
	}
	return rand.Text()
}

func wellFormedRequestID(id string) bool {
	return id != "" && len(id) <= maxRequestID && !strings.Contains(id, "kss_") && !strings.ContainsFunc(id, func(r rune) bool {
		return !('0' <= r && r <= '9' || 'A' <= r && r <= 'Z' || 'a' <= r && r <= 'z' || r == '.' || r == '-' || r == '_')
	})
}
