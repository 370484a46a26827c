package keystest

import (
	"errors"
	"testing"
	"time"

	"keystile/keys"
)

func deleteClauses() []clause {
	return []clause{
		{"a deleted key is gone and its name and place are free", deletedGone},
		{"an error of check is returned as it is and the key stays", deleteChecked},
		{"deletions at once succeed once", deletesAtOnce},
	}
}

func touchClauses() []clause {
	return []clause{
		{"the latest use wins and changes neither version nor updated", touchLatest},
		{"the secret of the last use is known through a rotation and a reopening", touchSecret},
		{"a use by a secret that is not known leaves none known", touchNoSecret},
		{"uses of unknown keys are passed over", touchUnknown},
	}
}

func deletedGone(t *testing.T, h Harness) {
	f := openLimit(t, h, 1)
	first := f.create("a", "x")
	touch(t, f, map[keys.ID]keys.Use{first.ID: {At: f.clock.Now()}})
	if receipt := f.delete(first.ID); receipt.Version <= first.Version {
		t.Errorf("the version went from %d to %d", first.Version, receipt.Version)
	}
	for range 2 {
		_, err := f.Get(t.Context(), first.ID)
		refused(t, "Get", err, keys.ErrNotFound)
		_, err = f.Delete(t.Context(), first.ID, nil)
		refused(t, "Delete", err, keys.ErrNotFound)
		same(t, "names", f.names(""), []string{})
		f.reopen()
	}
	same(t, "names", []string{f.create("a", "x").Name}, []string{"x"})
}

func deleteChecked(t *testing.T, h Harness) {
	f := open(t, h)
	want := f.create("a", "x")
	mine := errors.New("not this version")
	_, err := f.Delete(t.Context(), want.ID, func(r keys.Record) error {
		same(t, "record passed to check", r, want)
		return mine
	})
	if err != mine { // the same value is the promise
		t.Errorf("Delete returned %v", err)
	}
	same(t, "record", f.get(want.ID), want)
	if _, err := f.Delete(t.Context(), want.ID, func(keys.Record) error { return nil }); err != nil {
		t.Errorf("Delete: %v", err)
	}
}

func deletesAtOnce(t *testing.T, h Harness) {
	f := open(t, h)
	id := f.create("a", "x").ID
	var outcomes [20]error
	together(len(outcomes), func(i int) { _, outcomes[i] = f.Delete(t.Context(), id, nil) })
	done := 0
	for _, err := range outcomes {
		if err == nil {
			done++
		} else {
			refused(t, "Delete", err, keys.ErrNotFound)
		}
	}
	if done != 1 {
		t.Errorf("%d deletions succeeded", done)
	}
}

func touch(t testing.TB, f *fixture, used map[keys.ID]keys.Use) {
	t.Helper()
	if err := f.Touch(t.Context(), used); err != nil {
		t.Errorf("Touch: %v", err)
	}
}

func touchLatest(t *testing.T, h Harness) {
	f := open(t, h)
	want, other := f.create("a", "x"), f.create("a", "y")
	noon := f.clock.Now()
	for i, at := range []time.Duration{-time.Hour, 0, -time.Minute, time.Millisecond, -time.Second} {
		f.clock.advance(time.Hour)
		touch(t, f, map[keys.ID]keys.Use{want.ID: {At: noon.Add(at), Mark: keys.Mark{byte(i)}}})
	}
	want.LastUsed = keys.Use{At: noon.Add(time.Millisecond), Mark: keys.Mark{3}}
	same(t, "record of Get", f.get(want.ID), want)
	same(t, "List", f.list("a"), []keys.Record{want, other})
	f.update(want.ID, func(r *keys.Record) {
		same(t, "record passed to change", *r, want)
		r.Active = false
	})
	same(t, "last use after an update", f.get(want.ID).LastUsed, want.LastUsed)
}

func touchSecret(t *testing.T, h Harness) {
	f := open(t, h)
	used, other := f.create("a", "x"), f.create("a", "y")
	first, next := used.Digests[0], draft("", "").Digest
	used.LastUsed = keys.Use{At: f.clock.Now(), Mark: first.Mark()}
	touch(t, f, map[keys.ID]keys.Use{used.ID: used.LastUsed})
	known := func(secret string) {
		t.Helper()
		found, listed := f.get(used.ID), f.list("a")
		same(t, "last use of Get", found.LastUsed, used.LastUsed)
		same(t, "secret", []string{found.LastSecret(), listed[0].LastSecret()}, []string{secret, secret})
		same(t, "another key's last use", listed[1].LastUsed, other.LastUsed)
	}
	known("present")
	rotated := f.update(used.ID, func(r *keys.Record) { _ = r.Rotate(next, time.Hour, f.clock.Now()) })
	known("previous")
	f.reopen()
	known("previous")
	f.clock.advance(time.Millisecond)
	used.LastUsed = keys.Use{At: f.clock.Now(), Mark: next.Mark()}
	touch(t, f, map[keys.ID]keys.Use{used.ID: used.LastUsed})
	known("present")
	same(t, "version", f.get(used.ID).Version, rotated.Version)
	f.update(used.ID, func(r *keys.Record) { _ = r.Rotate(draft("", "").Digest, 0, f.clock.Now()) })
	known("")
}

func touchNoSecret(t *testing.T, h Harness) {
	f := open(t, h)
	want := f.create("a", "x")
	touch(t, f, map[keys.ID]keys.Use{want.ID: {At: f.clock.Now(), Mark: want.Digests[0].Mark()}})
	f.clock.advance(time.Second)
	want.LastUsed = keys.Use{At: f.clock.Now()}
	touch(t, f, map[keys.ID]keys.Use{want.ID: want.LastUsed})
	same(t, "record", f.get(want.ID), want)
}

func touchUnknown(t *testing.T, h Harness) {
	f := open(t, h)
	want := f.create("a", "x")
	unknown := keys.NewID()
	touch(t, f, map[keys.ID]keys.Use{unknown: {At: f.clock.Now()}, want.ID: {At: f.clock.Now()}})
	touch(t, f, nil)
	want.LastUsed.At = f.clock.Now()
	same(t, "all records", f.list(""), []keys.Record{want})
	d := draft("a", "y")
	d.ID = unknown
	same(t, "record of a new key", f.mustCreate(d).Record, f.get(unknown))
}
