package main

import (
	"bytes"
	"encoding/json"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
	"testing"
	"time"

	"keystile/admin"
	"keystile/cmd/keystile/sample"
)

// fusionAPI is where the calls of FusionBrain are.
const fusionAPI = "/key/api/v1/"

// fusionParams is the part "params" of a run.
const fusionParams = `{"type":"GENERATE","numImages":1,"width":320,"height":256,"generateParams":{"query":"a lighthouse at dawn"}}`

// fusionClient makes FusionBrain's calls of the second generation with net/http alone.
type fusionClient struct {
	base        string // up to and without /key
	credentials []string
}

// newFusionClient spells the header names as given: clients differ in it.
func newFusionClient(p *process, made admin.Created, keyName, secretName string) fusionClient {
	return fusionClient{p.proxy, []string{keyName, "Key " + made.Key, secretName, "Secret " + made.Secret}}
}

// call sends a request with a body of its own kind and reads the whole answer.
func (c fusionClient) call(t *testing.T, method, path string, form fusionForm) reply {
	t.Helper()
	request, err := http.NewRequest(method, c.base+path, bytes.NewReader(form.body))
	if err != nil {
		t.Fatal(err)
	}
	if form.kind != "" {
		request.Header.Set("Content-Type", form.kind)
	}
	for i := 0; i < len(c.credentials); i += 2 {
		request.Header[c.credentials[i]] = []string{c.credentials[i+1]} // not Set, which would mend the case
	}
	client := http.Client{Timeout: patience, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		t.Errorf("redirected to %s: a POST loses its body", r.URL)
		return http.ErrUseLastResponse
	}}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(response.Body); err != nil {
		t.Fatal(err)
	}
	return reply{status: response.StatusCode, header: response.Header, body: body.Bytes()}
}

// pipeline returns the id of the pipeline that draws.
func (c fusionClient) pipeline(t *testing.T) string {
	t.Helper()
	var pipelines []struct{ ID string }
	c.call(t, "GET", fusionAPI+"pipelines?type=TEXT2IMAGE", fusionForm{}).decode(t, &pipelines)
	if len(pipelines) != 1 || pipelines[0].ID == "" {
		t.Fatalf("the pipelines are %+v", pipelines)
	}
	return pipelines[0].ID
}

// fusionStatus is the state of a run.
type fusionStatus struct {
	UUID, Status string
	Result       struct{ Files []string }
}

// finished asks until the run has ended, and returns the picture and how often it asked.
func (c fusionClient) finished(t *testing.T, uuid string) (picture string, asked int) {
	t.Helper()
	var state fusionStatus
	eventually(t, "the picture is there", func() bool {
		asked++
		state = fusionStatus{}
		c.call(t, "GET", fusionAPI+"pipeline/status/"+uuid, fusionForm{}).decode(t, &state)
		return state.Status == "DONE" || state.Status == "FAIL"
	})
	if state.UUID != uuid || len(state.Result.Files) != 1 {
		t.Fatalf("run %s ended as %s %s with %d pictures", uuid, state.UUID, state.Status, len(state.Result.Files))
	}
	return state.Result.Files[0], asked
}

// fusionForm is a multipart body; the zero value is none.
type fusionForm struct {
	kind string
	body []byte
}

// newFusionForm puts the parts together: params unless it is empty, the fields, and a file
// unless it is nil.
func newFusionForm(t *testing.T, params string, fields map[string]string, file []byte) fusionForm {
	t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part := func(disposition, kind string, content []byte) {
		w, err := form.CreatePart(textproto.MIMEHeader{
			"Content-Disposition": {"form-data; " + disposition}, "Content-Type": {kind},
		})
		if err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write(content) // a bytes.Buffer takes everything
	}
	if params != "" {
		part(`name="params"`, "application/json", []byte(params))
	}
	for name, value := range fields {
		_ = form.WriteField(name, value)
	}
	if file != nil {
		part(`name="file"; filename="sketch.png"`, "image/png", file)
	}
	if err := form.Close(); err != nil {
		t.Fatal(err)
	}
	return fusionForm{form.FormDataContentType(), body.Bytes()}
}

