package proxy

import (
	"net"
	"syscall"
)

const (
	// notsentLowat is TCP_NOTSENT_LOWAT of linux/tcp.h, which package syscall lacks.
	notsentLowat = 25
	// maxUnsent is how many bytes the kernel may hold for a client and have not sent.
	maxUnsent = 128 << 10
)

// limitUnsent has the kernel take no more for a client than it can send soon. Without
// it a slow client has megabytes lying here, and a writer is woken only when a third of
// them is gone: a client that takes bytes all the time would look as if it took none,
// and be cut by the deadline of a write.
func limitUnsent(conn net.Conn) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	if raw, err := tcp.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { // an old kernel may not know it
			_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, notsentLowat, maxUnsent)
		})
	}
}
