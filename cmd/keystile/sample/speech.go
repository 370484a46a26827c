package sample

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"time"
	"unicode"
)

// speechRequest is the body of /v1/audio/speech; other fields are ignored.
type speechRequest struct {
	Input  string `json:"input"`
	Voice  string `json:"voice"`
	Format string `json:"response_format"`
}

func (s *service) speak(w http.ResponseWriter, r *http.Request) {
	in, voice, err := readSpeechRequest(r)
	if err != nil {
		refuse(w, r, err)
		return
	}
	program, err := exec.LookPath(s.SpeechProgram)
	if err != nil {
		refuse(w, r, refusal{http.StatusNotImplemented, fmt.Sprintf(
			"Speech needs the program %s, which is not installed where the sample generator runs (Debian: apt-get install espeak-ng)",
			s.SpeechProgram)})
		return
	}
	select {
	case s.speech <- struct{}{}:
		defer func() { <-s.speech }()
	case <-r.Context().Done():
		return
	}
	if err := runSpeech(r.Context(), w, program, voice, in.Input); err != nil {
		s.endSpeech(w, r, err)
	}
}

func readSpeechRequest(r *http.Request) (speechRequest, string, error) {
	var in speechRequest
	if err := readJSON(r, &in); err != nil {
		return in, "", err
	}
	if err := checkText("input", in.Input); err != nil {
		return in, "", err
	}
	if in.Format != "" && in.Format != "wav" {
		return in, "", refusal{http.StatusBadRequest, fmt.Sprintf(
			"response_format is '%s': the sample generator speaks only wav", in.Format)}
	}
	voice, err := speechVoice(in.Voice, in.Input)
	return in, voice, err
}

// speechVoice returns espeak-ng's name for a voice, with the language that the
// letters of text suggest. Only names of this list reach the argument list.
func speechVoice(name, text string) (string, error) {
	language := "en"
	if strings.ContainsFunc(text, func(r rune) bool { return unicode.Is(unicode.Cyrillic, r) }) {
		language = "ru"
	}
	switch name {
	case "", "alloy":
		return language, nil
	case "ash", "echo", "ballad":
		return language + "+m3", nil
	case "fable", "onyx", "verse", "cedar":
		return language + "+m7", nil
	case "coral", "nova", "marin":
		return language + "+f2", nil
	case "sage", "shimmer":
		return language + "+f4", nil
	default:
		return "", refusal{http.StatusBadRequest, fmt.Sprintf(
			"voice is '%s': expected alloy, ash, ballad, cedar, coral, echo, fable, marin, nova, onyx, sage, shimmer or verse", name)}
	}
}

// errNoSound is what runSpeech returns when nothing of the answer was sent.
var errNoSound = errors.New("the speech program made no sound")

// runSpeech streams what program makes of text. The text goes through standard
// input, so that no part of it can be taken for an option or be seen in a
// process list. The program is killed when ctx ends, and loses its output when
// the client stops reading.
func runSpeech(ctx context.Context, w http.ResponseWriter, program, voice, text string) error {
	sound := &soundWriter{to: w, out: http.NewResponseController(w)}
	cmd := exec.CommandContext(ctx, program, "-v", voice, "-b", "1", "--stdin", "--stdout")
	cmd.Stdin = strings.NewReader(text)
	cmd.Stdout = sound
	cmd.WaitDelay = time.Second // for children of a killed program
	err := cmd.Run()
	if !sound.begun {
		return errors.Join(errNoSound, err)
	}
	return err
}

// soundWriter sends each piece of sound at once.
type soundWriter struct {
	to    http.ResponseWriter
	out   *http.ResponseController
	begun bool
}

// Write sends piece and flushes it.
func (s *soundWriter) Write(piece []byte) (int, error) {
	if !s.begun {
		s.to.Header().Set("Content-Type", "audio/wav")
		s.begun = true
	}
	n, err := s.to.Write(piece)
	if err != nil {
		return n, err
	}
	return n, s.out.Flush()
}

// endSpeech answers for a failure: with an error where the answer has not begun,
// otherwise by breaking it off, so that half a sound is not taken for a whole.
func (s *service) endSpeech(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() == nil {
		s.Log.Warn("speech failed", "error", err)
	}
	if !errors.Is(err, errNoSound) {
		panic(http.ErrAbortHandler)
	}
	refuse(w, r, refusal{http.StatusInternalServerError, "The speech program failed; the log of the sample generator says how"})
}
