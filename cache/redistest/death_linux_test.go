package redistest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"
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
		if errors.Is(err, syscall.ECONNREFUSED) {
			return nil
		}
		if err == nil {
			_ = conn.Close()
		}
		return fmt.Errorf("a connection ends with %v, want refused", err)
	})
	if err != nil {
		t.Errorf("the server at %s lives on: %v", addr, err)
	}
}
