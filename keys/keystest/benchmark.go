package keystest

import (
	"fmt"
	"testing"
	"time"

	"keystile/keys"
)

// Benchmark measures one caller at a time, on a store of ten keys.
func Benchmark(b *testing.B, h Harness) {
	b.Run("create", func(b *testing.B) {
		store := openBenchmark(b, h)
		for i := 0; b.Loop(); i++ {
			account := fmt.Sprint(i / 10)
			if i%10 == 0 {
				b.StopTimer()
				makeAccount(b, store, account)
				b.StartTimer()
			}
			if _, err := store.Create(b.Context(), draft(account, "")); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("get", func(b *testing.B) {
		store, id := openFilled(b, h)
		for b.Loop() {
			if _, err := store.Get(b.Context(), id); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("list", func(b *testing.B) {
		store, _ := openFilled(b, h)
		for b.Loop() {
			if list, err := store.List(b.Context(), "a"); err != nil || len(list) != 10 {
				b.Fatal(len(list), err)
			}
		}
	})
	b.Run("update", func(b *testing.B) {
		store, id := openFilled(b, h)
		for b.Loop() {
			_, _, err := store.Update(b.Context(), id, func(r *keys.Record) error {
				r.Active = !r.Active
				return nil
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}

func openBenchmark(b *testing.B, h Harness) Store {
	store := h.Open(b, b.TempDir(), Options{PerAccount: 10, Now: time.Now})
	b.Cleanup(func() { _ = store.Close() })
	b.ReportAllocs()
	return store
}

func makeAccount(b *testing.B, store Store, id string) {
	if _, _, err := store.CreateAccount(b.Context(), keys.Account{ID: id}); err != nil {
		b.Fatal(err)
	}
}

// openFilled returns a store with ten keys, and the id of one.
func openFilled(b *testing.B, h Harness) (Store, keys.ID) {
	store := openBenchmark(b, h)
	makeAccount(b, store, "a")
	var id keys.ID
	for range 10 {
		created, err := store.Create(b.Context(), draft("a", ""))
		if err != nil {
			b.Fatal(err)
		}
		id = created.Record.ID
	}
	return store, id
}
