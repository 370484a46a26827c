package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"keystile/admin"
	"keystile/cache/redistest"
)

// atRedis configures a process of this name that keeps keys in the server at address.
func atRedis(address, name string, more ...string) command {
	return command{
		config: fmt.Sprintf("store: {driver: redis, redis: {url: 'redis://%s', name: %s%s}}\n",
			address, name, strings.Join(append([]string{""}, more...), ", ")),
		env: []string{"KEYSTILE_ADMIN_TOKEN=" + aToken},
	}
}

// safeRedis starts a server that loses nothing it has acknowledged.
func safeRedis(t testing.TB, lines ...string) *redistest.Server {
	return redistest.Start(t, redistest.Options{AppendOnly: "always", Lines: lines})
}

// startPair starts two processes, east and west, that share a server, and waits until
// each knows that both serve.
func startPair(t testing.TB, address string, more ...string) (east, west *process) {
	t.Helper()
	if len(more) == 0 {
		more = []string{"receipt_deadline: 30s"} // see unhurried
	}
	upstream := newSample(t).URL
	east = startServe(t, upstream, atRedis(address, "east", more...))
	west = startServe(t, upstream, atRedis(address, "west", more...))
	for _, p := range []*process{east, west} {
		awaitReady(t, p)
		awaitServing(t, p, "east", "west")
	}
	return east, west
}

func awaitReady(t testing.TB, p *process) {
	t.Helper()
	eventually(t, "the process is ready", func() bool { status, _ := readiness(t, p); return status == http.StatusOK })
}

// readiness is what /readyz says, and why.
func readiness(t testing.TB, p *process) (status int, reason string) {
	t.Helper()
	got, err := ask(http.DefaultClient, "GET", p.admin+"/readyz", "")
	if err != nil {
		t.Fatal(err)
	}
	var body struct{ Reason string }
	got.decode(t, &body)
	return got.status, body.Reason
}

// awaitServing waits until p lists exactly these proxies as serving.
func awaitServing(t testing.TB, p *process, names ...string) {
	t.Helper()
	api := p.client(t)
	eventually(t, fmt.Sprintf("%q serve", names), func() bool {
		var serving []string
		for _, other := range proxiesOf(t, api) {
			if other.Serving {
				serving = append(serving, other.Proxy)
			}
		}
		return slices.Equal(serving, names)
	})
}

func proxiesOf(t testing.TB, api *adminClient) []admin.Proxy {
	t.Helper()
	var list struct{ Proxies []admin.Proxy }
	api.expect(t, http.StatusOK, api.call(t, "GET", "/api/v1/proxies", ""), &list)
	return list.Proxies
}

func TestChangesOnOneProcessHoldOnTheOtherAtOnce(t *testing.T) {
	east, west := startPair(t, safeRedis(t).Addr())
	here, there := east.client(t), west.client(t)
	for range 5 {
		made := here.create(t, "")
		if made.Effective != "everywhere" {
			t.Fatalf("created: %+v", made)
		}
		old := newLasting(t)
		admits(t, west, old, made.Secret, "")
		if off := there.patch(t, made.Key, `{"active":false}`); off.Effective != "everywhere" {
			t.Fatalf("switched off: %+v", off)
		}
		admits(t, east, newLasting(t), made.Secret, "key_inactive")
		if on := here.patch(t, made.Key, `{"active":true}`); on.Effective != "everywhere" {
			t.Fatalf("switched on: %+v", on)
		}
		admits(t, west, old, made.Secret, "")
		if gone := here.delete(t, made.Key); gone.Effective != "everywhere" {
			t.Fatalf("deleted: %+v", gone)
		}
		admits(t, west, old, made.Secret, "bad_credentials")
	}
	if n := len(there.list(t)); n != 0 {
		t.Errorf("%d keys are listed", n)
	}
	east.stop(t)
	west.stop(t)
}

