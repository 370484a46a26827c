package keystest

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"keystile/keys"
)

func auditClauses() []clause {
	return []clause{
		{"every change leaves one entry that says who did what", auditEntries},
		{"an entry of a rotation says until when the old secret works", auditRotation},
		{"what changes nothing leaves no entry", auditNothing},
		{"a part of the trail begins after a number and is no longer than asked for", auditPages},
		{"40 changes at once leave 40 entries in the order of versions", auditAtOnce},
		{"changes of two handles at once leave one chain", auditHandles},
		{"only the newest entries are kept, after an anchor", auditTrimmed},
		{"a trail that is to be shorter than it was shrinks", auditShrinks},
		{"reopening goes on with the chain", auditReopened},
		{"no entry has a secret or a digest", auditNoSecret},
	}
}

// trail returns the entries of the trail, which are one chain from its anchor to its head.
func (f *fixture) trail() []keys.Entry {
	f.t.Helper()
	entries := []keys.Entry{}
	page := f.audit(0, 7)
	at := page.Anchor
	for at.Number < page.Head.Number {
		if len(page.Entries) == 0 {
			f.t.Fatalf("the trail ends at %d, not at its head, %d", at.Number, page.Head.Number)
		}
		for _, sealed := range page.Entries {
			e, err := at.Follow(sealed)
			if err != nil {
				f.t.Fatal(err)
			}
			entries = append(entries, e)
		}
		page = f.audit(at.Number, 7)
	}
	same(f.t, "head of the trail", page.Head, at)
	return entries
}

func (f *fixture) audit(after uint64, limit int) keys.TrailPage {
	f.t.Helper()
	page, err := f.Audit(f.t.Context(), after, limit)
	if err != nil {
		f.t.Fatalf("Audit: %v", err)
	}
	return page
}

// news returns the entries that came since there were n.
func (f *fixture) news(n int) []keys.Entry {
	f.t.Helper()
	entries := f.trail()
	return append([]keys.Entry{}, entries[min(n, len(entries)):]...)
}

// auditEntries does each kind of change once, as somebody.
func auditEntries(t *testing.T, h Harness) {
	f := open(t, h)
	have := len(f.trail())
	actor := keys.Actor{Principal: "account:acme", Token: "TOKEN", Peer: "192.0.2.7", RequestID: "request-1"}
	ctx := keys.WithActor(t.Context(), actor)
	var want []keys.Entry
	expect := func(version uint64, err error, e keys.Entry) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		e.Number, e.Time, e.Version = uint64(have+len(want)+1), f.clock.Now(), version
		e.Principal, e.Token, e.Peer, e.RequestID = actor.Principal, actor.Token, actor.Peer, actor.RequestID
		want = append(want, e)
		f.clock.advance(time.Second)
	}
	rate := keys.Rate{PerSecond: 2, Burst: 3}

	account, _, err := f.CreateAccount(ctx, keys.Account{ID: "acme", Name: "Acme", Limit: 3})
	expect(account.Version, err, keys.Entry{
		Action: keys.AccountCreated, Account: "acme", After: &keys.State{Name: "Acme", Active: true, Limit: 3},
	})
	created, err := f.Create(ctx, draft("acme", "x"))
	key := created.Record.ID
	expect(created.Record.Version, err, keys.Entry{
		Action: keys.KeyCreated, Account: "acme", Subject: key.String(), After: &keys.State{Name: "x", Active: true},
	})
	updated, _, err := f.Update(ctx, key, func(r *keys.Record) error {
		r.Name, r.Active, r.Rate = "y", false, rate
		return nil
	})
	expect(updated.Version, err, keys.Entry{
		Action: keys.KeyUpdated, Account: "acme", Subject: key.String(),
		Before: &keys.State{Name: "x", Active: true}, After: &keys.State{Name: "y", Rate: rate},
	})
	token, receipt, err := f.CreateToken(ctx, newToken("acme", "deploy"))
	expect(receipt.Version, err, keys.Entry{
		Action: keys.TokenCreated, Account: "acme", Subject: token.ID, After: &keys.State{Name: "deploy", Active: true},
	})
	receipt, err = f.DeleteToken(ctx, "acme", token.ID)
	expect(receipt.Version, err, keys.Entry{
		Action: keys.TokenDeleted, Account: "acme", Subject: token.ID, Before: &keys.State{Name: "deploy", Active: true},
	})
	account, _, err = f.UpdateAccount(ctx, "acme", func(a *keys.Account) error { a.Active, a.Limit = false, 0; return nil })
	expect(account.Version, err, keys.Entry{
		Action: keys.AccountUpdated, Account: "acme",
		Before: &keys.State{Name: "Acme", Active: true, Limit: 3}, After: &keys.State{Name: "Acme"},
	})
	receipt, err = f.Delete(ctx, key, nil)
	expect(receipt.Version, err, keys.Entry{
		Action: keys.KeyDeleted, Account: "acme", Subject: key.String(), Before: &keys.State{Name: "y", Rate: rate},
	})
	last, _ := f.Create(ctx, draft("acme", "z"))
	expect(last.Record.Version, nil, keys.Entry{
		Action: keys.KeyCreated, Account: "acme", Subject: last.Record.ID.String(), After: &keys.State{Name: "z", Active: true},
	})
	receipt, err = f.DeleteAccount(ctx, "acme", true, nil)
	expect(receipt.Version, err, keys.Entry{
		Action: keys.AccountDeleted, Account: "acme", Before: &keys.State{Name: "Acme"}, Keys: []string{last.Record.ID.String()},
	})
	same(t, "entries", f.news(have), want)
}

