package proxy

import (
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"keystile/keys"
)

// words are the verdicts that clients are promised, with their statuses and the types
// by which SDKs choose their exceptions.
var words = map[string]struct {
	status int
	kind   string
}{
	"missing_credentials":   {401, "authentication_error"},
	"malformed_credentials": {401, "authentication_error"},
	"ambiguous_credentials": {401, "authentication_error"},
	"bad_credentials":       {401, "authentication_error"},
	"key_inactive":          {401, "authentication_error"},
	"rate_limited":          {429, "rate_limit_error"},
	"bad_request":           {400, "invalid_request_error"},
	"method_not_allowed":    {405, "invalid_request_error"},
	"body_too_large":        {413, "invalid_request_error"},
	"headers_too_large":     {431, "invalid_request_error"},
	"internal_error":        {500, "api_error"},
	"store_unreachable":     {503, "api_error"},
	"shutting_down":         {503, "api_error"},
	"upstream_unreachable":  {502, "api_error"},
	"upstream_timeout":      {504, "api_error"},
	"client_gone":           {499, "invalid_request_error"}, // nobody reads it
}

func TestVerdictTableIsCompleteAndSaysWhatIsPromised(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for v := Allowed + 1; v < verdictCount; v++ {
		ruling := rulings[v]
		want, ok := words[v.String()]
		if !ok || seen[v.String()] {
			t.Errorf("the word %q of verdict %d is unknown or used twice", v, v)
		}
		seen[v.String()] = true
		if ruling.status != want.status || errorType(ruling.status) != want.kind {
			t.Errorf("%v: %d %s, not %d %s", v, ruling.status, errorType(ruling.status), want.status, want.kind)
		}
		if v != ClientGone && !strings.HasSuffix(ruling.message, ".") {
			t.Errorf("%v has no message that is a sentence: %q", v, ruling.message)
		}
	}
	if len(seen) != len(words) {
		t.Errorf("%d verdicts, not %d", len(seen), len(words))
	}
	if got := errorType(http.StatusForbidden); got != "permission_error" {
		t.Errorf("403 is a %s", got)
	}
}

func TestOneErrorBodyIsReadByThreeFamiliesOfClients(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	res, body := s.dial(t).send(s.stranger("GET /v1/images?prompt=private HTTP/1.1")).answer("GET")
	var spring struct {
		Timestamp           time.Time
		Status              int
		Error               any // an object here; Spring's own clients show message
		Message, Path, Code string
	}
	var openAI struct {
		Error struct{ Message, Type, Code string }
	}
	var anthropic struct {
		Type      string
		RequestID string `json:"request_id"`
		Error     struct{ Type, Message string }
	}
	for _, shape := range []any{&spring, &openAI, &anthropic} {
		if err := json.Unmarshal([]byte(body), shape); err != nil {
			t.Fatalf("%T: %v", shape, err)
		}
	}
	message := rulings[MissingCredentials].message
	if spring.Status != 401 || spring.Message != message || spring.Path != "/v1/images" || time.Since(spring.Timestamp).Abs() > time.Minute {
		t.Errorf("Spring reads %+v", spring)
	}
	if openAI.Error.Message != message || openAI.Error.Type != "authentication_error" || openAI.Error.Code != "missing_credentials" {
		t.Errorf("OpenAI's reads %+v", openAI)
	}
	if anthropic.Type != "error" || anthropic.Error.Type != "authentication_error" || anthropic.Error.Message != message || anthropic.RequestID != "test-1" {
		t.Errorf("Anthropic's reads %+v", anthropic)
	}
	for name, want := range map[string]string{
		"Content-Type": "application/json", "X-Request-Id": "test-1", "Www-Authenticate": `Bearer realm="keystile"`,
		"Cache-Control": "no-store", "Retry-After": "", "Allow": "", "X-Should-Retry": "",
	} {
		if got := strings.Join(res.Header.Values(name), "|"); got != want {
			t.Errorf("%s: %q, not %q", name, got, want)
		}
	}
	if strings.Contains(body, "private") {
		t.Error("the body repeats the query")
	}
}

func TestUnknownKeyAndWrongSecretReadTheSame(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	unknown := keys.NewSecret(keys.NewID()).Reveal()
	wrong := keys.NewSecret(s.id).Reveal()
	ask := func(secret string) string {
		c := s.dial(t).send(s.stranger("GET /a HTTP/1.1", "Authorization: Bearer "+secret, "Connection: close"))
		answer := new(strings.Builder)
		if _, err := c.reader.WriteTo(answer); err != nil {
			t.Fatal(err)
		}
		varying := regexp.MustCompile(`"timestamp":"[^"]*"|\r\nDate: [^\r]*`)
		return varying.ReplaceAllString(answer.String(), "")
	}
	first, second := ask(unknown), ask(wrong)
	if first != second || !strings.Contains(first, `"code":"bad_credentials"`) {
		t.Errorf("an unknown key reads %q, a wrong secret %q", first, second)
	}
	s.records.change(s.id, func(g *keys.Grant) { g.Active = false })
	if third := ask(wrong); third != first {
		t.Errorf("a wrong secret of an inactive key reads %q", third)
	}
	if right := ask(s.secret.Reveal()); !strings.Contains(right, `"code":"key_inactive"`) {
		t.Errorf("who has proved an inactive key reads %q", right)
	}
	s.untouched(t)
}

