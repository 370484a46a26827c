package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"
)

// slowUpstream streams "one", and "two" when it is told to, and then ends.
type slowUpstream struct {
	*httptest.Server
	proceed chan struct{}
	ended   chan error // why the request of a stream is over, or nil
}

func newSlowUpstream(t testing.TB) *slowUpstream {
	u := &slowUpstream{proceed: make(chan struct{}), ended: make(chan error, 1)}
	u.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/stream" {
			return
		}
		_, _ = io.WriteString(w, "one\n")
		_ = http.NewResponseController(w).Flush()
		select {
		case <-u.proceed:
			_, _ = io.WriteString(w, "two\n")
			u.ended <- nil
		case <-r.Context().Done():
			u.ended <- r.Context().Err()
		}
	}))
	t.Cleanup(u.Close)
	return u
}

// openStream starts a stream through the proxy and reads its first line.
func openStream(t testing.TB, p *process) *bufio.Reader {
	t.Helper()
	made := p.client(t).create(t, "")
	request, err := http.NewRequestWithContext(t.Context(), "GET", p.proxy+"/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-Key", "Key "+made.Key)
	request.Header.Set("X-Secret", "Secret "+made.Secret)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = response.Body.Close() })
	stream := bufio.NewReader(response.Body)
	if line, err := stream.ReadString('\n'); line != "one\n" {
		t.Fatalf("the stream begins with %q, %v", line, err)
	}
	return stream
}

// drainBegins waits until readiness fails.
func drainBegins(t testing.TB, p *process) {
	t.Helper()
	api := p.client(t)
	eventually(t, "/readyz fails", func() bool {
		got, err := api.try("GET", "/readyz", "")
		if err != nil {
			t.Fatalf("the admin listener is gone while the proxy still drains: %v", err)
		}
		return got.status == http.StatusServiceUnavailable && strings.Contains(string(got.body), "draining")
	})
}

func TestReadinessFailsFirstAndStreamsMayEnd(t *testing.T) {
	upstream := newSlowUpstream(t)
	p := startServe(t, upstream.URL, command{config: "proxy: {drain_timeout: 1h}"})
	stream := openStream(t, p)
	if got := p.client(t).call(t, "GET", "/readyz", ""); got.status != http.StatusOK {
		t.Fatalf("before the signal: %d %s", got.status, got.body)
	}
	p.signal(t, syscall.SIGTERM)
	drainBegins(t, p)
	select {
	case err := <-upstream.ended:
		t.Fatalf("the stream is over: %v", err)
	case <-p.exited:
		t.Fatal("the process has ended")
	default:
	}
	close(upstream.proceed)
	if rest, err := io.ReadAll(stream); string(rest) != "two\n" || err != nil {
		t.Errorf("the stream ended with %q, %v", rest, err)
	}
	if code := p.wait(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestStreamBeyondTheDeadlineIsBrokenOff(t *testing.T) {
	upstream := newSlowUpstream(t)
	p := startServe(t, upstream.URL, command{config: "proxy: {drain_timeout: 150ms}"})
	stream := openStream(t, p)
	p.signal(t, syscall.SIGTERM)
	if rest, err := io.ReadAll(stream); err == nil {
		t.Errorf("the stream ended as if it were whole, with %q", rest)
	}
	select {
	case err := <-upstream.ended:
		if err == nil {
			t.Error("the upstream went on to the end")
		}
	case <-time.After(patience):
		t.Error("the upstream was not told")
	}
	if code := p.wait(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if log := p.stderr.text(); !strings.Contains(log, `"verdict":"shutting_down"`) {
		t.Errorf("the access log does not say why the stream ended:\n%s", tail(log))
	}
}

// Less than the five seconds that net/http waits for a connection without a byte.
const atOnce = 4 * time.Second

func TestIdleProcessEndsAtOnce(t *testing.T) {
	for name, open := range map[string]func(t *testing.T, p *process){
		"nobody is connected": func(*testing.T, *process) {},
		"kept connections": func(t *testing.T, p *process) {
			made := p.client(t).create(t, "")
			if got := newLasting(t).get(t, p, made.Secret); got.status != http.StatusOK {
				t.Fatalf("%d %s", got.status, got.body)
			}
		},
		"connections without a byte": func(t *testing.T, p *process) {
			for _, url := range []string{p.proxy, p.admin} {
				conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = conn.Close() })
			}
			// A later connection was accepted: so were these.
			p.client(t).list(t)
			_, _ = ask(&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, "GET", p.proxy+"/", "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			again(t, func() error {
				p := startServe(t, newSlowUpstream(t).URL, command{config: "proxy: {drain_timeout: 1h}"})
				open(t, p)
				began := time.Now()
				p.stop(t)
				if took := time.Since(began); took > atOnce {
					return fmt.Errorf("it took %v", took)
				}
				return nil
			})
		})
	}
}

func TestSecondSignalEndsTheProcessAtOnce(t *testing.T) {
	upstream := newSlowUpstream(t)
	p := startServe(t, upstream.URL, command{config: "proxy: {drain_timeout: 1h}"})
	stream := openStream(t, p)
	p.signal(t, syscall.SIGTERM)
	drainBegins(t, p)
	eventually(t, "a second signal ends it", func() bool {
		p.signal(t, syscall.SIGTERM) // one that comes too soon counts with the first
		select {
		case <-p.exited:
			return true
		default:
			return false
		}
	})
	if status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() || status.Signal() != syscall.SIGTERM {
		t.Errorf("it ended with %v", p.cmd.ProcessState)
	}
	if rest, err := io.ReadAll(stream); err == nil {
		t.Errorf("the stream ended as if it were whole, with %q", rest)
	}
}

func TestTimeOfLastUseIsKeptOverARestart(t *testing.T) {
	upstream, folder := newSample(t), t.TempDir()
	p := startServe(t, upstream.URL, command{folder: folder})
	used, unused := p.client(t).create(t, "used"), p.client(t).create(t, "unused")
	before := time.Now().Add(-time.Millisecond)
	if got := newLasting(t).get(t, p, used.Secret); got.status != http.StatusOK {
		t.Fatalf("%d %s", got.status, got.body)
	}
	p.stop(t)

	p = startServe(t, upstream.URL, command{folder: folder})
	record := p.client(t).get(t, used.Key)
	at, err := time.Parse(time.RFC3339, record.LastUsed)
	if err != nil || at.Before(before.Truncate(time.Millisecond)) || at.After(time.Now()) {
		t.Errorf("last used %q, %v", record.LastUsed, err)
	}
	if record.Version != used.Version {
		t.Errorf("being used changed the version from %d to %d", used.Version, record.Version)
	}
	if never := p.client(t).get(t, unused.Key).LastUsed; never != "" {
		t.Errorf("the unused key was last used at %q", never)
	}
}
