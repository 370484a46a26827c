package main

import (
	"os"
	"os/signal"
	"slices"
	"syscall"
	"testing"
)

func TestClosedTerminalEndsTheDemoAndRemovesItsStore(t *testing.T) {
	heard := make(chan os.Signal, 1)
	signal.Notify(heard, syscall.SIGHUP) // or the process would inherit that nohup ignores it
	defer signal.Stop(heard)
	p, temporary := textDemo(t)
	pasted(t, p) // all is printed, so it runs
	p.signal(t, syscall.SIGHUP)
	if code := p.wait(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if entries, err := os.ReadDir(temporary); err != nil || len(entries) > 0 {
		t.Errorf("it leaves %v, %v", entries, err)
	}
}

func TestHangupUnderNohupEndsNothing(t *testing.T) {
	signal.Ignore(syscall.SIGHUP) // as nohup does
	defer signal.Reset(syscall.SIGHUP)
	if slices.Contains(endings(), os.Signal(syscall.SIGHUP)) {
		t.Error("SIGHUP ends the process")
	}
}
