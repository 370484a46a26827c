package proxy

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"testing"
)

// lines is a log that is kept.
type lines struct {
	mu   sync.Mutex
	kept bytes.Buffer
	gate chan struct{} // nil: open; otherwise each write waits for it to be closed
}

func (l *lines) Write(b []byte) (int, error) {
	if l.gate != nil {
		<-l.gate
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.kept.Write(b)
}

func (l *lines) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.kept.String()
}

// entries returns the lines as JSON objects.
func (l *lines) entries(t testing.TB) (entries []map[string]any) {
	t.Helper()
	for line := range strings.Lines(l.text()) {
		var entry map[string]any
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		entries = append(entries, entry)
	}
	return entries
}

func (l *lines) logger() *slog.Logger { return l.at(slog.LevelDebug) }

func (l *lines) at(level slog.Level) *slog.Logger {
	return slog.New(slog.NewJSONHandler(l, &slog.HandlerOptions{Level: level}))
}
