package redistest

import "syscall"

// dieWithParent has the system end a server whose test ended without cleaning up, as after a panic or a timeout.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
