package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"keystile/keys"
)

// The scripts in testdata/keys run the commands against a process that serves, in the
// folder of each script and with its configuration. capture keeps a part of what was printed,
// answers sends a request with a secret.
func TestKeysCommandsDoAllOfItAndSayWhatToDo(t *testing.T) {
	upstream := newSample(t).URL
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "keys"), RequireExplicitExec: true, RequireUniqueNames: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "capture": capture, "answers": answers},
		Setup: func(env *testscript.Env) error {
			p := startServe(env.T().(testing.TB), upstream, command{folder: env.WorkDir})
			listen := strings.TrimPrefix(p.admin, "http://")
			_, port, err := net.SplitHostPort(listen)
			if err != nil {
				return err
			}
			env.Setenv("KEYSTILE_ADMIN_LISTEN", listen)
			env.Setenv("ADMIN_PORT", port)
			env.Setenv("GORACE", "atexit_sleep_ms=0") // or the race detector would have each command wait a second
			env.Setenv("KEYSTILE_PROXY_LISTEN", strings.TrimPrefix(p.proxy, "http://"))
			return addresses(env)
		},
	})
}

// capture sets a variable to the group of a pattern in the last standard output: capture KEY '(kst_\w+)'.
func capture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: capture variable pattern")
	}
	found := regexp.MustCompile(args[1]).FindStringSubmatch(ts.ReadFile("stdout"))
	if len(found) != 2 {
		ts.Fatalf("%s is not in the output", args[1])
	}
	ts.Setenv(args[0], found[1])
}

// answers expects what the proxy says to a secret, 200 or a code: answers key_inactive $SECRET.
func answers(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: answers 200|code secret")
	}
	request, err := http.NewRequest(http.MethodGet, "http://"+ts.Getenv("KEYSTILE_PROXY_LISTEN")+"/echo", nil)
	ts.Check(err)
	request.Header.Set("Authorization", "Bearer "+args[1])
	got, err := send(http.DefaultClient, request)
	ts.Check(err)
	if said := cmp.Or(got.code(), strconv.Itoa(got.status)); said != args[0] {
		ts.Fatalf("it answers %s", said)
	}
}

// keysAt runs a keys command in this process, against the admin API at a URL.
func keysAt(t testing.TB, url string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	return commandAt(t, url, append([]string{"keys"}, args...)...)
}

// commandAt runs a command in this process, against the admin API at a URL.
func commandAt(t testing.TB, url string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	return commandWith(t, []string{tokenVariable + "=" + aToken}, slices.Concat(args[:1], []string{"--address", url}, args[1:])...)
}

// commandWith runs a command in this process, with an environment.
func commandWith(t testing.TB, env []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, said bytes.Buffer
	err := run(t.Context(), args, stdio{strings.NewReader(""), &out, &said, env})
	if err != nil {
		fmt.Fprintln(&said, err)
	}
	return exitCode(err), out.String(), said.String()
}

// meddled stands before the admin API of a process.
func meddled(t testing.TB, p *process, meddle func(w http.ResponseWriter, r *http.Request, api http.Handler)) string {
	target, err := url.Parse(p.admin)
	if err != nil {
		t.Fatal(err)
	}
	api := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { meddle(w, r, api) }))
	t.Cleanup(server.Close)
	return server.URL
}

// losing loses so many replies after the call was made.
func losing(t testing.TB, p *process, replies int) string {
	return meddled(t, p, func(w http.ResponseWriter, r *http.Request, api http.Handler) {
		if replies--; replies >= 0 {
			api.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		}
		api.ServeHTTP(w, r)
	})
}

// losingAll loses the replies to calls of one method after each was made.
func losingAll(t testing.TB, p *process, method string) string {
	return meddled(t, p, func(w http.ResponseWriter, r *http.Request, api http.Handler) {
		if r.Method == method {
			api.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		}
		api.ServeHTTP(w, r)
	})
}

func serveWithToken(t testing.TB) *process {
	return startServe(t, newSample(t).URL, command{env: []string{tokenVariable + "=" + aToken}})
}

