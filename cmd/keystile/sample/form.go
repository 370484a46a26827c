package sample

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"
	"unicode/utf8"
)

const (
	maxQuery    = 1000 // characters of a FusionBrain query
	maxField    = 1 << 10
	maxParams   = 64 << 10
	defaultSide = 1024
)

// form is the multipart body of a run.
type form struct {
	targets map[string]string // model_id, pipeline_id
	params  []byte            // nil: the part is missing
}

// readForm reads a run's body part by part; files are read and dropped.
func readForm(r *http.Request) (form, error) {
	f := form{targets: make(map[string]string)}
	parts, err := multipartReader(r)
	if err != nil {
		return f, err
	}
	for {
		part, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			return f, nil
		}
		if err == nil {
			err = f.readPart(part)
		}
		if err != nil {
			return f, partRefusal(err)
		}
	}
}

func (f *form) readPart(part *multipart.Part) error {
	switch name := part.FormName(); name {
	case "params":
		if err := requireJSON(part.Header.Get("Content-Type")); err != nil {
			return err
		}
		data, err := readPart(part, name, maxParams)
		f.params = data
		return err
	case "model_id", "pipeline_id":
		data, err := readPart(part, name, maxField)
		f.targets[name] = strings.TrimSpace(string(data))
		return err
	default:
		_, err := io.Copy(io.Discard, part)
		return err
	}
}

func readPart(part io.Reader, name string, limit int) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(part, int64(limit)+1))
	if err != nil {
		return nil, err
	}
	if len(data) > limit {
		return nil, refusal{http.StatusBadRequest, fmt.Sprintf("The part '%s' is larger than %d bytes", name, limit)}
	}
	return data, nil
}

func partRefusal(err error) error {
	var known refusal
	if errors.As(err, &known) {
		return known
	}
	return bodyRefusal(err)
}

func multipartReader(r *http.Request) (*multipart.Reader, error) {
	kind := r.Header.Get("Content-Type")
	media, params, err := mime.ParseMediaType(kind)
	switch {
	case kind == "":
		return nil, refusal{
			http.StatusUnsupportedMediaType,
			"The request has no Content-Type: send multipart/form-data with a part 'params'",
		}
	case err != nil || media != "multipart/form-data":
		return nil, refusal{http.StatusUnsupportedMediaType, fmt.Sprintf(
			"Content-Type '%s' is not supported: send multipart/form-data, with the JSON in a part 'params' of type application/json", kind)}
	case params["boundary"] == "":
		return nil, refusal{
			http.StatusBadRequest,
			"The Content-Type multipart/form-data has no boundary: let your HTTP library set this header",
		}
	}
	return multipart.NewReader(r.Body, params["boundary"]), nil
}

func requireJSON(kind string) error {
	media, _, _ := mime.ParseMediaType(kind)
	switch {
	case media == "application/json":
		return nil
	case kind == "":
		return refusal{
			http.StatusUnsupportedMediaType,
			"The part 'params' has no Content-Type: it must be application/json",
		}
	default:
		return refusal{http.StatusUnsupportedMediaType, fmt.Sprintf(
			"The part 'params' has the Content-Type '%s': it must be application/json", kind)}
	}
}

// params is the JSON of a run. What it leaves out has a default; what is
// unknown to us is allowed.
type params struct {
	Type           string `json:"type"`
	NumImages      *int   `json:"numImages"`
	Width          *int   `json:"width"`
	Height         *int   `json:"height"`
	GenerateParams struct {
		Query string `json:"query"`
	} `json:"generateParams"`
}

// order checks the params and returns what is to be drawn.
func (f form) order() (order, error) {
	if f.params == nil {
		return order{}, refusal{http.StatusBadRequest, "Required part 'params' is not present."}
	}
	var p params
	if err := decodeJSON("The part 'params'", f.params, &p); err != nil {
		return order{}, err
	}
	o := order{
		prompt: p.GenerateParams.Query,
		width:  either(p.Width, defaultSide),
		height: either(p.Height, defaultSide),
		count:  either(p.NumImages, 1),
	}
	if p.Type != "" && p.Type != "GENERATE" {
		return o, refusal{http.StatusBadRequest, fmt.Sprintf("params.type is '%s': only GENERATE is known", p.Type)}
	}
	return o, o.check()
}

func (o order) check() error {
	long := utf8.RuneCountInString(o.prompt)
	switch {
	case strings.TrimSpace(o.prompt) == "":
		return refusal{http.StatusBadRequest, "params.generateParams.query is missing or empty"}
	case long > maxQuery:
		return refusal{http.StatusBadRequest, fmt.Sprintf(
			"params.generateParams.query has %d characters: at most %d are allowed", long, maxQuery)}
	}
	return cmp.Or(
		inRange("params.width", o.width, minSide, maxSide),
		inRange("params.height", o.height, minSide, maxSide),
		inRange("params.numImages", o.count, 1, maxImages),
	)
}

func inRange(name string, got, from, to int) error {
	if got < from || got > to {
		return refusal{http.StatusBadRequest, fmt.Sprintf("%s is %d: expected %d to %d", name, got, from, to)}
	}
	return nil
}

func either(v *int, fallback int) int {
	if v == nil {
		return fallback
	}
	return *v
}
