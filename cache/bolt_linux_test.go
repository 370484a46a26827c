package cache

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"keystile/keys"
)

// TestDirectoryThatIsNotWritableIsASentence opens with the rights of nobody, as root
// may write everywhere.
func TestDirectoryThatIsNotWritableIsASentence(t *testing.T) {
	directory := t.TempDir()
	if err := os.Chmod(directory, 0o500); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if err := syscall.Setfsuid(65534); err != nil {
			t.Error(err)
		}
		for _, path := range []string{"keys.db", "deeper/keys.db"} {
			cannotOpen(t, filepath.Join(directory, path), BoltOptions{}, "not writable", "permission denied")
		}
	}()
	<-done
}

// descriptor returns the number under which this process has path open.
func descriptor(t *testing.T, path string) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + entry.Name()); err == nil && to == path {
			number, _ := strconv.Atoi(entry.Name())
			return number
		}
	}
	t.Fatalf("%s is not open", path)
	return 0
}

// TestFullDiskChangesNothing puts /dev/full in the place of the store's file, so that
// each write fails as on a full disk.
func TestFullDiskChangesNothing(t *testing.T) {
	path, m := storeFile(t), NewMirror()
	b := mustOpen(t, path, BoltOptions{Mirror: m})
	record := mustCreate(t, b)
	number := descriptor(t, path)
	kept, err := syscall.Dup(number)
	if err != nil {
		t.Fatal(err)
	}
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = full.Close() }()
	if err := syscall.Dup3(int(full.Fd()), number, syscall.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		_, _, err := b.Update(t.Context(), record.ID, switchOff)
		if !errors.Is(err, keys.ErrUnavailable) || !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("Update on a full disk: %v", err)
		}
		if err := b.Touch(t.Context(), map[keys.ID]keys.Use{record.ID: {At: time.Now()}}); err == nil {
			t.Error("Touch on a full disk returned no error")
		}
	}
	if got, err := b.Get(t.Context(), record.ID); err != nil || got != record || !m.Current(record.ID, record.Version) {
		t.Errorf("after updates that failed the store has %v, %v", got, err)
	}
	if err := errors.Join(syscall.Dup3(kept, number, syscall.O_CLOEXEC), syscall.Close(kept)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.Update(t.Context(), record.ID, switchOff); err != nil {
		t.Errorf("Update after there was room again: %v", err)
	}
	if g, _ := m.Get(record.ID); g.Active || g.Version != record.Version+1 {
		t.Errorf("the mirror has %v", g)
	}
}
