package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"image/png"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"keystile/keys"
)

// pasted are the commands that demo prints, in their order, as a person copies them.
func pasted(t *testing.T, p *process) []string {
	t.Helper()
	p.stdout.wait(t, p, "the last line", func(line string) bool { return strings.HasPrefix(line, "Ctrl-C") })
	var commands []string
	for paragraph := range strings.SplitSeq(p.stdout.text(), "\n\n") {
		if strings.HasPrefix(paragraph, "  curl ") {
			commands = append(commands, paragraph)
		}
	}
	if len(commands) != 3 {
		t.Fatalf("demo prints %d commands:\n%s", len(commands), p.stdout.text())
	}
	return commands
}

// shell prepares a pasted command.
func shell(t *testing.T, p *process, pasted string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), "sh", "-c", pasted)
	cmd.Dir, cmd.Env = p.folder, environment()
	cmd.Stderr = os.Stderr
	return cmd
}

// textDemo starts demo as a person does, on free ports, with a folder of its own for
// temporary files.
func textDemo(t *testing.T) (p *process, temporary string) {
	t.Helper()
	temporary = t.TempDir()
	p = start(t, command{
		args: []string{"demo", "--proxy-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"},
		env:  []string{"TMPDIR=" + temporary},
	})
	return p, temporary
}

func TestDemoPrintsCommandsThatWorkAsPrinted(t *testing.T) {
	p, _ := textDemo(t)
	commands := pasted(t, p)

	if out, err := shell(t, p, commands[0]).Output(); err != nil || len(out) > 0 {
		t.Errorf("the picture: %v, printed %q", err, out)
	}
	picture, err := png.Decode(strings.NewReader(readFile(t, filepath.Join(p.folder, "picture.png"))))
	if err != nil {
		t.Fatalf("the picture does not decode: %v", err)
	}
	if size := picture.Bounds().Size(); size.X < 256 || size.Y < 256 {
		t.Errorf("the picture has %v pixels", size)
	}

	stalls := watchStalls(t)
	again(t, func() error { return checkVisiblePace(t, shell(t, p, commands[1]), stalls) })

	out, err := shell(t, p, commands[2]).Output()
	var list struct{ Keys []struct{ Name, Key string } }
	if err != nil || json.Unmarshal(out, &list) != nil || len(list.Keys) != 1 || list.Keys[0].Name != "demo" {
		t.Errorf("the list of keys: %v, %s", err, out)
	}
}

// checkVisiblePace reads a stream of events: text that had been held back would come
// all at once, and so does what waited for a reader that stood still, which is returned.
func checkVisiblePace(t *testing.T, cmd *exec.Cmd, stalls *stalls) error {
	t.Helper()
	began := time.Now()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var first, last time.Time
	words, done := 0, false
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		switch line := lines.Text(); {
		case line == "data: [DONE]":
			done = true
		case strings.HasPrefix(line, "data: "):
			last = time.Now()
			if words++; words == 1 {
				first = last
			}
		}
	}
	if err := cmd.Wait(); err != nil || !done || words < 10 {
		t.Errorf("the stream: %v, %d events, ended: %t", err, words, done)
	}
	if spread := last.Sub(first); spread < 200*time.Millisecond {
		if stalls.near(began, time.Now()) {
			return fmt.Errorf("%d events came within %v", words, spread)
		}
		t.Errorf("%d events came within %v", words, spread)
	}
	return nil
}

func TestDemoTellsScriptsOnItsFirstLine(t *testing.T) {
	p, facts := startDemo(t, command{})
	if line, _, _ := strings.Cut(p.stdout.text(), "\n"); !json.Valid([]byte(line)) {
		t.Errorf("the first line is %q", line)
	}
	for name, url := range map[string]string{"proxy": facts.Proxy, "admin": facts.Admin} {
		if !strings.HasPrefix(url, "http://127.0.0.1:") || strings.HasSuffix(url, "/") || strings.HasSuffix(url, ":0") {
			t.Errorf("%s is %q", name, url)
		}
	}
	if _, err := keys.ParseKey(facts.Key); err != nil {
		t.Errorf("key %q: %v", facts.Key, err)
	}
	got, err := ask(http.DefaultClient, "GET", facts.Proxy+"/v1/models", "", "X-Key: "+facts.Key, "X-Secret: "+facts.Secret)
	if err != nil || got.status != http.StatusOK || !bytes.Contains(got.body, []byte(`"data"`)) {
		t.Errorf("through the proxy: %v, %d %s", err, got.status, got.body)
	}
	if record := p.client(t).get(t, facts.Key); !record.Active || record.Name != "demo" {
		t.Errorf("by the token, the key is %+v", record)
	}
}

func TestCtrlCEndsTheDemoAndRemovesItsStore(t *testing.T) {
	p, temporary := textDemo(t)
	commands := pasted(t, p)
	if entries, err := os.ReadDir(temporary); err != nil || len(entries) != 1 {
		t.Fatalf("while it runs, its temporary folder has %v, %v", entries, err)
	}
	if _, err := shell(t, p, commands[2]).Output(); err != nil {
		t.Fatal(err)
	}
	p.signal(t, syscall.SIGINT)
	if code := p.wait(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if entries, err := os.ReadDir(temporary); err != nil || len(entries) > 0 {
		t.Errorf("it leaves %v, %v", entries, err)
	}
	if entries, err := os.ReadDir(p.folder); err != nil || len(entries) > 0 {
		t.Errorf("in the working directory it leaves %v, %v", entries, err)
	}
	if strings.Contains(p.stderr.text(), "ERROR") {
		t.Errorf("it logged an error:\n%s", p.stderr.text())
	}
}

func TestDemoThatCannotStartLeavesNothing(t *testing.T) {
	first, _ := startDemo(t, command{})
	temporary := t.TempDir()
	busy := strings.TrimPrefix(first.proxy, "http://")
	p := start(t, command{args: []string{"demo", "--proxy-listen", busy, "--admin-listen", "127.0.0.1:0"}, env: []string{"TMPDIR=" + temporary}})
	if code := p.wait(t); code != 1 {
		t.Errorf("exit code %d", code)
	}
	if said := p.stderr.text(); !strings.Contains(said, "for any free port: keystile demo --proxy-listen 127.0.0.1:0 --admin-listen 127.0.0.1:0\n") {
		t.Errorf("it says %q", said)
	}
	if entries, err := os.ReadDir(temporary); err != nil || len(entries) > 0 {
		t.Errorf("it leaves %v, %v", entries, err)
	}
}
