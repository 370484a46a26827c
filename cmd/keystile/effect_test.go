package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"testing"

	"keystile/admin"
)

// lasting is a client that keeps one connection and fails the test when it is replaced.
type lasting struct {
	client http.Client
	dialed int
}

func newLasting(t testing.TB) *lasting {
	transport := &http.Transport{MaxConnsPerHost: 1, MaxIdleConnsPerHost: 1}
	t.Cleanup(transport.CloseIdleConnections)
	return &lasting{client: http.Client{Transport: transport, Timeout: patience}}
}

// get asks for /echo through the proxy with a secret.
func (l *lasting) get(t testing.TB, p *process, secret string) reply {
	t.Helper()
	trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		if !info.Reused {
			l.dialed++
		}
	}}
	ctx := httptrace.WithClientTrace(t.Context(), trace)
	request, err := http.NewRequestWithContext(ctx, "GET", p.proxy+"/echo", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+secret)
	got, err := send(&l.client, request)
	if err != nil {
		t.Fatal(err)
	}
	if l.dialed > 1 {
		t.Error("the connection was not kept")
	}
	return got
}

// admits expects what the proxy says to a secret, on an old and on a new connection.
// The word of success is "".
func admits(t testing.TB, p *process, old *lasting, secret, code string) {
	t.Helper()
	for which, client := range map[string]*lasting{"old": old, "new": newLasting(t)} {
		got := client.get(t, p, secret)
		if got.code() != code || (code == "") != (got.status == http.StatusOK) {
			t.Errorf("on the %s connection: %d %s, want code %q", which, got.status, got.body, code)
		}
	}
}

func TestChangesTakeEffectOnTheNextRequest(t *testing.T) {
	p := startServe(t, newSample(t).URL, command{})
	api, old := p.client(t), newLasting(t)
	other := api.create(t, "bystander")

	made := api.create(t, "build server")
	admits(t, p, old, made.Secret, "")
	renamed := api.patch(t, made.Key, `{"name":"release server"}`)
	if renamed.Name != "release server" || api.get(t, made.Key).Name != "release server" {
		t.Errorf("renamed to %q, kept as %q", renamed.Name, api.get(t, made.Key).Name)
	}
	admits(t, p, old, made.Secret, "")
	for range 3 {
		if off := api.patch(t, made.Key, `{"active":false}`); off.Active || off.Effective != "everywhere" {
			t.Errorf("switched off: %+v", off)
		}
		admits(t, p, old, made.Secret, "key_inactive")
		if on := api.patch(t, made.Key, `{"active":true}`); !on.Active || on.Effective != "everywhere" {
			t.Errorf("switched on: %+v", on)
		}
		admits(t, p, old, made.Secret, "")
	}
	if gone := api.delete(t, made.Key); gone.Effective != "everywhere" {
		t.Errorf("deleted: %+v", gone)
	}
	admits(t, p, old, made.Secret, "bad_credentials")
	admits(t, p, old, other.Secret, "")
	if again := api.call(t, "PATCH", keyPath(made.Key), `{"active":true}`); again.code() != "key_not_found" {
		t.Errorf("a deleted key was changed: %d %s", again.status, again.body)
	}
}

func TestEleventhKeyIsRefusedUntilOneIsDeleted(t *testing.T) {
	p := startServe(t, newSample(t).URL, command{})
	api := p.client(t)
	var first admin.Created
	for i := range 10 {
		if made := api.create(t, ""); i == 0 {
			first = made
		}
	}
	api.patch(t, first.Key, `{"active":false}`) // one that is off counts too
	refused := api.call(t, "POST", keysPath, "{}")
	var problem struct {
		Code  string
		Limit int
	}
	refused.decode(t, &problem)
	if refused.status != http.StatusConflict || problem.Code != "key_limit_reached" || problem.Limit != 10 {
		t.Errorf("the eleventh: %d %s", refused.status, refused.body)
	}
	if n := len(api.list(t)); n != 10 {
		t.Errorf("%d keys are listed", n)
	}
	api.delete(t, first.Key)
	admits(t, p, newLasting(t), api.create(t, "").Secret, "")
}

func TestSecondIdenticalNameIsRefused(t *testing.T) {
	p := startServe(t, newSample(t).URL, command{})
	api := p.client(t)
	first := api.create(t, "Caf\u00e9")
	second := api.create(t, "other")
	for what, got := range map[string]reply{
		"the same name":                       api.call(t, "POST", keysPath, nameBody("Caf\u00e9")),
		"the same name in other code points":  api.call(t, "POST", keysPath, nameBody(" Cafe\u0301 ")),
		"another key renamed to it":           api.call(t, "PATCH", keyPath(second.Key), nameBody("Caf\u00e9")),
		"another renamed, other code points":  api.call(t, "PATCH", keyPath(second.Key), nameBody("Cafe\u0301")),
		"the same name while that key is off": offAndCreate(t, api, first),
	} {
		if got.status != http.StatusConflict || got.code() != "name_taken" {
			t.Errorf("%s: %d %s", what, got.status, got.body)
		}
	}
	if name := api.get(t, second.Key).Name; name != "other" {
		t.Errorf("the other key is now called %q", name)
	}
	api.patch(t, first.Key, nameBody("elsewhere"))
	api.create(t, "Caf\u00e9") // the name is free again
}

func offAndCreate(t *testing.T, api *adminClient, first admin.Created) reply {
	t.Helper()
	api.patch(t, first.Key, `{"active":false}`)
	return api.call(t, "POST", keysPath, nameBody(first.Name))
}

// The contract of stores (keystest) holds the store itself to the same 200 rounds.
func TestParallelCreatesGiveExactlyTenKeysEachOf200Times(t *testing.T) {
	const rounds, parallel = 200, 40
	p := startServe(t, newSample(t).URL, command{})
	api := p.client(t)
	for round := range rounds {
		replies := make(chan reply, parallel)
		var workers sync.WaitGroup
		for range parallel {
			workers.Go(func() {
				got, err := api.try("POST", keysPath, "{}")
				if err != nil {
					t.Error(err)
				}
				replies <- got
			})
		}
		workers.Wait()
		close(replies)
		checkRound(t, round, replies, api)
		if t.Failed() {
			return
		}
	}
}

// checkRound counts the answers of one round against what is listed, and deletes it.
func checkRound(t *testing.T, round int, replies <-chan reply, api *adminClient) {
	t.Helper()
	made := map[string]bool{}
	for got := range replies {
		var key struct{ Key string }
		switch {
		case got.status == http.StatusCreated && json.Unmarshal(got.body, &key) == nil:
			made[key.Key] = true
		case got.code() != "key_limit_reached":
			t.Errorf("round %d: %d %s", round, got.status, got.body)
		}
	}
	listed := api.list(t)
	if len(made) != 10 || len(listed) != 10 {
		t.Errorf("round %d: %d creates were acknowledged, %d keys are listed", round, len(made), len(listed))
	}
	names := map[string]bool{}
	for _, record := range listed {
		names[record.Name] = true
		if !made[record.Key] || !strings.HasPrefix(record.Name, "API key ") {
			t.Errorf("round %d: %s %q is listed and was not acknowledged so", round, record.Key, record.Name)
		}
		api.delete(t, record.Key)
	}
	if len(names) != len(listed) {
		t.Errorf("round %d: names repeat: %v", round, names)
	}
}
