package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"keystile/admin"
	"keystile/cmd/keystile/sample"
)

// runOpenAI has the openai SDK make calls, and returns what came of each.
func runOpenAI(t *testing.T, p *process, made admin.Created, calls ...string) []outcome[json.RawMessage] {
	t.Helper()
	var results []outcome[json.RawMessage]
	runClient(t, &results, p.proxy, made, "openai.mjs", calls...)
	if len(results) != len(calls) {
		t.Fatalf("%d calls have %d results", len(calls), len(results))
	}
	return results
}

// valueOf is the value of a call that must have succeeded.
func valueOf[T any](t *testing.T, of outcome[json.RawMessage]) (value T) {
	t.Helper()
	if of.Error != nil {
		t.Fatalf("refused: %+v", of.Error)
	}
	if err := json.Unmarshal(of.Value, &value); err != nil {
		t.Fatalf("value %.100s: %v", of.Value, err)
	}
	return value
}

// TestOpenAIClientWorksWithASecretAlone gives the openai SDK a base URL and the secret as
// its apiKey, and nothing else.
func TestOpenAIClientWorksWithASecretAlone(t *testing.T) {
	upstream := newWitness(t, sample.New(sample.Options{TokenDelay: -1, RenderDelay: -1}))
	p := startServe(t, upstream.URL, command{})
	made := p.client(t).create(t, "")
	results := runOpenAI(t, p, made, "models", "image", "chat", "stream", "speech")
	if models := valueOf[[]string](t, results[0]); len(models) == 0 {
		t.Error("the list of models is empty")
	}
	expectPicture(t, valueOf[string](t, results[1]), 512, 512)
	text, words := valueOf[string](t, results[2]), valueOf[[]string](t, results[3])
	if text == "" || len(words) < 10 || strings.Join(words, "") != text {
		t.Errorf("the answer %q streams as %q", text, words)
	}
	expectSpeech(t, results[4])
	upstream.expectNoCredential(t, made)
}

// expectSpeech wants a WAV file, or where espeak-ng is not installed the upstream's 501.
func expectSpeech(t *testing.T, got outcome[json.RawMessage]) {
	t.Helper()
	if _, err := exec.LookPath("espeak-ng"); err != nil {
		if got.Error == nil || got.Error.Status != http.StatusNotImplemented || got.Error.Code != "not_implemented" {
			t.Errorf("speech without espeak-ng: %+v, want 501", got.Error)
		}
		return
	}
	wav, err := base64.StdEncoding.DecodeString(valueOf[string](t, got))
	if err != nil || len(wav) < 10_000 || string(wav[:4]) != "RIFF" || string(wav[8:12]) != "WAVE" {
		t.Errorf("speech is %d bytes, begins %.12q: %v", len(wav), wav, err)
	}
}

// TestOpenAIClientTellsItsUserWhyItWasRefused: each refusal becomes the error class that
// users of the SDK catch, with our words and the request id in it.
func TestOpenAIClientTellsItsUserWhyItWasRefused(t *testing.T) {
	upstream := newWitness(t, sample.New(sample.Options{}))
	p := startServe(t, upstream.URL, command{})
	api := p.client(t)
	off, limited := api.create(t, ""), createLimited(t, api, `{"per_second":0.001,"burst":1}`)
	api.patch(t, off.Key, `{"active":false}`)

	for name, test := range map[string]struct {
		made  admin.Created
		calls []string // the last is refused
		want  clientError
	}{
		"wrong secret": {
			withOtherSecret(t, limited),
			[]string{"chat"},
			clientError{Name: "AuthenticationError", Status: 401, Code: "bad_credentials", Type: "authentication_error"},
		},
		"no secret at all": {
			admin.Created{Secret: "sk-not-one-of-ours"},
			[]string{"stream"},
			clientError{Name: "AuthenticationError", Status: 401, Code: "malformed_credentials", Type: "authentication_error"},
		},
		"key switched off": {
			off,
			[]string{"image"},
			clientError{Name: "AuthenticationError", Status: 401, Code: "key_inactive", Type: "authentication_error"},
		},
		"over the rate": {
			limited,
			[]string{"models", "chat"},
			clientError{Name: "RateLimitError", Status: 429, Code: "rate_limited", Type: "rate_limit_error"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			results := runOpenAI(t, p, test.made, test.calls...)
			got := results[len(results)-1].Error
			if got == nil {
				t.Fatal("not refused")
			}
			if got.RequestID == "" || !strings.HasPrefix(got.Message, fmt.Sprintf("%d ", got.Status)) || len(got.Message) < 20 {
				t.Errorf("request id %q, message %q", got.RequestID, got.Message)
			}
			got.RequestID, got.Message = "", ""
			if *got != test.want {
				t.Errorf("the error is %+v, want %+v", *got, test.want)
			}
		})
	}
	if arrived := upstream.arrivals(""); len(arrived) != 1 {
		t.Errorf("%d requests reached the upstream, want 1: the one within the rate", len(arrived))
	}
}

