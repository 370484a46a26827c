package cache

import (
	"sync"
	"testing"
)

// perFolder starts one server for each folder, however often it is asked.
func perFolder(start func(t testing.TB) string) func(t testing.TB, dir string) string {
	var mu sync.Mutex
	addresses := make(map[string]string)
	return func(t testing.TB, dir string) string {
		mu.Lock()
		defer mu.Unlock()
		if addresses[dir] == "" {
			addresses[dir] = start(t)
		}
		return addresses[dir]
	}
}
