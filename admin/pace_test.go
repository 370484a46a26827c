package admin

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// TestAccountMayNotFloodTheTrail also holds that neither refused calls nor reading count, nor what others do.
func TestAccountMayNotFloodTheTrail(t *testing.T) {
	now := testTime
	b := newBench(t, func(o *Options) { o.Now = func() time.Time { return now } })
	acme, rival := b.account("acme"), b.account("rival")
	key := b.as(acme, "POST", "/api/v1/keys", "").wants(t, 201, "").member("key")
	path := "/api/v1/keys/" + key
	for range changesAtOnce {
		b.as(acme, "PATCH", path, `{"name":""}`).wants(t, 422, "invalid_name")
	}
	for i := range changesAtOnce - 1 {
		b.as(acme, "PATCH", path, fmt.Sprintf(`{"name":"%d"}`, i)).wants(t, 200, "")
	}
	for _, call := range [][2]string{{"PATCH", path}, {"DELETE", path}, {"POST", path + "/rotate"}, {"POST", "/api/v1/keys"}} {
		got := b.as(acme, call[0], call[1], "{}").wants(t, 429, "rate_limited")
		if got.header.Get("Retry-After") != "1" {
			t.Errorf("Retry-After is %q", got.header.Get("Retry-After"))
		}
	}
	b.as(acme, "GET", path, "").wants(t, 200, "")
	b.as(rival, "POST", "/api/v1/keys", "").wants(t, 201, "")
	b.send("PATCH", path, `{"name":"by the administrator"}`).wants(t, 200, "")

	now = now.Add(time.Second)
	b.as(acme, "PATCH", path, `{"name":"a second later"}`).wants(t, 200, "")
	b.as(acme, "PATCH", path, `{"name":"and no more"}`).wants(t, 429, "rate_limited")
}

func TestPacesOfManyAccountsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPaces()
		for i := range 3 * pacesKept {
			if i%pacesKept == 0 {
				time.Sleep(changesAtOnce * time.Second)
			}
			p.made(fmt.Sprint(i), time.Now())
		}
		if len(p.of) > pacesKept {
			t.Errorf("%d are kept", len(p.of))
		}
	})
}
