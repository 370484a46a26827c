package cache

import (
	"bytes"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"keystile/keys"
)

// meddler changes the store while a backup of it is half written.
type meddler struct {
	*os.File
	meddle func()
}

func (m *meddler) Write(p []byte) (int, error) {
	if meddle := m.meddle; meddle != nil {
		m.meddle = nil
		meddle()
	}
	return m.File.Write(p)
}

// What a scan has passed, and what it has not reached, is changed, deleted, made.
func TestBackupFromRedisHasWhatChangedMeanwhile(t *testing.T) {
	const size = 3000 // more than a scan returns at once
	var records []keys.Record
	for i := range size {
		records = append(records, someRecord(fmt.Sprintf("key %d", i), uint64(i)+1))
	}
	file := crafted(t, records)
	for _, kind := range kindsOfStore()[1:] {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			r := kind.open(t, storeOptions{perAccount: size + 10}).(*Redis)
			mustImport(t, r, file, ImportOptions{})
			s, spooled := spooling(t, r)
			x := newRedisExport(r, s, &meddler{spooled, func() {
				for i := 0; i < size; i += 100 {
					mustUpdate(t, r, records[i].ID, off)
					mustDelete(t, r, records[i+1].ID)
				}
				mustMake(t, r, "default", "new", nil)
				mustDelete(t, r, mustMake(t, r, "default", "soon gone", nil).ID)
			}})
			var out bytes.Buffer
			for _, step := range []func() error{
				func() error { return x.collect(t.Context()) },
				func() error { return x.settle(t.Context()) },
				func() error { return x.write(t.Context(), &out) },
			} {
				if err := step(); err != nil {
					t.Fatal(err)
				}
			}
			copied := kindsOfStore()[0].open(t, storeOptions{})
			mustImport(t, copied, out.Bytes(), ImportOptions{})
			if diff := cmp.Diff(kept(mustList(t, r)), kept(mustList(t, copied))); diff != "" {
				t.Errorf("(-store +backup):\n%s", diff)
			}
			if h := header(t, out.Bytes()); h.Deleted != size/100+1 {
				t.Errorf("%+v", h)
			}
		})
	}
}

// restless is a source of many keys whose names change all the time, in one order.
type restless struct {
	s    keys.Store
	ids  []keys.ID
	next int
}

// step gives the key whose turn it is the next number as its name.
func (r *restless) step(t testing.TB) {
	id := r.ids[r.next%len(r.ids)]
	_, _, err := r.s.Update(t.Context(), id, func(record *keys.Record) error {
		record.Name = fmt.Sprintf("number %d", len(r.ids)+r.next)
		return nil
	})
	if err != nil {
		t.Errorf("Update: %v", err)
	}
	r.next++
}

// A backup is of one moment, however many changes are made while it is written: at any
// moment the numbers of the keys are in a row.
func TestBackupIsOfOneMoment(t *testing.T) {
	const size = 3000 // more than a scan returns at once
	var records []keys.Record
	for i := range size {
		records = append(records, someRecord(fmt.Sprintf("number %d", i), uint64(i)+1))
	}
	file := crafted(t, records)
	onEveryStore(t, func(t *testing.T, s backedUp) {
		mustImport(t, s, file, ImportOptions{})
		source := &restless{s: s}
		for _, r := range records {
			source.ids = append(source.ids, r.ID)
		}
		var changing sync.WaitGroup
		stop, changed := make(chan struct{}), make(chan struct{})
		changing.Go(func() {
			for {
				source.step(t)
				select {
				case <-stop:
					return
				case changed <- struct{}{}: // an export waits for it
				default:
				}
			}
		})
		for range 3 {
			<-changed // it is at work
			var out bytes.Buffer
			if err := s.Export(t.Context(), &out); err != nil {
				t.Errorf("Export: %v", err)
				break
			}
			inARow(t, out.Bytes(), size)
		}
		close(stop)
		changing.Wait()
		if source.next == 0 {
			t.Error("nothing changed meanwhile")
		}
	})
}

// inARow fails the test unless the names in a backup are numbers without a gap.
func inARow(t *testing.T, file []byte, size int) {
	t.Helper()
	r, err := newBackupReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	low, high, n := 1<<30, 0, 0
	for {
		e, err := r.next()
		if err != nil {
			break
		}
		if e.account != nil {
			continue
		}
		var number int
		if _, err := fmt.Sscanf(e.Name, "number %d", &number); err != nil {
			t.Fatal(err)
		}
		low, high, n = min(low, number), max(high, number), n+1
	}
	if n != size || high-low != size-1 {
		t.Errorf("%d keys with numbers from %d to %d", n, low, high)
	}
}

// spooling returns a session and a file for an export that a test makes step by step.
func spooling(t *testing.T, r *Redis) (*session, *os.File) {
	t.Helper()
	s, err := r.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	file, err := temporary(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	return s, file
}
