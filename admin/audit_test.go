package admin

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"keystile/keys"
)

// trailPage is what a program reads of GET /audit.
type trailPage struct {
	Anchor, Head keys.Link
	Entries      []struct {
		Hash  keys.Sum
		Entry json.RawMessage
	}
}

func (b *bench) page(query string) trailPage {
	b.t.Helper()
	got := b.send("GET", "/api/v1/audit"+query, "").wants(b.t, 200, "")
	var page trailPage
	if err := json.Unmarshal([]byte(got.text), &page); err != nil || got.header.Get("Content-Type") != "application/json" {
		b.t.Fatalf("%v: %q %s", err, got.header.Get("Content-Type"), got.text)
	}
	return page
}

// TestEveryChangeIsOnRecordWithWhoAndWhere follows the hashes of the texts as they came.
func TestEveryChangeIsOnRecordWithWhoAndWhere(t *testing.T) {
	b := newBench(t)
	token := b.account("acme")
	made := b.as(token, "POST", "/api/v1/keys", `{"name":"<&> é"}`, "X-Request-Id", "find-me").wants(t, 201, "")
	b.as(token, "POST", "/api/v1/keys/"+made.member("key")+"/rotate", "").wants(t, 200, "")
	b.send("DELETE", "/api/v1/keys/"+made.member("key"), "").wants(t, 200, "")
	b.send("PATCH", "/api/v1/accounts/acme", `{"active":false}`).wants(t, 200, "")
	b.send("DELETE", "/api/v1/accounts/acme/tokens/"+token[4:17], "").wants(t, 200, "")
	b.send("DELETE", "/api/v1/accounts/acme", "").wants(t, 200, "")

	entries := b.entries()
	var actions []keys.Action
	for _, e := range entries {
		actions = append(actions, e.Action)
		byAccount := e.Action == keys.KeyCreated || e.Action == keys.KeyRotated
		if want := map[bool]string{true: "account:acme", false: "administrator"}[byAccount]; e.Principal != want {
			t.Errorf("%s is by %q, want %q", e.Action, e.Principal, want)
		}
		if (e.Token == token[4:17]) != byAccount || !strings.HasPrefix(e.Peer, "127.0.0.1:") || e.RequestID == "" || e.Account != "acme" {
			t.Errorf("%+v does not say from where", e)
		}
	}
	want := []keys.Action{
		keys.AccountCreated, keys.TokenCreated, keys.KeyCreated, keys.KeyRotated, keys.KeyDeleted,
		keys.AccountUpdated, keys.TokenDeleted, keys.AccountDeleted,
	}
	if !slices.Equal(actions, want) {
		t.Errorf("got %v, want %v", actions, want)
	}
	if entries[2].RequestID != "find-me" {
		t.Errorf("the request id is %q", entries[2].RequestID)
	}
}

func TestChangeByASessionIsOnRecordAsTheTokens(t *testing.T) {
	b := newBench(t)
	token := b.account("acme")
	b.browse("POST", "/api/v1/keys", "{}", b.signInWith(token)).wants(t, 201, "")
	b.browse("POST", "/api/v1/keys", "{}", b.signIn("")).wants(t, 201, "")
	entries := b.entries()[2:]
	if entries[0].Principal != "account:acme" || entries[0].Token != token[4:17] || entries[1].Principal != "administrator" || entries[1].Token != "" {
		t.Errorf("got %+v", entries)
	}
}

func TestAuditIsReadByPages(t *testing.T) {
	b := newBench(t)
	b.account("acme")
	b.create("")
	link := keys.Link{}
	for number := uint64(0); number < 3; number++ {
		page := b.page("?limit=1&after=" + string(rune('0'+number)))
		if len(page.Entries) != 1 || page.Head.Number != 3 {
			t.Fatalf("after %d: %+v", number, page)
		}
		if _, err := link.Follow(keys.SealedEntry{Text: string(page.Entries[0].Entry), Hash: page.Entries[0].Hash}); err != nil {
			t.Error(err)
		}
	}
	for _, query := range []string{"?after=3", "?after=18446744073709551615"} {
		if page := b.page(query); len(page.Entries) != 0 || page.Head != link {
			t.Errorf("%s: %+v", query, page)
		}
	}
	for _, query := range []string{"?limit=0", "?limit=1001", "?limit=x", "?after=-1", "?after=x", "?before=1"} {
		b.send("GET", "/api/v1/audit"+query, "").wants(t, 400, "bad_request")
	}
}

func TestEmptyTrailIsAnEmptyList(t *testing.T) {
	zeros := strings.Repeat("0", 64)
	got := newBench(t).send("GET", "/api/v1/audit", "").wants(t, 200, "")
	if want := `{"anchor":{"number":0,"hash":"` + zeros + `"},"head":{"number":0,"hash":"` + zeros + `"},"entries":[]}`; strings.TrimSpace(got.text) != want {
		t.Errorf("got %s", got.text)
	}
}

func TestChangedEntryIsShownAsItIsAndNoticed(t *testing.T) {
	for name, text := range map[string]string{
		"edited": "", "spaced": " ", "no JSON": `{"number":`, "no text": "\xff",
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.account("acme")
			kept := &b.store.trail.entries[0]
			switch name {
			case "edited":
				kept.Text = strings.Replace(kept.Text, "acme", "acmf", 1)
			case "spaced":
				kept.Text = strings.Replace(kept.Text, ":", ": ", 1)
			default:
				kept.Text = text
			}
			page := b.page("")
			if len(page.Entries) != 2 {
				t.Fatalf("the rest cannot be read: %+v", page)
			}
			link := keys.Link{}
			if _, err := link.Follow(keys.SealedEntry{Text: string(page.Entries[0].Entry), Hash: page.Entries[0].Hash}); !errors.Is(err, keys.ErrTrail) {
				t.Errorf("it is not noticed: %v", err)
			}
		})
	}
}