func TestReceiptNamesAStoppedProcessUntilItHasLapsed(t *testing.T) {
	const staleness = 3 * time.Second
	east, west := startPair(t, safeRedis(t).Addr(), "max_staleness: 3s", "receipt_deadline: 1s")
	api := east.client(t)
	made, watched, stalls := api.create(t, ""), west.client(t), watchStalls(t)
	again(t, func() error { // west may lapse in the meantime
		var applied time.Time // not before this has west applied a change
		late := func() bool { return time.Since(applied) >= staleness || stalls.near(applied, time.Now()) }
		eventually(t, "the key is active everywhere", func() bool {
			applied = time.Now()
			on := api.patch(t, made.Key, `{"active":true}`)
			return on.Effective == "everywhere" && strings.Contains(metricsOf(t, watched), fmt.Sprintf("keystile_applied_version %d\n", on.Version))
		})
		if err := west.standStill(); err != nil {
			t.Fatal(err)
		}
		defer west.signal(t, syscall.SIGCONT)
		asked := time.Now()
		off := api.patch(t, made.Key, `{"active":false}`)
		answered := time.Now()
		if off.Effective != "" || len(off.Pending) != 1 || off.Pending[0].Proxy != "west" {
			if late() {
				return fmt.Errorf("with west stopped: %+v", off)
			}
			t.Fatalf("with west stopped: %+v", off)
		}
		by, err := time.Parse(time.RFC3339, off.Pending[0].EffectiveBy)
		if err != nil || by.Before(asked) || by.After(answered.Add(staleness+staleness/100)) {
			t.Errorf("asked at %s, answered at %s: effective by %s, %v", asked, answered, by, err)
		}
		west.signal(t, syscall.SIGCONT)
		if got := newLasting(t).get(t, west, made.Secret); got.code() != "key_inactive" {
			if got.code() == "store_unreachable" && late() {
				return fmt.Errorf("continued before it had lapsed: %d %s", got.status, got.body)
			}
			t.Errorf("continued before it had lapsed: %d %s", got.status, got.body)
		}
		return nil
	})

	if err := west.standStill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "west has lapsed", func() bool {
		return api.patch(t, made.Key, `{"active":true}`).Effective == "everywhere" && api.patch(t, made.Key, `{"active":false}`).Effective == "everywhere"
	})
	west.signal(t, syscall.SIGCONT)
	client := newLasting(t)
	eventually(t, "west has learnt of it", func() bool { // until then it cannot prove its records fresh
		got := client.get(t, west, made.Secret)
		if got.code() != "store_unreachable" && got.code() != "key_inactive" {
			t.Fatalf("continued after it had lapsed: %d %s", got.status, got.body)
		}
		return got.code() == "key_inactive"
	})
}

func TestStartWithoutRedisServesWhenItComes(t *testing.T) {
	server := safeRedis(t)
	first := startServe(t, newSample(t).URL, atRedis(server.Addr(), "first"))
	awaitReady(t, first)
	made := first.client(t).create(t, "")
	first.stop(t)
	server.Kill()

	p := startServe(t, newSample(t).URL, atRedis(server.Addr(), "second"))
	eventually(t, "readiness says that the store cannot be reached", func() bool {
		status, reason := readiness(t, p)
		return status == http.StatusServiceUnavailable && strings.HasPrefix(reason, "store_unreachable: the key store cannot be followed since 2")
	})
	admits(t, p, newLasting(t), made.Secret, "store_unreachable")
	admits(t, p, newLasting(t), "nonsense", "malformed_credentials")
	for range 3 { // polls fail meanwhile
		refusedSoon(t, p.client(t), "GET", keysPath, "")
	}
	if n := strings.Count(p.stderr.text(), `"level":"ERROR","msg":"store_unreachable`); n != 1 {
		t.Errorf("the log says it %d times:\n%s", n, p.stderr.text())
	}
	server.Restart()
	awaitReady(t, p)
	admits(t, p, newLasting(t), made.Secret, "")
	p.stop(t)
	for line := range strings.Lines(p.stderr.text()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("not a line of JSON: %s", line)
		}
	}
}

// refusedSoon expects 503 with Retry-After, and soon: an administrator must not hang.
func refusedSoon(t *testing.T, api *adminClient, method, path, body string) {
	t.Helper()
	again(t, func() error {
		began := time.Now()
		got, err := api.try(method, path, body)
		took := time.Since(began)
		if err != nil {
			t.Errorf("%s %s: %v after %s", method, path, err, took)
		} else if got.status != http.StatusServiceUnavailable || got.code() != "store_unreachable" || got.header.Get("Retry-After") == "" {
			t.Errorf("%s %s: %d %s", method, path, got.status, got.body)
		}
		if took > 3*time.Second { // 2 s, and what a busy machine adds
			return fmt.Errorf("%s %s: answered after %s", method, path, took)
		}
		return nil
	})
}

