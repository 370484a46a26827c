package admin

import (
	"maps"
	"slices"
	"testing"

	"keystile/admin/apitest"
)

// pathValues are values of the parameters of all paths that name something in the store of b.
func pathValues(b *bench) map[string]string {
	b.t.Helper()
	key, _ := b.create(`{"name":"kept"}`)
	b.account("acme")
	for id := range b.store.tokens {
		return map[string]string{"key": key, "account": "acme", "id": id}
	}
	return nil
}

// TestEveryCallRefusesWhatDoesNotFitItsDescription sends each call that takes a body all mistakes
// that can be made with it, by the description. That the refusals are problem documents as
// described is checked with every reply.
func TestEveryCallRefusesWhatDoesNotFitItsDescription(t *testing.T) {
	b := newExportBench(t, writes(""))
	values, d := pathValues(b), committed(t)
	before, version := maps.Clone(b.store.records), b.store.version // which every change raises
	calls, sent := 0, 0
	for _, c := range d.Calls() {
		mistakes := d.Mistakes(c)
		if len(mistakes) > 0 {
			calls++
		}
		for _, mistake := range mistakes {
			sent++
			got := b.send(c.Method, d.Base()+apitest.Fill(c.Path, values), mistake.Body)
			if !slices.Contains([]int{400, 413, 422}, got.status) {
				t.Errorf("%s: %s: %.100q: got %d %s", c, mistake.Name, mistake.Body, got.status, got.text)
			}
			if len(got.text) > 2000 {
				t.Errorf("%s: %s: %d bytes come back", c, mistake.Name, len(got.text))
			}
		}
	}
	if !maps.Equal(b.store.records, before) || b.store.version != version {
		t.Error("something has changed")
	}
	t.Logf("%d mistakes in %d calls", sent, calls)
	if calls < 7 || sent < 600 {
		t.Errorf("only %d mistakes in %d calls", sent, calls)
	}
}
