package main

import (
	"bufio"
	"bytes"
	"context"
	"image/png"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// readmeRuns says what the test does with each command block of the README. A block
// that is not here fails the test, so no command goes unrun by oversight.
var readmeRuns = map[string]func(*testing.T, string){
	"go run ./cmd/keystile demo": nil, // run first; the others may need it
	"curl":                       nil, // run against it
	"keystile keys":              runReadmeKeys,
	"make build":                 runMake,
	"make test":                  checkedByCI,
}

// TestReadmeCommandsRunAsPrinted runs the commands of the README. Only what differs
// from run to run is exchanged: addresses (the ports may be taken) and the key.
func TestReadmeCommandsRunAsPrinted(t *testing.T) {
	readme := readReadme(t)
	commands, outputs := codeBlocks(readme, "sh"), codeBlocks(readme, "")
	for _, command := range commands {
		name := blockName(command)
		run, known := readmeRuns[name]
		switch {
		case !known:
			t.Errorf("the README has a command that no test runs: %s", command)
		case run != nil:
			t.Run(name, func(t *testing.T) { run(t, command) })
		}
	}
	t.Run("demo and curl", func(t *testing.T) {
		printed := startReadmeDemo(t, commands[0])
		if got, want := neutral(printed), neutral(outputs[0]); got != want {
			t.Errorf("the README shows another output than the demo has:\n%s\nnot\n%s", want, got)
		}
		runReadmeCurl(t, commands[1], printed)
	})
}

// TestAReadmeCommandThatNoTestRunsIsNoticed shows that the list above is complete by
// force.
func TestAReadmeCommandThatNoTestRunsIsNoticed(t *testing.T) {
	blocks := codeBlocks("text\n```sh\nrm -rf ~\n```\n", "sh")
	if len(blocks) != 1 {
		t.Fatalf("found %q", blocks)
	}
	if _, known := readmeRuns[blockName(blocks[0])]; known {
		t.Error("an unknown command counts as known")
	}
}

// TestReadmeBuildsTheBinaryBeforeItIsUsed has a reader go from top to bottom.
func TestReadmeBuildsTheBinaryBeforeItIsUsed(t *testing.T) {
	var names []string
	for _, command := range codeBlocks(readReadme(t), "sh") {
		names = append(names, blockName(command))
	}
	if built, used := slices.Index(names, "make build"), slices.Index(names, "keystile keys"); built < 0 || used < built {
		t.Errorf("the commands come in the order %q", names)
	}
}

func readReadme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(moduleRoot(t), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// codeBlocks returns the fenced blocks of a language, without their fences.
func codeBlocks(markdown, language string) (blocks []string) {
	inside, wanted, block := false, false, ""
	for line := range strings.Lines(markdown) {
		switch {
		case strings.HasPrefix(line, "```") && inside:
			if wanted {
				blocks = append(blocks, block)
			}
			inside, block = false, ""
		case strings.HasPrefix(line, "```"):
			inside, wanted = true, strings.TrimSpace(line[3:]) == language
		case inside:
			block += line
		}
	}
	return blocks
}

// blockName finds a block in readmeRuns: one of these by its program, another by its line.
func blockName(block string) string {
	for _, program := range []string{"curl", "keystile keys"} {
		if strings.HasPrefix(block, program+" ") {
			return program
		}
	}
	return strings.TrimSpace(block)
}

// runReadmeKeys runs the commands where a keystile serves, and compares the block that
// shows what they print.
func runReadmeKeys(t *testing.T, commands string) {
	p := startServe(t, newSample(t).URL, command{})
	run := exec.CommandContext(t.Context(), "sh", "-ec", commands)
	run.Dir = p.folder
	run.Env = append(environment(),
		"KEYSTILE_ADMIN_LISTEN="+strings.TrimPrefix(p.admin, "http://"), "KEYSTILE_PROXY_LISTEN="+strings.TrimPrefix(p.proxy, "http://"))
	out, err := run.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", commands, err, out)
	}
	shown := codeBlocks(readReadme(t), "")
	at := slices.IndexFunc(shown, func(block string) bool { return strings.HasPrefix(block, "created ") })
	if at < 0 || neutral(string(out)) != neutral(shown[at]) {
		t.Errorf("the README shows another output than\n%s", out)
	}
}

func runMake(t *testing.T, command string) {
	run := exec.CommandContext(t.Context(), "sh", "-ec", command)
	run.Dir = moduleRoot(t)
	if out, err := run.CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", command, err, out)
	}
}

// checkedByCI stands for the command that runs this very test.
func checkedByCI(t *testing.T, command string) {
	ci, err := os.ReadFile(filepath.Join(moduleRoot(t), ".ci", "run"))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(strings.Fields(strings.ReplaceAll(string(ci), "step make test", "MAKETEST")), "MAKETEST") {
		t.Errorf(".ci/run does not run %q", strings.TrimSpace(command))
	}
}

// startReadmeDemo runs the command on free ports and returns what it prints before
// the first empty line that follows the facts.
func startReadmeDemo(t *testing.T, command string) string {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	run := exec.CommandContext(ctx, "sh", "-ec", "exec "+strings.TrimSpace(command)+" --proxy-listen 127.0.0.1:0 --admin-listen 127.0.0.1:0")
	run.Dir = moduleRoot(t)
	run.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // go run and what it built
	var log bytes.Buffer
	run.Stderr = &log
	out, err := run.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-run.Process.Pid, syscall.SIGINT)
		_, _ = io.Copy(io.Discard, out)
		_ = run.Wait()
	})
	printed := ""
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if line := lines.Text(); line == "" && strings.Contains(printed, "secret") {
			return printed
		} else {
			printed += line + "\n"
		}
	}
	t.Fatalf("the demo printed %q and ended:\n%s", printed, log.String())
	return ""
}

// neutral replaces what differs from run to run.
func neutral(printed string) string {
	for pattern, word := range map[string]string{
		`127\.0\.0\.1:\d+`: "ADDRESS", `kst_\w+`: "KEY", `kss_\w+`: "SECRET", `kat_\w+`: "TOKEN",
		`\d{4}-\d\d-\d\d \d\d:\d\d`: "TIME",
	} {
		printed = regexp.MustCompile(pattern).ReplaceAllString(printed, word)
	}
	return strings.TrimSpace(printed)
}

// runReadmeCurl runs the command with the demo's address and key, and looks at the
// picture.
func runReadmeCurl(t *testing.T, command, demo string) {
	for _, pattern := range []string{`127\.0\.0\.1:\d+`, `kst_\w+`, `kss_\w+`} {
		expression := regexp.MustCompile(pattern)
		command = expression.ReplaceAllLiteralString(command, expression.FindString(demo))
	}
	run := exec.CommandContext(t.Context(), "sh", "-ec", command)
	run.Dir = t.TempDir()
	if out, err := run.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	file, err := os.Open(filepath.Join(run.Dir, "picture.png"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	picture, err := png.Decode(file)
	if err != nil {
		t.Fatalf("what came back is no PNG: %v", err)
	}
	if size := picture.Bounds().Size(); size.X < 256 || size.Y < 256 {
		t.Errorf("the picture is %v", size)
	}
}
