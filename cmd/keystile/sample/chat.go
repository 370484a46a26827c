package sample

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"
)

// chatRequest is the body of /v1/chat/completions; other fields are ignored.
type chatRequest struct {
	Model    string `json:"model"`
	Stream   bool   `json:"stream"`
	Messages []struct {
		Role    string      `json:"role"`
		Content messageText `json:"content"`
	} `json:"messages"`
}

// messageText is the text of a message, which clients send as a string or as a
// list of parts.
type messageText string

// UnmarshalJSON reads a string, null, or a list whose parts of type "text" are
// joined by a space.
func (t *messageText) UnmarshalJSON(data []byte) error {
	if data[0] != '[' {
		return json.Unmarshal(data, (*string)(t))
	}
	var parts []struct {
		Type string `json:"type"`
		Text string `json:"text"`
	}
	if err := json.Unmarshal(data, &parts); err != nil {
		return err
	}
	var texts []string
	for _, part := range parts {
		if part.Type == "text" {
			texts = append(texts, part.Text)
		}
	}
	*t = messageText(strings.Join(texts, " "))
	return nil
}

func (s *service) chat(w http.ResponseWriter, r *http.Request) {
	var in chatRequest
	err := readJSON(r, &in)
	if err == nil {
		err = checkText("messages", in.prompt())
	}
	if err != nil {
		refuse(w, r, err)
		return
	}
	if in.Model == "" {
		in.Model = textModel
	}
	c := completion{id: "chatcmpl-" + newUUID(), model: in.Model, created: s.Now().Unix()}
	words := answer(in.prompt())
	if in.Stream {
		s.stream(w, r, c, words)
		return
	}
	writeJSON(w, http.StatusOK, c.whole(in.prompt(), words))
}

// prompt is the text of the last message of the user.
func (c chatRequest) prompt() string {
	for i := len(c.Messages) - 1; i >= 0; i-- {
		if c.Messages[i].Role == "user" {
			return string(c.Messages[i].Content)
		}
	}
	return ""
}

// stream sends words one event at a time, each flushed before the pause that
// follows it, and stops when the client leaves.
func (s *service) stream(w http.ResponseWriter, r *http.Request, c completion, words []string) {
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("X-Accel-Buffering", "no")
	out := http.NewResponseController(w)
	send := func(event []byte) error {
		if _, err := fmt.Fprintf(w, "data: %s\n\n", event); err != nil {
			return err
		}
		return out.Flush()
	}
	for i, word := range words {
		delta := map[string]string{"content": word}
		if i == 0 {
			delta["role"] = "assistant"
		}
		if send(c.chunk(delta, nil)) != nil || s.Wait(r.Context(), s.TokenDelay) != nil {
			return
		}
	}
	stop := "stop"
	if send(c.chunk(map[string]string{}, &stop)) == nil {
		_ = send([]byte("[DONE]")) // the last event: nothing is left to stop
	}
}

// completion is what all pieces of one answer have in common.
type completion struct {
	id, model string
	created   int64
}

func (c completion) chunk(delta map[string]string, finish *string) []byte {
	data, err := json.Marshal(map[string]any{
		"id": c.id, "object": "chat.completion.chunk", "created": c.created, "model": c.model,
		"choices": []any{map[string]any{"index": 0, "delta": delta, "finish_reason": finish}},
	})
	if err != nil {
		panic(err) // strings and numbers only
	}
	return data
}

func (c completion) whole(prompt string, words []string) map[string]any {
	asked := len(strings.Fields(prompt))
	return map[string]any{
		"id": c.id, "object": "chat.completion", "created": c.created, "model": c.model,
		"choices": []any{map[string]any{
			"index": 0, "finish_reason": "stop",
			"message": map[string]string{"role": "assistant", "content": strings.Join(words, "")},
		}},
		"usage": map[string]int{
			"prompt_tokens": asked, "completion_tokens": len(words), "total_tokens": asked + len(words),
		},
	}
}

// answer returns a few dozen words about prompt, always the same for the same
// prompt; each but the first begins with its space.
func answer(prompt string) []string {
	rng := seeded(prompt, 0)
	pick := func(from ...string) string { return from[rng.IntN(len(from))] }
	text := strings.Join([]string{
		fmt.Sprintf(pick(
			"You asked about “%s”, and here is a calm answer.",
			"“%s” is a good thing to begin with.",
			"Let us look at “%s” for a moment."), shorten(prompt)),
		pick(
			"The first thing to see is the light: it comes from one side and makes every shape plain.",
			"Seen from far away it is one simple outline; seen from near it is a hundred small ones.",
			"It has a quiet part and a busy part, and the line between them is never quite straight."),
		pick(
			"Walk around it once and the colours change, warm where you started and cool where you end.",
			"Wait a little and it moves, slowly at first, then all at once, then not at all.",
			"Listen closely and there is a rhythm in it, four slow beats and a short rest."),
		pick(
			"That is all a sample generator can say; a real model behind the same address will say more.",
			"These words were chosen by a sample generator, one by one, so that you can watch them arrive.",
			"The next request brings the same words, for a sample generator is nothing if not steady."),
	}, " ")
	words := strings.Split(text, " ")
	for i := range words[1:] {
		words[i+1] = " " + words[i+1]
	}
	return words
}

// shorten returns prompt on one line, cut to a few words.
func shorten(prompt string) string {
	words := strings.Fields(strings.ToValidUTF8(prompt, "\uFFFD"))
	short := strings.Join(words[:min(len(words), 8)], " ")
	if utf8.RuneCountInString(short) > 80 {
		return string([]rune(short)[:80]) + "…"
	}
	if len(words) > 8 {
		return short + " …"
	}
	return short
}
