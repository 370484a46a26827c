package keystest

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"keystile/keys"
)

func limitClauses() []clause {
	return []clause{
		{"the limit is the account's own and counts inactive keys", limitCounts},
		{"deleting and creating at once never passes the limit", limitChurn},
	}
}

func limitCounts(t *testing.T, h Harness) {
	f := openLimit(t, h, 3)
	for range 3 {
		f.create("a", "")
	}
	f.update(f.list("a")[0].ID, func(r *keys.Record) { r.Active = false })
	atLimit(t, f, "a", 3)
	f.create("b", "")
	f.delete(f.list("a")[0].ID)
	f.create("a", "")
	atLimit(t, f, "a", 3)
}

// atLimit fails the test unless another key of the account is refused.
func atLimit(t *testing.T, f *fixture, account string, limit int) {
	t.Helper()
	_, err := f.Create(t.Context(), draft(account, ""))
	var reached *keys.LimitError
	if !errors.As(err, &reached) || reached.Limit != limit {
		t.Errorf("Create at the limit of %d: %v", limit, err)
	}
	if n := len(f.list(account)); n != limit {
		t.Errorf("the account has %d keys, not %d", n, limit)
	}
}

func limitAtOnce(t *testing.T, h Harness) {
	f := open(t, h)
	for round := range 200 {
		account := fmt.Sprint("account-", round)
		f.accounts(account)
		var kept atomic.Int32
		together(40, func(int) {
			var reached *keys.LimitError
			switch _, err := f.Create(t.Context(), draft(account, "")); {
			case err == nil:
				kept.Add(1)
			case !errors.As(err, &reached):
				t.Errorf("Create: %v", err)
			}
		})
		names := map[string]bool{}
		for _, name := range f.names(account) {
			names[name] = true
		}
		if kept.Load() != 10 || len(names) != 10 || !names["API key 10"] {
			t.Fatalf("round %d: %d creates done, and names %v", round, kept.Load(), names)
		}
	}
}

func limitChurn(t *testing.T, h Harness) {
	f := openLimit(t, h, 3)
	together(8, func(int) {
		for range 10 {
			created, err := f.Create(t.Context(), draft("a", ""))
			if n := len(f.list("a")); n > 3 {
				t.Errorf("the account has %d keys, over the limit of 3", n)
			}
			if err == nil {
				f.delete(created.Record.ID)
			}
		}
	})
	same(t, "keys left", f.names("a"), []string{})
}