// startFusion starts a sample generator that takes its time, and a keystile before it.
func startFusion(t *testing.T) (*witness, *process, admin.Created) {
	t.Helper()
	upstream := newWitness(t, sample.New(sample.Options{RenderDelay: 50 * time.Millisecond}))
	p := startServe(t, upstream.URL, command{})
	return upstream, p, p.client(t).create(t, "")
}

// TestSecondGenerationRunsInEveryFormItsClientsUse: the pipeline as a form field or in the
// query, with a file or without, and a base URL with a slash too many.
func TestSecondGenerationRunsInEveryFormItsClientsUse(t *testing.T) {
	upstream, p, made := startFusion(t)
	c := newFusionClient(p, made, "X-Key", "X-Secret")
	pipeline := c.pipeline(t)
	field := map[string]string{"pipeline_id": pipeline}
	for name, test := range map[string]struct {
		target string
		form   fusionForm
	}{
		"pipeline as a form field":      {fusionAPI + "pipeline/run", newFusionForm(t, fusionParams, field, nil)},
		"pipeline as a query parameter": {fusionAPI + "pipeline/run?pipeline_id=" + pipeline, newFusionForm(t, fusionParams, nil, nil)},
		"with a file":                   {fusionAPI + "pipeline/run?with=file", newFusionForm(t, fusionParams, field, bytes.Repeat([]byte{0, '\r', '\n', 0xff}, 1<<16))},
		"with a slash too many":         {"/" + fusionAPI + "pipeline/run", newFusionForm(t, fusionParams, field, nil)},
	} {
		t.Run(name, func(t *testing.T) {
			run := c.call(t, "POST", test.target, test.form)
			var accepted fusionStatus
			run.decode(t, &accepted)
			if run.status != http.StatusCreated || accepted.Status != "INITIAL" || accepted.UUID == "" {
				t.Fatalf("the run is answered with %d %s, want 201 kept", run.status, run.body)
			}
			picture, _ := c.finished(t, accepted.UUID)
			expectPicture(t, picture, 320, 256)
			expectArrival(t, upstream, "POST", test.target, test.form)
		})
	}
	upstream.expectNoCredential(t, made)
}

// expectArrival wants one request for exactly this target, with exactly this body.
func expectArrival(t *testing.T, upstream *witness, method, target string, form fusionForm) {
	t.Helper()
	found := 0
	for _, a := range upstream.arrivals("") {
		if a.target != target {
			continue
		}
		found++
		if a.method != method || a.header.Get("Content-Type") != form.kind || !bytes.Equal(a.body, form.body) {
			t.Errorf("%s %s arrived with %s and %d bytes, want %s and the %d bytes sent",
				a.method, a.target, a.header.Get("Content-Type"), len(a.body), form.kind, len(form.body))
		}
	}
	if found != 1 {
		t.Errorf("%s %s reached the upstream %d times, want once", method, target, found)
	}
}

// TestCredentialHeadersMayBeSpeltInAnyCase: none of the spellings gets past the proxy.
func TestCredentialHeadersMayBeSpeltInAnyCase(t *testing.T) {
	upstream, p, made := startFusion(t)
	for _, names := range [][2]string{{"X-Key", "X-Secret"}, {"X-key", "X-secret"}, {"X-KEY", "X-SECRET"}, {"x-key", "x-secret"}} {
		newFusionClient(p, made, names[0], names[1]).pipeline(t)
	}
	if arrived := upstream.arrivals(""); len(arrived) != 4 {
		t.Errorf("%d requests reached the upstream, want 4", len(arrived))
	}
	upstream.expectNoCredential(t, made)
}

