package admin

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode/utf8"

	"keystile/keys"
)

// FuzzAdminJSON sends any body to the three calls that take one. The reply is never the
// server's fault, a refusal is always a problem document, and what is accepted is one
// object without repeated or unknown names, by the judgement of another decoder.
func FuzzAdminJSON(f *testing.F) {
	for _, row := range hostileBodies {
		f.Add([]byte(row.body))
	}
	for _, body := range []string{"", "{}", `{"name":"a","account":"default","rate":{"per_second":1.5,"burst":2}}`, `{"active":false,"rate":null}`, `{"previous_secret":null}`, `{"overlap":"1h0.5s"}`} {
		f.Add([]byte(body))
	}
	b := newBench(f, func(o *Options) { o.Log = nil })
	id := keys.NewID()
	f.Fuzz(func(t *testing.T, body []byte) {
		one := "/api/v1/keys/" + id.String()
		for _, call := range [][2]string{{"POST", "/api/v1/keys"}, {"PATCH", one}, {"POST", one + "/rotate"}} {
			method, path := call[0], call[1]
			b.store.records = map[keys.ID]keys.Record{id: {ID: id, Account: keys.DefaultAccount, Name: "kept", Active: true, Version: 1}}
			got := b.direct(t, method, path, body)
			if got.status >= 500 {
				t.Fatalf("%s %q: got %s", method, body, got.text)
			}
			if got.status < 300 && len(body) > 0 {
				accepted(t, body)
			}
			for _, r := range b.store.records {
				if name, err := keys.NormalizeName(r.Name); err != nil || name != r.Name || !r.Rate.Valid() {
					t.Fatalf("%s %q: kept %+v", method, body, r)
				}
			}
		}
	})
}

// direct calls the handler without a connection.
func (b *bench) direct(t *testing.T, method, path string, body []byte) reply {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(method, "http://localhost"+path, bytes.NewReader(body))
	r.Header = http.Header{"Authorization": {"Bearer " + testToken}, "Content-Type": {"application/json"}}
	b.admin.ServeHTTP(w, r)
	return checked(t, reply{status: w.Code, header: w.Header(), text: w.Body.String()})
}

// accepted fails unless body is what the API may accept.
func accepted(t *testing.T, body []byte) {
	t.Helper()
	if !utf8.Valid(body) || !json.Valid(body) || len(body) > maxBody {
		t.Fatalf("accepted %q", body)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil || members == nil {
		t.Fatalf("accepted %q, which is no object", body)
	}
	if colons := namesIn(body); colons != len(members)+len(rateMembers(members)) {
		t.Fatalf("accepted %q, which repeats a name", body)
	}
	for name := range members {
		if !strings.Contains(" name account active rate previous_secret overlap ", " "+name+" ") {
			t.Fatalf("accepted %q, which has the unknown name %q", body, name)
		}
	}
}

func rateMembers(members map[string]json.RawMessage) (rate map[string]json.RawMessage) {
	_ = json.Unmarshal(members["rate"], &rate)
	return rate
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
