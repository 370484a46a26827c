package admin

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// hostileBodies are refused by POST and PATCH alike, with this status and code.
var hostileBodies = []struct {
	body   string
	status int
	code   string
}{
	{`{"name":"a","name":"b"}`, 400, "bad_request"},
	{`{"name":"a","\u006eame":"b"}`, 400, "bad_request"},
	{`{"rate":{"burst":1,"per_second":1,"burst":2}}`, 400, "bad_request"},
	{`{"x":[{"y":{"z":1,"z":1}}]}`, 400, "bad_request"},
	{`{"name":"a"}{}`, 400, "bad_request"},
	{`{"name":"a"} x`, 400, "bad_request"},
	{`{"name":"a",}`, 400, "bad_request"},
	{`{'name':'a'}`, 400, "bad_request"},
	{`{name:"a"}`, 400, "bad_request"},
	{`{"name":"a"`, 400, "bad_request"},
	{`{"name":"a` + "\n" + `b"}`, 400, "bad_request"},
	{`{"name":"a` + "\xff" + `"}`, 400, "bad_request"},
	{`{"na` + "\xc0\xaf" + `me":"a"}`, 400, "bad_request"},
	{"\ufeff" + `{"name":"a"}`, 400, "bad_request"},
	{`{"name":"\ud800"}`, 400, "bad_request"},
	{`{"name":"\udc00\ud800"}`, 400, "bad_request"},
	{`{"name":"\ud800\\udc00"}`, 400, "bad_request"},
	{`{"name":"\uD83Dx\uDE00"}`, 400, "bad_request"},
	{`{"rate":{"per_second":1e999,"burst":1}}`, 400, "bad_request"},
	{` `, 400, "bad_request"},
	{strings.Repeat("[", 16000), 400, "bad_request"},
	{strings.Repeat("[", 20) + strings.Repeat("]", 20), 400, "bad_request"},
	{`{"x":` + strings.Repeat(`{"x":`, 20) + `1` + strings.Repeat("}", 21), 400, "bad_request"},
	{`null`, 422, "invalid_body"},
	{`[]`, 422, "invalid_body"},
	{`"name"`, 422, "invalid_body"},
	{`7`, 422, "invalid_body"},
	{`true`, 422, "invalid_body"},
	{`{"Name":"a"}`, 422, "invalid_body"},
	{`{"NAME":"a","name":"b"}`, 422, "invalid_body"},
	{`{"nam\u212a":"a"}`, 422, "invalid_body"},
	{`{"name":"a","extra":1}`, 422, "invalid_body"},
	{`{"$schema":"x"}`, 422, "invalid_body"},
	{`{"key":"kst_x"}`, 422, "invalid_body"},
	{`{"":1}`, 422, "invalid_body"},
	{`{"name":null}`, 422, "invalid_body"},
	{`{"name":7}`, 422, "invalid_body"},
	{`{"name":["a"]}`, 422, "invalid_body"},
	{`{"rate":7}`, 422, "invalid_body"},
	{`{"rate":{}}`, 422, "invalid_body"},
	{`{"rate":{"per_second":1}}`, 422, "invalid_body"},
	{`{"rate":{"per_second":0,"burst":0}}`, 422, "invalid_body"},
	{`{"rate":{"per_second":0,"burst":1}}`, 422, "invalid_body"},
	{`{"rate":{"per_second":-1,"burst":1}}`, 422, "invalid_body"},
	{`{"rate":{"per_second":1,"burst":0}}`, 422, "invalid_body"},
	{`{"rate":{"per_second":1,"burst":1.5}}`, 422, "invalid_body"},
	{`{"rate":{"per_second":1,"burst":1e2}}`, 422, "invalid_body"},
	{`{"rate":{"per_second":1,"burst":2147483648}}`, 422, "invalid_body"},
	{`{"rate":{"per_second":1,"burst":1,"Burst":2}}`, 422, "invalid_body"},
	{`{"rate":{"per_second":1,"burst":null}}`, 422, "invalid_body"},
	{`{"rate":{"per_second":"1","burst":1}}`, 422, "invalid_body"},
}

func TestHostileBodyIsRefusedAndChangesNothing(t *testing.T) {
	b := newBench(t)
	key, _ := b.create(`{"name":"kept"}`)
	path := "/api/v1/keys/" + key
	for _, row := range hostileBodies {
		for method, path := range map[string]string{"POST": "/api/v1/keys", "PATCH": path} {
			got := b.send(method, path, row.body)
			if got.status != row.status || got.code() != row.code {
				t.Errorf("%s %.80s: got %s, want %d %s", method, row.body, got.text, row.status, row.code)
			}
			if faults, _ := got.body["errors"].([]any); (got.code() == "invalid_body") != (len(faults) > 0) {
				t.Errorf("%s %.80s: errors are %v", method, row.body, faults)
			}
			if len(got.text) > 2000 {
				t.Errorf("%s %.80s: %d bytes come back", method, row.body, len(got.text))
			}
		}
	}
	for _, body := range []string{`{"active":null}`, `{"active":"true"}`, `{"active":0}`, `{"account":"default"}`} {
		b.send("PATCH", path, body).wants(t, 422, "invalid_body")
	}
	for _, body := range []string{`{"active":true}`, `{"account":null}`} {
		b.send("POST", "/api/v1/keys", body).wants(t, 422, "invalid_body")
	}
	b.send("PATCH", path, "").wants(t, 400, "bad_request")
	if got := b.send("GET", path, ""); len(b.store.records) != 1 || got.header.Get("ETag") != `"1"` || got.member("name") != "kept" {
		t.Errorf("something changed: %s", got.text)
	}
}

