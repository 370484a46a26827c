package sample

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const chatBody = `{"model":"m","stream":%t,"messages":[{"role":"system","content":"be brief"},{"role":"user","content":"the north wind"}]}`

// post sends a request and hands the answer to read, if there is one. What does
// not arrive within half a minute never will.
func (u upstream) post(ctx context.Context, path, body string, read func(*http.Response)) error {
	ctx, stop := context.WithTimeout(ctx, 30*time.Second)
	defer stop()
	request, err := http.NewRequestWithContext(ctx, "POST", u.url+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	response, err := u.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if read != nil {
		read(response)
	}
	return nil
}

// event reads one event of a stream.
func event(t *testing.T, from *bufio.Reader) string {
	t.Helper()
	line, err := from.ReadString('\n')
	if err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	end, err := from.ReadString('\n')
	data, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "data: ")
	if err != nil || end != "\n" || !ok {
		t.Fatalf("not an event: %q %q %v", line, end, err)
	}
	return data
}

// chunk is the part of an event that clients read.
type chunk struct {
	Object  string
	Choices []struct {
		Delta struct {
			Role    string
			Content string
		}
		Finish *string `json:"finish_reason"`
	}
}

func TestEachEventArrivesBeforeTheNextIsSent(t *testing.T) {
	next := make(chan struct{})
	u := start(t, Options{TokenDelay: time.Second, Wait: func(ctx context.Context, d time.Duration) error {
		if d != time.Second {
			t.Errorf("it waits for %v", d)
		}
		select {
		case <-next:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}})
	var text strings.Builder
	err := u.post(t.Context(), "/v1/chat/completions", fmt.Sprintf(chatBody, true), func(r *http.Response) {
		if kind := r.Header.Get("Content-Type"); kind != "text/event-stream; charset=utf-8" {
			t.Errorf("Content-Type %q", kind)
		}
		from := bufio.NewReader(r.Body)
		for {
			// Nothing lets the next event go before this one has been read.
			var c chunk
			if err := json.Unmarshal([]byte(event(t, from)), &c); err != nil || c.Object != "chat.completion.chunk" {
				t.Fatalf("%v: %+v", err, c)
			}
			text.WriteString(c.Choices[0].Delta.Content)
			if c.Choices[0].Finish != nil {
				break
			}
			next <- struct{}{}
		}
		if last := event(t, from); last != "[DONE]" {
			t.Errorf("the last event is %q", last)
		}
		if rest, err := io.ReadAll(from); len(rest) != 0 || err != nil {
			t.Errorf("after it: %q %v", rest, err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if words := len(strings.Fields(text.String())); words < 24 || words > 90 || !strings.Contains(text.String(), "the north wind") {
		t.Errorf("%d words: %s", words, &text)
	}
}

func TestWholeAnswerIsTheStreamedOneAndTheSameEachTime(t *testing.T) {
	u := start(t, Options{TokenDelay: -1})
	var streamed strings.Builder
	err := u.post(t.Context(), "/v1/chat/completions", fmt.Sprintf(chatBody, true), func(r *http.Response) {
		from := bufio.NewReader(r.Body)
		for data := event(t, from); data != "[DONE]"; data = event(t, from) {
			var c chunk
			if err := json.Unmarshal([]byte(data), &c); err != nil {
				t.Fatal(err)
			}
			streamed.WriteString(c.Choices[0].Delta.Content)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	asParts := `{"messages":[{"role":"user","content":[{"type":"text","text":"the north"},{"type":"image_url"},{"type":"text","text":"wind"}]}]}`
	for _, body := range []string{fmt.Sprintf(chatBody, false), fmt.Sprintf(chatBody, false), asParts} {
		got := u.postJSON("/v1/chat/completions", body).object(t, 200)
		choice := got["choices"].([]any)[0].(map[string]any)
		message := choice["message"].(map[string]any)
		if message["content"] != streamed.String() || message["role"] != "assistant" || choice["finish_reason"] != "stop" || got["object"] != "chat.completion" {
			t.Errorf("%v\nstreamed: %s", got, &streamed)
		}
	}
}

func TestStreamStopsWhenTheClientLeaves(t *testing.T) {
	waits := make(chan struct{}, 100)
	stopped := make(chan struct{})
	u := start(t, Options{Wait: func(ctx context.Context, _ time.Duration) error {
		waits <- struct{}{}
		<-ctx.Done()
		close(stopped) // a second call would panic
		return ctx.Err()
	}})
	ctx, leave := context.WithCancel(t.Context())
	_ = u.post(ctx, "/v1/chat/completions", fmt.Sprintf(chatBody, true), func(r *http.Response) {
		event(t, bufio.NewReader(r.Body))
		leave()
	})
	select {
	case <-stopped:
	case <-time.After(30 * time.Second):
		t.Fatal("the stream goes on without its client")
	}
	if len(waits) != 1 {
		t.Errorf("%d events were sent", len(waits))
	}
}

func TestPaceIsVisibleByDefault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Options{}).(*service)
		began := time.Now()
		request, _ := http.NewRequestWithContext(t.Context(), "POST", "/v1/chat/completions", strings.NewReader(fmt.Sprintf(chatBody, true)))
		s.ServeHTTP(newDiscard(), request)
		words := time.Duration(len(answer("the north wind")))
		// The recorder cannot flush, so only the first word is sent.
		if took := time.Since(began); took != 0 || words < 24 {
			t.Errorf("a writer that cannot flush held the stream for %v", took)
		}
		flushing := flushable{newDiscard()}
		request.Body = io.NopCloser(strings.NewReader(fmt.Sprintf(chatBody, true)))
		s.ServeHTTP(flushing, request)
		if took := time.Since(began); took != words*60*time.Millisecond {
			t.Errorf("%d words took %v", words, took)
		}
	})
}

// flushable is a discard that can be flushed.
type flushable struct{ discard }

func (flushable) Flush() {}

func TestLongPromptsAreQuotedShort(t *testing.T) {
	for prompt, want := range map[string]string{
		"a  b\nc":                  "a b c",
		"1 2 3 4 5 6 7 8 9":        "1 2 3 4 5 6 7 8 …",
		strings.Repeat("ж", 100):   strings.Repeat("ж", 80) + "…",
		"bad \xff byte":            "bad \uFFFD byte",
		strings.Repeat("word ", 8): strings.TrimSpace(strings.Repeat("word ", 8)),
	} {
		if got := shorten(prompt); got != want {
			t.Errorf("%q: %q", prompt, got)
		}
	}
}
