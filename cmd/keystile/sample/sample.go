// Package sample is a small generator to put behind a proxy: the upstream of
// "keystile demo", of tests and of benchmarks. It answers over HTTP the way the
// generation services do whose clients Keystile serves.
//
// [New] returns one [http.Handler] with these calls:
//
//	/key/api/v1/...            FusionBrain, first and second generation: pictures by
//	                           job, a status to poll, each result handed out once
//	/v1/images/generations     OpenAI style, always b64_json
//	/v1/chat/completions       OpenAI style, whole or word by word (SSE)
//	/v1/audio/speech           OpenAI style, WAV, where espeak-ng is installed
//	/v1/models
//	/echo, /echo/...           any method: what arrived, as JSON, with the body's
//	                           size and SHA-256
//	/bytes/{n}                 n bytes, at most 1 GiB
//
// How it works: pictures are drawn in Go from the prompt alone (same prompt and
// size, same bytes). A job is kept as its prompt and the time it arrived; its
// status is computed from the clock when somebody asks, and the picture is drawn
// when it is fetched. So there are no goroutines to stop, and memory is bounded
// by the number of jobs kept. A prompt that begins with "fail:" makes a job that
// fails, with the rest as the description.
//
// Not promised: any understanding of a prompt beyond a few words that name a
// scene, letters outside Latin, Greek and Cyrillic in captions, and any
// authentication. It is not for the open network. Files sent along with a job
// are read and thrown away.
package sample

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"runtime"
	"strings"
	"time"
)

const maxBody = 8 << 20 // bytes of a request body, except for /echo

// Options says how New's generator behaves. The zero value is ready for use.
type Options struct {
	// TokenDelay is the time between the words of a streamed answer. Zero means
	// 60ms, a pace that can be watched; negative means none.
	TokenDelay time.Duration
	// RenderDelay is how long a generation takes. Zero means 600ms; negative
	// means it is done at once.
	RenderDelay time.Duration
	// QueueSize is how many unfinished jobs are accepted before the service
	// calls itself busy. Zero means 64.
	QueueSize int
	// MaxResults is how many jobs, finished or not, are kept; the oldest goes
	// first. Zero means 1024; it is never below QueueSize.
	MaxResults int
	// ResultTTL is how long a job is kept after it arrived. Zero means 10 minutes.
	ResultTTL time.Duration
	// SpeechProgram is the name or path of the espeak-ng program. Empty means
	// "espeak-ng", found through PATH when a request needs it.
	SpeechProgram string
	// Log gets what an operator may want to know, never a prompt. Nil discards.
	Log *slog.Logger
	// Now tells the time by which jobs progress and expire. Nil means time.Now.
	Now func() time.Time
	// Wait lasts for the given time, or until the context ends, whose error it
	// then returns: the pace of streams and of /v1/images/generations. Nil means
	// a timer.
	Wait func(context.Context, time.Duration) error
}

func (o Options) withDefaults() Options {
	orDuration := func(d *time.Duration, fallback time.Duration) {
		if *d == 0 {
			*d = fallback
		}
		*d = max(*d, 0)
	}
	orDuration(&o.TokenDelay, 60*time.Millisecond)
	orDuration(&o.RenderDelay, 600*time.Millisecond)
	orDuration(&o.ResultTTL, 10*time.Minute)
	if o.QueueSize <= 0 {
		o.QueueSize = 64
	}
	if o.MaxResults <= 0 {
		o.MaxResults = 1024
	}
	o.MaxResults = max(o.MaxResults, o.QueueSize)
	if o.SpeechProgram == "" {
		o.SpeechProgram = "espeak-ng"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Wait == nil {
		o.Wait = wait
	}
	return o
}

func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// service is what New returns.
type service struct {
	Options
	mux     *http.ServeMux
	painter *painter
	jobs    *jobs
	slots   chan struct{} // held while a picture is drawn: bounds CPU and memory
	speech  chan struct{} // held while a speech program runs
	slashes *regexp.Regexp
}

// New returns a generator. It is safe for concurrent use, starts no goroutine
// and holds nothing that must be closed.
func New(options Options) http.Handler {
	painter, err := newPainter()
	if err != nil {
		panic(err) // the font is compiled in: it parses, or the build is broken
	}
	options = options.withDefaults()
	s := &service{
		Options: options,
		painter: painter,
		jobs:    newJobs(options),
		slots:   make(chan struct{}, runtime.GOMAXPROCS(0)),
		speech:  make(chan struct{}, 8),
		slashes: regexp.MustCompile(`//+`),
	}
	s.mux = s.routes()
	return s
}

func (s *service) routes() *http.ServeMux {
	mux := http.NewServeMux()
	mux.Handle(fusionBase+"models", get(s.listModels))
	mux.Handle(fusionBase+"text2image/availability", get(s.modelAvailability))
	mux.Handle(fusionBase+"text2image/run", post(s.runFirst))
	mux.Handle(fusionBase+"text2image/status/{uuid}", get(s.statusFirst))
	mux.Handle(fusionBase+"pipelines", get(s.listPipelines))
	mux.Handle(fusionBase+"pipeline/run", post(s.runSecond))
	// One pattern for pipeline/status/{uuid} and pipeline/{id}/availability:
	// neither is more specific, which ServeMux refuses.
	mux.Handle(fusionBase+"pipeline/{first}/{second}", get(s.pipelineChild))
	mux.Handle("/v1/models", get(s.openAIModels))
	mux.Handle("/v1/images/generations", post(s.images))
	mux.Handle("/v1/chat/completions", post(s.chat))
	mux.Handle("/v1/audio/speech", post(s.speak))
	mux.Handle("/bytes/{n}", get(s.bytes))
	mux.HandleFunc("/", s.notFound)
	return mux
}

// ServeHTTP answers r. Repeated slashes count as one, since a base URL with a
// trailing slash makes them; ServeMux would redirect, and a redirected POST
// loses its body.
func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/echo" || strings.HasPrefix(r.URL.Path, "/echo/") {
		s.echo(w, r)
		return
	}
	r = s.withSingleSlashes(r)
	if escaped := r.URL.EscapedPath(); path.Clean(escaped) != escaped {
		s.notFound(w, r) // no route has dots or a slash at its end
		return
	}
	s.mux.ServeHTTP(w, r)
}

