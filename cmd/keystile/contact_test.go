package main

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"keystile/admin"
	"keystile/cache"
)

func TestReadinessExplainsWhatIsWrongWithTheStore(t *testing.T) {
	stale, broken := errors.New("stale"), errors.New("the password is hunter2")
	at := time.Date(2026, 5, 4, 12, 0, 0, 0, time.FixedZone("east", 7200))
	for name, test := range map[string]struct {
		happened func(c *contact)
		fresh    error
		want     string // begins so; "": ready
	}{
		"a store without a network": {func(*contact) {}, stale, "stale"},
		"loading":                   {func(c *contact) { c.polled(nil, at) }, stale, "loading: "},
		"never reached":             {func(c *contact) { c.polled(broken, at) }, stale, "store_unreachable: the key store cannot be followed since 2026-05-04T10:00:00Z"},
		"no longer reached": {func(c *contact) {
			c.resynced()
			c.polled(nil, at.Add(-time.Hour))
			c.polled(broken, at)
			c.polled(broken, at.Add(time.Minute))
		}, stale, "store_unreachable: the key store cannot be followed since 2026-05-04T10:00:00Z"},
		"not reached, records still fresh": {func(c *contact) { c.polled(broken, at) }, nil, ""},
		"another pepper":                   {func(c *contact) { c.polled(fmt.Errorf("%w: hunter2", cache.ErrPepperMismatch), at) }, stale, "store_pepper: the pepper does not match"},
		"a wrong setting":                  {func(c *contact) { c.polled(fmt.Errorf("%w: hunter2", cache.ErrSettings), at) }, stale, "store_settings: "},
		"a setting mended":                 {func(c *contact) { c.resynced(); c.polled(cache.ErrSettings, at); c.polled(nil, at) }, stale, "stale"},
		"another store": {func(c *contact) {
			c.polled(broken, at)
			c.wentBack()
			c.polled(broken, at)
		}, stale, "store_rollback: "},
		"the right store again, not yet proved": {func(c *contact) {
			c.resynced()
			c.wentBack()
			c.polled(broken, at)
			c.polled(nil, at)
		}, stale, "stale"},
	} {
		var c contact
		test.happened(&c)
		err := c.explain(test.fresh)
		if (err == nil) != (test.want == "") || err != nil && (!strings.HasPrefix(err.Error(), test.want) || strings.Contains(err.Error(), "hunter2")) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
}

func TestWhatHappensToASharedStoreIsCounted(t *testing.T) {
	registry, c := prometheus.NewRegistry(), &contact{}
	events := eventsTo(newStoreMetrics(registry), c)
	events.Applied(20 * time.Millisecond)
	events.Polled(3*time.Millisecond, nil)
	events.Polled(time.Second, errors.New("broken"))
	events.Resynced(cache.ResyncGap)
	events.Reasserted()
	events.Lost(3)
	events.RolledBack()
	page := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(page, httptest.NewRequest("GET", "/metrics", nil))
	for _, want := range []string{
		`keystile_revocation_lag_seconds_bucket{le="0.01"} 0`, `keystile_revocation_lag_seconds_bucket{le="0.025"} 1`,
		"keystile_revocation_lag_seconds_sum 0.02", "keystile_store_poll_seconds_count 2", "keystile_store_poll_seconds_sum 1.003",
		"keystile_store_polls_failed_total 1", `keystile_store_resyncs_total{cause="gap"} 1`, `keystile_store_resyncs_total{cause="start"} 0`,
		"keystile_store_reasserted_total 1", "keystile_store_lost_keys_total 3", "keystile_store_rollbacks_total 1",
	} {
		if !strings.Contains(page.Body.String(), want+"\n") {
			t.Errorf("the metrics lack %q", want)
		}
	}
	if err := c.explain(errors.New("stale")); !strings.HasPrefix(err.Error(), "store_rollback") {
		t.Errorf("readiness says %v", err)
	}
}

func TestLowestAppliedVersionIsThatOfAProcessThatServes(t *testing.T) {
	for name, test := range map[string]struct {
		proxies []admin.Proxy
		want    uint64
	}{
		"nobody known":          {nil, 7},
		"another behind":        {[]admin.Proxy{{Applied: 7, Serving: true}, {Applied: 5, Serving: true}}, 5},
		"another not yet there": {[]admin.Proxy{{Applied: 7, Serving: true}, {Applied: 0}}, 7},
		"this one behind":       {[]admin.Proxy{{Applied: 9, Serving: true}}, 7},
	} {
		if got := lowestApplied(test.proxies, 7); got != test.want {
			t.Errorf("%s: got %d, want %d", name, got, test.want)
		}
	}
}
