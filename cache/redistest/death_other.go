//go:build !linux

package redistest

import "syscall"

// dieWithParent has no means to here: a server may outlive a test that ended by a panic or a timeout.
func dieWithParent() *syscall.SysProcAttr { return nil }
