package sample

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"
)

const (
	fusionBase = "/key/api/v1/"
	modelID    = "4"
	pipelineID = "6a1c2f52-90d7-4f0b-8a3e-3f5d0c7b9e14"
	textToPict = "TEXT2IMAGE"
	active     = "ACTIVE"
	tooBusy    = "DISABLED_BY_QUEUE"
)

func (s *service) listModels(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, []map[string]any{{
		// A version is a floating-point number on the wire, even a whole one.
		"id": json.Number(modelID), "name": "Kandinsky", "version": json.Number("3.0"), "type": textToPict,
	}})
}

func (s *service) listPipelines(w http.ResponseWriter, r *http.Request) {
	list := []map[string]any{}
	if kind := r.URL.Query().Get("type"); kind == "" || kind == textToPict {
		list = append(list, map[string]any{
			"id": pipelineID, "name": "Kandinsky", "nameEn": "Kandinsky",
			"description": "Sample pictures", "descriptionEn": "Sample pictures",
			"version": json.Number("3.1"), "status": active, "type": textToPict, "tags": []string{},
		})
	}
	writeJSON(w, http.StatusOK, list)
}

// modelAvailability takes a missing model_id for the only model there is: some
// clients put it in the body of this GET.
func (s *service) modelAvailability(w http.ResponseWriter, r *http.Request) {
	if id := r.URL.Query().Get("model_id"); id != "" && id != modelID {
		refuse(w, r, unknownModel(id))
		return
	}
	writeJSON(w, http.StatusOK, map[string]string{"model_status": s.availability()})
}

func (s *service) availability() string {
	if s.jobs.busy(s.Now()) {
		return tooBusy
	}
	return active
}

// pipelineChild serves pipeline/status/{uuid} and pipeline/{id}/availability.
func (s *service) pipelineChild(w http.ResponseWriter, r *http.Request) {
	first, second := r.PathValue("first"), r.PathValue("second")
	switch {
	case first == "status":
		s.status(w, r, secondGeneration, second)
	case second != "availability":
		s.notFound(w, r)
	case first != pipelineID:
		refuse(w, r, unknownPipeline(first))
	default:
		writeJSON(w, http.StatusOK, map[string]string{"status": s.availability()})
	}
}

func (s *service) runFirst(w http.ResponseWriter, r *http.Request) {
	f, err := readForm(r)
	if err == nil {
		err = checkTarget("model_id", f.targets["model_id"], modelID, unknownModel)
	}
	if err != nil {
		refuse(w, r, err)
		return
	}
	if id, ok := s.accept(w, r, firstGeneration, f); ok {
		writeJSON(w, http.StatusOK, map[string]any{"uuid": id, "status": stateInitial})
	}
}

func (s *service) runSecond(w http.ResponseWriter, r *http.Request) {
	f, err := readForm(r)
	if err == nil {
		target := f.targets["pipeline_id"]
		if target == "" {
			target = r.URL.Query().Get("pipeline_id")
		}
		err = checkTarget("pipeline_id", target, pipelineID, unknownPipeline)
	}
	if err != nil {
		refuse(w, r, err)
		return
	}
	if id, ok := s.accept(w, r, secondGeneration, f); ok {
		writeJSON(w, http.StatusCreated, map[string]any{
			"uuid": id, "status": stateInitial, "status_time": s.seconds(),
		})
	}
}

// seconds is how long a generation takes, in whole seconds and at least one:
// clients wait that long before they ask for the first time.
func (s *service) seconds() int {
	return max(int(math.Ceil(s.RenderDelay.Seconds())), 1)
}

func checkTarget(name, got, want string, unknown func(string) refusal) error {
	switch got {
	case want:
		return nil
	case "":
		return refusal{http.StatusBadRequest, fmt.Sprintf("Required parameter '%s' is not present.", name)}
	default:
		return unknown(got)
	}
}

func unknownModel(id string) refusal {
	return refusal{http.StatusNotFound, fmt.Sprintf("Model '%s' does not exist: GET %smodels lists them", id, fusionBase)}
}

func unknownPipeline(id string) refusal {
	return refusal{http.StatusNotFound, fmt.Sprintf("Pipeline '%s' does not exist: GET %spipelines lists them", id, fusionBase)}
}

