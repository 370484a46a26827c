package admin

import (
	"embed"
	"net/http"
	"path"

	"github.com/go-chi/chi/v5"
)

const (
	consoleFolder = "console"
	consolePage   = "index.html"
)

// consoleFiles are what a browser gets, as they are: there is no build step.
//
//go:embed console
var consoleFiles embed.FS

// consoleTypes are the media types by the end of the name. Those of the machine may differ.
var consoleTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
}

// contentPolicy lets the page load and call nothing but this listener, run only scripts
// that are files, and be framed by nobody (CSP Level 3). Icons are part of the page.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// inertPolicy is for replies that are no page: they are framed by nobody, and if a browser
// shows one all the same it does nothing.
const inertPolicy = "default-src 'none'; frame-ancestors 'none'"

// console serves the files of the console, the page itself at the root. It tells nothing
// to strangers: what it shows, it asks of the API.
func (a *Admin) console(r chi.Router) {
	entries, err := consoleFiles.ReadDir(consoleFolder)
	if err != nil {
		panic(err) // nothing in it is decided at run time
	}
	for _, entry := range entries {
		name := entry.Name()
		content, err := consoleFiles.ReadFile(path.Join(consoleFolder, name))
		if err != nil {
			panic(err)
		}
		at := "/" + name
		if name == consolePage {
			at = "/"
		}
		r.Get(at, serveFile(consoleTypes[path.Ext(name)], content))
	}
}

func serveFile(mediaType string, content []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", mediaType)
		w.Header().Set("Content-Security-Policy", contentPolicy)
		w.Header().Set("Cross-Origin-Opener-Policy", "same-origin")
		w.Header().Set("Referrer-Policy", "no-referrer")
		_, _ = w.Write(content)
	}
}
