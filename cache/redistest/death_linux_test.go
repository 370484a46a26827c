package redistest

import (
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestServerEndsWithATestThatCouldNotCleanUp(t *testing.T) {
	const file = "REDISTEST_ADDRESS_FILE"
	if path := os.Getenv(file); path != "" {
		s := Start(t, Options{})
		if err := os.WriteFile(path, []byte(s.Addr()), 0o600); err != nil {
			t.Fatal(err)
		}
		os.Exit(3) // no cleanup runs
	}
	t.Parallel()
	path := t.TempDir() + "/address"
	abrupt := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	// What the abrupt test leaves behind is to be removed with this one.
	abrupt.Env = append(os.Environ(), file+"="+path, "TMPDIR="+t.TempDir())
	if out, err := abrupt.CombinedOutput(); abrupt.ProcessState.ExitCode() != 3 {
		t.Fatalf("the test ended with %v:\n%s", err, out)
	}
	addr, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	err = poll(patience, func() error {
		conn, err := net.Dial("tcp", string(addr))
		if err == nil {
			_ = conn.Close()
			return os.ErrExist
		}
		if !strings.Contains(err.Error(), "refused") {
			return stop(err)
		}
		return nil
	})
	if err != nil {
		t.Errorf("the server at %s lives on: %v", addr, err)
	}
}