// createLimited makes a key with a rate of its own.
func createLimited(t *testing.T, api *adminClient, rate string) (made admin.Created) {
	t.Helper()
	api.expect(t, http.StatusCreated, api.call(t, "POST", keysPath, `{"rate":`+rate+`}`), &made)
	return made
}

// TestOpenAIClientSucceedsWhenItWaitsAsRetryAfterSays: at one request in two seconds, the
// SDK's own guesses of half a second and one second would come too early both times.
func TestOpenAIClientSucceedsWhenItWaitsAsRetryAfterSays(t *testing.T) {
	upstream := newWitness(t, sample.New(sample.Options{}))
	p := startServe(t, upstream.URL, command{})
	made := createLimited(t, p.client(t), `{"per_second":0.5,"burst":1}`)
	results := runOpenAI(t, p, made, "chat", "persistent")
	if first, second := valueOf[string](t, results[0]), valueOf[string](t, results[1]); first == "" || first != second {
		t.Errorf("the answers are %q and %q", first, second)
	}
	if arrived := upstream.arrivals(""); len(arrived) != 2 {
		t.Errorf("%d requests reached the upstream, want 2", len(arrived))
	}
}

// TestOpenAIClientDoesNotRepeatWhatMayHaveBeenPaidFor: the upstream took the request and
// broke off. Left to itself, the SDK would send it three times.
func TestOpenAIClientDoesNotRepeatWhatMayHaveBeenPaidFor(t *testing.T) {
	upstream := newWitness(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { closeConnection(t, w) }))
	p := startServe(t, upstream.URL, command{})
	got := runOpenAI(t, p, p.client(t).create(t, ""), "persistent")[0].Error
	if got == nil || got.Name != "InternalServerError" || got.Status != 502 || got.Code != "upstream_unreachable" {
		t.Errorf("the SDK says %+v", got)
	}
	if arrived := upstream.arrivals(""); len(arrived) != 1 {
		t.Errorf("%d requests reached the upstream, want 1", len(arrived))
	}
}

// TestOpenAIClientSeesACutStreamAsAnError: half an answer must not pass for a whole one.
func TestOpenAIClientSeesACutStreamAsAnError(t *testing.T) {
	upstream := newWitness(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, `data: {"choices":[{"index":0,"delta":{"content":"half"}}]}`+"\n\n")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	p := startServe(t, upstream.URL, command{})
	if got := runOpenAI(t, p, p.client(t).create(t, ""), "stream")[0]; got.Error == nil {
		t.Errorf("the SDK takes half a stream for an answer: %s", got.Value)
	}
}

// carriersOf are the ways of HTTP clients without an SDK to send a secret.
func carriersOf(made admin.Created) map[string]string {
	return map[string]string{
		"bearer": bearer(made.Secret), "x-api-key": "x-api-key: " + made.Secret,
		"basic": "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(made.Key+":"+made.Secret)),
	}
}

