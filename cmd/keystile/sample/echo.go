package sample

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"strconv"
)

const maxStream = 1 << 30 // bytes that /bytes sends, and that /echo reads, at most

// echo answers any method with what arrived. The path is as it was sent, with
// its escapes and repeated slashes.
func (s *service) echo(w http.ResponseWriter, r *http.Request) {
	sum := sha256.New()
	size, err := io.Copy(sum, http.MaxBytesReader(w, r.Body, maxStream))
	if err != nil {
		refuse(w, r, bodyRefusal(err))
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"method":         r.Method,
		"host":           r.Host,
		"path":           r.URL.EscapedPath(),
		"raw_query":      r.URL.RawQuery,
		"headers":        r.Header,
		"trailers":       r.Trailer,
		"content_length": r.ContentLength, // -1: not declared
		"body_size":      size,
		"body_sha256":    fmt.Sprintf("%x", sum.Sum(nil)),
	})
}

// bytes sends as many bytes as the path asks for, the same for each number.
func (s *service) bytes(w http.ResponseWriter, r *http.Request) {
	count, err := strconv.ParseInt(r.PathValue("n"), 10, 64)
	if err != nil || count < 0 || count > maxStream {
		refuse(w, r, refusal{http.StatusBadRequest, fmt.Sprintf(
			"'%s' is not a number of bytes from 0 to %d", r.PathValue("n"), maxStream)})
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(count, 10))
	if r.Method == http.MethodHead {
		return
	}
	block := bytes.Repeat([]byte("0123456789abcdef"), 2<<10)
	for count > 0 {
		n, err := w.Write(block[:min(count, int64(len(block)))])
		if err != nil {
			return // the client has left
		}
		count -= int64(n)
	}
}