func TestLostReplyOfACreationMakesOneKeyAndSaysWhatToDo(t *testing.T) {
	p := serveWithToken(t)
	for _, args := range [][]string{{"create", "shop"}, {"create", "shop", "-q"}, {"create", "shop", "-o", "json"}} {
		code, out, said := keysAt(t, losing(t, p, 1), args...)
		list := p.client(t).list(t)
		if len(list) != 1 {
			t.Fatalf("%q: there are %d keys", args, len(list))
		}
		key := list[0].Key
		want := fmt.Sprintf("the key %s was made, but the reply with its secret was lost, and no secret is shown twice: "+
			"make another with \"keystile keys rotate %s\"\n", key, key)
		if code != 1 || out != "" || said != want {
			t.Errorf("%q: exit code %d, %q, %q", args, code, out, said)
		}
		code, out, said = keysAt(t, p.admin, "rotate", "-q", key)
		if code != 0 {
			t.Fatalf("what it says to do ends with %d, %s", code, said)
		}
		admits(t, p, newLasting(t), strings.TrimSpace(out), "")
		p.client(t).delete(t, key)
	}
	code, _, said := keysAt(t, losing(t, p, 2), "create", "shop")
	if n := len(p.client(t).list(t)); n != 1 || code != 1 || !strings.HasSuffix(said, `; the first try may have made the key: "keystile keys list" shows it`+"\n") {
		t.Errorf("both replies lost: %d keys, exit code %d, %q", n, code, said)
	}
}

func TestLostReplyOfAChangeSaysHowToFindOut(t *testing.T) {
	p := serveWithToken(t)
	made := p.client(t).create(t, "shop")
	url := losingAll(t, p, http.MethodPatch)
	code, _, said := keysAt(t, url, "disable", "shop")
	if want := "no whole reply from " + url + `, the address from --address (EOF): "keystile keys list" shows whether the change was made` + "\n"; code != 1 || said != want {
		t.Errorf("exit code %d, %q", code, said)
	}
	if p.client(t).get(t, made.Key).Active {
		t.Error("the change was not made, so nothing was tested")
	}
}

func TestLostReplyOfARotationSaysWhatToDoAndThatMendsIt(t *testing.T) {
	for overlap, repeated := range map[string]struct {
		code int
		said string
	}{
		"0s": {0, ""},
		"1h": {1, "nothing was done, for an earlier secret still works, and a key has two at most: wait until the time that \"keystile keys list\" shows, " +
			"or end it with \"keystile keys end-previous\"; if the present secret is lost or has leaked, rotate without --overlap, which ends it at once\n"},
	} {
		t.Run(overlap, func(t *testing.T) {
			p := serveWithToken(t)
			made := p.client(t).create(t, "shop")
			url := losingAll(t, p, http.MethodPost)
			code, out, said := keysAt(t, url, "rotate", "-q", "--overlap", overlap, "shop")
			want := "no whole reply from " + url + ", the address from --address (EOF): a secret may be in force that nobody has; " +
				"the same command again makes another, or says what to do\n"
			if code != 1 || out != "" || said != want {
				t.Errorf("exit code %d, %q, %q", code, out, said)
			}
			lost := p.client(t).get(t, made.Key)
			if lost.Version == made.Version {
				t.Fatal("the rotation was not made, so nothing was tested")
			}
			code, out, said = keysAt(t, p.admin, "rotate", "-q", "--overlap", overlap, "shop")
			if code != repeated.code || said != repeated.said {
				t.Errorf("the same again: exit code %d, %q", code, said)
			}
			verdict := "bad_credentials"
			if overlap != "0s" {
				verdict = ""
				_, out, _ = keysAt(t, p.admin, "rotate", "-q", "shop")
			}
			admits(t, p, newLasting(t), strings.TrimSpace(out), "")
			admits(t, p, newLasting(t), made.Secret, verdict)
			if now := p.client(t).get(t, made.Key); now.PreviousValidUntil != lost.PreviousValidUntil {
				t.Errorf("the earlier secret ends %s, not %s", now.PreviousValidUntil, lost.PreviousValidUntil)
			}
		})
	}
}

