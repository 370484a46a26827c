package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"image/png"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"keystile/admin"
	"keystile/cmd/keystile/sample"
	"keystile/keys"
)

// clientsFolder holds clients of generation APIs, as published, and scripts that use them.
const clientsFolder = "testdata/clients"

// consoleFolder holds a browser and the scripts that use the console with it.
const consoleFolder = "testdata/console"

// outcome is what a script prints of a call: what it gave, or the error of the client.
type outcome[T any] struct {
	Value T
	Error *clientError
}

// clientError is the error that a client made of a refusal. Which members it has depends
// on the client.
type clientError struct {
	Name, Code, Type, Message string
	Status                    int
	RequestID                 string
}

// runClient runs a script of clientsFolder against a base URL and reads the JSON that it
// prints.
func runClient(t *testing.T, into any, baseURL string, made admin.Created, script string, args ...string) {
	t.Helper()
	env := []string{"BASE_URL=" + baseURL, "KEY=" + made.Key, "SECRET=" + made.Secret}
	out := runNode(t, clientsFolder, env, append([]string{script}, args...)...)
	if err := json.Unmarshal(out, into); err != nil {
		t.Fatalf("node %s printed %q: %v", script, out, err)
	}
}

// runNode runs a script in a folder with npm packages and returns what it prints. Of the
// machine's variables it hands over PATH alone: some would send requests elsewhere.
func runNode(t *testing.T, folder string, env []string, args ...string) []byte {
	t.Helper()
	if _, err := os.Stat(filepath.Join(folder, "node_modules", ".package-lock.json")); err != nil {
		t.Fatalf("the npm packages of cmd/keystile/%s are missing: run make test, or (cd cmd/keystile/%s && npm ci --ignore-scripts)", folder, folder)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 6*patience)
	defer cancel()
	node := exec.CommandContext(ctx, "node", args...)
	node.Dir = folder
	node.Env = append([]string{"PATH=" + os.Getenv("PATH")}, env...)
	var stderr bytes.Buffer
	node.Stderr = &stderr
	out, err := node.Output()
	if err != nil {
		t.Fatalf("node %s: %v\n%s", args, err, stderr.String())
	}
	return out
}

// withOtherSecret returns the key with a well-formed secret that is not its own.
func withOtherSecret(t *testing.T, made admin.Created) admin.Created {
	t.Helper()
	id, err := keys.ParseKey(made.Key)
	if err != nil {
		t.Fatal(err)
	}
	made.Secret = keys.NewSecret(id).Reveal()
	return made
}

// witness is an upstream that notes what arrives before a handler answers it.
type witness struct {
	*httptest.Server
	mu      sync.Mutex
	arrived []arrival
}

// arrival is a request as it reached the upstream.
type arrival struct {
	method, target string
	header         http.Header
	body           []byte
}

func newWitness(t *testing.T, answer http.Handler) *witness {
	t.Helper()
	w := &witness{}
	w.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("reading %s %s at the upstream: %v", r.Method, r.RequestURI, err)
		}
		w.mu.Lock()
		w.arrived = append(w.arrived, arrival{r.Method, r.RequestURI, r.Header.Clone(), body})
		w.mu.Unlock()
		r.Body = io.NopCloser(bytes.NewReader(body))
		answer.ServeHTTP(rw, r)
	}))
	t.Cleanup(w.Close)
	return w
}

// arrivals returns what has arrived for targets that contain part; "": everything.
func (w *witness) arrivals(part string) []arrival {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(w.arrived), func(a arrival) bool { return !strings.Contains(a.target, part) })
}

// expectNoCredential looks for the credentials of a key in all that reached the upstream.
func (w *witness) expectNoCredential(t *testing.T, made admin.Created) {
	t.Helper()
	for _, a := range w.arrivals("") {
		for name, values := range a.header {
			said := strings.Join(values, "\n")
			if spelt := strings.ToLower(name); spelt == "x-key" || spelt == "x-secret" || spelt == "x-api-key" || spelt == "authorization" ||
				strings.Contains(said, made.Key) || strings.Contains(said, made.Secret) {
				t.Errorf("%s %s reached the upstream with a header %s", a.method, a.target, name)
			}
		}
	}
}

// closeConnection breaks the connection without an answer.
func closeConnection(t *testing.T, w http.ResponseWriter) {
	connection, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		err = connection.Close()
	}
	if err != nil {
		t.Error(err)
	}
}

// expectPicture decodes a picture that came as base64.
func expectPicture(t *testing.T, encoded string, width, height int) {
	t.Helper()
	data, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		t.Fatalf("the picture is no base64: %v", err)
	}
	picture, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatalf("the picture is no PNG: %v", err)
	}
	if size := picture.Bounds().Size(); size.X != width || size.Y != height {
		t.Errorf("the picture is %v, want %d by %d", size, width, height)
	}
}

// fusionBrainRun is what fusionbrain.mjs prints.
type fusionBrainRun struct {
	Models     outcome[[]struct{ Name string }]
	Ready      outcome[bool]
	Generation outcome[struct{ Accepted bool }]
	Task       outcome[struct {
		Status string
		Images []string
	}]
	Again outcome[any] // the same picture, asked for a second time
}

func (r fusionBrainRun) errors() map[string]*clientError {
	return map[string]*clientError{
		"getModels": r.Models.Error, "isReady": r.Ready.Error, "generate": r.Generation.Error,
		"checkTask": r.Task.Error, "checkTask again": r.Again.Error,
	}
}