func auditRotation(t *testing.T, h Harness) {
	f := open(t, h)
	id := f.create("a", "x").ID
	have := len(f.trail())
	f.update(id, func(r *keys.Record) { _ = r.Rotate(draft("", "").Digest, time.Hour, f.clock.Now()) })
	end := f.clock.Now().Add(time.Hour)
	f.clock.advance(time.Minute)
	f.update(id, (*keys.Record).EndOverlap)
	entries := f.news(have)
	if len(entries) != 2 {
		t.Fatalf("two changes left %d entries", len(entries))
	}
	rotated, ended := entries[0], entries[1]
	if rotated.Action != keys.KeyRotated || rotated.Principal != "keystile" || ended.Action != keys.KeyUpdated {
		t.Errorf("the entries are %+v and %+v", rotated, ended)
	}
	plain, overlapping := &keys.State{Name: "x", Active: true}, &keys.State{Name: "x", Active: true, PreviousValidUntil: end}
	same(t, "states", []*keys.State{rotated.Before, rotated.After, ended.Before, ended.After},
		[]*keys.State{plain, overlapping, overlapping, plain})
}

func auditNothing(t *testing.T, h Harness) {
	f := openLimit(t, h, 2)
	ctx := t.Context()
	key := f.mustCreate(repeatable("a", "x", "op", 1)).Record
	f.create("a", "y")
	want := f.trail()
	f.mustCreate(repeatable("a", "x", "op", 1))
	_, _ = f.Create(ctx, repeatable("a", "x", "op", 2))
	_, _ = f.Create(ctx, draft("a", "z")) // the account is full
	_, _ = f.Create(ctx, draft("none", ""))
	touch(t, f, map[keys.ID]keys.Use{key.ID: {At: f.clock.Now()}})
	f.update(key.ID, func(r *keys.Record) { r.Name = "x" })
	_, _, _ = f.Update(ctx, key.ID, func(r *keys.Record) error { r.Name = "y"; return nil })
	_, _ = f.Delete(ctx, keys.NewID(), nil)
	f.setActive("a", true)
	_, _, _ = f.CreateAccount(ctx, keys.Account{ID: "a"})
	_, _ = f.DeleteAccount(ctx, "a", false, nil)
	_, _ = f.DeleteAccount(ctx, keys.DefaultAccount, true, nil)
	_, _ = f.DeleteToken(ctx, "a", "none")
	same(t, "entries", f.trail(), want)
}

func auditPages(t *testing.T, h Harness) {
	f := open(t, h)
	for range 8 {
		f.create("a", "")
	}
	all := f.trail()
	last := uint64(len(all))
	if last != 10 { // two accounts, eight keys
		t.Fatalf("there are %d entries", last)
	}
	for _, test := range []struct {
		after uint64
		limit int
		want  int // entries
	}{{0, 3, 3}, {4, 100, 6}, {9, 1, 1}, {10, 5, 0}, {11, 5, 0}, {1 << 63, 5, 0}, {1<<64 - 1, 5, 0}, {0, 0, 0}} {
		page := f.audit(test.after, test.limit)
		if len(page.Entries) != test.want || page.Head.Number != last || page.Anchor != (keys.Link{}) {
			t.Errorf("Audit(%d, %d): %d entries, head %d, anchor %d",
				test.after, test.limit, len(page.Entries), page.Head.Number, page.Anchor.Number)
		}
		for i, sealed := range page.Entries {
			var e keys.Entry
			if err := json.Unmarshal([]byte(sealed.Text), &e); err != nil || e.Number != test.after+uint64(i)+1 {
				t.Errorf("Audit(%d, %d): entry %d is %d, %v", test.after, test.limit, i, e.Number, err)
			}
		}
	}
}

