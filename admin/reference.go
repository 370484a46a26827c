package admin

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"io"

	"github.com/go-chi/chi/v5"
)

// referencePath is where the reference of the API is read.
const referencePath = "/reference"

// The reference of the API is a page that needs nothing from elsewhere. A test makes it from
// the description and holds it against that (reference_test.go). Compressed it is a tenth.
var (
	//go:embed reference/index.html.gz
	referencePage []byte
	//go:embed reference/reference.css
	referenceStyle []byte
)

// reference serves the page and its style. Like the console it tells nothing of what is in the
// store, and needs no token.
func (a *Admin) reference(r chi.Router) {
	page, err := unpack(referencePage)
	if err != nil {
		panic(err) // nothing in it is decided at run time
	}
	r.Get(referencePath, serveFile(consoleTypes[".html"], page))
	r.Get(referencePath+".css", serveFile(consoleTypes[".css"], referenceStyle))
}

func unpack(packed []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}
