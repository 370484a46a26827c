package cache

import (
	"testing"

	"github.com/alicebob/miniredis/v2"

	"keystile/cache/redistest"
)

// The library would try once a second after as many failures as it has connections.
func TestServerIsReachedAtOnceHoweverOftenItWasNot(t *testing.T) {
	network := redistest.NewProxy(t, miniredis.RunT(t).Addr())
	network.SetMode(redistest.Cut)
	client := newClient(RedisServer{Addresses: []string{network.Addr()}})
	defer func() { _ = client.Close() }()
	for range 1000 {
		if client.Ping(t.Context()).Err() == nil {
			t.Fatal("a server that is not there has answered")
		}
	}
	network.SetMode(redistest.Pass)
	if err := client.Ping(t.Context()).Err(); err != nil {
		t.Errorf("the server is back, and the first attempt said: %v", err)
	}
}