// TestGetWithABodyIsForwarded: one client asks for the availability with a form.
func TestGetWithABodyIsForwarded(t *testing.T) {
	upstream, p, made := startFusion(t)
	c := newFusionClient(p, made, "X-Key", "X-Secret")
	for target, form := range map[string]fusionForm{
		fusionAPI + "text2image/availability":                         newFusionForm(t, "", map[string]string{"model_id": "4"}, nil),
		fusionAPI + "pipeline/" + c.pipeline(t) + "/availability?x=y": newFusionForm(t, "{}", nil, nil),
	} {
		got := c.call(t, "GET", target, form)
		if got.status != http.StatusOK || !strings.Contains(string(got.body), `"ACTIVE"`) {
			t.Errorf("GET %s: %d %s", target, got.status, got.body)
		}
		expectArrival(t, upstream, "GET", target, form)
	}
}

// TestFinishedPictureIsFetchedOnceAndByTheClientAlone: a result is handed out once, so a
// request that the proxy made by itself would lose it.
func TestFinishedPictureIsFetchedOnceAndByTheClientAlone(t *testing.T) {
	upstream, p, made := startFusion(t)
	c := newFusionClient(p, made, "X-Key", "X-Secret")
	form := newFusionForm(t, fusionParams, map[string]string{"pipeline_id": c.pipeline(t)}, nil)
	var accepted fusionStatus
	c.call(t, "POST", fusionAPI+"pipeline/run", form).decode(t, &accepted)

	picture, asked := c.finished(t, accepted.UUID)
	expectPicture(t, picture, 320, 256)
	again := c.call(t, "GET", fusionAPI+"pipeline/status/"+accepted.UUID, fusionForm{})
	if again.status != http.StatusNotFound {
		t.Errorf("the second time: %d %.200s, want the upstream's 404", again.status, again.body)
	}
	if arrived := upstream.arrivals("pipeline/status/"); len(arrived) != asked+1 {
		t.Errorf("the client asked %d times, the upstream was asked %d times", asked+1, len(arrived))
	}
}

// TestRunIsSentOnceWhenItsConnectionBreaks: the connection was used before, which is when
// net/http likes to try again.
func TestRunIsSentOnceWhenItsConnectionBreaks(t *testing.T) {
	upstream := newWitness(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/run") {
			closeConnection(t, w)
		}
	}))
	p := startServe(t, upstream.URL, command{})
	c := newFusionClient(p, p.client(t).create(t, ""), "X-Key", "X-Secret")
	for _, form := range []fusionForm{newFusionForm(t, fusionParams, nil, nil), {}} {
		c.call(t, "GET", fusionAPI+"models", fusionForm{})
		got := c.call(t, "POST", fusionAPI+"pipeline/run", form)
		if got.status != http.StatusBadGateway || got.header.Get("X-Should-Retry") != "false" {
			t.Errorf("a body of %d bytes: %d %v", len(form.body), got.status, got.header)
		}
	}
	if arrived := upstream.arrivals("/run"); len(arrived) != 2 {
		t.Errorf("2 runs were sent, %d reached the upstream", len(arrived))
	}
}

// TestErrorsOfBothSidesHaveTheMembersThatFusionBrainClientsRead: the upstream's pass as
// they are, ours look like them.
func TestErrorsOfBothSidesHaveTheMembersThatFusionBrainClientsRead(t *testing.T) {
	_, p, made := startFusion(t)
	run := fusionAPI + "pipeline/run?pipeline_id=" + url.QueryEscape("none such")
	for name, test := range map[string]struct {
		client fusionClient
		form   fusionForm
		status int
	}{
		"theirs": {newFusionClient(p, made, "X-Key", "X-Secret"), fusionForm{"application/json", []byte(fusionParams)}, 415},
		"ours":   {newFusionClient(p, withOtherSecret(t, made), "X-Key", "X-Secret"), newFusionForm(t, fusionParams, nil, nil), 401},
	} {
		got := test.client.call(t, "POST", run, test.form)
		var body map[string]json.RawMessage
		got.decode(t, &body)
		for _, member := range []string{"timestamp", "status", "error", "message", "path"} {
			if got.status != test.status || body[member] == nil {
				t.Errorf("%s: %d %s, want %d with a member %s", name, got.status, got.body, test.status, member)
			}
		}
	}
}
