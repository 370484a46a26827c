// Command keystile is an authenticating reverse proxy for generation APIs. It is the
// only place that knows the configuration and every other package: it reads the
// one and wires the others.
//
// serve starts the proxy listener and the admin listener over one store; demo does
// the same with a temporary store, a sample generator behind it and a first key. On
// SIGTERM, SIGINT or SIGHUP readiness fails first, then requests in flight are given time
// to end. keys, accounts and audit call the admin API of a process that serves.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), endings()...)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	err := run(ctx, os.Args[1:], stdio{os.Stdin, os.Stdout, os.Stderr, os.Environ()})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(exitCode(err))
}

// endings are the signals that end the process in an orderly way. A terminal that is
// closed sends SIGHUP, which would end it at once; under nohup it stays ignored.
func endings() []os.Signal {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		signals = append(signals, syscall.SIGHUP)
	}
	return signals
}