// withSingleSlashes returns r, or a copy with repeated slashes of its path made
// one. An escaped slash is not a slash.
func (s *service) withSingleSlashes(r *http.Request) *http.Request {
	escaped := s.slashes.ReplaceAllString(r.URL.EscapedPath(), "/")
	plain, err := url.PathUnescape(escaped)
	if err != nil || escaped == r.URL.EscapedPath() {
		return r
	}
	single := *r.URL
	single.Path, single.RawPath = plain, escaped
	r = r.WithContext(r.Context())
	r.URL = &single
	return r
}

func (s *service) notFound(w http.ResponseWriter, r *http.Request) {
	refuse(w, r, refusal{http.StatusNotFound, missingRoute(r.URL.Path)})
}

// endpoint answers one method of one path, GET including HEAD.
type endpoint struct {
	method string
	serve  http.HandlerFunc
}

func get(serve http.HandlerFunc) endpoint  { return endpoint{http.MethodGet, serve} }
func post(serve http.HandlerFunc) endpoint { return endpoint{http.MethodPost, serve} }

func (e endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	head := r.Method == http.MethodHead && e.method == http.MethodGet
	if r.Method != e.method && !head {
		w.Header().Set("Allow", e.method)
		refuse(w, r, refusal{
			http.StatusMethodNotAllowed,
			fmt.Sprintf("Request method '%s' is not supported here: use %s", r.Method, e.method),
		})
		return
	}
	if e.method == http.MethodPost {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	}
	e.serve(w, r)
}

// refusal is an answer that is not the one asked for.
type refusal struct {
	status  int
	message string
}

// Error returns the message for the client.
func (r refusal) Error() string { return r.message }

// refuse answers with err in the shape that clients of the path read. An err
// that is no refusal is our fault.
func refuse(w http.ResponseWriter, r *http.Request, err error) {
	var known refusal
	if !errors.As(err, &known) {
		known = refusal{http.StatusInternalServerError, "the sample generator failed: " + err.Error()}
	}
	if strings.HasPrefix(r.URL.Path, "/v1/") {
		writeOpenAIError(w, known)
		return
	}
	writeSpringError(w, r, known)
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	data, err := json.Marshal(body)
	if err != nil {
		panic(err) // every body is made of strings, numbers and booleans
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(data, '\n')) // a client that has gone misses nothing
}

// readBody reads the whole body, which endpoint has bounded.
func readBody(r *http.Request) ([]byte, error) {
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, bodyRefusal(err)
	}
	return data, nil
}

// bodyRefusal says why a body could not be read: too large, or broken off.
func bodyRefusal(err error) error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return refusal{
			http.StatusRequestEntityTooLarge,
			fmt.Sprintf("The body is larger than %d bytes", tooLarge.Limit),
		}
	}
	return refusal{http.StatusBadRequest, "The body could not be read: " + err.Error()}
}

// decodeJSON reads exactly one JSON value from data; fields it does not know are
// allowed. what names the data in the refusal.
func decodeJSON(what string, data []byte, into any) error {
	err := json.Unmarshal(data, into)
	var wrongType *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case len(strings.TrimSpace(string(data))) == 0:
		return refusal{http.StatusBadRequest, what + " is empty: expected a JSON object"}
	case errors.As(err, &wrongType) && wrongType.Field != "":
		return refusal{
			http.StatusBadRequest,
			fmt.Sprintf("%s: '%s' cannot be a %s", what, wrongType.Field, wrongType.Value),
		}
	default:
		return refusal{http.StatusBadRequest, what + " is not the JSON object expected: " + err.Error()}
	}
}
