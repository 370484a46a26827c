// Command keystile is an authenticating reverse proxy for generation APIs. It is the
// only place that knows the configuration and every other package: it reads the
// one and wires the others.
//
// serve starts the proxy listener and the admin listener over one store; demo does
// the same with a temporary store, a sample generator behind it and a first key. On
// SIGTERM readiness fails first, then requests in flight are given time to end.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	err := run(ctx, os.Args[1:], stdio{os.Stdout, os.Stderr, os.Environ()})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(exitCode(err))
}
