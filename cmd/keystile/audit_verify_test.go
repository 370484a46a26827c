package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"keystile/keys"
)

// trail is an audit trail that answers GET /audit. A page has at most size entries.
type trail struct {
	anchor  keys.Link
	head    keys.Link
	entries []keys.SealedEntry
	numbers []uint64
	size    int
	before  func(page int) // what happens before the page, from 1, is read; nil: nothing
	pages   int
}

// newTrail is a trail of so many entries.
func newTrail(t testing.TB, entries int) *trail {
	trail := &trail{size: 10}
	for range entries {
		trail.add(t, "shop")
	}
	return trail
}

func (tr *trail) add(t testing.TB, name string) {
	t.Helper()
	sealed, link, err := keys.Seal(tr.head, keys.Entry{
		Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Action: keys.KeyCreated, Principal: "administrator", Peer: "127.0.0.1:1",
		Account: "default", Subject: "kst_0000000000000000000001", Version: tr.head.Number + 7, After: &keys.State{Name: name, Active: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	tr.head = link
	tr.entries, tr.numbers = append(tr.entries, sealed), append(tr.numbers, link.Number)
}

// remove leaves out so many entries from an index on, and says nothing of it.
func (tr *trail) remove(from, n int) {
	tr.entries, tr.numbers = slices.Delete(tr.entries, from, from+n), slices.Delete(tr.numbers, from, from+n)
}

// trim removes the oldest entries, as a store does.
func (tr *trail) trim(n int) {
	tr.anchor = keys.Link{Number: tr.numbers[n-1], Hash: tr.entries[n-1].Hash}
	tr.remove(0, n)
}

func (tr *trail) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if tr.pages++; tr.before != nil {
		tr.before(tr.pages)
	}
	after, _ := strconv.ParseUint(r.URL.Query().Get("after"), 10, 64)
	limit, _ := strconv.Atoi(r.URL.Query().Get("limit"))
	page := auditPage{Anchor: tr.anchor, Head: tr.head, Entries: []auditEntry{}}
	for i, sealed := range tr.entries {
		if tr.numbers[i] > after && len(page.Entries) < min(limit, tr.size) {
			page.Entries = append(page.Entries, auditEntry{sealed.Hash, json.RawMessage(sealed.Text)})
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(page)
}

func (tr *trail) at(t testing.TB) string {
	server := httptest.NewServer(tr)
	t.Cleanup(server.Close)
	return server.URL
}

func verifies(t *testing.T, tr *trail, args ...string) string {
	t.Helper()
	code, out, said := commandAt(t, tr.at(t), append([]string{"audit", "verify"}, args...)...)
	if code != 0 || said != "" {
		t.Fatalf("exit code %d, %q", code, said)
	}
	return out
}

func trailRefused(t *testing.T, tr *trail, want string, args ...string) {
	t.Helper()
	code, out, said := commandAt(t, tr.at(t), append([]string{"audit", "verify"}, args...)...)
	if code != 1 || out != "" || said != want+"\n" {
		t.Errorf("exit code %d, %q\n%swant\n%s", code, out, said, want)
	}
}

func TestWholeTrailIsVerifiedFromItsAnchorToItsHead(t *testing.T) {
	for name, c := range map[string]struct {
		entries, trimmed int
		want             string
	}{
		"empty":       {0, 0, "verified 0 entries: none is kept\n"},
		"one":         {1, 0, "verified 1 entries: 1 to 1, none changed and none missing\n"},
		"a page":      {10, 0, "verified 10 entries: 1 to 10, none changed and none missing\n"},
		"some pages":  {35, 0, "verified 35 entries: 1 to 35, none changed and none missing\n"},
		"trimmed":     {35, 12, "verified 23 entries: 13 to 35, none changed and none missing\n"},
		"all trimmed": {5, 5, "verified 0 entries: none is kept\n"},
	} {
		t.Run(name, func(t *testing.T) {
			tr := newTrail(t, c.entries)
			if c.trimmed > 0 {
				tr.trim(c.trimmed)
			}
			want := c.want + "head " + linkText(tr.head) + "\nKeep the head elsewhere, and give it the next time as --head.\n"
			if out := verifies(t, tr); out != want {
				t.Errorf("%q", out)
			}
			verifies(t, tr, "--head", linkText(tr.head))
		})
	}
}

func TestTrailThatWasTamperedWithIsRefusedWithTheNumberOfTheEntry(t *testing.T) {
	const sound = "; entries 1 to 14 are one chain: compare the rest with a backup of the store, or the logs"
	for name, c := range map[string]struct {
		tamper func(*trail)
		want   string
	}{
		"edited":         {func(tr *trail) { tr.entries[14].Text = strings.Replace(tr.entries[14].Text, "shop", "slop", 1) }, "entry 15, or its hash, is not as it was written" + sound},
		"hash edited":    {func(tr *trail) { tr.entries[14].Hash[0]++ }, "entry 15, or its hash, is not as it was written" + sound},
		"not an entry":   {func(tr *trail) { tr.entries[14].Text = `[]` }, "entry 15 cannot be read" + sound},
		"removed":        {func(tr *trail) { tr.remove(14, 1) }, "entry 15 is missing: entry 16 comes instead" + sound},
		"exchanged":      {func(tr *trail) { tr.entries[14], tr.entries[15] = tr.entries[15], tr.entries[14] }, "entry 15 is missing: entry 16 comes instead" + sound},
		"tail cut":       {func(tr *trail) { tr.remove(14, 11) }, "entry 15 is missing, and all after it up to the head, entry 25" + sound},
		"head set back":  {func(tr *trail) { tr.head = keys.Link{Number: 14, Hash: tr.entries[13].Hash} }, "the head is entry 14, but entry 15 follows it; entries 1 to 20 are one chain: compare the rest with a backup of the store, or the logs"},
		"head edited":    {func(tr *trail) { tr.head.Hash[0]++ }, "entry 25 is not the one of the head; entries 1 to 25 are one chain: compare the rest with a backup of the store, or the logs"},
		"start cut":      {func(tr *trail) { tr.remove(0, 3) }, "entry 1 is missing: entry 4 comes instead; no entry before it is kept: compare the rest with a backup of the store, or the logs"},
		"anchor made up": {func(tr *trail) { tr.trim(3); tr.anchor.Hash[0]++ }, "entry 4, or its hash, is not as it was written; no entry before it is kept: compare the rest with a backup of the store, or the logs"},
	} {
		t.Run(name, func(t *testing.T) {
			tr := newTrail(t, 25)
			c.tamper(tr)
			trailRefused(t, tr, "the audit trail was changed: "+c.want)
		})
	}
}

func TestTrailThatWasWrittenAnewIsRefusedByItsKeptHead(t *testing.T) {
	tr := newTrail(t, 12)
	kept := linkText(tr.head)
	tr.add(t, "more")
	verifies(t, tr, "--head", kept)

	other := newTrail(t, 11)
	other.add(t, "another name")
	other.add(t, "more")
	verifies(t, other) // it is whole in itself
	trailRefused(t, other, "the audit trail was changed: entry 12 is not the one of --head; entries 1 to 12 are one chain: compare the rest with a backup of the store, or the logs", "--head", kept)
	trailRefused(t, newTrail(t, 11), "the audit trail was changed: entry 12, that of --head, is missing: the trail ends with entry 11; "+
		"entries 1 to 11 are one chain: compare the rest with a backup of the store, or the logs", "--head", kept)
	other.trim(12)
	trailRefused(t, other, "the audit trail was changed: entry 12, the last that was trimmed, is not the one of --head; entries 13 to 13 are one chain: compare the rest with a backup of the store, or the logs", "--head", kept)
	tr.trim(12)
	verifies(t, tr, "--head", kept)
	tr.trim(1)
	trailRefused(t, tr, "entry 12, that of --head, is no longer kept, so nothing can be said about it: the trail begins with entry 14 and is whole from there; raise audit.keep, or verify more often", "--head", kept)
}

func TestTrailIsVerifiedWhileOthersWriteAndItIsTrimmed(t *testing.T) {
	tr := newTrail(t, 25)
	tr.before = func(page int) {
		switch page {
		case 2: // 10 are read
			tr.add(t, "new")
			tr.trim(5)
		case 3: // 20 are read
			tr.trim(17) // all up to 22
			tr.add(t, "new")
		}
	}
	if out := verifies(t, tr); !strings.HasPrefix(out, "verified 5 entries: 23 to 27, none changed and none missing\nhead "+linkText(tr.head)+"\n") {
		t.Errorf("%q", out)
	}

	// An anchor that is not what was read is noticed, even where the next entry follows it.
	forged := newTrail(t, 25)
	forged.before = func(page int) {
		if page == 2 {
			other := newTrail(t, 9)
			other.add(t, "another name")
			other.trim(10)
			for range 15 {
				other.add(t, "shop")
			}
			forged.anchor, forged.head, forged.entries, forged.numbers = other.anchor, other.head, other.entries, other.numbers
		}
	}
	trailRefused(t, forged, "the audit trail was changed: the anchor is not entry 10; entries 1 to 10 are one chain: compare the rest with a backup of the store, or the logs")
}

func TestVerificationForPrograms(t *testing.T) {
	tr := newTrail(t, 3)
	tr.trim(1)
	anchor, _ := json.Marshal(tr.anchor)
	head, _ := json.Marshal(tr.head)
	want := fmt.Sprintf(`{"entries":2,"anchor":%s,"head":%s}`+"\n", anchor, head)
	if out := verifies(t, tr, "-o", "json"); out != want {
		t.Errorf("%s", out)
	}
}

func TestHeadThatIsNoneIsUsedWrongly(t *testing.T) {
	for _, head := range []string{"7", "7:", ":00", "x:" + strings.Repeat("0", 64), "7:" + strings.Repeat("0", 63), "+7:" + strings.Repeat("0", 64), "07:" + strings.Repeat("a", 64), "7:" + strings.Repeat("A", 64), "-1:" + strings.Repeat("0", 64)} {
		code, _, said := commandAt(t, "127.0.0.1:1", "audit", "verify", "--head", head)
		if code != 2 || said != `--head: expected NUMBER:HASH as "keystile audit verify" prints it, a number and 64 hexadecimal digits`+"\n" {
			t.Errorf("%q: exit code %d, %q", head, code, said)
		}
	}
}
