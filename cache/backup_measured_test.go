//go:build !race

package cache

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"

	"keystile/cache/redistest"
	"keystile/keys"
)

// TestMeasuredBackupOfManyKeysIsNeverWholeInMemory moves 100,000 keys from a file to
// either store and back. Of a key at most an id and a few numbers are held at a time,
// beside some garbage.
func TestMeasuredBackupOfManyKeysIsNeverWholeInMemory(t *testing.T) {
	const size = 100_000
	folder := t.TempDir()
	path := filepath.Join(folder, "crafted")
	length := craftLarge(t, path, size)
	server := redistest.Start(t, redistest.Options{})
	r, err := DialRedis(t.Context(), RedisOptions{Server: RedisServer{Addresses: []string{server.Addr()}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	for _, s := range []backedUp{mustOpen(t, storeFile(t), BoltOptions{}), r} {
		withFile(t, path, os.O_RDONLY, func(file *os.File) {
			measureHeap(t, fmt.Sprintf("%T: import", s), length, func() error {
				report, err := s.Import(t.Context(), file, ImportOptions{})
				if report.Created != size {
					t.Errorf("%d created", report.Created)
				}
				return err
			})
		})
		withFile(t, filepath.Join(folder, "exported"), os.O_CREATE|os.O_WRONLY, func(file *os.File) {
			measureHeap(t, fmt.Sprintf("%T: export", s), length, func() error { return s.Export(t.Context(), file) })
		})
	}
}

func withFile(t *testing.T, path string, flag int, do func(*os.File)) {
	t.Helper()
	file, err := os.OpenFile(path, flag, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	do(file)
}

// measureHeap looks at the heap every millisecond while do runs.
func measureHeap(t *testing.T, what string, length int64, do func() error) {
	t.Helper()
	defer debug.SetGCPercent(debug.SetGCPercent(20)) // so that it is collected often
	runtime.GC()
	base, highest, began := live(), uint64(0), time.Now()
	done := make(chan error)
	go func() { done <- do() }()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			highest = max(highest, live())
			continue
		case err := <-done:
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
		}
		break
	}
	grown := int64(highest) - int64(base)
	t.Logf("%s of %d MB: %v, at most %d MB of heap", what, length>>20, time.Since(began).Round(time.Millisecond), grown>>20)
	if grown > length*2/3 {
		t.Errorf("%s took %d bytes of heap for a file of %d", what, grown, length)
	}
}

// live returns the bytes that the last collection of garbage found in use. On a busy machine
// collections come late, so what is on the heap says nothing.
func live() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// craftLarge writes a backup and returns its length.
func craftLarge(t *testing.T, path string, size int) int64 {
	t.Helper()
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	out := bufio.NewWriter(file)
	head := backupHeader{Store: "crafted", Version: uint64(size), Made: time.Now(), Accounts: size / 10, Keys: size}
	w, err := newBackupWriter(out, head)
	for i := range head.Accounts {
		err = errors.Join(err, w.line(&keys.Account{ID: fmt.Sprint("account-", i), Active: true, Version: 1}))
	}
	for i := range size {
		record := someRecord(fmt.Sprint("key ", i), uint64(i)+1)
		record.Account = fmt.Sprint("account-", i/10)
		record.Digests[1] = keys.Digest{Scheme: keys.SHA256, Sum: keys.Sum{byte(i)}, Until: 1}
		if err == nil {
			err = w.key(record)
		}
	}
	if err == nil {
		err = w.finish()
	}
	if err == nil {
		err = out.Flush()
	}
	info, failed := file.Stat()
	if err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	return info.Size()
}
