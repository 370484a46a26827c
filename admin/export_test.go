package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"keystile/keys"
)

// exportable is a fake store of which backups can be made.
type exportable struct {
	*fakeStore
	export func(ctx context.Context, w io.Writer) error
}

func (s exportable) Export(ctx context.Context, w io.Writer) error { return s.export(ctx, w) }

// newExportBench is a bench whose store exports as export does.
func newExportBench(t testing.TB, export func(context.Context, io.Writer) error, adjust ...func(*Options)) *bench {
	return newBench(t, append([]func(*Options){func(o *Options) {
		o.Store = exportable{o.Store.(*fakeStore), export}
		o.Now = func() time.Time { return testTime }
	}}, adjust...)...)
}

const exportPath = "/api/v1/store/export"

func writes(text string) func(context.Context, io.Writer) error {
	return func(_ context.Context, w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	}
}

func TestExportIsAFileForTheAdministratorAlone(t *testing.T) {
	b := newExportBench(t, writes("line one\nline two\n"))
	got := b.send("GET", exportPath, "").wants(t, 200, "")
	if got.text != "line one\nline two\n" {
		t.Errorf("got %q", got.text)
	}
	for name, want := range map[string]string{
		"Content-Type": "application/x-ndjson", "Cache-Control": "no-store",
		"Content-Disposition": `attachment; filename="keystile-20260304T120607Z.jsonl"`,
	} {
		if got.header.Get(name) != want {
			t.Errorf("%s is %q", name, got.header.Get(name))
		}
	}
	if !strings.Contains(b.log.String(), `"level":"INFO","msg":"the store was exported","principal":"administrator"`) {
		t.Errorf("the log does not say who has exported the store: %s", b.log)
	}
	b.do(b.request("GET", exportPath, "")).wants(t, 401, "unauthorized")
	if got := b.send("POST", exportPath, "{}").wants(t, 405, "method_not_allowed"); strings.Join(got.header.Values("Allow"), " ") != "GET HEAD" {
		t.Errorf("Allow is %q", got.header.Values("Allow"))
	}
	if got := b.send("GET", exportPath+"?x=1", ""); got.status != 400 {
		t.Errorf("with an unknown query: %d", got.status)
	}
}

func TestHeadOfAnExportMakesNone(t *testing.T) {
	b := newExportBench(t, func(context.Context, io.Writer) error {
		t.Error("an export was made")
		return nil
	})
	got := b.send("HEAD", exportPath, "")
	if got.status != 200 || got.header.Get("Content-Disposition") == "" {
		t.Errorf("got %d %v", got.status, got.header)
	}
}

func TestExportThatCannotBeginIsAProblem(t *testing.T) {
	for code, err := range map[string]error{
		"store_unreachable": fmt.Errorf("%w: the server is away", keys.ErrUnavailable), "internal_error": errors.New("the disk is full"),
	} {
		b := newExportBench(t, func(context.Context, io.Writer) error { return err })
		got := b.send("GET", exportPath, "")
		if got.code() != code || strings.Contains(got.text, err.Error()) || got.header.Get("Content-Disposition") != "" {
			t.Errorf("got %d %s %v", got.status, got.text, got.header)
		}
		if !strings.Contains(b.log.String(), err.Error()) {
			t.Errorf("the log does not say %q", err)
		}
		if code == "store_unreachable" && got.header.Get("Retry-After") == "" {
			t.Error("there is no Retry-After")
		}
	}
}

func TestExportThatFailsOnTheWayIsABrokenTransfer(t *testing.T) {
	b := newExportBench(t, func(_ context.Context, w io.Writer) error {
		_, _ = io.WriteString(w, strings.Repeat("line\n", 10_000))
		return errors.New("the disk is gone")
	})
	request := b.request("GET", exportPath, "")
	request.Header.Set("Authorization", "Bearer "+testToken)
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if text, err := io.ReadAll(response.Body); err == nil {
		t.Errorf("%d bytes ended as if they were all", len(text))
	}
	if !strings.Contains(b.log.String(), "the disk is gone") {
		t.Error("the log does not say why")
	}
}

// The listener's limits suit short requests; an export may take longer than any.
func TestExportOutlastsTheTimeoutsOfTheListener(t *testing.T) {
	t.Parallel()
	const limit = time.Second // in which the listener has to get as far as the export
	b := newExportBench(t, func(ctx context.Context, w io.Writer) error {
		for range 2 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(limit * 3 / 2): // nothing must happen
			}
			if _, err := io.WriteString(w, strings.Repeat("line\n", 10_000)); err != nil {
				return err
			}
		}
		return nil
	})
	server := httptest.NewUnstartedServer(nil)
	server.Config = NewServer(b.admin, nil)
	server.Config.ReadTimeout, server.Config.WriteTimeout = limit, limit
	server.Start()
	t.Cleanup(server.Close)
	b.url = server.URL
	if got := b.send("GET", exportPath, "").wants(t, 200, ""); len(got.text) != 100_000 {
		t.Errorf("got %d bytes", len(got.text))
	}
}

// A client that has gone ends the export.
func TestExportEndsWithItsClient(t *testing.T) {
	began, ended, enough := make(chan struct{}), make(chan error, 1), make(chan struct{})
	b := newExportBench(t, func(ctx context.Context, _ io.Writer) error {
		close(began)
		select {
		case <-ctx.Done():
		case <-enough:
		}
		ended <- ctx.Err()
		return ctx.Err()
	})
	conn, err := net.Dial("tcp", strings.TrimPrefix(b.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	_, _ = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n\r\n", exportPath, testToken)
	<-began
	_ = conn.Close()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	case <-time.After(20 * time.Second):
		close(enough)
		t.Error("it goes on")
	}
}

func TestExportIsDescribedWhereThereIsOne(t *testing.T) {
	d, text := describe(t, newExportBench(t, writes("")))
	call := d.Paths["/store/export"]["get"]
	if call.Summary == "" || call.OperationID != "export-store" || len(call.Responses) != 7 {
		t.Errorf("got %+v", call)
	}
	if _, ok := call.Responses["200"].Content["application/x-ndjson"]; !ok || !json.Valid([]byte(text)) {
		t.Errorf("200 is %+v", call.Responses["200"])
	}
	r, w := httptest.NewRequest("GET", "http://localhost"+exportPath, nil), httptest.NewRecorder()
	r.Header.Set("Authorization", "Bearer "+testToken)
	newBench(t).admin.ServeHTTP(w, r) // the committed description knows the call
	if w.Code != http.StatusNotFound {
		t.Errorf("a store that is no Exporter answers %d", w.Code)
	}
}