func TestAdministratorsAreRefusedSoonWhileRedisIsUnreachable(t *testing.T) {
	server, upstream := safeRedis(t), newSample(t)
	for _, mode := range []redistest.Mode{redistest.Cut, redistest.BlackHole, redistest.HalfOpen, redistest.Drip} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			network := redistest.NewProxy(t, server.Addr())
			p := startServe(t, upstream.URL, atRedis(network.Addr(), mode.String()))
			awaitReady(t, p)
			api := p.client(t)
			made := api.create(t, "")
			network.SetMode(mode)
			var calls sync.WaitGroup
			calls.Go(func() { refusedSoon(t, api, "GET", keysPath, "") })
			calls.Go(func() { refusedSoon(t, api, "POST", keysPath, "{}") })
			calls.Go(func() { refusedSoon(t, api, "PATCH", keyPath(made.Key), `{"active":false}`) })
			calls.Go(func() { refusedSoon(t, api, "DELETE", keyPath(made.Key), "") })
			calls.Wait()
			admits(t, p, newLasting(t), made.Secret, "") // within max_staleness
			network.SetMode(redistest.Pass)
			eventually(t, "the store is reached again", func() bool {
				return api.call(t, "GET", keyPath(made.Key), "").status == http.StatusOK
			})
		})
	}
}

func TestRedisIsOpenedOnlyWithItsPepper(t *testing.T) {
	server := safeRedis(t)
	c := atRedis(server.Addr(), "one")
	c.folder, c.env = t.TempDir(), append(c.env, "KEYSTILE_KEYS_PEPPER_FILE=peppers")
	writeFile(t, filepath.Join(c.folder, "peppers"), aPepper+"\n", 0o600)
	p := startServe(t, newSample(t).URL, c)
	awaitReady(t, p)
	p.client(t).create(t, "")

	other := atRedis(server.Addr(), "two")
	other.folder, other.args = t.TempDir(), serveArgs()
	mismatch := "opening the key store at " + server.Addr() + ": the pepper does not match the one this store was written with: "
	refuses(t, other, mismatch+"have keys.pepper_file, which is not set, name the file with the right one")
	writeFile(t, filepath.Join(other.folder, "peppers"), "another "+aPepper+"\n", 0o600)
	other.env = c.env
	refuses(t, other, mismatch+"add the right one to peppers, the file that keys.pepper_file names")
	awaitServing(t, p, "one")
}

func TestStateFileHasOneProcess(t *testing.T) {
	server := safeRedis(t)
	c := atRedis(server.Addr(), "one")
	c.folder = t.TempDir()
	p := startServe(t, newSample(t).URL, c)
	second := atRedis(server.Addr(), "two")
	second.folder, second.args = c.folder, serveArgs()
	refuses(t, second, "opening the key store at "+server.Addr()+": the state file data/redis.state is in use by another process: give each process its own data directory")
	p.signal(t, syscall.SIGKILL)
	p.wait(t)
	p = startServe(t, newSample(t).URL, c)
	awaitReady(t, p)
	awaitServing(t, p, "one") // the row of the one that was killed is retired
}

func TestServerThatMayLoseKeysIsRefused(t *testing.T) {
	evicting := safeRedis(t, "maxmemory 64mb", "maxmemory-policy allkeys-lru")
	c := atRedis(evicting.Addr(), "one")
	c.args = serveArgs()
	refuses(t, c, "opening the key store at "+evicting.Addr()+": the server may evict keys (maxmemory-policy allkeys-lru): set maxmemory-policy noeviction")
}

func TestEndingProcessLeavesTheTableOfProxies(t *testing.T) {
	east, west := startPair(t, safeRedis(t).Addr())
	api := east.client(t)
	west.stop(t)
	awaitServing(t, east, "east")
	if off := api.patch(t, api.create(t, "").Key, `{"active":false}`); off.Effective != "everywhere" {
		t.Errorf("after west has ended: %+v", off)
	}
	if said := complaints(west); said != "" {
		t.Errorf("it ended with complaints:\n%s", said)
	}
}

// complaints are the warnings and errors that a process has logged, but for polls that
// took too long: a busy machine makes one late now and then.
func complaints(p *process) (said string) {
	for line := range strings.Lines(p.stderr.text()) {
		var entry struct{ Level, Msg, Error string }
		if json.Unmarshal([]byte(line), &entry) == nil && (entry.Level == "DEBUG" || entry.Level == "INFO") {
			continue
		}
		late := strings.Contains(entry.Error, "i/o timeout") || strings.Contains(entry.Error, context.DeadlineExceeded.Error())
		if !late || !strings.HasPrefix(entry.Msg, "store_unreachable: ") {
			said += line
		}
	}
	return said
}

