package main

import "testing"

func TestEveryInterfaceIsReachedOverLoopback(t *testing.T) {
	for address, want := range map[string]string{
		":1":                 "127.0.0.1:1",
		"0.0.0.0:1":          "127.0.0.1:1",
		"[::]:1":             "127.0.0.1:1",
		"[::ffff:0.0.0.0]:1": "127.0.0.1:1",
		"10.0.0.1:1":         "10.0.0.1:1",
		"[::1]:1":            "[::1]:1",
		"localhost:1":        "localhost:1",
	} {
		if got := reachable(address); got != want {
			t.Errorf("%s: got %s, want %s", address, got, want)
		}
	}
}
