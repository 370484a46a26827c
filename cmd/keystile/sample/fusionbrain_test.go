package sample

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"image/png"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// formPart is one part of a multipart body; an empty kind leaves the type out.
type formPart struct{ name, kind, file, body string }

func paramsPart(json string) formPart {
	return formPart{name: "params", kind: "application/json", body: json}
}

func multipartBody(t *testing.T, parts ...formPart) (string, []byte) {
	t.Helper()
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	for _, p := range parts {
		header := textproto.MIMEHeader{}
		disposition := fmt.Sprintf(`form-data; name=%q`, p.name)
		if p.file != "" {
			disposition += fmt.Sprintf(`; filename=%q`, p.file)
		}
		header.Set("Content-Disposition", disposition)
		if p.kind != "" {
			header.Set("Content-Type", p.kind)
		}
		part, err := w.CreatePart(header)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := part.Write([]byte(p.body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return w.FormDataContentType(), body.Bytes()
}

// run posts a generation and returns its uuid.
func (u upstream) run(made generation, prompt string) string {
	u.t.Helper()
	params := paramsPart(fmt.Sprintf(`{"type":"GENERATE","numImages":1,"width":64,"height":64,"generateParams":{"query":%q}}`, prompt))
	target, path, status := formPart{name: "model_id", body: modelID}, "text2image/run", 200
	if made == secondGeneration {
		target, path, status = formPart{name: "pipeline_id", body: pipelineID}, "pipeline/run", 201
	}
	kind, body := multipartBody(u.t, params, target)
	got := u.send("POST", fusionBase+path, kind, bytes.NewReader(body)).object(u.t, status)
	id, _ := got["uuid"].(string)
	if got["status"] != "INITIAL" || !regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(id) {
		u.t.Fatalf("run replied %v", got)
	}
	return id
}

func statusPath(made generation, id string) string {
	if made == secondGeneration {
		return fusionBase + "pipeline/status/" + id
	}
	return fusionBase + "text2image/status/" + id
}

func TestModelsAndPipelinesAreListedAsOnTheWire(t *testing.T) {
	u := start(t, Options{})
	want := `[{"id":4,"name":"Kandinsky","type":"TEXT2IMAGE","version":3.0}]`
	if got := strings.TrimSpace(string(u.get(fusionBase + "models").body)); got != want {
		t.Errorf("models: %s", got)
	}
	for query, count := range map[string]int{"": 1, "?type=TEXT2IMAGE": 1, "?type=OTHER": 0} {
		body := u.get(fusionBase + "pipelines" + query).body
		if got := bytes.Count(body, []byte(pipelineID)); got != count || body[0] != '[' {
			t.Errorf("pipelines%s: %s", query, body)
		}
	}
}

func TestAvailabilityIgnoresTheBodyOfAGet(t *testing.T) {
	u := start(t, Options{})
	kind, body := multipartBody(t, formPart{name: "model_id", body: "4"})
	for path, word := range map[string]string{
		"text2image/availability?model_id=4":            "model_status",
		"text2image/availability":                       "model_status",
		"pipeline/" + pipelineID + "/availability":      "status",
		"pipeline/" + pipelineID + "/availability?a=b":  "status",
		"/pipeline/" + pipelineID + "/availability?a=b": "status",
	} {
		got := u.send("GET", fusionBase+path, kind, bytes.NewReader(body)).object(t, 200)
		if got[word] != "ACTIVE" {
			t.Errorf("%s: %v", path, got)
		}
	}
	u.get(fusionBase+"text2image/availability?model_id=5").object(t, 404)
	u.get(fusionBase+"pipeline/5/availability").object(t, 404)
}

func TestGenerationGoesThroughItsStatusesAndEndsInAPicture(t *testing.T) {
	for _, made := range []generation{firstGeneration, secondGeneration} {
		now := newClock()
		u := start(t, Options{Now: now.Now, RenderDelay: 3500 * time.Millisecond})
		id := u.run(made, "a fox")
		for _, want := range []string{"INITIAL", "PROCESSING", "PROCESSING", "PROCESSING"} {
			got := u.get(statusPath(made, id)).object(t, 200)
			if got["status"] != want || got["uuid"] != id || got["images"] != nil || got["result"] != nil {
				t.Fatalf("generation %d: %v, want %s", made, got, want)
			}
			now.advance(900 * time.Millisecond)
		}
		got := u.get(statusPath(made, id)).object(t, 200)
		if got["status"] != "DONE" || got["generationTime"] != 4.0 || got["errorDescription"] != nil {
			t.Fatalf("generation %d: %v", made, got["status"])
		}
		checkFiles(t, made, got)
		u.get(statusPath(made, id)).object(t, 404)
	}
}

func checkFiles(t *testing.T, made generation, got map[string]any) {
	t.Helper()
	result, files := got, "images"
	if made == secondGeneration {
		result, files = got["result"].(map[string]any), "files"
	}
	list, _ := result[files].([]any)
	if len(list) != 1 || result["censored"] != false {
		t.Fatalf("generation %d: %v", made, result)
	}
	data, err := base64.StdEncoding.DecodeString(list[0].(string))
	if err != nil {
		t.Fatal(err)
	}
	picture, err := png.Decode(bytes.NewReader(data))
	if err != nil || picture.Bounds().Dx() != 64 || picture.Bounds().Dy() != 64 {
		t.Fatalf("picture: %v", err)
	}
}

func TestSecondGenerationTakesThePipelineFromFormOrQuery(t *testing.T) {
	u := start(t, Options{RenderDelay: 3500 * time.Millisecond})
	params := formPart{name: "params", kind: "application/json; charset=utf-8", file: "params.json", body: `{"type":"GENERATE","generateParams":{"query":"a"},"style":"ANIME"}`}
	field := formPart{name: "pipeline_id", body: pipelineID + "\n"}
	upload := formPart{name: "file", file: "in.png", kind: "image/png", body: "\x89PNG"}
	for name, c := range map[string]struct {
		query string
		parts []formPart
	}{
		"form field":           {"", []formPart{field, params}},
		"params first":         {"", []formPart{params, field}},
		"query":                {"?pipeline_id=" + pipelineID, []formPart{params}},
		"with files":           {"", []formPart{upload, params, field, upload}},
		"query, and a file":    {"?pipeline_id=" + pipelineID, []formPart{params, upload}},
		"unknown field beside": {"", []formPart{params, field, {name: "other", body: "x"}}},
	} {
		kind, body := multipartBody(t, c.parts...)
		got := u.send("POST", fusionBase+"pipeline/run"+c.query, kind, bytes.NewReader(body)).object(t, 201)
		if got["status"] != "INITIAL" || got["status_time"] != 4.0 || got["uuid"] == nil {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestFinishedPictureIsHandedOutOnceUnderConcurrency(t *testing.T) {
	u := start(t, Options{RenderDelay: -1})
	for _, made := range []generation{firstGeneration, secondGeneration} {
		id := u.run(made, "one of a kind")
		var got, missing atomic.Int32
		var group sync.WaitGroup
		for range 40 {
			group.Go(func() {
				response, err := u.client.Get(u.url + statusPath(made, id))
				if err != nil {
					t.Error(err)
					return
				}
				defer response.Body.Close()
				switch response.StatusCode {
				case 200:
					got.Add(1)
				case 404:
					missing.Add(1)
				}
			})
		}
		group.Wait()
		if got.Load() != 1 || missing.Load() != 39 {
			t.Errorf("generation %d: %d got it, %d were told it is gone", made, got.Load(), missing.Load())
		}
	}
}

func TestHeadDoesNotUseUpAPicture(t *testing.T) {
	u := start(t, Options{RenderDelay: -1})
	id := u.run(firstGeneration, "a")
	for range 3 {
		if got := u.send("HEAD", statusPath(firstGeneration, id), "", nil); got.status != 200 || len(got.body) != 0 {
			t.Fatalf("HEAD: %d", got.status)
		}
	}
	checkFiles(t, firstGeneration, u.get(statusPath(firstGeneration, id)).object(t, 200))
	if got := u.send("HEAD", statusPath(firstGeneration, id), "", nil); got.status != 404 {
		t.Errorf("HEAD after the fetch: %d", got.status)
	}
}

func TestOneGenerationDoesNotSeeTheJobsOfTheOther(t *testing.T) {
	now := newClock()
	u := start(t, Options{Now: now.Now, RenderDelay: time.Second})
	id := u.run(firstGeneration, "a")
	for _, want := range []string{"INITIAL", "DONE"} {
		u.get(statusPath(secondGeneration, id)).object(t, 404)
		if got := u.get(statusPath(firstGeneration, id)).object(t, 200); got["status"] != want {
			t.Errorf("%v, want %s", got["status"], want)
		}
		now.advance(time.Second)
	}
}

func TestClientThatLeavesWhileWaitingForItsTurnLosesNothing(t *testing.T) {
	u := start(t, Options{RenderDelay: -1})
	id := u.run(firstGeneration, "a")
	for range cap(u.service.slots) {
		u.service.slots <- struct{}{} // every place to draw is taken
	}
	ctx, leave := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		request, _ := http.NewRequestWithContext(ctx, "GET", "/", nil)
		recorder := newDiscard()
		u.service.status(recorder, request, firstGeneration, id)
	}()
	leave()
	<-ended
	for range cap(u.service.slots) {
		u.service.leave()
	}
	checkFiles(t, firstGeneration, u.get(statusPath(firstGeneration, id)).object(t, 200))
}

// discard is a ResponseWriter for a client that has gone.
type discard struct{ header http.Header }

func newDiscard() discard                        { return discard{http.Header{}} }
func (d discard) Header() http.Header            { return d.header }
func (d discard) Write(data []byte) (int, error) { return len(data), nil }
func (d discard) WriteHeader(int)                {}

func TestFullQueueSaysBusyUntilAJobIsDone(t *testing.T) {
	now := newClock()
	u := start(t, Options{Now: now.Now, RenderDelay: time.Second, QueueSize: 2})
	u.run(firstGeneration, "a")
	now.advance(time.Second / 2)
	u.run(secondGeneration, "b")
	kind, body := multipartBody(t, paramsPart(`{"generateParams":{"query":"a"}}`),
		formPart{name: "pipeline_id", body: pipelineID}, formPart{name: "model_id", body: modelID})
	for _, path := range []string{"text2image/run", "pipeline/run"} {
		got := u.send("POST", fusionBase+path, kind, bytes.NewReader(body)).object(t, 200)
		if got["model_status"] != "DISABLED_BY_QUEUE" || got["uuid"] != nil {
			t.Errorf("%s: %v", path, got)
		}
	}
	if got := u.get(fusionBase+"text2image/availability?model_id=4").object(t, 200); got["model_status"] != "DISABLED_BY_QUEUE" {
		t.Errorf("availability: %v", got)
	}
	now.advance(time.Second / 2)
	u.run(secondGeneration, "c")
}

func TestResultsExpireAndAreBoundedInNumber(t *testing.T) {
	now := newClock()
	u := start(t, Options{Now: now.Now, RenderDelay: -1, ResultTTL: time.Minute, QueueSize: 1, MaxResults: 3})
	var ids []string
	for i := range 5 {
		ids = append(ids, u.run(firstGeneration, fmt.Sprint(i)))
	}
	for i, want := range []int{404, 404, 200} {
		if got := u.get(statusPath(firstGeneration, ids[i])); got.status != want {
			t.Errorf("job %d of 5, with room for 3: %d, want %d", i, got.status, want)
		}
	}
	now.advance(time.Minute - 1)
	u.get(statusPath(firstGeneration, ids[3])).object(t, 200)
	now.advance(1)
	u.get(statusPath(firstGeneration, ids[4])).object(t, 404)
	if kept := u.service.jobs.list.Len() + len(u.service.jobs.byID); kept != 0 {
		t.Errorf("%d entries are kept", kept)
	}
}

func TestPromptThatAsksToFailFailsAndStays(t *testing.T) {
	u := start(t, Options{RenderDelay: -1})
	for _, made := range []generation{firstGeneration, secondGeneration} {
		id := u.run(made, "fail: no more ink")
		for range 2 {
			got := u.get(statusPath(made, id)).object(t, 200)
			if got["status"] != "FAIL" || got["errorDescription"] != "no more ink" || got["images"] != nil || got["result"] != nil {
				t.Errorf("generation %d: %v", made, got)
			}
		}
	}
}

func TestCommonMistakesGetPreciseMessages(t *testing.T) {
	u := start(t, Options{})
	model := formPart{name: "model_id", body: modelID}
	query := func(more string) formPart {
		return paramsPart(`{"generateParams":{"query":"a"}` + more + `}`)
	}
	long := paramsPart(`{"generateParams":{"query":"` + strings.Repeat("ж", 1001) + `"}}`)
	for _, c := range []struct {
		name    string
		parts   []formPart
		status  int
		message string
	}{
		{"no params", []formPart{model}, 400, "Required part 'params' is not present."},
		{"no model_id", []formPart{query("")}, 400, "Required parameter 'model_id' is not present."},
		{"unknown model", []formPart{query(""), {name: "model_id", body: "7"}}, 404, "Model '7' does not exist"},
		{"params without type", []formPart{model, {name: "params", body: "{}"}}, 415, "'params' has no Content-Type"},
		{"params as text", []formPart{model, {name: "params", kind: "text/plain", body: "{}"}}, 415, "'params' has the Content-Type 'text/plain'"},
		{"params not JSON", []formPart{model, paramsPart("query=a")}, 400, "'params' is not the JSON object expected"},
		{"params cut off", []formPart{model, paramsPart(`{"generateParams":`)}, 400, "unexpected end of JSON input"},
		{"params empty", []formPart{model, paramsPart(" ")}, 400, "'params' is empty"},
		{"two values", []formPart{model, paramsPart(`{} {}`)}, 400, "after top-level value"},
		{"width as text", []formPart{model, query(`,"width":"big"`)}, 400, "'width' cannot be a string"},
		{"no query", []formPart{model, paramsPart(`{}`)}, 400, "generateParams.query is missing or empty"},
		{"query too long", []formPart{model, long}, 400, "has 1001 characters: at most 1000"},
		{"params too large", []formPart{model, paramsPart(strings.Repeat(" ", maxParams+1))}, 400, "'params' is larger than"},
		{"width", []formPart{model, query(`,"width":63`)}, 400, "params.width is 63: expected 64 to 1536"},
		{"height", []formPart{model, query(`,"height":1537`)}, 400, "params.height is 1537: expected 64 to 1536"},
		{"numImages", []formPart{model, query(`,"numImages":5`)}, 400, "params.numImages is 5: expected 1 to 4"},
		{"type", []formPart{model, query(`,"type":"ERASE"`)}, 400, "params.type is 'ERASE'"},
	} {
		kind, body := multipartBody(t, c.parts...)
		got := u.send("POST", fusionBase+"text2image/run", kind, bytes.NewReader(body)).object(t, c.status)
		message, _ := got["message"].(string)
		if !strings.Contains(message, c.message) || got["error"] != http.StatusText(c.status) || got["path"] != fusionBase+"text2image/run" {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestRequestsThatAreNotFormsGetPreciseMessages(t *testing.T) {
	u := start(t, Options{})
	for _, c := range []struct {
		method, path, kind, body string
		status                   int
		message                  string
	}{
		{"POST", "text2image/run", "application/json", "{}", 415, "'application/json' is not supported: send multipart/form-data"},
		{"POST", "pipeline/run", "application/x-www-form-urlencoded", "a=b", 415, "send multipart/form-data"},
		{"POST", "pipeline/run", "", "{}", 415, "has no Content-Type"},
		{"POST", "pipeline/run", "multipart/form-data", "x", 400, "no boundary"},
		{"POST", "pipeline/run", "multipart/form-data; boundary=b", "--b\r\nContent-Disp", 400, "could not be read"},
		{"GET", "text2image/status4a7b", "", "", 404, "A slash is missing before the uuid: expected /key/api/v1/text2image/status/4a7b"},
		{"GET", "pipeline/status4a7b", "", "", 404, "A slash is missing before the uuid: expected /key/api/v1/pipeline/status/4a7b"},
		{"GET", "pipeline/status/", "", "", 404, "The uuid is missing"},
		{"GET", "text2image/status/4a7b", "", "", 404, "can be fetched once"},
	} {
		got := u.send(c.method, fusionBase+c.path, c.kind, strings.NewReader(c.body)).object(t, c.status)
		if message, _ := got["message"].(string); !strings.Contains(message, c.message) {
			t.Errorf("%s %s: %v", c.method, c.path, got)
		}
	}
}
