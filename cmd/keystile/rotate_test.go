package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// onOneAndTwo runs a test with one process, and with two that share a Redis: keys are
// changed here and used there.
func onOneAndTwo(t *testing.T, upstream string, test func(t *testing.T, here, there *process)) {
	t.Run("one process", func(t *testing.T) {
		p := startServe(t, upstream, command{})
		test(t, p, p)
	})
	t.Run("two processes", func(t *testing.T) {
		server := safeRedis(t)
		east := startServe(t, upstream, atRedis(server.Addr(), "east"))
		west := startServe(t, upstream, atRedis(server.Addr(), "west"))
		awaitReady(t, west)
		awaitServing(t, east, "east", "west")
		test(t, east, west)
	})
}

// Both sides read the same clock, so that a request which began and was answered on one
// side of the end has one right answer.
func TestOldSecretWorksUntilTheOverlapEndsAndNotAfter(t *testing.T) {
	onOneAndTwo(t, newSample(t).URL, func(t *testing.T, here, there *process) {
		api, client := here.client(t), newLasting(t)
		made := api.create(t, "")
		rotated := api.rotate(t, made.Key, "3s")
		if rotated.Effective != "everywhere" || rotated.Secret == made.Secret {
			t.Fatalf("rotated: %+v", rotated)
		}
		end, err := time.Parse(time.RFC3339, rotated.PreviousValidUntil)
		if err != nil {
			t.Fatal(err)
		}
		admits(t, there, client, rotated.Secret, "")
		admitted := 0
		eventually(t, "the old secret is refused", func() bool {
			began := time.Now()
			got := client.get(t, there, made.Secret)
			switch {
			case got.status == http.StatusOK && !began.Before(end):
				t.Fatalf("admitted %v after the end", began.Sub(end))
			case got.status == http.StatusOK:
				admitted++
				return false
			case got.code() != "bad_credentials" || time.Now().Before(end):
				t.Fatalf("%v before the end: %d %s", end.Sub(began), got.status, got.body)
			}
			return true
		})
		if admitted == 0 {
			t.Error("the old secret never worked during the overlap")
		}
		admits(t, there, client, rotated.Secret, "")
		if shown := api.get(t, made.Key).PreviousValidUntil; shown != "" {
			t.Errorf("after the end the record says %q", shown)
		}
	})
}

func TestSecretOfTheLastUseIsToldAndKeptOverARestart(t *testing.T) {
	upstream, folder := newSample(t), t.TempDir()
	p := startServe(t, upstream.URL, command{folder: folder})
	made := p.client(t).create(t, "")
	rotated := p.client(t).rotate(t, made.Key, "1h")
	if got := rotated.LastUsedSecret; got != "" {
		t.Errorf("before it was used the record says %q", got)
	}
	for _, c := range []struct{ secret, which, line string }{
		{made.Secret, "previous", "ends it now. It was the one last used.\n"},
		{rotated.Secret, "present", "ends it now. The present one was last used.\n"},
	} {
		if got := newLasting(t).get(t, p, c.secret); got.status != http.StatusOK {
			t.Fatalf("%d %s", got.status, got.body)
		}
		p.stop(t) // which writes what is remembered
		p = startServe(t, upstream.URL, command{folder: folder})
		record := p.client(t).get(t, made.Key)
		if record.LastUsedSecret != c.which || record.Version != rotated.Version {
			t.Errorf("the record says %q, version %d, want %q, version %d", record.LastUsedSecret, record.Version, c.which, rotated.Version)
		}
		if table := keyTable(keyList{Keys: p.client(t).list(t)}, false); !strings.Contains(table, c.line) {
			t.Errorf("want %q in\n%s", c.line, table)
		}
	}
}

func TestRotationWithoutOverlapTakesEffectOnTheNextRequest(t *testing.T) {
	onOneAndTwo(t, newSample(t).URL, func(t *testing.T, here, there *process) {
		api, client := here.client(t), newLasting(t)
		made := api.create(t, "")
		admits(t, there, client, made.Secret, "")
		rotated := api.rotate(t, made.Key, "0")
		if rotated.Effective != "everywhere" {
			t.Errorf("rotated: %+v", rotated)
		}
		admits(t, there, client, made.Secret, "bad_credentials")
		admits(t, there, client, rotated.Secret, "")
	})
}

func TestNoRequestStartsWithAnOldSecretThatWasEndedEarly(t *testing.T) {
	const workers, each = 8, 20
	var after atomic.Int64 // requests that began after the reply and reached the upstream
	upstream := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/after" {
			after.Add(1)
		}
	}))
	defer upstream.Close()
	onOneAndTwo(t, upstream.URL, func(t *testing.T, here, there *process) {
		api := here.client(t)
		made := api.create(t, "")
		rotated := api.rotate(t, made.Key, "1h")
		var ended atomic.Bool
		var admitted atomic.Int64
		var all sync.WaitGroup
		for range workers {
			all.Go(func() {
				for refused := 0; refused < each; {
					path := "/before"
					if ended.Load() {
						path = "/after"
						refused++
					}
					got, err := ask(http.DefaultClient, "GET", there.proxy+path, "", bearer(made.Secret))
					if err != nil || path == "/after" && got.code() != "bad_credentials" {
						t.Errorf("%s: %v, %d %s", path, err, got.status, got.body)
						return
					}
					if got.status == http.StatusOK {
						admitted.Add(1)
					}
				}
			})
		}
		eventually(t, "the old secret is in use", func() bool { return admitted.Load() > workers })
		off := api.patch(t, made.Key, `{"previous_secret":null}`)
		ended.Store(true)
		all.Wait()
		if off.Effective != "everywhere" || off.PreviousValidUntil != "" || off.Version <= rotated.Version {
			t.Errorf("ended early: %+v", off)
		}
		if n := after.Load(); n != 0 {
			t.Errorf("%d requests reached the upstream after the reply", n)
		}
		admits(t, there, newLasting(t), rotated.Secret, "")
	})
}

func TestStreamOfAnOldSecretIsCutWhenItIsEnded(t *testing.T) {
	for name, overlap := range map[string]string{"at once": "0", "early": "1h"} {
		t.Run(name, func(t *testing.T) {
			upstream := newSlowUpstream(t)
			onOneAndTwo(t, upstream.URL, func(t *testing.T, here, there *process) {
				stream := openStream(t, there)
				api := here.client(t)
				key := api.list(t)[0].Key
				api.rotate(t, key, overlap)
				api.patch(t, key, `{"previous_secret":null}`) // at once: it changes nothing
				select {
				case <-upstream.ended:
				case <-time.After(2 * time.Second): // 1 s, and what a busy machine adds
					t.Fatal("the stream goes on")
				}
				if rest, err := io.ReadAll(stream); len(rest) > 0 || err == nil {
					t.Errorf("the stream ended with %q, %v: it was not broken off", rest, err)
				}
			})
		})
	}
}