// A process that drains still follows the store, and its row is there until the last
// request has ended.
func TestDrainingProcessStaysInTheTableUntilItsRequestsHaveEnded(t *testing.T) {
	upstream, server := newSlowUpstream(t), safeRedis(t)
	east := startServe(t, upstream.URL, atRedis(server.Addr(), "east", "receipt_deadline: 30s"))
	west := startServe(t, upstream.URL, atRedis(server.Addr(), "west"))
	awaitReady(t, west)
	awaitServing(t, east, "east", "west")
	stream := openStream(t, west)
	west.signal(t, syscall.SIGTERM)
	drainBegins(t, west)
	api := east.client(t)
	if off := api.patch(t, api.create(t, "").Key, `{"active":false}`); off.Effective != "everywhere" {
		t.Errorf("while west drains: %+v", off)
	}
	awaitServing(t, east, "east", "west")
	close(upstream.proceed)
	if rest, err := io.ReadAll(stream); string(rest) != "two\n" || err != nil {
		t.Errorf("the stream ended with %q, %v", rest, err)
	}
	if code := west.wait(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	awaitServing(t, east, "east")
}

func TestStreamsOfARevokedKeyAreCutOnEveryProcess(t *testing.T) {
	upstream, server := newSlowUpstream(t), safeRedis(t)
	east := startServe(t, upstream.URL, atRedis(server.Addr(), "east"))
	west := startServe(t, upstream.URL, atRedis(server.Addr(), "west"))
	awaitReady(t, east)
	awaitReady(t, west)
	api := east.client(t)
	again(t, func() error {
		stream, list := openStream(t, west), api.list(t)
		api.patch(t, list[len(list)-1].Key, `{"active":false}`) // the key that was made for it
		off := time.Now()
		select {
		case <-upstream.ended:
		case <-time.After(patience):
			close(upstream.proceed)
			t.Fatal("the stream goes on")
		}
		took := time.Since(off)
		if rest, err := io.ReadAll(stream); len(rest) > 0 || err == nil {
			t.Errorf("the stream ended with %q, %v: it was not broken off", rest, err)
		}
		if took > 2*time.Second { // 1 s, and what a busy machine adds
			return fmt.Errorf("the stream went on for %v", took)
		}
		return nil
	})
}

func TestStreamsOfARevokedKeyMayEndWhereConfigured(t *testing.T) {
	upstream := newSlowUpstream(t)
	p := startServe(t, upstream.URL, command{env: []string{"KEYSTILE_PROXY_CUT_STREAMS=false"}})
	stream := openStream(t, p)
	api := p.client(t)
	api.patch(t, api.list(t)[0].Key, `{"active":false}`)
	close(upstream.proceed)
	if rest, err := io.ReadAll(stream); string(rest) != "two\n" || err != nil {
		t.Errorf("the stream ended with %q, %v", rest, err)
	}
}

func TestStoreThatLostEverythingIsNotTakenForTruth(t *testing.T) {
	server := safeRedis(t)
	p := startServe(t, newSample(t).URL, atRedis(server.Addr(), "only", "max_staleness: 2s"))
	awaitReady(t, p)
	made := p.client(t).create(t, "")
	server.Must("FLUSHALL")
	eventually(t, "readiness says what happened", func() bool {
		status, reason := readiness(t, p)
		return status == http.StatusServiceUnavailable && strings.HasPrefix(reason, "store_rollback: ")
	})
	admits(t, p, newLasting(t), made.Secret, "store_unreachable")
	refusedSoon(t, p.client(t), "POST", keysPath, "{}")
	if text := metricsOf(t, p.client(t)); !strings.Contains(text, "keystile_store_rollbacks_total 1\n") {
		t.Error("the rollback was not counted")
	}
}

func TestMetricsOfASharedStoreAreCleanAndFollowIt(t *testing.T) {
	east, west := startPair(t, safeRedis(t).Addr())
	api := east.client(t)
	made := api.create(t, "")
	api.rotate(t, made.Key, "1h")
	api.patch(t, made.Key, `{"previous_secret":null}`)
	api.patch(t, made.Key, `{"active":false}`)
	api.patch(t, made.Key, `{"name":"renamed"}`) // ends nothing
	api.delete(t, made.Key)
	var text string
	wanted := []string{
		"keystile_revocation_lag_seconds_count 4\n", `keystile_revocation_lag_seconds_bucket{le="60"} 4` + "\n",
		"keystile_store_poll_seconds_count ", "keystile_store_polls_failed_total ",
		`keystile_store_resyncs_total{cause="start"} 1` + "\n", `keystile_store_resyncs_total{cause="digest"} 0` + "\n",
		"keystile_store_reasserted_total 0\n", "keystile_store_lost_keys_total 0\n", "keystile_store_rollbacks_total 0\n",
		"keystile_proxies_alive 2\n", "keystile_proxies_applied_version_lowest 6\n", "keystile_applied_version 6\n",
	}
	for _, api := range []*adminClient{api, west.client(t)} {
		eventually(t, "the metrics follow the store", func() bool {
			text = metricsOf(t, api)
			return !slices.ContainsFunc(wanted, func(want string) bool { return !strings.Contains(text, want) })
		})
	}
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("the linter says %v, %v", problems, err)
	}
}