func TestManyFaultsComeBackAsFew(t *testing.T) {
	b := newBench(t)
	var body strings.Builder
	for i := range 250 {
		fmt.Fprintf(&body, `,"%s%d":1`, strings.Repeat("x", 40), i)
	}
	got := b.send("POST", "/api/v1/keys", "{"+body.String()[1:]+"}").wants(t, 422, "invalid_body")
	if faults, _ := got.body["errors"].([]any); len(faults) != maxFaults {
		t.Errorf("%d faults come back", len(faults))
	}
}

func TestUnusualButValidJSONIsAccepted(t *testing.T) {
	b := newBench(t)
	for body, name := range map[string]string{
		" \t\r\n{ \"name\" : \"a\" }\n": "a",
		`{"\u006e\u0061me":"b"}`:        "b",
		`{"name":"\ud83d\ude00"}`:       "😀",
		`{"name":"\\ud800"}`:            `\ud800`,
		`{"name":"\ufffd"}`:             "\ufffd",
		`{"name":"\"\\\/"}`:             `"\/`,
	} {
		made := b.send("POST", "/api/v1/keys", body).wants(t, 201, "")
		if made.member("name") != name {
			t.Errorf("%s: the name is %q", body, made.member("name"))
		}
	}
}

func TestBodyMayHave16KiBAndNotMore(t *testing.T) {
	b := newBench(t)
	padded := func(size int) string { return `{"name":"a"` + strings.Repeat(" ", size-len(`{"name":"a"}`)) + `}` }
	b.send("POST", "/api/v1/keys", padded(maxBody+1)).wants(t, 413, "body_too_large")
	chunked := b.request("POST", "/api/v1/keys", "")
	chunked.Body, chunked.ContentLength = io.NopCloser(strings.NewReader(padded(maxBody+1))), -1
	chunked.Header = http.Header{"Authorization": {"Bearer " + testToken}, "Content-Type": {"application/json"}}
	b.do(chunked).wants(t, 413, "body_too_large")
	b.send("POST", "/api/v1/keys", padded(maxBody)).wants(t, 201, "")
}

func TestBodyOfAnotherMediaTypeIsRefused(t *testing.T) {
	b := newBench(t)
	for _, types := range [][]string{
		{},
		{""},
		{"text/plain"},
		{"application/x-www-form-urlencoded"},
		{"application/merge-patch+json"},
		{"json"},
		{"application/json; charset=latin1"},
		{"application/json;;"},
		{"application/json", "application/json"},
	} {
		request := b.request("POST", "/api/v1/keys", `{}`)
		request.Header = http.Header{"Authorization": {"Bearer " + testToken}, "Content-Type": types}
		b.do(request).wants(t, 415, "unsupported_media_type")
	}
	for _, accepted := range []string{"application/json", "Application/JSON ; charset=\"UTF-8\"", "application/json;x=a+b"} {
		request := b.request("POST", "/api/v1/keys", `{}`)
		request.Header = http.Header{"Authorization": {"Bearer " + testToken}, "Content-Type": {accepted}}
		b.do(request).wants(t, 201, "")
	}
	empty := b.request("POST", "/api/v1/keys", "")
	empty.Header = http.Header{"Authorization": {"Bearer " + testToken}, "Content-Type": {"application/x-www-form-urlencoded"}}
	b.do(empty).wants(t, 201, "")
}

func TestCompressedBodyIsRefused(t *testing.T) {
	b := newBench(t)
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, _ = w.Write([]byte(`{}`))
	_ = w.Close()
	b.send("POST", "/api/v1/keys", packed.String(), "Content-Encoding", "gzip").wants(t, 415, "unsupported_media_type")
}

func TestBrokenBodyIsTheClientsFault(t *testing.T) {
	b := newBench(t)
	connection, err := net.Dial("tcp", strings.TrimPrefix(b.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	fmt.Fprintf(connection, "POST /api/v1/keys HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n"+
		"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\nnot a chunk\r\n", testToken)
	text, err := io.ReadAll(connection)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(text), "HTTP/1.1 400 ") || !strings.Contains(string(text), `"code":"bad_request"`) {
		t.Errorf("got %s", text)
	}
}

func TestAcceptDoesNotChangeTheReply(t *testing.T) {
	b := newBench(t)
	for _, accept := range []string{"json", "text/html", "application/cbor", "application/json;q=0", "*/*;q=x"} {
		if got := b.send("GET", "/api/v1/keys", "", "Accept", accept).wants(t, 200, ""); got.header.Get("Content-Type") != "application/json" {
			t.Errorf("Accept %s: Content-Type is %s", accept, got.header.Get("Content-Type"))
		}
		b.send("GET", "/api/v1/keys/x", "", "Accept", accept).wants(t, 404, "key_not_found")
	}
}
