//go:build !race

package main

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// http.Server.Shutdown would wait for a connection without a byte, here until the
// grace of the admin listener is over.
func TestMeasuredSilentConnectionToTheAdminListenerDoesNotDelayTheEnd(t *testing.T) {
	again(t, func() error { return endsBeforeTheGrace(t) })
}

func endsBeforeTheGrace(t *testing.T) error {
	p := startServe(t, newSlowUpstream(t).URL, command{})
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.admin, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	p.client(t).list(t) // a later connection was accepted: so was that one
	began := time.Now()
	p.stop(t)
	if took := time.Since(began); took > adminGrace*3/4 {
		return fmt.Errorf("it took %v", took)
	}
	return nil
}
