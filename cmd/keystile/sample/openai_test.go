package sample

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"image/png"
	"strings"
	"testing"
	"time"
)

func TestModelsAreListedAsOpenAIDoes(t *testing.T) {
	got := start(t, Options{}).get("/v1/models").object(t, 200)
	list, _ := got["data"].([]any)
	if got["object"] != "list" || len(list) != 3 || list[0].(map[string]any)["id"] == "" {
		t.Errorf("%v", got)
	}
}

func TestImagesComeAsBase64PicturesOfTheSizeAsked(t *testing.T) {
	u := start(t, Options{RenderDelay: -1})
	for body, want := range map[string]struct{ count, width, height int }{
		`{"prompt":"a cat"}`:                                                       {1, 1024, 1024},
		`{"prompt":"a cat","size":"auto","n":null}`:                                {1, 1024, 1024},
		`{"prompt":"a cat","size":"96x64","n":4,"model":"x","quality":"hd"}`:       {4, 96, 64},
		`{"prompt":"кот","size":"64x128","response_format":"url","user":"nobody"}`: {1, 64, 128},
	} {
		got := u.postJSON("/v1/images/generations", body).object(t, 200)
		list, _ := got["data"].([]any)
		if len(list) != want.count || got["created"] == nil {
			t.Fatalf("%s: %d pictures", body, len(list))
		}
		seen := map[string]bool{}
		for _, one := range list {
			text := one.(map[string]any)["b64_json"].(string)
			seen[text] = true
			data, err := base64.StdEncoding.DecodeString(text)
			if err != nil {
				t.Fatal(err)
			}
			config, err := png.DecodeConfig(bytes.NewReader(data))
			if err != nil || config.Width != want.width || config.Height != want.height {
				t.Errorf("%s: %v, %v", body, config, err)
			}
		}
		if len(seen) != want.count {
			t.Errorf("%s: the pictures are alike", body)
		}
	}
}

func TestImagesTakeAsLongAsAGenerationAndStopWhenTheClientLeaves(t *testing.T) {
	asked := make(chan time.Duration, 1)
	stopped := make(chan error, 1)
	u := start(t, Options{RenderDelay: time.Hour, Wait: func(ctx context.Context, d time.Duration) error {
		asked <- d
		<-ctx.Done()
		stopped <- ctx.Err()
		return ctx.Err()
	}})
	ctx, leave := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- u.post(ctx, "/v1/images/generations", `{"prompt":"a"}`, nil) }()
	select {
	case d := <-asked:
		if d != time.Hour {
			t.Errorf("it waits for %v", d)
		}
	case err := <-ended:
		t.Fatalf("it did not wait: %v", err)
	}
	leave()
	if err := <-stopped; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	<-ended
}

func TestOpenAIErrorsSayWhatIsWrong(t *testing.T) {
	u := start(t, Options{})
	for _, c := range []struct{ path, body, message string }{
		{"images/generations", ``, "The body is empty"},
		{"images/generations", `prompt=a`, "The body is not the JSON object expected"},
		{"images/generations", `{}`, "'prompt' is missing or empty"},
		{"images/generations", `{"prompt":7}`, "'prompt' cannot be a number"},
		{"images/generations", `{"prompt":"` + strings.Repeat("a", 4001) + `"}`, "'prompt' has 4001 characters"},
		{"images/generations", `{"prompt":"a","n":5}`, "n is 5: expected 1 to 4"},
		{"images/generations", `{"prompt":"a","n":0}`, "n is 0: expected 1 to 4"},
		{"images/generations", `{"prompt":"a","size":"63x64"}`, "size is '63x64'"},
		{"images/generations", `{"prompt":"a","size":"1024"}`, "size is '1024'"},
		{"images/generations", `{"prompt":"a","size":"64x64x64"}`, "size is '64x64x64'"},
		{"chat/completions", `{}`, "'messages' is missing or empty"},
		{"chat/completions", `{"messages":[{"role":"system","content":"a"}]}`, "'messages' is missing or empty"},
		{"chat/completions", `{"messages":"a"}`, "'messages' cannot be a string"},
		{"chat/completions", `{"messages":[{"role":"user","content":[7]}]}`, "The body"},
		{"audio/speech", `{}`, "'input' is missing or empty"},
		{"audio/speech", `{"input":"a","response_format":"mp3"}`, "response_format is 'mp3'"},
		{"audio/speech", `{"input":"a","voice":"--help"}`, "voice is '--help'"},
	} {
		got := u.postJSON("/v1/"+c.path, c.body).object(t, 400)
		inner, _ := got["error"].(map[string]any)
		message, _ := inner["message"].(string)
		if !strings.Contains(message, c.message) || inner["type"] != "invalid_request_error" {
			t.Errorf("%s %.60s: %v", c.path, c.body, got)
		}
	}
}
