//go:build !linux

package proxy

import "net"

// limitUnsent does nothing: other systems have other means.
func limitUnsent(net.Conn) {}
