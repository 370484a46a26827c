//go:build torture

package main

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
)

// browserEnv is what browser.mjs wants to know of a process.
func browserEnv(t *testing.T, p *process) []string {
	t.Helper()
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatalf("%v: run make torture, or tools/install-needs.sh torture", err)
	}
	return []string{"SIZE=1280x800", "SCHEME=light", "HOME=" + t.TempDir(), "CHROMIUM=" + chromium, "ADMIN=" + p.admin, "TOKEN=" + p.token}
}

// TestTortureConsoleIsNeitherReadNorChangedByOtherOrigins has pages of another site, of
// another port of the console's own host, and of a name that comes to point to it make every
// kind of request that a browser knows.
func TestTortureConsoleIsNeitherReadNorChangedByOtherOrigins(t *testing.T) {
	p := startServe(t, newSample(t).URL, command{env: []string{"KEYSTILE_LOG_LEVEL=debug"}})
	t.Logf("%s", runNode(t, consoleFolder, browserEnv(t, p), "attacks.mjs"))
	got := statusesOfChanges(t, p)
	if got[201] != 1 || got[200] != 1 { // the key that there is, and the sign-in
		t.Errorf("answers to changes by their status: %v", got)
	}
	if got[403] < 30 || got[421] < 30 || len(got) != 4 {
		t.Errorf("answers to changes by their status: %v, want all of other origins refused as such (403, 421)", got)
	}
}

// statusesOfChanges counts what the log says of requests that could change something.
func statusesOfChanges(t *testing.T, p *process) map[int]int {
	t.Helper()
	counts := map[int]int{}
	for line := range strings.Lines(p.stderr.text()) {
		var request struct {
			Msg, Method string
			Status      int
		}
		if json.Unmarshal([]byte(line), &request) != nil || request.Msg != "admin request" {
			continue
		}
		switch request.Method {
		case "GET", "HEAD", "OPTIONS":
		default:
			counts[request.Status]++
		}
	}
	return counts
}