func TestEachSecretOfAKeyCanBeEndedByACommand(t *testing.T) {
	p := serveWithToken(t)
	client := newLasting(t)
	first := p.client(t).create(t, "shop").Secret
	_, out, _ := keysAt(t, p.admin, "rotate", "-q", "--overlap", "1h", "shop")
	second := strings.TrimSpace(out)
	admits(t, p, client, first, "")
	admits(t, p, client, second, "")
	keysAt(t, p.admin, "end-previous", "shop")
	admits(t, p, client, first, "bad_credentials")
	admits(t, p, client, second, "")
	_, out, _ = keysAt(t, p.admin, "rotate", "-q", "shop")
	admits(t, p, client, second, "bad_credentials")
	admits(t, p, client, strings.TrimSpace(out), "")
}

func TestKeyChangedMeanwhileIsNeitherRenamedNorRotatedNorDeleted(t *testing.T) {
	p := serveWithToken(t)
	direct := p.client(t)
	made := direct.create(t, "shop")
	url := meddled(t, p, func(w http.ResponseWriter, r *http.Request, api http.Handler) {
		if r.Method != http.MethodGet {
			direct.patch(t, made.Key, fmt.Sprintf(`{"active":%t}`, !direct.get(t, made.Key).Active))
		}
		api.ServeHTTP(w, r)
	})
	for _, args := range [][]string{{"rename", made.Key, "other"}, {"rename", "shop", "other"}, {"rotate", made.Key}, {"rotate", "--overlap", "1h", "shop"}, {"delete", "--yes", made.Key}, {"delete", "--yes", "shop"}} {
		code, out, said := keysAt(t, url, args...)
		if code != 1 || out != "" || said != `nothing was done, for somebody has just changed the key: look at it with "keystile keys list" and try again`+"\n" {
			t.Errorf("%q: exit code %d, %q, %q", args, code, out, said)
		}
	}
	if record := direct.get(t, made.Key); record.Name != "shop" {
		t.Errorf("it is now %+v", record)
	}
	// Ending access must not wait until others leave the key alone.
	if code, _, said := keysAt(t, url, "disable", "shop"); code != 0 || direct.get(t, made.Key).Active {
		t.Errorf("disable: exit code %d, %q", code, said)
	}
	direct.rotate(t, made.Key, "1h")
	if code, _, said := keysAt(t, url, "end-previous", "shop"); code != 0 || direct.get(t, made.Key).PreviousValidUntil != "" {
		t.Errorf("end-previous: exit code %d, %q", code, said)
	}
}

func TestPendingReceiptIsDoneAndSaysUntilWhen(t *testing.T) {
	east, west := startPair(t, safeRedis(t).Addr(), "receipt_deadline: 100ms")
	made := east.client(t).create(t, "shop")
	east.client(t).rotate(t, made.Key, "1h") // or there is nothing to end
	if err := west.standStill(); err != nil {
		t.Fatal(err)
	}
	defer west.signal(t, syscall.SIGCONT)
	for command, done := range map[string]string{"disable": "disabled", "rotate": "rotated and the replaced secret ended", "end-previous": "earlier secret ended"} {
		code, out, said := keysAt(t, east.admin, command, "shop")
		want := regexp.MustCompile(`^` + done + `, but not everywhere yet: ` + made.Key + ` "shop"\npending: west, effective by \d{4}-\S+Z\nThe change is made; it need not be repeated\.\n`)
		if code != 0 || said != "" || !want.MatchString(out) {
			t.Errorf("%s: exit code %d, %q, %q", command, code, out, said)
		}
	}
	for _, args := range [][]string{{"create", "-q", "other"}, {"rotate", "-q", "shop"}} {
		code, out, said := keysAt(t, east.admin, args...)
		if code != 0 || !regexp.MustCompile(`^kss_\w{72}\n$`).MatchString(out) || !regexp.MustCompile(`, but not everywhere yet: .*\npending: west, effective by \d{4}-\S+Z\n`).MatchString(said) {
			t.Errorf("%q: exit code %d, %q, %q", args, code, out, said)
		}
	}
	code, out, _ := keysAt(t, east.admin, "delete", "--yes", "-o", "json", "shop")
	if code != 0 || !regexp.MustCompile(`^\{"key":"`+made.Key+`","version":\d+,"pending":\[\{"proxy":"west","effective_by":"[^"]+"\}\]\}\n$`).MatchString(out) {
		t.Errorf("delete: exit code %d, %q", code, out)
	}
}