// expectPictureOnce holds a run against what the client does when nothing is in its way.
func (r fusionBrainRun) expectPictureOnce(t *testing.T) {
	t.Helper()
	for call, err := range r.errors() {
		if err != nil && call != "checkTask again" {
			t.Fatalf("%s: %+v", call, err)
		}
	}
	if models := r.Models.Value; len(models) != 1 || models[0].Name != "Kandinsky" {
		t.Errorf("the models are %+v", models)
	}
	if !r.Ready.Value || !r.Generation.Value.Accepted {
		t.Errorf("the model is ready: %v, the generation is accepted: %v", r.Ready.Value, r.Generation.Value.Accepted)
	}
	if task := r.Task.Value; task.Status != "DONE" || len(task.Images) != 1 {
		t.Fatalf("the task is %s with %d pictures", task.Status, len(task.Images))
	}
	expectPicture(t, r.Task.Value.Images[0], 512, 384)
	if r.Again.Error == nil || r.Again.Error.Code != "EXPIRED" {
		t.Errorf("fetching the picture again: %+v, want the client's own EXPIRED", r.Again)
	}
}

// TestFusionBrainClientGeneratesAPictureThroughTheProxy runs npm's fusionbrain-api,
// unmodified, with a key made over HTTP.
func TestFusionBrainClientGeneratesAPictureThroughTheProxy(t *testing.T) {
	upstream := newWitness(t, sample.New(sample.Options{RenderDelay: 100 * time.Millisecond}))
	p := startServe(t, upstream.URL, command{})
	made := p.client(t).create(t, "picture book")
	var run fusionBrainRun
	runClient(t, &run, p.proxy, made, "fusionbrain.mjs")
	run.expectPictureOnce(t)
	if n := len(upstream.arrivals("/text2image/run")); n != 1 {
		t.Errorf("the upstream got %d runs, want 1", n)
	}
	upstream.expectNoCredential(t, made)
}

// TestFusionBrainClientReadsUnauthorizedWhileItsKeyIsOff: a refusal must be one that the
// client knows, for every call, and end with the switch.
func TestFusionBrainClientReadsUnauthorizedWhileItsKeyIsOff(t *testing.T) {
	upstream := newWitness(t, sample.New(sample.Options{RenderDelay: -1}))
	p := startServe(t, upstream.URL, command{})
	made := p.client(t).create(t, "")
	p.client(t).patch(t, made.Key, `{"active":false}`)
	expectFusionBrainUnauthorized(t, p, made)
	p.client(t).patch(t, made.Key, `{"active":true}`)
	expectFusionBrainUnauthorized(t, p, withOtherSecret(t, made))
	if arrived := upstream.arrivals(""); len(arrived) != 0 {
		t.Errorf("%d refused requests reached the upstream", len(arrived))
	}
	var run fusionBrainRun
	runClient(t, &run, p.proxy, made, "fusionbrain.mjs")
	run.expectPictureOnce(t)
}

func expectFusionBrainUnauthorized(t *testing.T, p *process, made admin.Created) {
	t.Helper()
	var run fusionBrainRun
	runClient(t, &run, p.proxy, made, "fusionbrain.mjs")
	for call, err := range run.errors() {
		if err == nil || err.Name != "FusionBrainError" || err.Code != "UNAUTHORIZED" {
			t.Errorf("%s: %+v, want the client's own UNAUTHORIZED", call, err)
		}
	}
}

// TestAnthropicClientIsServedAndRefusedByItsOwnRules: the secret in x-api-key opens the
// way, and a refusal becomes the error class that its users catch.
func TestAnthropicClientIsServedAndRefusedByItsOwnRules(t *testing.T) {
	upstream := newWitness(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"id":"msg_1","type":"message","role":"assistant","model":"sample-text","content":[{"type":"text","text":"Lighthouses shine."}],
			"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":4,"output_tokens":2}}`)
	}))
	p := startServe(t, upstream.URL, command{})
	made := p.client(t).create(t, "")

	var message outcome[string]
	runClient(t, &message, p.proxy, made, "anthropic.mjs")
	if message.Error != nil || message.Value != "Lighthouses shine." {
		t.Errorf("the message is %+v", message)
	}
	if arrived := upstream.arrivals(""); len(arrived) != 1 || arrived[0].target != "/v1/messages" {
		t.Errorf("the upstream got %+v", arrived)
	}
	upstream.expectNoCredential(t, made)

	var refused outcome[string]
	runClient(t, &refused, p.proxy, withOtherSecret(t, made), "anthropic.mjs")
	want := clientError{Name: "AuthenticationError", Type: "authentication_error", Code: "bad_credentials", Status: 401}
	if refused.Error == nil || *refused.Error != want {
		t.Errorf("with a wrong secret: %+v, want %+v", refused.Error, want)
	}
}

// TestNpmPackagesAreInstalledByVersionFromWhicheverRegistry: the lock file says what, by
// digest, and not where from.
func TestNpmPackagesAreInstalledByVersionFromWhicheverRegistry(t *testing.T) {
	for _, folder := range []string{clientsFolder, consoleFolder} {
		var wanted struct{ Dependencies map[string]string }
		var lock struct {
			Packages map[string]struct{ Version, Resolved, Integrity string }
		}
		for name, into := range map[string]any{"package.json": &wanted, "package-lock.json": &lock} {
			if err := json.Unmarshal([]byte(readFile(t, filepath.Join(folder, name))), into); err != nil {
				t.Fatalf("%s/%s: %v", folder, name, err)
			}
		}
		for name, version := range wanted.Dependencies {
			if locked := lock.Packages["node_modules/"+name].Version; locked != version {
				t.Errorf("%s is wanted in version %s and locked in %s", name, version, locked)
			}
		}
		for path, locked := range lock.Packages {
			if path != "" && (locked.Resolved != "" || locked.Integrity == "") {
				t.Errorf("%s: resolved is %q, integrity %q", path, locked.Resolved, locked.Integrity)
			}
		}
	}
}
