package sample

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

const speechPath = "/v1/audio/speech"

// program writes a shell script that stands for espeak-ng and returns its path.
func program(t *testing.T, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "speaker")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSpeechWithoutItsProgramIsNotImplemented(t *testing.T) {
	for _, name := range []string{"no-such-program-here", filepath.Join(t.TempDir(), "none")} {
		got := start(t, Options{SpeechProgram: name}).postJSON(speechPath, `{"input":"hello"}`).object(t, 501)
		inner, _ := got["error"].(map[string]any)
		if message, _ := inner["message"].(string); inner["code"] != "not_implemented" || !strings.Contains(message, name) || !strings.Contains(message, "apt-get install espeak-ng") {
			t.Errorf("%v", got)
		}
	}
}

func TestSpeechIsFoundThroughPath(t *testing.T) {
	t.Setenv("PATH", filepath.Dir(program(t, "printf RIFF"))+":"+os.Getenv("PATH"))
	if got := start(t, Options{SpeechProgram: "speaker"}).postJSON(speechPath, `{"input":"a"}`); string(got.body) != "RIFF" {
		t.Errorf("%d %s", got.status, got.body)
	}
}

func TestTextReachesTheProgramOnlyThroughStandardInput(t *testing.T) {
	u := start(t, Options{SpeechProgram: program(t, `echo "$@"; cat`)})
	for body, want := range map[string]string{
		`{"input":"--help; $(id)"}`:                               "-v en -b 1 --stdin --stdout\n--help; $(id)",
		`{"input":"привет","voice":"nova"}`:                       "-v ru+f2 -b 1 --stdin --stdout\nпривет",
		`{"input":"hi","voice":"echo","response_format":"wav"}`:   "-v en+m3 -b 1 --stdin --stdout\nhi",
		`{"input":"hi","voice":"onyx","model":"tts","speed":1.5}`: "-v en+m7 -b 1 --stdin --stdout\nhi",
		`{"input":"hi","voice":"sage"}`:                           "-v en+f4 -b 1 --stdin --stdout\nhi",
	} {
		got := u.postJSON(speechPath, body)
		if got.status != 200 || string(got.body) != want || got.header.Get("Content-Type") != "audio/wav" {
			t.Errorf("%s: %d %q", body, got.status, got.body)
		}
	}
}

func TestSoundIsSentWhileTheProgramStillSpeaks(t *testing.T) {
	path := program(t, `printf RIFF; cat "$0.gate"`)
	if err := syscall.Mkfifo(path+".gate", 0o600); err != nil {
		t.Fatal(err)
	}
	u := start(t, Options{SpeechProgram: path})
	err := u.post(t.Context(), speechPath, `{"input":"a"}`, func(r *http.Response) {
		from := bufio.NewReader(r.Body)
		begin := make([]byte, 4)
		if _, err := io.ReadFull(from, begin); err != nil || string(begin) != "RIFF" {
			t.Fatalf("%q %v", begin, err)
		}
		// Only now can the program go on.
		if err := os.WriteFile(path+".gate", []byte("rest"), 0); err != nil {
			t.Fatal(err)
		}
		if rest, err := io.ReadAll(from); string(rest) != "rest" || err != nil {
			t.Errorf("%q %v", rest, err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestProgramIsStoppedWhenTheClientLeaves(t *testing.T) {
	u := start(t, Options{SpeechProgram: program(t, `echo $$; exec sleep 30`)})
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	err := u.post(ctx, speechPath, `{"input":"a"}`, func(r *http.Response) {
		line, err := bufio.NewReader(r.Body).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		pid, err := strconv.Atoi(strings.TrimSpace(line))
		if err != nil {
			t.Fatal(err)
		}
		leave()
		eventually(t, "the program ends", func() bool { return syscall.Kill(pid, 0) == syscall.ESRCH })
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestProgramThatFailsIsAnErrorAndNeverAWholeSound(t *testing.T) {
	for _, script := range []string{"exit 3", "exit 0"} {
		got := start(t, Options{SpeechProgram: program(t, script)}).postJSON(speechPath, `{"input":"a"}`).object(t, 500)
		if inner, _ := got["error"].(map[string]any); inner["type"] != "api_error" {
			t.Errorf("%s: %v", script, got)
		}
	}
	u := start(t, Options{SpeechProgram: program(t, "printf RIFF; exit 3")})
	err := u.post(t.Context(), speechPath, `{"input":"a"}`, func(r *http.Response) {
		if data, err := io.ReadAll(r.Body); err == nil {
			t.Errorf("a sound that broke off was read as a whole: %q", data)
		}
	})
	if err != nil {
		t.Logf("the connection broke before the answer: %v", err)
	}
}

func TestSpeechWithTheProgramOfThisMachine(t *testing.T) {
	got := start(t, Options{}).postJSON(speechPath, `{"input":"Hello. Привет."}`)
	if _, err := exec.LookPath("espeak-ng"); err != nil {
		got.object(t, 501)
		return
	}
	if got.status != 200 || len(got.body) < 10_000 || !bytes.HasPrefix(got.body, []byte("RIFF")) || !bytes.Contains(got.body[:64], []byte("WAVEfmt ")) {
		t.Errorf("%d, %d bytes: %.64q", got.status, len(got.body), got.body)
	}
}