func TestInterruptedQuestionIsANo(t *testing.T) {
	in, keyboard := io.Pipe() // on which nobody types
	defer keyboard.Close()
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	if (stdio{in: in, err: io.Discard}).confirm(ctx, "Delete?") {
		t.Error("it is a yes")
	}
}

// hostile is an admin API that answers every call alike.
func hostile(t testing.TB, mediaType, body string) string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", mediaType)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestReplyThatIsNotKeystilesIsAClearError(t *testing.T) {
	const key, plain, problem = "kst_0000000000000000000001", "application/json", "application/problem+json"
	calls := [][]string{
		{"list"}, {"create"}, {"create", "-q"}, {"create", "-o", "json"}, {"rename", key, "b"}, {"rename", "a", "b"}, {"rotate", key}, {"end-previous", key}, {"enable", key}, {"disable", "a"}, {"delete", "--yes", key},
	}
	for name, c := range map[string]struct{ mediaType, body, why string }{
		"nothing":          {plain, "", "JSON of another kind"},
		"not JSON":         {plain, "<html>", "JSON of another kind"},
		"10 MiB of it":     {plain, strings.Repeat("x", 10<<20), `JSON of another kind|more than 1MiB`},
		"10 MiB of JSON":   {plain, `{"key":"` + strings.Repeat("x", 10<<20) + `"}`, `JSON of another kind|more than 1MiB`},
		"a page":           {"text/html; charset=utf-8", "<html>", "status 200, text/html"},
		"no media type":    {"", `{"keys":[],"limit":1}`, "status 200, .*"},
		"an array":         {plain, `[]`, "JSON of another kind"},
		"null":             {plain, `null`, "JSON of another kind"},
		"an empty object":  {plain, `{}`, "JSON of another kind"},
		"wrong types":      {plain, `{"keys":{"a":1},"key":7,"limit":"ten"}`, "JSON of another kind"},
		"half of it":       {plain, `{"keys":[{"key":"kst_00`, "JSON of another kind"},
		"twice":            {plain, `{"keys":[]}{"keys":[]}`, "JSON of another kind"},
		"a wrong key":      {plain, `{"keys":[{"key":"$(rm -rf ~)"}],"key":"$(rm -rf ~)","secret":"'; rm -rf ~; '"}`, "JSON of another kind"},
		"deep":             {plain, strings.Repeat(`[`, 1<<19), "JSON of another kind"},
		"no problem":       {problem, `{"code":7}`, "a problem of another kind"},
		"an empty problem": {problem, `{}`, "a problem of another kind"},
	} {
		t.Run(name, func(t *testing.T) {
			url := hostile(t, c.mediaType, c.body)
			want := regexp.MustCompile(`^what answers at ` + url + `, the address from --address, is not the admin API of keystile \((` + c.why + `)\): name another by --address\n$`)
			for _, args := range calls {
				if code, out, said := keysAt(t, url, args...); code != 1 || out != "" || !want.MatchString(said) {
					t.Errorf("%q: exit code %d, %q, %q", args, code, tail(out), tail(said))
				}
			}
		})
	}
}

func TestReplyIsReadToALimit(t *testing.T) {
	const key = "kst_0000000000000000000001"
	url := hostile(t, "application/json", `{"key":"`+key+`","name":"`+strings.Repeat("x", 10<<20)+`","effective":"everywhere"}`)
	for _, args := range [][]string{{"create"}, {"rename", key, "b"}, {"disable", key}, {"delete", "--yes", key}} {
		if code, out, said := keysAt(t, url, args...); code != 1 || out != "" || !strings.Contains(said, "is not the admin API of keystile (more than 1MiB): ") {
			t.Errorf("%q: exit code %d, %q, %q", args, code, tail(out), tail(said))
		}
	}
}

// A key of another call, or a secret of another key, would be pasted or believed.
func TestReplyAboutAnotherKeyIsNotBelieved(t *testing.T) {
	id := keys.NewID()
	other := keys.NewSecret(keys.NewID()).Reveal()
	url := hostile(t, "application/json", fmt.Sprintf(`{"key":%q,"secret":%q,"effective":"everywhere"}`, id, other))
	for _, args := range [][]string{{"create"}, {"create", "-q"}, {"rotate", id.String()}, {"rotate", "-q", id.String()}, {"disable", keys.NewID().String()}, {"delete", "--yes", keys.NewID().String()}} {
		if code, out, said := keysAt(t, url, args...); code != 1 || out != "" || !strings.Contains(said, "JSON of another kind") || strings.Contains(said, "kss_") {
			t.Errorf("%q: exit code %d, %q, %q", args, code, out, said)
		}
	}
}

