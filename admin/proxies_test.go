package admin

import (
	"strings"
	"testing"
)

func TestProxiesAreListed(t *testing.T) {
	b := newBench(t, func(o *Options) {
		o.Proxies = func() []Proxy { return []Proxy{{"gate-1/7", 12, true}, {"gate-2/8", 11, false}} }
	})
	got := b.send("GET", "/api/v1/proxies", "").wants(t, 200, "")
	want := `{"proxies":[{"proxy":"gate-1/7","applied":12,"serving":true},{"proxy":"gate-2/8","applied":11,"serving":false}]}`
	if strings.TrimSpace(got.text) != want {
		t.Errorf("got %s, want %s", got.text, want)
	}
	b.do(b.request("GET", "/api/v1/proxies", "")).wants(t, 401, "unauthorized")
}

func TestNoProxiesAreAnEmptyList(t *testing.T) {
	got := newBench(t).send("GET", "/api/v1/proxies", "").wants(t, 200, "")
	if strings.TrimSpace(got.text) != `{"proxies":[]}` {
		t.Errorf("got %s", got.text)
	}
}
