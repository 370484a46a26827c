package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const head = `{"config":{"protocol_version":"v1.0.0","scan_level":"symbol"}}
{"progress":{"message":"scanning"}}
{"osv":{"id":"GO-2026-0001","summary":"a crash","affected":[{"package":{"name":"stdlib"}}]}}
{"osv":{"id":"GO-2026-0002","summary":"a leak"}}
{"finding":{"osv":"GO-2026-0002","fixed_version":"v1.26.9","trace":[{"module":"stdlib","version":"v1.26.8"}]}}
{"finding":{"osv":"GO-2026-0002","trace":[{"module":"stdlib","version":"v1.26.8","package":"net/http"}]}}
`

const called = `{"finding":{"osv":"GO-2026-0001","fixed_version":"v1.26.9","trace":[
 {"module":"stdlib","version":"v1.26.8","package":"net/http","function":"Serve","receiver":"*Server"},
 {"module":"keystile","package":"keystile/proxy","function":"New","position":{"filename":"proxy/proxy.go","line":12}}]}}
`

// outcome runs the command on a report and a list, and returns its exit code and everything it printed.
func outcome(t *testing.T, report, known string) (int, string) {
	t.Helper()
	folder := t.TempDir()
	list, input := filepath.Join(folder, "known.txt"), filepath.Join(folder, "report.json")
	for path, text := range map[string]string{list: known, input: report} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	code := run([]string{"-known", list, input}, &out, &out)
	return code, out.String()
}

func TestVerdicts(t *testing.T) {
	tests := map[string]struct {
		report, known string
		code          int
		says          string
	}{
		"nothing called passes":                     {head, "", 0, "0 called, 1 more in code that is not called, 2 looked at"},
		"an unlisted call fails":                    {head + called, "", 1, "NOT KNOWN"},
		"a listed call passes with its reason":      {head + called, "GO-2026-0001 no HTTP/2", 0, "known: no HTTP/2"},
		"listing another does not help":             {head + called, "GO-2026-0002 whatever", 1, "NOT KNOWN"},
		"a listed one only imported is stale":       {head, "GO-2026-0002 once called", 1, "GO-2026-0002 is not called any more"},
		"a listed one unknown to the database":      {head, "GO-2026-0009 newer", 0, "GO-2026-0009 is not in this database"},
		"a line without reason is a wrong call":     {head, "GO-2026-0001", 2, "and then a reason"},
		"a scan of modules only is refused":         {`{"config":{"scan_level":"module"}}`, "", 2, `got "module"`},
		"an empty report is refused":                {"", "", 2, "expected a scan of symbols"},
		"a report cut short is refused":             {head + called[:40], "", 2, "not the output of govulncheck"},
		"text is refused":                           {"No vulnerabilities found.", "", 2, "not the output of govulncheck"},
		"the call's place and the fix are shown":    {head + called, "", 1, "mended in v1.26.9): net/http.Server.Serve, called from keystile/proxy.New (proxy/proxy.go:12)"},
		"the summary of the vulnerability is shown": {head + called, "", 1, "GO-2026-0001: a crash"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			code, out := outcome(t, test.report, test.known)
			if code != test.code || !strings.Contains(out, test.says) {
				t.Errorf("exit %d, want %d; expected %q in:\n%s", code, test.code, test.says, out)
			}
		})
	}
}

func TestCalledWronglyIsExitTwo(t *testing.T) {
	for _, args := range [][]string{{}, {"a", "b"}, {"-unknown"}, {"/does/not/exist.json"}, {"-known", "/does/not/exist", "x"}} {
		var out bytes.Buffer
		if code := run(args, &out, &out); code != 2 || out.Len() == 0 {
			t.Errorf("%q: exit %d with %q, want 2 and a sentence", args, code, out.String())
		}
	}
}