func TestRotationOfAnotherKeyIsNotBelieved(t *testing.T) {
	p := serveWithToken(t)
	shop, other := p.client(t).create(t, "shop"), p.client(t).create(t, "other")
	url := meddled(t, p, func(w http.ResponseWriter, r *http.Request, api http.Handler) {
		if r.Method == http.MethodPost {
			r.URL.Path = keyPath(other.Key) + "/rotate"
			r.Header.Del("If-Match")
		}
		api.ServeHTTP(w, r)
	})
	if code, out, said := keysAt(t, url, "rotate", "-q", shop.Key); code != 1 || out != "" || !strings.Contains(said, "JSON of another kind") {
		t.Errorf("exit code %d, %q, %q", code, out, said)
	}
}

func TestErrorsShowNothingThatASecretIsIn(t *testing.T) {
	secret := keys.NewSecret(keys.NewID()).Reveal()
	url := hostile(t, "application/problem+json", fmt.Sprintf(`{"code":"odd","detail":"got %s and %s","request_id":"\u001b[2J"}`, aToken, secret))
	code, out, said := keysAt(t, url, "list")
	if code != 1 || out != "" || said != `got [redacted] and [redacted] (odd, request id "\x1b[2J")`+"\n" {
		t.Errorf("exit code %d, %q, %q", code, out, said)
	}
}

func TestNamesCannotControlATerminal(t *testing.T) {
	url := hostile(t, "application/json", `{"keys":[{"key":"kst_0000000000000000000001","name":"a\u001b[2Jb\u202ec","account":"x\ny","created":"\u001b]0;"}],"limit":1}`)
	code, out, _ := keysAt(t, url, "list")
	if code != 0 || strings.ContainsAny(out, "\x1b\u202e") || !strings.Contains(out, `"a\x1b[2Jb\u202ec"  "x\ny"   inactive  "\x1b]0;"      never`) {
		t.Errorf("exit code %d, %q", code, out)
	}
}

func TestNameThatSeveralAccountsUseIsAskedBack(t *testing.T) {
	url := hostile(t, "application/json", `{"keys":[{"key":"kst_0000000000000000000001","name":"shop","account":"a"},{"key":"kst_0000000000000000000002","name":"shop","account":"b"}],"limit":1}`)
	code, _, said := keysAt(t, url, "disable", "shop")
	if code != 1 || said != `2 keys have this name: say whose by --account, or give the key instead, kst_0000000000000000000001 of account "a" or kst_0000000000000000000002 of account "b"`+"\n" {
		t.Errorf("exit code %d, %q", code, said)
	}
}

func TestTokenIsNotSentWhereARedirectPoints(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != keysPath {
			t.Error("it was followed")
		}
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	}))
	defer server.Close()
	if code, _, said := keysAt(t, server.URL, "list"); code != 1 || !strings.Contains(said, "status 307") {
		t.Errorf("exit code %d, %q", code, said)
	}
}

func TestServerThatDoesNotAnswerIsGivenUp(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") // accepts nothing, but connections are made
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	api, err := newAPIClient(setting{listener.Addr().String(), "--address"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if api.http.Timeout != apiTimeout {
		t.Errorf("a call may take %v", api.http.Timeout)
	}
	api.http.Timeout = 10 * time.Millisecond
	if _, err := api.list(t.Context(), ""); err == nil || !strings.HasPrefix(err.Error(), "no whole reply from ") {
		t.Errorf("it says %v", err)
	}
}

func TestStoreThatIsDownSaysHowToFindOut(t *testing.T) {
	server := safeRedis(t)
	p := startServe(t, newSample(t).URL, atRedis(server.Addr(), "east"))
	awaitReady(t, p)
	p.client(t).create(t, "shop")
	server.Kill()
	code, _, said := keysAt(t, p.admin, "create")
	if code != 1 || said != `the key store cannot be reached, or did not confirm the change: try again later; "keystile keys list" shows whether the change was made`+"\n" {
		t.Errorf("exit code %d, %q", code, said)
	}
}
