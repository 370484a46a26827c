package admin

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
)

// MaxConnections is how many connections a server of NewServer keeps open. For one more
// it closes another; only while all of them serve administrators may there be more.
const MaxConnections = 100

// claim is what speaks for leaving a connection open.
type claim int

const (
	noClaim         claim = iota // silent, in the middle of a request, or between two: nothing was proved
	onThisHost                   // the same, from this machine
	ofAccount                    // serves an account, or has: it may be as slow as a stranger
	ofAdministrator              // between two requests, of which one was an administrator's
	administrates                // serves an administrator
)

// connections chooses the connection that is closed for a new one when there are
// MaxConnections, so that strangers who hold them all open keep nobody out: the oldest of
// those with the least claim, and none that serves an administrator. Strangers who open
// new ones quicker than an administrator from the same place sends a request may do so.
type connections struct {
	onClose func() // called for each that is closed

	mu   sync.Mutex
	open []*connection // oldest first
}

// connection is an open connection. The mutex of its connections guards the claim.
type connection struct {
	net.Conn
	all   *connections
	claim claim
}

type connectionKey struct{}

// opened is an http.Server.ConnContext.
func (c *connections) opened(ctx context.Context, conn net.Conn) context.Context {
	o := &connection{Conn: conn, all: c}
	if isLoopback(conn.RemoteAddr().String()) {
		o.claim = onThisHost
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.open) >= MaxConnections {
		c.closeOne()
	}
	c.open = append(c.open, o)
	return context.WithValue(ctx, connectionKey{}, o)
}

func (c *connections) closeOne() {
	least := 0
	for i, o := range c.open {
		if o.claim < c.open[least].claim {
			least = i
		}
	}
	if c.open[least].claim < administrates {
		_ = c.open[least].abort()
		c.onClose()
		c.open = slices.Delete(c.open, least, least+1)
	}
}

// abort closes the connection without the farewell of TLS, which would wait for a peer
// that does not read.
func (o *connection) abort() error {
	if encrypted, ok := o.Conn.(*tls.Conn); ok {
		return encrypted.NetConn().Close()
	}
	return o.Close()
}

// changed is an http.Server.ConnState.
func (c *connections) changed(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.open, func(o *connection) bool { return o.Conn == conn })
	switch {
	case i < 0: // it was closed for another
	case state == http.StateIdle:
		c.open[i].claim = min(c.open[i].claim, ofAdministrator)
	case state == http.StateClosed || state == http.StateHijacked:
		c.open = slices.Delete(c.open, i, i+1)
	}
}

// claimFor notes for whom the connection of a request works, where one is known. An
// administrator's is left alone until the reply is sent and net/http calls it idle. One of an
// account stays longer than a stranger's, and no longer: by many slow requests of which none
// may be closed, an account could keep the administrators out.
func claimFor(ctx context.Context, who principal) {
	o, ok := ctx.Value(connectionKey{}).(*connection)
	if !ok {
		return
	}
	o.all.mu.Lock()
	defer o.all.mu.Unlock()
	if who.administrator {
		o.claim = administrates
	} else {
		o.claim = max(o.claim, ofAccount)
	}
}

// isLoopback reports whether a TCP address is one of this machine alone.
func isLoopback(address string) bool {
	peer, err := netip.ParseAddrPort(address)
	return err == nil && peer.Addr().Unmap().IsLoopback()
}
