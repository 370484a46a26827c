package admin

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// backupMediaType is JSON, one object a line.
const backupMediaType = "application/x-ndjson"

// exportStall is how long a client may take no byte of a backup. There is no limit on
// the whole: of a large store it takes longer than other replies.
const exportStall = 30 * time.Second

// Exporter is a store of which a backup can be made while it serves.
type Exporter interface {
	// Export writes a backup of one moment of the store, without secrets.
	Export(ctx context.Context, w io.Writer) error
}

var exportOperation = description{
	id: "export-store", summary: "Export the store",
	text: "A backup of the whole store at one moment, as a file for \"keystile store import\": digests, never secrets. It ends with a checksum; a transfer that breaks is refused by the import.",
}

func exportReply() map[string]*huma.Response {
	return map[string]*huma.Response{"200": {
		Description: "The backup",
		Headers: map[string]*huma.Param{
			"Content-Disposition": {Description: "A name for the file.", Schema: &huma.Schema{Type: huma.TypeString}},
		},
		Content: map[string]*huma.MediaType{backupMediaType: {Schema: &huma.Schema{Type: huma.TypeString}}},
	}}
}

// exportStore answers with a backup, or with a problem as long as nothing was sent. After
// that a failure breaks the transfer off, so that nobody takes a part for the whole.
func (a *Admin) exportStore(w http.ResponseWriter, r *http.Request) error {
	file := &attachment{to: w, control: http.NewResponseController(w), name: "keystile-" + a.now().UTC().Format("20060102T150405Z") + ".jsonl"}
	if r.Method == http.MethodHead {
		file.begin()
		return nil
	}
	err := a.exporter.Export(r.Context(), file)
	switch {
	case err == nil:
		c := callOf(r.Context())
		a.log.InfoContext(r.Context(), "the store was exported", "principal", c.principal.String(), "peer", r.RemoteAddr, "request_id", c.id, "bytes", file.sent)
		return nil
	case !file.begun:
		return err
	}
	a.logFailure(r.Context(), err)
	panic(http.ErrAbortHandler)
}

// attachment is a reply that is a file. Its headers are sent with the first byte.
type attachment struct {
	to      http.ResponseWriter
	control *http.ResponseController
	name    string
	begun   bool
	sent    int64
}

func (f *attachment) begin() {
	f.begun = true
	f.to.Header().Set("Content-Type", backupMediaType)
	f.to.Header().Set("Content-Disposition", `attachment; filename="`+f.name+`"`)
	f.to.WriteHeader(http.StatusOK)
}

// Write sends a part of the file.
func (f *attachment) Write(p []byte) (int, error) {
	if !f.begun {
		f.begin()
	}
	_ = f.control.SetWriteDeadline(time.Now().Add(exportStall))
	n, err := f.to.Write(p)
	f.sent += int64(n)
	return n, err
}
