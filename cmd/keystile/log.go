package main

import (
	"context"
	"io"
	"log"
	"log/slog"
	"os"
	"strings"

	"golang.org/x/term"

	"keystile/cache"
)

// newLog returns the log that the configuration asks for: text on a terminal and
// JSON otherwise, unless it names one.
func newLog(c logConfig, w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.Level)) // the configuration was checked
	options := &slog.HandlerOptions{Level: level}
	if c.Format == "text" || c.Format == "auto" && isTerminal(w) {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}

// isTerminal reports whether what is read from or written to is a terminal.
func isTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// takeStandardLog sends what packages write to logs of their own to l. It is for the
// whole process, so commands call it, and nothing below them.
func takeStandardLog(l *slog.Logger) {
	log.SetFlags(0)
	log.SetOutput(standardLog{l})
	cache.TakeClientLog(l)
}

// standardLog takes what net/http says outside of a server: that an upstream sent
// something unasked, and what, in quotes. That can be anything, a credential sent
// back too, so what is quoted is left out.
type standardLog struct{ log *slog.Logger }

// Write logs one message.
func (l standardLog) Write(message []byte) (int, error) {
	words, _, quotes := strings.Cut(strings.TrimSpace(string(message)), `"`)
	if quotes {
		words += redacted
	}
	l.log.Log(context.Background(), slog.LevelWarn, "net/http", "message", words)
	return len(message), nil
}
