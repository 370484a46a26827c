package apitest

import (
	"bytes"
	"io"
	"net/http"
)

// Transport is an http.RoundTripper that checks the replies which pass through it.
type Transport struct {
	Base     http.RoundTripper
	Document *Document
	// Report is told of every reply that is not as described, and may be called by several
	// goroutines at once.
	Report func(error)
}

// RoundTrip sends the request. Replies that break off are not checked, and break off as they did.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := t.Base.RoundTrip(r)
	if err != nil || !t.Document.covers(r.URL.EscapedPath()) {
		return response, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	response.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body), broken{err}))
	if err != nil {
		return response, nil
	}
	if err := t.Document.Check(r.Method, r.URL.EscapedPath(), response.StatusCode, response.Header, body); err != nil {
		t.Report(err)
	}
	return response, nil
}

// broken is a body that ends with err, or as others do when it is nil.
type broken struct{ err error }

// Read returns the end.
func (b broken) Read([]byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	return 0, io.EOF
}
