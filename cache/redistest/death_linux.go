package redistest

import "syscall"

// dieWithParent has the system end a server whose test ended without cleaning up, as after a panic or a timeout. The
// system looks at the thread that started the server: a test that locks its goroutine to a thread has to unlock it.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
