package keystest

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"keystile/keys"
)

func tokenClauses() []clause {
	return []clause{
		{"a created token is returned as it was asked for", tokenAsAsked},
		{"tokens come newest last, and are their account's only", tokensNewestLast},
		{"an unknown token is none", tokenUnknown},
		{"a token that cannot be is refused", tokenImproper},
		{"a deleted token is gone", tokenDeleted},
		{"of 20 deletions of a token at once one is done", tokenDeletedAtOnce},
		{"an inactive account keeps its tokens", tokenOfInactive},
		{"reopening keeps tokens", tokensReopened},
	}
}

// newToken returns a token with an id and a digest of its own.
func newToken(account, name string) keys.AccountToken {
	return keys.AccountToken{ID: rand.Text()[:13], Account: account, Name: name, Sum: sha256.Sum256([]byte(rand.Text()))}
}

// token makes a token.
func (f *fixture) token(account, name string) keys.AccountToken {
	f.t.Helper()
	token, _, err := f.CreateToken(f.t.Context(), newToken(account, name))
	if err != nil {
		f.t.Fatalf("CreateToken(%q): %v", account, err)
	}
	return token
}

func (f *fixture) tokens(account string) []keys.AccountToken {
	f.t.Helper()
	tokens, err := f.Tokens(f.t.Context(), account)
	if err != nil {
		f.t.Fatalf("Tokens(%q): %v", account, err)
	}
	return append([]keys.AccountToken{}, tokens...)
}

// hasToken fails the test unless a token is as it should be.
func (f *fixture) hasToken(want keys.AccountToken) {
	f.t.Helper()
	got, err := f.Token(f.t.Context(), want.ID)
	if err != nil {
		f.t.Errorf("Token(%q): %v", want.ID, err)
		return
	}
	same(f.t, "token", got, want)
}

func tokenAsAsked(t *testing.T, h Harness) {
	f := open(t, h)
	before := f.create("a", "").Version
	asked := newToken("a", "deploy")
	asked.Created = time.Unix(1, 0)
	got, receipt, err := f.CreateToken(t.Context(), asked)
	if err != nil {
		t.Fatal(err)
	}
	want := asked
	want.Created = f.clock.Now()
	same(t, "token of CreateToken", got, want)
	f.hasToken(want)
	same(t, "tokens", f.tokens("a"), []keys.AccountToken{want})
	if next := f.create("a", "").Version; receipt.Version <= before || next <= receipt.Version {
		t.Errorf("the versions are %d, %d, %d", before, receipt.Version, next)
	}
}

func tokensNewestLast(t *testing.T, h Harness) {
	f := open(t, h)
	f.accounts("ab")
	var want []keys.AccountToken
	for i := range 12 {
		want = append(want, f.token("a", ""))
		f.token("ab", "")
		f.clock.advance(time.Duration(5-i) * time.Second) // it goes back, too
	}
	same(t, "tokens", f.tokens("a"), want)
	same(t, "number of the other account's", len(f.tokens("ab")), 12)
	same(t, "tokens of an account without", f.tokens("b"), []keys.AccountToken{})
}

func tokenUnknown(t *testing.T, h Harness) {
	f := open(t, h)
	token := f.token("a", "")
	_, err := f.Token(t.Context(), newToken("a", "").ID)
	refused(t, "Token", err, keys.ErrNoToken)
	_, err = f.DeleteToken(t.Context(), "a", newToken("a", "").ID)
	refused(t, "DeleteToken", err, keys.ErrNoToken)
	_, err = f.DeleteToken(t.Context(), "b", token.ID)
	refused(t, "DeleteToken of another account", err, keys.ErrNoToken)
	f.hasToken(token)
}

// tokenImproper sends what only a mistake of the caller can, and an id that is in use.
func tokenImproper(t *testing.T, h Harness) {
	f := open(t, h)
	token := f.token("a", "")
	for _, improper := range []keys.AccountToken{
		{ID: "", Account: "a", Sum: token.Sum},
		{ID: newToken("a", "").ID, Account: "a"},
	} {
		if _, _, err := f.CreateToken(t.Context(), improper); err == nil || errors.Is(err, keys.ErrUnavailable) {
			t.Errorf("CreateToken(%+v): %v", improper, err)
		}
	}
	again := newToken("b", "")
	again.ID = token.ID
	if _, _, err := f.CreateToken(t.Context(), again); err == nil {
		t.Error("a second token got the same id")
	}
	same(t, "tokens", f.tokens("a"), []keys.AccountToken{token})
	same(t, "tokens of the other account", f.tokens("b"), []keys.AccountToken{})
}

func tokenDeleted(t *testing.T, h Harness) {
	f := open(t, h)
	first, gone, last := f.token("a", "same"), f.token("a", "same"), f.token("a", "same")
	before := f.create("a", "").Version
	receipt, err := f.DeleteToken(t.Context(), "a", gone.ID)
	if err != nil || receipt.Version <= before {
		t.Errorf("DeleteToken: after version %d came %d, %v", before, receipt.Version, err)
	}
	for range 2 {
		_, err = f.Token(t.Context(), gone.ID)
		refused(t, "Token", err, keys.ErrNoToken)
		_, err = f.DeleteToken(t.Context(), "a", gone.ID)
		refused(t, "DeleteToken", err, keys.ErrNoToken)
		same(t, "tokens", f.tokens("a"), []keys.AccountToken{first, last})
		f.reopen()
	}
}

func tokenDeletedAtOnce(t *testing.T, h Harness) {
	f := open(t, h)
	id := f.token("a", "").ID
	var done atomic.Int32
	together(20, func(int) {
		if _, err := f.DeleteToken(t.Context(), "a", id); err == nil {
			done.Add(1)
		} else {
			refused(t, "DeleteToken", err, keys.ErrNoToken)
		}
	})
	if done.Load() != 1 {
		t.Errorf("%d deletions succeeded", done.Load())
	}
}

func tokenOfInactive(t *testing.T, h Harness) {
	f := open(t, h)
	token := f.token("a", "")
	f.setActive("a", false)
	f.hasToken(token)
	second := f.token("a", "")
	same(t, "tokens", f.tokens("a"), []keys.AccountToken{token, second})
}

func tokensReopened(t *testing.T, h Harness) {
	f := open(t, h)
	want := []keys.AccountToken{f.token("a", "x"), f.token("a", "")}
	f.reopen()
	for _, token := range want {
		f.hasToken(token)
	}
	want = append(want, f.token("a", ""))
	same(t, "tokens", f.tokens("a"), want)
}