// TestOpenAIStyleCallsWorkWithEveryCarrier makes the calls as curl or a few lines of code
// would.
func TestOpenAIStyleCallsWorkWithEveryCarrier(t *testing.T) {
	upstream := newWitness(t, sample.New(sample.Options{TokenDelay: -1, RenderDelay: -1}))
	p := startServe(t, upstream.URL, command{})
	made := p.client(t).create(t, "")
	for name, carrier := range carriersOf(made) {
		t.Run(name, func(t *testing.T) {
			post := func(path, body string) reply {
				t.Helper()
				r, err := ask(http.DefaultClient, "POST", p.proxy+path, body, carrier, "Content-Type: application/json")
				if err != nil || r.status != http.StatusOK {
					t.Fatalf("POST %s: %v, %d %.200s", path, err, r.status, r.body)
				}
				return r
			}
			var images struct {
				Data []struct {
					B64JSON string `json:"b64_json"`
				}
			}
			post("/v1/images/generations", `{"prompt":"a lighthouse","n":2,"size":"256x320"}`).decode(t, &images)
			if len(images.Data) != 2 {
				t.Fatalf("%d pictures, want 2", len(images.Data))
			}
			expectPicture(t, images.Data[1].B64JSON, 256, 320)
			streamed := post("/v1/chat/completions", `{"stream":true,"messages":[{"role":"user","content":"lighthouses"}]}`)
			if kind := streamed.header.Get("Content-Type"); !strings.HasPrefix(kind, "text/event-stream") {
				t.Errorf("a stream is %s", kind)
			}
			if text := string(streamed.body); strings.Count(text, "data: ") < 10 || !strings.HasSuffix(text, "data: [DONE]\n\n") {
				t.Errorf("the stream is %.200q ... and ends %.40q", text, text[max(len(text)-40, 0):])
			}
		})
	}
	upstream.expectNoCredential(t, made)
}

// pacedStream is an upstream that sends the next event only when the client has the last.
type pacedStream struct {
	events int
	sent   chan time.Time // right before an event is written
	got    chan struct{}  // the client has it
}

func newPacedStream(events int) *pacedStream {
	return &pacedStream{events, make(chan time.Time, 1), make(chan struct{}, 1)}
}

// ServeHTTP streams the events.
func (s *pacedStream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	for i := range s.events {
		s.sent <- time.Now()
		_, _ = fmt.Fprintf(w, "data: %d\n\n", i)
		_ = http.NewResponseController(w).Flush()
		select {
		case <-s.got:
		case <-r.Context().Done():
			return
		}
	}
}

// follow reads the events through a proxy, and fails when one is held back until the
// next. It returns how long each took from upstream to client.
func (s *pacedStream) follow(t *testing.T) []time.Duration {
	t.Helper()
	upstream := newWitness(t, s)
	p := startServe(t, upstream.URL, command{})
	request, err := http.NewRequest("POST", p.proxy+"/v1/chat/completions", strings.NewReader(`{"stream":true}`))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+p.client(t).create(t, "").Secret)
	client := http.Client{Timeout: patience}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	took := make([]time.Duration, 0, s.events)
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		number, isEvent := strings.CutPrefix(lines.Text(), "data: ")
		if !isEvent {
			continue
		}
		took = append(took, time.Since(<-s.sent))
		if want := fmt.Sprint(len(took) - 1); number != want {
			t.Fatalf("event %s came, want %s", number, want)
		}
		s.got <- struct{}{}
	}
	if len(took) != s.events {
		t.Fatalf("%d of %d events came within %v: the proxy held one back, or the stream broke", len(took), s.events, patience)
	}
	return took
}

// TestEachEventReachesTheClientBeforeTheNextIsSent needs no clock: the upstream waits.
func TestEachEventReachesTheClientBeforeTheNextIsSent(t *testing.T) {
	newPacedStream(200).follow(t)
}
