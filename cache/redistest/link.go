package redistest

import (
	"bytes"
	"context"
	"net"
	"time"
)

// link is a client's connection to the proxy and the proxy's own to the server.
type link struct {
	proxy  *Proxy
	client *net.TCPConn
	ctx    context.Context // ends with the link
	cancel context.CancelFunc

	// What follows is guarded by the proxy's mutex.

	server *net.TCPConn // nil until it is made; a black hole makes none
	gaps   [2]bool      // bytes that went this way were swallowed
	losing bool         // the next reply is the one to lose
}

func newLink(p *Proxy, client *net.TCPConn) *link {
	l := &link{proxy: p, client: client}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// enter adds the link to the proxy's, unless it refuses connections by now.
func (l *link) enter() bool {
	p := l.proxy
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mode == Cut || p.closed {
		l.cut()
		return false
	}
	p.accepted++
	p.links[l] = struct{}{}
	return true
}

// mustEnd reports whether the link lacks bytes before those that the mode lets pass.
func (l *link) mustEnd(mode Mode) bool {
	return l.gaps[toServer] && !mode.swallows(toServer) || l.gaps[toClient] && !mode.swallows(toClient)
}

// cut ends the link with resets, which peers notice at once; the proxy's mutex is held.
func (l *link) cut() {
	_ = l.client.SetLinger(0)
	if l.server != nil {
		_ = l.server.SetLinger(0)
	}
	l.end()
}

// end closes both connections, after all that was written to them; the proxy's mutex is held.
func (l *link) end() {
	l.cancel()
	delete(l.proxy.links, l)
	_ = l.client.Close()
	if l.server != nil {
		_ = l.server.Close()
	}
}

// finish cuts the link after one side could not be reached.
func (l *link) finish() {
	l.proxy.mu.Lock()
	defer l.proxy.mu.Unlock()
	l.cut()
}

// run passes bytes both ways until the link has ended.
func (l *link) run() {
	if !l.dial() {
		l.finish()
		return
	}
	if l.server != nil {
		l.proxy.running.Go(func() { l.carry(toClient, l.server, l.client) })
	}
	l.carry(toServer, l.client, l.server)
}

// dial makes the connection to the target, unless the mode is BlackHole: there may be no target. It reports whether the
// link goes on.
func (l *link) dial() bool {
	p := l.proxy
	p.mu.Lock()
	target, hole := p.target, p.mode == BlackHole
	if hole {
		l.gaps[toServer] = true // there will never be anybody to pass bytes on to
	}
	p.mu.Unlock()
	if hole {
		return true
	}
	dialer := net.Dialer{Timeout: patience}
	server, err := dialer.DialContext(l.ctx, "tcp", target)
	if err != nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	l.server = server.(*net.TCPConn)
	return l.ctx.Err() == nil
}

// carry reads from one side and delivers to the other until either is closed.
func (l *link) carry(w way, from, to *net.TCPConn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 && !l.deliver(w, buffer[:n], to) {
			l.finish()
			return
		}
		if err != nil {
			l.closing(w)
			return
		}
	}
}

// closing ends the link after the sender has closed it, unless the receiver is not to know.
func (l *link) closing(w way) {
	p := l.proxy
	p.mu.Lock()
	defer p.mu.Unlock()
	if w == toClient && p.mode.swallows(w) {
		l.gaps[w] = true
		return
	}
	l.end()
}

// deliver passes bytes on as the mode says, also one that is set meanwhile. It reports whether the link goes on.
func (l *link) deliver(w way, chunk []byte, to *net.TCPConn) bool {
	fresh := true
	for {
		mode, delay, changed, ok := l.judge(w, chunk, fresh)
		if !ok {
			return false
		}
		if mode.swallows(w) {
			return true
		}
		part := chunk
		switch {
		case mode == Drip:
			part, delay = chunk[:1], dripping
		case mode != Slow:
			delay = 0
		}
		if !l.late(delay, changed) {
			continue
		}
		fresh = false
		if !l.write(w, part, to) {
			return false
		}
		if chunk = chunk[len(part):]; len(chunk) == 0 {
			return true
		}
	}
}

// judge returns the mode, and notes what it means for the chunk: that it is lost, or asks for a reply to be lost. A
// chunk is fresh until some of it was delivered. ok is false when the link ends here.
func (l *link) judge(w way, chunk []byte, fresh bool) (mode Mode, delay time.Duration, changed chan struct{}, ok bool) {
	p := l.proxy
	p.mu.Lock()
	defer p.mu.Unlock()
	if l.ctx.Err() != nil {
		return 0, 0, nil, false
	}
	switch {
	case w == toClient && l.losing:
		p.lost++
		l.cut()
		return 0, 0, nil, false
	case p.mode.swallows(w):
		l.gaps[w] = true
	case w == toServer && fresh && p.losses > 0 && !l.losing && bytes.Contains(bytes.ToLower(chunk), p.pattern):
		p.losses--
		l.losing = true
	}
	return p.mode, p.delay, p.changed, true
}

// late waits, and reports false if the mode changed or the link ended before it was over.
func (l *link) late(delay time.Duration, changed chan struct{}) bool {
	if delay == 0 {
		return true
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-changed:
	case <-l.ctx.Done():
	}
	return false
}

// write counts bytes before it writes them: whoever has received some finds them counted.
func (l *link) write(w way, part []byte, to *net.TCPConn) bool {
	l.count(w, len(part))
	n, err := to.Write(part)
	l.count(w, n-len(part))
	return err == nil
}

func (l *link) count(w way, n int) {
	l.proxy.mu.Lock()
	defer l.proxy.mu.Unlock()
	l.proxy.delivered[w] += int64(n)
}
