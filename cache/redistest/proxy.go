package redistest

import (
	"bytes"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Mode is what a Proxy does to connections. The zero Mode is Pass.
type Mode int

// The modes of a Proxy.
const (
	Pass      Mode = iota // everything goes through
	Cut                   // connections are reset, new ones are refused
	BlackHole             // connections stay and new ones are accepted; what is sent is swallowed, both ways
	HalfOpen              // what the client sends reaches the server, what the server sends is swallowed
	Slow                  // everything goes through, each read of at most 32 KiB late; see Proxy.Slow
	Drip                  // everything goes through, one byte a second each way
)

// String returns the mode's name, for names of tests.
func (m Mode) String() string {
	return [...]string{"pass", "cut", "black hole", "half open", "slow", "drip"}[m]
}

// swallows reports whether the mode keeps what goes that way from arriving.
func (m Mode) swallows(w way) bool { return m == BlackHole || m == HalfOpen && w == toClient }

// way is the direction of bytes.
type way int

const (
	toServer way = iota
	toClient
)

// dripping is the pace of Drip: a byte in this time.
const dripping = time.Second

// Proxy listens on the loopback and passes TCP connections on to a server, with the faults of its mode. Its methods may
// be called from any goroutine.
//
// A change of mode holds for new connections and those that exist, and for every byte that is read after it; one chunk
// that is being written at that moment may still arrive. As TCP never loses bytes from the middle of a stream, a
// connection that has lost some is reset as soon as the mode would let later ones pass. A client's close reaches the
// server in every mode, a server's close reaches the client only where bytes would. If the target cannot be reached, the
// client's connection is made and then reset.
type Proxy struct {
	t       testing.TB
	addr    string
	running sync.WaitGroup

	mu        sync.Mutex
	listener  *net.TCPListener // nil while refusing
	target    string
	mode      Mode
	delay     time.Duration
	changed   chan struct{} // closed, and replaced, when the mode changes
	links     map[*link]struct{}
	pattern   []byte
	losses    int // replies still to be lost
	lost      int
	accepted  int
	delivered [2]int64
	closed    bool // for good
}

// NewProxy starts a proxy to the target, a host and port. It ends with the test.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	p := &Proxy{t: t, target: target, changed: make(chan struct{}), links: map[*link]struct{}{}}
	p.mu.Lock()
	defer p.mu.Unlock()
	for range 100 {
		// A port that the system chose could be given to somebody else while Cut refuses connections.
		p.addr = (&Server{port: freePort(t)}).Addr()
		if p.listen() == nil {
			t.Cleanup(p.close)
			return p
		}
	}
	t.Fatal("no port was found for the proxy in 100 attempts")
	return nil
}

// Addr returns the host and port on which the proxy listens. It never changes.
func (p *Proxy) Addr() string { return p.addr }

// SetMode changes what happens to connections. Slow is by 100 ms here.
func (p *Proxy) SetMode(mode Mode) { p.set(mode, 100*time.Millisecond) }

// Slow sets the mode Slow: whatever is read is passed on after the delay, each way.
func (p *Proxy) Slow(delay time.Duration) { p.set(Slow, delay) }

func (p *Proxy) set(mode Mode, delay time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.mode, p.delay = mode, delay
	close(p.changed)
	p.changed = make(chan struct{})
	for l := range p.links {
		if mode == Cut || l.mustEnd(mode) {
			l.cut()
		}
	}
	if mode == Cut && p.listener != nil {
		refuse(p.listener)
		p.listener = nil
	}
	if mode != Cut && p.listener == nil {
		if err := poll(patience, p.listen); err != nil {
			p.t.Errorf("redistest: the proxy cannot listen again: %v", err)
		}
	}
}

// Disconnect resets every connection, once; new ones are made as the mode says.
func (p *Proxy) Disconnect() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.cut()
	}
}

// SetTarget has new connections go to another server, a host and port. Those that exist stay where they are: Disconnect
// moves their clients.
func (p *Proxy) SetTarget(addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = addr
}

// LoseReplies has the next n requests that contain the pattern, in upper or lower case, reach the server while their
// reply is swallowed and the connection reset, once the reply shows that the server has done it. What n was before no
// longer counts. A request is what the proxy reads at once: a client that pipelines loses the other replies too.
func (p *Proxy) LoseReplies(n int, pattern string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.losses, p.pattern = n, bytes.ToLower([]byte(pattern))
}

// Lost returns how many replies LoseReplies has taken away so far.
func (p *Proxy) Lost() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lost
}

// Connections returns how many connections were accepted so far, and how many of them are open.
func (p *Proxy) Connections() (accepted, open int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.accepted, len(p.links)
}

// Bytes returns how many bytes were passed on to servers and to clients so far, without those swallowed.
func (p *Proxy) Bytes() (server, client int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.delivered[toServer], p.delivered[toClient]
}

// listen starts to accept; p.mu is held.
func (p *Proxy) listen() error {
	listener, err := net.Listen("tcp", p.addr)
	if err != nil {
		return err
	}
	p.listener = listener.(*net.TCPListener)
	p.running.Go(func() { p.accept(listener) })
	return nil
}

// refuse closes a listener. A process that is being started holds copies of all our sockets for a moment, in which a
// closed listener would still accept connections: so it is shut down before.
func refuse(listener *net.TCPListener) {
	if raw, err := listener.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _ = syscall.Shutdown(int(fd), syscall.SHUT_RDWR) })
	}
	_ = listener.Close()
}

func (p *Proxy) accept(listener net.Listener) {
	for {
		client, err := listener.Accept()
		if err != nil {
			return
		}
		l := newLink(p, client.(*net.TCPConn))
		if l.enter() {
			p.running.Go(l.run)
		}
	}
}

// close ends everything, and returns when nothing runs any more.
func (p *Proxy) close() {
	p.SetMode(Cut)
	p.mu.Lock()
	p.closed = true
	if p.listener != nil { // another goroutine has changed the mode since
		refuse(p.listener)
	}
	for l := range p.links {
		l.cut()
	}
	p.mu.Unlock()
	p.running.Wait()
}
