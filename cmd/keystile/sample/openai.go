package sample

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	maxPrompt   = 4000 // characters of an OpenAI-style prompt
	imageModel  = "sample-picture"
	textModel   = "sample-text"
	speechModel = "sample-speech"
)

func (s *service) openAIModels(w http.ResponseWriter, _ *http.Request) {
	list := []map[string]any{}
	for _, id := range [...]string{imageModel, textModel, speechModel} {
		list = append(list, map[string]any{"id": id, "object": "model", "created": 1735689600, "owned_by": "sample"})
	}
	writeJSON(w, http.StatusOK, map[string]any{"object": "list", "data": list})
}

// imageRequest is the body of /v1/images/generations. Every other field,
// response_format included, is ignored: the answer is always b64_json.
type imageRequest struct {
	Prompt string `json:"prompt"`
	N      *int   `json:"n"`
	Size   string `json:"size"`
}

func (s *service) images(w http.ResponseWriter, r *http.Request) {
	o, err := readImageRequest(r)
	if err != nil {
		refuse(w, r, err)
		return
	}
	if s.Wait(r.Context(), s.RenderDelay) != nil || s.enter(r.Context()) != nil {
		return // the client has left
	}
	files, err := s.draw(o)
	s.leave()
	if err != nil {
		refuse(w, r, err)
		return
	}
	data := make([]map[string]string, len(files))
	for i, file := range files {
		data[i] = map[string]string{"b64_json": file}
	}
	writeJSON(w, http.StatusOK, map[string]any{"created": s.Now().Unix(), "data": data})
}

func readImageRequest(r *http.Request) (order, error) {
	var in imageRequest
	if err := readJSON(r, &in); err != nil {
		return order{}, err
	}
	if err := checkText("prompt", in.Prompt); err != nil {
		return order{}, err
	}
	o := order{prompt: in.Prompt, count: either(in.N, 1)}
	if err := inRange("n", o.count, 1, maxImages); err != nil {
		return order{}, err
	}
	var err error
	o.width, o.height, err = parseSize(in.Size)
	return o, err
}

// parseSize reads "WIDTHxHEIGHT"; nothing or "auto" is 1024 by 1024.
func parseSize(size string) (width, height int, err error) {
	if size == "" || size == "auto" {
		return defaultSide, defaultSide, nil
	}
	w, h, _ := strings.Cut(size, "x")
	width, errW := strconv.Atoi(w)
	height, errH := strconv.Atoi(h)
	if errW != nil || errH != nil || min(width, height) < minSide || max(width, height) > maxSide {
		return 0, 0, refusal{http.StatusBadRequest, fmt.Sprintf(
			"size is '%s': expected WIDTHxHEIGHT, each %d to %d, or auto", size, minSide, maxSide)}
	}
	return width, height, nil
}

// readJSON reads the body as one JSON object, whatever its declared type: the
// type that curl -d declares is wrong, and harmless here.
func readJSON(r *http.Request, into any) error {
	data, err := readBody(r)
	if err != nil {
		return err
	}
	return decodeJSON("The body", data, into)
}

// checkText refuses an empty or overlong text of the named field.
func checkText(name, text string) error {
	long := utf8.RuneCountInString(text)
	switch {
	case strings.TrimSpace(text) == "":
		return refusal{http.StatusBadRequest, fmt.Sprintf("'%s' is missing or empty", name)}
	case long > maxPrompt:
		return refusal{http.StatusBadRequest, fmt.Sprintf(
			"'%s' has %d characters: at most %d are allowed", name, long, maxPrompt)}
	}
	return nil
}

// writeOpenAIError answers in the shape that OpenAI's clients read.
func writeOpenAIError(w http.ResponseWriter, why refusal) {
	kind, code := "invalid_request_error", "invalid_request"
	switch {
	case why.status == http.StatusNotFound:
		code = "not_found"
	case why.status == http.StatusNotImplemented:
		kind, code = "api_error", "not_implemented"
	case why.status >= http.StatusInternalServerError:
		kind, code = "api_error", "internal_error"
	}
	writeJSON(w, why.status, map[string]any{"error": map[string]any{
		"message": why.message, "type": kind, "param": nil, "code": code,
	}})
}
