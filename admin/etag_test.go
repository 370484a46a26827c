package admin

import (
	"testing"

	"keystile/keys"
)

func TestListIsReadAgainOnlyWhenItShowsSomethingElse(t *testing.T) {
	b := newBench(t)
	key, _ := b.create("")
	id, err := keys.ParseKey(key)
	if err != nil {
		t.Fatal(err)
	}
	tag := b.send("GET", "/api/v1/keys", "").wants(t, 200, "").header.Get("ETag")
	for name, change := range map[string]func(){
		"a new name":    func() { b.send("PATCH", "/api/v1/keys/"+key, `{"name":"other"}`).wants(t, 200, "") },
		"a switch":      func() { b.send("PATCH", "/api/v1/keys/"+key, `{"active":false}`).wants(t, 200, "") },
		"a use":         func() { _ = b.store.Touch(t.Context(), map[keys.ID]keys.Use{id: {At: testTime}}) },
		"another key":   func() { b.create("") },
		"another limit": func() { b.admin.limit++ },
	} {
		for _, sent := range []string{tag, "W/" + tag, `"0", ` + tag, "*"} {
			got := b.send("GET", "/api/v1/keys", "", "If-None-Match", sent).wants(t, 304, "")
			if got.text != "" || got.header.Get("ETag") != tag {
				t.Errorf("%s: got %v %q", sent, got.header, got.text)
			}
		}
		change()
		got := b.send("GET", "/api/v1/keys", "", "If-None-Match", tag).wants(t, 200, "")
		if got.header.Get("ETag") == tag {
			t.Errorf("%s keeps the ETag", name)
		}
		tag = got.header.Get("ETag")
	}
	b.send("GET", "/api/v1/keys", "", "If-None-Match", "7").wants(t, 400, "bad_request")
}
