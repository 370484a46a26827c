package admin

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"keystile/admin/apitest"
	"keystile/keys"
)

// FuzzAdminJSON sends any body to every call that takes one. The reply is as described and never
// the server's fault, and what is accepted is one object that fits its description, without
// repeated names, by the judgement of other decoders.
func FuzzAdminJSON(f *testing.F) {
	for _, row := range hostileBodies {
		f.Add([]byte(row.body))
	}
	for _, body := range []string{"", "{}", `{"name":"a","account":"default","rate":{"per_second":1.5,"burst":2}}`, `{"active":false,"rate":null}`, `{"previous_secret":null}`, `{"overlap":"1h0.5s"}`, `{"account":"acme","name":"Acme","limit":3}`, `{"limit":null,"active":false}`, `{"token":"kat_"}`} {
		f.Add([]byte(body))
	}
	b := newBench(f, func(o *Options) { o.Log = nil })
	d, id := committed(f), keys.NewID()
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, c := range d.Calls() {
			if c.RequestBody == nil {
				continue
			}
			b.keepOnly(id)
			got := b.direct(t, c.Method, d.Base()+apitest.Fill(c.Path, map[string]string{"key": id.String(), "account": keys.DefaultAccount}), body, nil)
			if got.status >= 500 {
				t.Fatalf("%s %q: got %s", c, body, got.text)
			}
			if got.status < 300 && len(body) > 0 {
				accepted(t, c, body)
			}
			b.keepsOnlyValid(t)
		}
	})
}

// FuzzAdminRequest sends any path, query and header to every call. The reply is as described and
// never the server's fault.
func FuzzAdminRequest(f *testing.F) {
	id := keys.NewID()
	for _, path := range []string{"", id.String(), "x", "..", "%2f", "a/b", "default"} {
		f.Add(path, "", `"1"`)
		f.Add(path, "account=default&with_keys=true&after=0&limit=1", "*")
		f.Add(path, "limit=-1&after=1e9", `W/"1", "2"`)
	}
	b := newExportBench(f, writes(""), func(o *Options) { o.Log = nil })
	d := committed(f)
	f.Fuzz(func(t *testing.T, path, query, header string) {
		for _, c := range d.Calls() {
			b.keepOnly(id)
			headers, values := http.Header{}, map[string]string{}
			for _, p := range c.Parameters {
				switch p.In {
				case "header":
					headers[http.CanonicalHeaderKey(p.Name)] = []string{header}
				case "path":
					values[p.Name] = url.PathEscape(path)
				}
			}
			at := d.Base() + apitest.Fill(c.Path, values)
			if got := b.direct(t, c.Method, at+"?"+escapedQuery(query), []byte("{}"), headers); got.status >= 500 {
				t.Fatalf("%s?%q with %q: got %s", at, query, header, got.text)
			}
			b.keepsOnlyValid(t)
		}
	})
}

// escapedQuery returns query without what net/http refuses to send or to parse.
func escapedQuery(query string) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r >= 0x7f || r == '#' {
			return '+'
		}
		return r
	}, query)
}

// keepOnly leaves the default account with one key in the store.
func (b *bench) keepOnly(id keys.ID) {
	clean := newFakeStore()
	b.store.accounts, b.store.tokens, b.store.operations, b.store.trail = clean.accounts, clean.tokens, clean.operations, clean.trail
	b.store.records = map[keys.ID]keys.Record{id: {ID: id, Account: keys.DefaultAccount, Name: "kept", Active: true, Version: 1}}
}

func (b *bench) keepsOnlyValid(t *testing.T) {
	t.Helper()
	for _, k := range b.store.accounts {
		if !keys.ValidAccount(k.ID) || k.Limit < 0 || k.Limit > keys.MaxLimit {
			t.Fatalf("kept %+v", k)
		}
	}
	for _, r := range b.store.records {
		if name, err := keys.NormalizeName(r.Name); err != nil || name != r.Name || !r.Rate.Valid() {
			t.Fatalf("kept %+v", r)
		}
	}
}

// direct calls the handler without a connection.
func (b *bench) direct(t *testing.T, method, path string, body []byte, header http.Header) reply {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(method, "http://localhost"+path, bytes.NewReader(body))
	r.Header = http.Header{"Authorization": {"Bearer " + testToken}, "Content-Type": {"application/json"}}
	maps.Copy(r.Header, header)
	b.admin.ServeHTTP(w, r)
	return checked(t, r, reply{status: w.Code, header: w.Header(), text: w.Body.String()})
}

// accepted fails unless body is what c may accept.
func accepted(t *testing.T, c apitest.Call, body []byte) {
	t.Helper()
	var value any
	if err := json.Unmarshal(body, &value); err != nil || !utf8.Valid(body) || len(body) > maxBody {
		t.Fatalf("%s: accepted %q: %v", c, body, err)
	}
	d := committed(t)
	if faults := d.Faults(d.BodySchema(c), "body", value); faults != nil {
		t.Fatalf("%s: accepted %q, which does not fit: %v", c, body, faults)
	}
	if namesIn(body) != namesOf(value) {
		t.Fatalf("%s: accepted %q, which repeats a name", c, body)
	}
}

// namesOf counts the names in all objects of a decoded value.
func namesOf(value any) (count int) {
	switch value := value.(type) {
	case map[string]any:
		count = len(value)
		for _, member := range value {
			count += namesOf(member)
		}
	case []any:
		for _, item := range value {
			count += namesOf(item)
		}
	}
	return count
}

// namesIn counts the colons outside of strings: one for each name of valid JSON.
func namesIn(body []byte) (count int) {
	inside := false
	for i := 0; i < len(body); i++ {
		switch {
		case inside && body[i] == '\\':
			i++
		case body[i] == '"':
			inside = !inside
		case body[i] == ':' && !inside:
			count++
		}
	}
	return count
}
