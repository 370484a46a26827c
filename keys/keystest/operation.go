package keystest

import (
	"testing"
	"time"

	"keystile/keys"
)

func operationClauses() []clause {
	return []clause{
		{"a repeated operation returns the record of the first", operationReplayed},
		{"an operation with another request is refused", operationReused},
		{"an operation is forgotten after 24 hours", operationForgotten},
		{"an operation whose key was deleted is not found and makes none", operationDeleted},
		{"an operation that failed may be tried again", operationFailed},
		{"40 creates at once with one operation make one key", operationAtOnce},
		{"many operations can be remembered and forgotten", operationsMany},
	}
}

// repeatable returns a draft with the operation key for a request.
func repeatable(account, name, key string, request byte) keys.Draft {
	d := draft(account, name)
	d.Operation = keys.Operation{Key: key, Request: [32]byte{request}}
	return d
}

func operationReplayed(t *testing.T, h Harness) {
	f := openLimit(t, h, 1)
	first := f.mustCreate(repeatable("a", "x", "op", 1))
	again := f.mustCreate(repeatable("a", "x", "op", 1)) // at the limit, with the name taken
	if first.Replayed || !again.Replayed {
		t.Errorf("Replayed is %v, then %v", first.Replayed, again.Replayed)
	}
	same(t, "record", again.Record, first.Record)
	same(t, "receipt", again.Receipt, first.Receipt)
	renamed := f.update(first.Record.ID, func(r *keys.Record) { r.Name = "y" })
	later := f.mustCreate(repeatable("a", "x", "op", 1))
	same(t, "record after an update", later.Record, renamed)
	same(t, "all records", f.list(""), []keys.Record{renamed})
}

func operationReused(t *testing.T, h Harness) {
	f := open(t, h)
	f.mustCreate(repeatable("a", "x", "op", 1))
	_, err := f.Create(t.Context(), repeatable("a", "y", "op", 2))
	refused(t, "Create", err, keys.ErrOperationReused)
	f.mustCreate(repeatable("a", "z", "other op", 2))
	same(t, "names", f.names(""), []string{"x", "z"})
}

func operationForgotten(t *testing.T, h Harness) {
	f := open(t, h)
	first := f.mustCreate(repeatable("a", "", "op", 1))
	f.clock.advance(keys.OperationLifetime - time.Millisecond)
	if again := f.mustCreate(repeatable("a", "", "op", 1)); again.Record.ID != first.Record.ID {
		t.Error("the operation was forgotten before 24 hours")
	}
	f.clock.advance(time.Millisecond)
	second := f.mustCreate(repeatable("a", "", "op", 2))
	if second.Replayed || second.Record.ID == first.Record.ID {
		t.Error("the operation was not forgotten after 24 hours")
	}
	if again := f.mustCreate(repeatable("a", "", "op", 2)); again.Record.ID != second.Record.ID {
		t.Error("the newer operation was not remembered")
	}
}

func operationDeleted(t *testing.T, h Harness) {
	f := open(t, h)
	first := f.mustCreate(repeatable("a", "", "op", 1))
	f.delete(first.Record.ID)
	_, err := f.Create(t.Context(), repeatable("a", "", "op", 1))
	refused(t, "Create", err, keys.ErrNotFound)
	same(t, "names", f.names(""), []string{})
}

func operationFailed(t *testing.T, h Harness) {
	f := openLimit(t, h, 1)
	other := f.create("a", "x")
	if _, err := f.Create(t.Context(), repeatable("a", "x", "op", 1)); err == nil {
		t.Error("Create passed the limit")
	}
	f.delete(other.ID)
	d := repeatable("a", "x", "op", 1)
	created := f.mustCreate(d)
	if created.Replayed || created.Record.ID != d.ID {
		t.Error("a failed Create was remembered as done")
	}
}

func operationAtOnce(t *testing.T, h Harness) {
	f := open(t, h)
	var outcomes [40]keys.Created
	together(len(outcomes), func(i int) {
		var err error
		if outcomes[i], err = f.Create(t.Context(), repeatable("a", "", "op", 1)); err != nil {
			t.Errorf("Create: %v", err)
		}
	})
	list := f.list("")
	if len(list) != 1 {
		t.Fatalf("%d keys were made", len(list))
	}
	first := 0
	for _, created := range outcomes {
		same(t, "record", created.Record, list[0])
		if !created.Replayed {
			first++
		}
	}
	if first != 1 {
		t.Errorf("%d creates say that they made the key", first)
	}
}

func operationsMany(t *testing.T, h Harness) {
	f := openLimit(t, h, 1000)
	key := func(i int) string { return string(rune('A' + i)) }
	for day := range 3 {
		for i := range 30 {
			f.mustCreate(repeatable("a", "", key(i), byte(day)))
		}
		for i := range 30 {
			if !f.mustCreate(repeatable("a", "", key(i), byte(day))).Replayed {
				t.Fatalf("day %d: operation %d was forgotten", day, i)
			}
		}
		f.clock.advance(keys.OperationLifetime)
	}
}
