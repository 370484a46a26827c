package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// The scripts in testdata/script run the program as a person does, and hold it to exit
// code and words. They know three addresses: at BUSY somebody listens, at OTHER a web
// server that is not keystile, at NOBODY nobody.
func TestCommandsSayWhatToDo(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"), RequireExplicitExec: true, RequireUniqueNames: true,
		Deadline: time.Now().Add(10 * patience), // of a process that serves, where it should have ended
		Cmds:     map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
		Setup:    addresses,
	})
}

// exits runs a command and expects an exit code: exits 2 keystile serve.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits code program [argument...]")
	}
	code, failed := 0, (*exec.ExitError)(nil)
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &failed) {
		code = failed.ExitCode()
	} else if err != nil {
		ts.Fatalf("%q: %v", args[1:], err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("%q ended with exit code %d", args[1:], code)
	}
}

func addresses(env *testscript.Env) error {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	env.Defer(func() { _ = busy.Close() })
	nobody, free, err := unusedAddress()
	if err != nil {
		return err
	}
	env.Defer(free)
	other := httptest.NewServer(http.NotFoundHandler())
	env.Defer(other.Close)
	env.Setenv("BUSY", busy.Addr().String())
	env.Setenv("OTHER", strings.TrimPrefix(other.URL, "http://"))
	env.Setenv("NOBODY", nobody)
	return nil
}

// serveArgs are a serve on free ports.
func serveArgs() []string {
	return []string{"serve", "--proxy-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"}
}

// refuses starts a process that must end with exit code 1 and this sentence.
func refuses(t *testing.T, c command, sentence string) {
	t.Helper()
	p, code := startsInVain(t, c)
	if code != 1 {
		t.Errorf("exit code %d", code)
	}
	if got := p.stderr.text(); got != sentence+"\n" {
		t.Errorf("it says\n  %swant\n  %s", got, sentence)
	}
}

// askPatience is how long a process waits for its Redis at least before it serves
// without having asked it.
const askPatience = 250 * time.Millisecond

// startsInVain starts a process that must end by itself, and returns its exit code. One
// that could not ask its Redis in time serves instead, and is started again.
func startsInVain(t *testing.T, c command) (p *process, code int) {
	t.Helper()
	asksRedis := strings.Contains(fmt.Sprint(c.config, c.env), "redis")
	again(t, func() error {
		began := time.Now()
		p = start(t, c)
		eventually(t, "it ends, or serves", func() bool {
			select {
			case <-p.exited:
				return true
			default:
				return strings.Contains(p.stderr.text(), `"msg":"keystile is serving"`)
			}
		})
		took := time.Since(began)
		select {
		case <-p.exited:
			code = p.wait(t)
			return nil
		default:
			p.signal(t, syscall.SIGKILL)
			p.wait(t)
			if !asksRedis || took < askPatience {
				t.Fatalf("it serves, after %v", took)
			}
			return fmt.Errorf("it serves, after %v", took)
		}
	})
	return p, code
}

func TestSecondProcessOnTheSameStoreIsToldSo(t *testing.T) {
	p := startServe(t, newSample(t).URL, command{})
	refuses(t, command{folder: p.folder, args: serveArgs()},
		"opening the key store data/keystile.db: another process is using it: stop that process, or name another file")
	p.client(t).create(t, "") // the first goes on
}

func TestDamagedStoreIsRefusedInOneSentence(t *testing.T) {
	p := startServe(t, newSample(t).URL, command{})
	p.client(t).create(t, "")
	p.stop(t)
	path := filepath.Join(p.folder, "data", "keystile.db")
	whole := readFile(t, path)
	for name, damaged := range map[string]string{
		"cut off":     whole[:len(whole)/3],
		"overwritten": strings.Repeat("\xff", len(whole)),
		"half of it":  whole[:8192] + strings.Repeat("\xa5", len(whole)-8192),
	} {
		t.Run(name, func(t *testing.T) {
			writeFile(t, path, damaged, 0o600)
			p := start(t, command{folder: p.folder, args: serveArgs()})
			if code := p.wait(t); code != 1 {
				t.Errorf("exit code %d", code)
			}
			got := p.stderr.text()
			if !strings.HasPrefix(got, "opening the key store data/keystile.db: ") || !strings.Contains(got, "damaged") ||
				!strings.HasSuffix(got, ": restore it from a backup, or name another file\n") || strings.Count(got, "\n") != 1 {
				t.Errorf("it says %q", got)
			}
			if readFile(t, path) != damaged {
				t.Error("the damaged store was changed")
			}
		})
	}
	writeFile(t, path, whole, 0o600)
	if n := len(startServe(t, newSample(t).URL, command{folder: p.folder}).client(t).list(t)); n != 1 {
		t.Errorf("restored, it has %d keys", n)
	}
}

func TestNothingIsMadeWhenTheConfigurationIsWrong(t *testing.T) {
	p := start(t, command{args: serveArgs(), config: "keys: {per_account: 0}"})
	if code := p.wait(t); code != 2 {
		t.Errorf("exit code %d", code)
	}
	entries, err := os.ReadDir(p.folder)
	if err != nil || len(entries) != 1 {
		t.Errorf("beside config.yaml there is more: %v, %v", entries, err)
	}
	if got, want := p.stderr.text(), "config.yaml:1:21: keys.per_account: must be at least 1, got 0\n"; got != want {
		t.Errorf("it says %q, want %q", got, want)
	}
}

// expectHealth runs healthcheck against p as a container's health probe does: with its
// configuration. It waits for an answer for healthTimeout only, so it may take another try.
func expectHealth(t *testing.T, p *process, code int, prefix string) {
	t.Helper()
	_, address, _ := strings.Cut(p.admin, "://")
	again(t, func() error {
		began := time.Now()
		check := start(t, command{folder: p.folder, args: []string{"healthcheck"}, env: []string{"KEYSTILE_ADMIN_LISTEN=" + address}})
		got := check.wait(t)
		said := check.stdout.text() + check.stderr.text()
		if got == code && strings.HasPrefix(said, prefix) {
			return nil
		}
		err := fmt.Errorf("exit code %d, it says %q; want %d, %q", got, said, code, prefix)
		if took := time.Since(began); took < healthTimeout {
			t.Errorf("%v, after %v", err, took)
			return nil
		}
		return err
	})
}

func TestHealthcheckFollowsReadiness(t *testing.T) {
	upstream := newSlowUpstream(t)
	p := startServe(t, upstream.URL, command{config: "proxy: {drain_timeout: 1h}"})
	expectHealth(t, p, 0, "ready\n")
	openStream(t, p)
	p.signal(t, syscall.SIGTERM)
	drainBegins(t, p)
	expectHealth(t, p, 1, "not ready: draining\n")
	close(upstream.proceed)
	p.wait(t)
	expectHealth(t, p, 1, "nothing answers at "+p.admin+"/readyz ")
}

// A program that is asked for the time of day by a script must not leave files.
func TestCommandsThatOnlyTellMakeNoFiles(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"config", "check"}, {"config", "print"}, {"config", "schema"}, {"--help"}} {
		p := start(t, command{args: args})
		if code := p.wait(t); code != 0 {
			t.Errorf("%q: exit code %d", args, code)
		}
		if _, err := os.Stat(filepath.Join(p.folder, "data")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q made a data directory: %v", args, err)
		}
	}
}
