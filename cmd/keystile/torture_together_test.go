//go:build torture

package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestTortureConsoleAndCommandsLoseNothingOfEachOther has two windows and two command lines
// change the same keys for a minute.
func TestTortureConsoleAndCommandsLoseNothingOfEachOther(t *testing.T) {
	exe, err := os.Executable()
	program := filepath.Join(t.TempDir(), "keystile") // see TestMain
	if err = errors.Join(err, os.Symlink(exe, program)); err != nil {
		t.Fatal(err)
	}
	p := startServe(t, newSample(t).URL, command{})
	out := runNode(t, consoleFolder, append(browserEnv(t, p), "SECONDS=60", "KEYSTILE="+program), "together.mjs")
	t.Logf("%s", out)
	var told struct {
		By       []int
		Accepted int
		Refused  map[string]int
	}
	if err := json.Unmarshal(out, &told); err != nil {
		t.Fatal(err)
	}
	got := statusesOfChanges(t, p)
	const begun = 4 + 1 // keys that there were, and the sign-in
	if accepted := got[200] + got[201] - begun; accepted != told.Accepted {
		t.Errorf("%d changes were accepted, of %d somebody was told", accepted, told.Accepted)
	}
	if got[412] != told.Refused["changed"] || got[412] == 0 {
		t.Errorf("%d changes were refused for what others had changed, of %d somebody was told", got[412], told.Refused["changed"])
	}
	for _, n := range told.By {
		if n < 10 {
			t.Errorf("changes by each: %v: too few to meet", told.By)
		}
	}
}
