package cache

import (
	"net"
	"testing"

	"github.com/alicebob/miniredis/v2"
)

// The library would try once a second after as many failures as it has connections.
func TestServerIsReachedAtOnceHoweverOftenItWasNot(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().String()
	_ = listener.Close()
	client := newClient(RedisServer{Addresses: []string{addr}})
	defer func() { _ = client.Close() }()
	for range 1000 {
		if client.Ping(t.Context()).Err() == nil {
			t.Fatal("a server that is not there has answered")
		}
	}
	server := miniredis.NewMiniRedis()
	if err := server.StartAddr(addr); err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if err := client.Ping(t.Context()).Err(); err != nil {
		t.Errorf("the server is back, and the first attempt said: %v", err)
	}
}
