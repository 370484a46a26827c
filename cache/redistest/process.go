package redistest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// process is a redis-server that can be ended and started again. It prints into a file of its folder.
type process struct {
	t       testing.TB
	program string
	args    []string
	dir     string
	running *exec.Cmd
	ended   chan struct{} // closed when running has ended; nil before the first start
	stopped bool          // by Stop
}

// newProcess prepares a redis-server with these arguments, in a folder of its own.
func newProcess(t testing.TB, args ...string) *process {
	t.Helper()
	program, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatalf("%v. Install it: apt-get update && apt-get install -y --no-install-recommends redis-server", err)
	}
	p := &process{t: t, program: program, args: args, dir: t.TempDir()}
	t.Cleanup(p.cleanUp)
	return p
}

func (p *process) start() {
	p.t.Helper()
	if !p.hasEnded() {
		p.t.Fatal("redistest: the server is running already")
	}
	output, err := os.OpenFile(p.outputPath(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = output.Close() }()
	running, ended := exec.Command(p.program, p.args...), make(chan struct{})
	running.Dir, running.Stdout, running.Stderr = p.dir, output, output
	running.SysProcAttr = dieWithParent()
	if err := running.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.running, p.ended, p.stopped = running, ended, false
	go func() {
		defer close(ended)
		_ = running.Wait()
	}()
}

func (p *process) outputPath() string { return filepath.Join(p.dir, "output") }

// output returns the end of what the process printed.
func (p *process) output() string {
	text, err := os.ReadFile(p.outputPath())
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-4096):])
}

func (p *process) pid() int { return p.running.Process.Pid }

func (p *process) hasEnded() bool {
	if p.ended == nil {
		return true
	}
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// Kill ends the process with SIGKILL, also a stopped one, and returns when it has ended.
func (p *process) Kill() {
	p.t.Helper()
	if p.ended != nil {
		_ = p.running.Process.Kill()
		<-p.ended
	}
}

// Terminate asks the process to end with SIGTERM and returns when it has ended; a stopped one is continued.
func (p *process) Terminate() {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	p.signal(syscall.SIGCONT)
	err := poll(patience, func() error {
		if !p.hasEnded() {
			return fmt.Errorf("it is running")
		}
		return nil
	})
	if err != nil {
		p.t.Fatalf("waiting for redis-server to end after SIGTERM: %v", err)
	}
}

// Stop stops the process with SIGSTOP, and returns when it stands still: its connections stay, nothing is answered.
func (p *process) Stop() {
	p.t.Helper()
	p.signal(syscall.SIGSTOP)
	p.stopped = true
	if err := poll(patience, func() error { return standsStill(p.pid()) }); err != nil {
		p.t.Fatalf("waiting for redis-server to stop: %v", err)
	}
}

// Continue lets a stopped process go on with SIGCONT.
func (p *process) Continue() {
	p.t.Helper()
	p.stopped = false
	p.signal(syscall.SIGCONT)
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if p.ended == nil {
		p.t.Fatal("redistest: the server was never started")
	}
	// One that has ended meanwhile is nothing for Terminate to complain of, and Stop finds it missing.
	_ = p.running.Process.Signal(s)
}

// standsStill returns an error unless the process is stopped. Where the system does not tell, it is believed.
func standsStill(pid int) error {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		return nil
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stop(err)
	}
	// The name, in parentheses, may hold anything; the state follows it.
	_, state, _ := strings.Cut(string(stat[strings.LastIndexByte(string(stat), ')'):]), " ")
	if !strings.HasPrefix(state, "T") {
		return fmt.Errorf("its state is %q", state)
	}
	return nil
}

func (p *process) cleanUp() {
	p.Kill()
	if p.t.Failed() && p.ended != nil {
		p.t.Logf("redis-server in %s printed last:\n%s", p.dir, p.output())
	}
}