func TestSecretPastItsEndIsBadCredentials(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	now := time.Now()
	s.records.change(s.id, func(g *keys.Grant) { g.Digests[0].Until = now.Add(-time.Millisecond).UnixMilli() })
	_, body := s.dial(t).send(s.request("GET /a HTTP/1.1")).answer("GET")
	checkRefusal(t, body, "bad_credentials", "")
	s.records.change(s.id, func(g *keys.Grant) { g.Digests[0].Until = now.Add(time.Hour).UnixMilli() })
	if res, _ := s.dial(t).send(s.request("GET /a HTTP/1.1")).answer("GET"); res.StatusCode != 200 {
		t.Errorf("status %d before its end", res.StatusCode)
	}
}

func TestRecordsThatMayBeStaleAre503Never401(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.records.setStale(errors.New("the store has not been seen for an hour"))
	for name, request := range map[string]string{
		"a valid key":    s.request("GET /a HTTP/1.1"),
		"an unknown key": s.stranger("GET /a HTTP/1.1", "X-Api-Key: "+keys.NewSecret(keys.NewID()).Reveal()),
		"a wrong secret": s.stranger("GET /a HTTP/1.1", "X-Api-Key: "+keys.NewSecret(s.id).Reveal()),
	} {
		t.Run(name, func(t *testing.T) {
			res, body := s.dial(t).send(request).answer("GET")
			if res.StatusCode != 503 || res.Header.Get("Retry-After") == "" || res.Header.Get("Www-Authenticate") != "" {
				t.Errorf("status %d, %v", res.StatusCode, res.Header)
			}
			checkRefusal(t, body, "store_unreachable", "not judged")
			if strings.Contains(body, "hour") {
				t.Error("the client reads an internal error's text")
			}
		})
	}
	if n := s.records.gets.Load(); n != 0 {
		t.Errorf("stale records were read %d times", n)
	}
	s.untouched(t)
}

func TestErrorBodyRepeatsNeitherSecretsNorEndlessPaths(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	path := "/" + s.secret.Reveal() + "/\xff" + strings.Repeat("a", 1000)
	_, body := s.dial(t).send(s.stranger("GET " + path + " HTTP/1.1")).answer("GET")
	var refused errorBody
	if err := json.Unmarshal([]byte(body), &refused); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(refused.Path, "/[redacted]/\uFFFDaaa") || len(refused.Path) > maxEchoedPath+2 {
		t.Errorf("path %q", refused.Path)
	}
}

func TestRequestIDIsTheClientsWhereWellFormed(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	for name, c := range map[string]struct {
		lines []string
		kept  bool
	}{
		"well formed":       {[]string{"X-Request-Id: a.B-9_z"}, true},
		"64 characters":     {[]string{"X-Request-Id: " + strings.Repeat("a", 64)}, true},
		"65 characters":     {[]string{"X-Request-Id: " + strings.Repeat("a", 65)}, false},
		"empty":             {[]string{"X-Request-Id: "}, false},
		"absent":            {nil, false},
		"sent twice":        {[]string{"X-Request-Id: a", "X-Request-Id: b"}, false},
		"another character": {[]string{"X-Request-Id: a/b"}, false},
		"a secret":          {[]string{"X-Request-Id: " + s.secret.Reveal()[:60]}, false},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(s.upstream.bytes())
			lines := append([]string{"GET /a HTTP/1.1", "Host: proxy.test", "X-Api-Key: {secret}"}, c.lines...)
			res, _ := s.dial(t).send(s.fill(strings.Join(lines, "\r\n") + "\r\n\r\n")).answer("GET")
			told := res.Header.Get("X-Request-Id")
			sent := ""
			if len(c.lines) > 0 {
				sent = strings.TrimPrefix(c.lines[0], "X-Request-Id: ")
			}
			if (told == sent) != c.kept || !wellFormedRequestID(told) {
				t.Errorf("the client reads %q", told)
			}
			if got := s.upstream.bytes()[before:]; strings.Count(got, "X-Request-Id: "+told+"\r\n") != 1 || strings.Count(got, "X-Request-Id") != 1 {
				t.Errorf("the upstream received %q", got)
			}
		})
	}
}