func auditAtOnce(t *testing.T, h Harness) {
	f := openLimit(t, h, 1000)
	have := len(f.trail())
	versions := atOnce(f, func(int) keys.Store { return f })
	inTrail(t, f.news(have), versions)
}

// atOnce has 40 changes made at once, in the store that of returns, and returns their
// versions.
func atOnce(f *fixture, of func(i int) keys.Store) map[uint64]bool {
	var mu sync.Mutex
	versions := map[uint64]bool{}
	together(40, func(i int) {
		created, err := of(i).Create(f.t.Context(), draft([]string{"a", "b"}[i%2], ""))
		if err != nil {
			f.t.Errorf("Create: %v", err)
		}
		mu.Lock()
		defer mu.Unlock()
		versions[created.Record.Version] = true
	})
	return versions
}

// inTrail fails the test unless each version has one entry, and they rise.
func inTrail(t *testing.T, entries []keys.Entry, versions map[uint64]bool) {
	t.Helper()
	if len(entries) != 40 || len(versions) != 40 {
		t.Errorf("40 changes got %d versions and left %d entries", len(versions), len(entries))
	}
	var last uint64
	for _, e := range entries {
		if e.Version <= last || !versions[e.Version] {
			t.Errorf("entry %d, after one for version %d, is for version %d", e.Number, last, e.Version)
		}
		last = e.Version
	}
}

func auditHandles(t *testing.T, h Harness) {
	if h.OneHandle != "" {
		t.Skip(h.OneHandle)
	}
	f := openLimit(t, h, 1000)
	other := h.Open(t, f.dir, f.o)
	t.Cleanup(func() { _ = other.Close() })
	have := len(f.trail())
	versions := atOnce(f, func(i int) keys.Store { return []Store{f, other}[i/2%2] })
	inTrail(t, f.news(have), versions)
}

func auditTrimmed(t *testing.T, h Harness) {
	f := openWith(t, h, Options{PerAccount: 1000, AuditKeep: 5})
	hashes := map[uint64]keys.Sum{}
	for range 12 {
		f.create("a", "")
		head := f.audit(0, 1).Head
		hashes[head.Number] = head.Hash
		f.trail()
	}
	for range 2 {
		page := f.audit(0, 100)
		if len(page.Entries) != 5 || page.Head.Number != 14 || page.Anchor.Number != 9 || page.Anchor.Hash != hashes[9] {
			t.Errorf("%d entries, head %d, anchor %+v", len(page.Entries), page.Head.Number, page.Anchor)
		}
		same(t, "part after the anchor", f.audit(9, 100), page)
		same(t, "later part", f.audit(12, 100).Entries, page.Entries[3:])
		f.reopen()
	}
}

func auditShrinks(t *testing.T, h Harness) {
	f := openWith(t, h, Options{PerAccount: 1000, AuditKeep: 50})
	for range 30 {
		f.create("a", "")
	}
	f.o.AuditKeep = 10
	f.reopen()
	for range 30 {
		f.create("a", "")
	}
	if n := len(f.trail()); n != 10 {
		t.Errorf("%d entries are kept, not 10", n)
	}
}

func auditReopened(t *testing.T, h Harness) {
	f := open(t, h)
	f.create("a", "x")
	before := f.audit(0, 100)
	f.reopen()
	same(t, "trail after reopening", f.audit(0, 100), before)
	f.create("a", "y")
	if entries := f.trail(); len(entries) != len(before.Entries)+1 {
		t.Errorf("%d entries became %d by one change", len(before.Entries), len(entries))
	}
}

func auditNoSecret(t *testing.T, h Harness) {
	f := open(t, h)
	id := keys.NewID()
	secret := keys.NewSecret(id)
	var none *keys.Peppers
	d := keys.Draft{ID: id, Account: "a", Name: "x", Digest: none.Digest(secret)}
	f.mustCreate(d)
	next := draft("", "").Digest
	f.update(id, func(r *keys.Record) { _ = r.Rotate(next, time.Hour, f.clock.Now()) })
	token := f.token("a", "")
	f.delete(id)
	f.deleteAccount("a", true)
	var text strings.Builder
	for _, sealed := range f.audit(0, 100).Entries {
		text.WriteString(sealed.Text)
	}
	for _, sum := range []keys.Sum{d.Digest.Sum, next.Sum, token.Sum} {
		for _, form := range []string{string(sum[:]), hex.EncodeToString(sum[:]), base64.StdEncoding.EncodeToString(sum[:])} {
			if strings.Contains(text.String(), form) {
				t.Errorf("the trail has a digest: %q", form)
			}
		}
	}
	if strings.Contains(text.String(), secret.Reveal()) || strings.Contains(text.String(), keys.SecretPrefix) {
		t.Error("the trail has a secret")
	}
}