// accept queues the job of a form. When it cannot, it has answered.
func (s *service) accept(w http.ResponseWriter, r *http.Request, made generation, f form) (string, bool) {
	o, err := f.order()
	if err != nil {
		refuse(w, r, err)
		return "", false
	}
	id, ok := s.jobs.add(made, o, s.Now())
	if !ok {
		writeJSON(w, http.StatusOK, map[string]string{"model_status": tooBusy})
		return "", false
	}
	s.Log.Debug("generation accepted", "uuid", id, "width", o.width, "height", o.height, "count", o.count)
	return id, true
}

func (s *service) statusFirst(w http.ResponseWriter, r *http.Request) {
	s.status(w, r, firstGeneration, r.PathValue("uuid"))
}

// status answers with the state of a job. A GET that finds it done gets the
// pictures and ends it; a HEAD never does.
func (s *service) status(w http.ResponseWriter, r *http.Request, made generation, id string) {
	found, at, ok := s.jobs.look(made, id, s.Now())
	var files []string
	if ok && at == stateDone && r.Method == http.MethodGet {
		var err error
		if files, ok, err = s.collect(r.Context(), made, id); err != nil {
			refuse(w, r, err)
			return
		}
	}
	if !ok {
		refuse(w, r, refusal{http.StatusNotFound, fmt.Sprintf(
			"Generation '%s' does not exist: it never did, has expired, or its result was fetched before (each can be fetched once)", id)})
		return
	}
	writeJSON(w, http.StatusOK, s.statusBody(found, at, files))
}

func (s *service) statusBody(of job, at state, files []string) map[string]any {
	body := map[string]any{"uuid": of.id, "status": at, "errorDescription": nil}
	if at == stateFail {
		body["errorDescription"], _ = of.failure()
	}
	if at == stateDone {
		body["generationTime"] = s.seconds()
	}
	if of.made == firstGeneration {
		body["images"], body["censored"] = files, false
		return body
	}
	body["result"] = nil
	if at == stateDone {
		body["result"] = map[string]any{"files": files, "censored": false}
	}
	return body
}

// collect takes the job and draws its pictures. The job is taken last: a client
// that leaves while it waits for its turn loses nothing.
func (s *service) collect(ctx context.Context, made generation, id string) ([]string, bool, error) {
	if err := s.enter(ctx); err != nil {
		return nil, false, err
	}
	defer s.leave()
	taken, ok := s.jobs.take(made, id, s.Now())
	if !ok {
		return nil, false, nil
	}
	files, err := s.draw(taken.order)
	return files, true, err
}

// enter waits for one of the few places where pictures are drawn.
func (s *service) enter(ctx context.Context) error {
	select {
	case s.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting to draw: %w", ctx.Err())
	}
}

func (s *service) leave() { <-s.slots }

// draw returns the pictures of o as base64.
func (s *service) draw(o order) ([]string, error) {
	files := make([]string, o.count)
	for i := range files {
		data, err := s.painter.picture(o, i)
		if err != nil {
			return nil, err
		}
		files[i] = base64.StdEncoding.EncodeToString(data)
	}
	return files, nil
}

// missingRoute says why no call is at a path, in the words of the mistakes that
// clients are known to make.
func missingRoute(path string) string {
	for _, prefix := range [...]string{fusionBase + "text2image/status", fusionBase + "pipeline/status"} {
		rest, ok := strings.CutPrefix(path, prefix)
		switch {
		case !ok:
		case strings.Trim(rest, "/") == "":
			return fmt.Sprintf("The uuid is missing: expected %s/{uuid}", prefix)
		case !strings.HasPrefix(rest, "/"):
			return fmt.Sprintf("A slash is missing before the uuid: expected %s/%s", prefix, rest)
		}
	}
	return fmt.Sprintf("No call is at '%s'", path)
}

// writeSpringError answers in the shape of Spring Boot's error attributes.
func writeSpringError(w http.ResponseWriter, r *http.Request, why refusal) {
	writeJSON(w, why.status, map[string]any{
		"timestamp": time.Now().UTC().Format("2006-01-02T15:04:05.000Z07:00"),
		"status":    why.status,
		"error":     http.StatusText(why.status),
		"message":   why.message,
		"path":      r.URL.Path,
	})
}
