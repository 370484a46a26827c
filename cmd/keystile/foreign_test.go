package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"keystile/admin/apitest"
	"keystile/keys"
)

// foreignRounds is how often each call is made with other inputs.
const foreignRounds = 100

// TestForeignKeyIsAnsweredLikeNoneOnEveryCall has an account's token call everything that the
// description has, with what is another account's and with what does not exist. The inputs are made from
// the description, half of them with something odd. Both are answered with the same bytes, and nothing changes.
func TestForeignKeyIsAnsweredLikeNoneOnEveryCall(t *testing.T) {
	p := startServe(t, newSample(t).URL, command{})
	owner := p.client(t)
	foreign, unknown, stranger := foreignThings(t, owner)
	before := everything(t, owner)
	maker, outcomes, cases := apitest.NewMaker(apiDescription(t), 1), map[int]int{}, 0
	for range foreignRounds {
		for _, c := range apiDescription(t).Calls() {
			request, ok := foreignRequest(t, maker, c, foreign)
			if !ok {
				continue
			}
			got := strangersCall(t, stranger, request)
			twin := strangersCall(t, stranger, aboutUnknown(request, foreign, unknown))
			if got != twin {
				t.Errorf("%s %.200q: what is another's:\n%s\nand what does not exist:\n%s", request.Path, request.Body, got.text, twin.text)
			}
			checkRefusal(t, c, request, got)
			outcomes[got.status]++
			if slices.Contains(c.Callers, "account") {
				cases++
			}
		}
		if t.Failed() {
			break
		}
	}
	if after := everything(t, owner); after != before {
		t.Errorf("something has changed:\n%s\n%s", before, after)
	}
	t.Logf("%d cases about keys; all answers by status: %v", cases, outcomes)
	if cases < 500 || outcomes[404] < cases/3 {
		t.Errorf("only %d cases, %d of them found nothing", cases, outcomes[404])
	}
}

// foreignThings makes two accounts. It returns what the one has, things that nobody has, and a client with
// the other's token.
func foreignThings(t *testing.T, owner *adminClient) (foreign, unknown map[string]string, stranger *adminClient) {
	t.Helper()
	tokens := map[string]struct{ ID, Token string }{}
	for _, account := range []string{"acme", "other"} {
		made := owner.call(t, "POST", "/api/v1/accounts", `{"account":"`+account+`"}`)
		var token struct{ ID, Token string }
		owner.expect(t, http.StatusCreated, owner.call(t, "POST", "/api/v1/accounts/"+account+"/tokens", ""), &token)
		if made.status != http.StatusCreated {
			t.Fatalf("%d %s", made.status, made.body)
		}
		tokens[account] = token
	}
	var key struct{ Key string }
	owner.expect(t, http.StatusCreated, owner.call(t, "POST", keysPath, `{"account":"other","name":"a"}`), &key)
	owner.rotate(t, key.Key, "1h")
	foreign = map[string]string{"key": key.Key, "account": "other", "id": tokens["other"].ID}
	unknown = map[string]string{"key": keys.NewID().String(), "account": "nobdy", "id": strings.Repeat("A", 13)}
	return foreign, unknown, newAdminClient(t, owner.url, tokens["acme"].Token)
}

// everything is what administrators can read of accounts, tokens, keys and changes.
func everything(t *testing.T, owner *adminClient) string {
	t.Helper()
	var text strings.Builder
	for _, path := range []string{keysPath, "/api/v1/accounts", "/api/v1/accounts/other/tokens", "/api/v1/accounts/acme/tokens", "/api/v1/audit?limit=1000"} {
		got := owner.call(t, "GET", path, "")
		if got.status != http.StatusOK {
			t.Fatalf("GET %s: %d %s", path, got.status, got.body)
		}
		text.Write(got.body)
	}
	return text.String()
}

// foreignRequest returns a request of c about what is another's; false: c is about nothing of the kind.
func foreignRequest(t *testing.T, maker *apitest.Maker, c apitest.Call, foreign map[string]string) (apitest.Request, bool) {
	t.Helper()
	request := maker.Request(c, foreign)
	switch {
	case !slices.Contains(c.Callers, "account"), strings.Contains(c.Path, "{key}"):
	case c.OperationID == "list-keys":
		nameAccountInQuery(t, &request, foreign["account"])
	case c.OperationID == "create-key":
		nameAccountInBody(t, &request, foreign["account"])
	case slices.Contains(c.Callers, "stranger"), c.OperationID == "describe":
		return request, false
	default:
		t.Fatalf("%s is open to accounts, and this test does not know of whose things it is", c)
	}
	return request, true
}

func nameAccountInQuery(t *testing.T, r *apitest.Request, account string) {
	t.Helper()
	at, err := url.Parse(r.Path)
	if err != nil {
		t.Fatal(err)
	}
	query := at.Query()
	query.Set("account", account)
	at.RawQuery = query.Encode()
	r.Path = at.String()
}

func nameAccountInBody(t *testing.T, r *apitest.Request, account string) {
	t.Helper()
	if r.Mistake != "" {
		return // it must be refused anyway
	}
	body := map[string]any{}
	if r.Body != "" {
		if err := json.Unmarshal([]byte(r.Body), &body); err != nil {
			t.Fatal(err)
		}
	}
	body["account"] = account
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	r.Body = string(text)
}

// aboutUnknown returns the same request about what nobody has.
func aboutUnknown(r apitest.Request, foreign, unknown map[string]string) apitest.Request {
	for name, value := range foreign {
		r.Path = strings.ReplaceAll(r.Path, value, unknown[name])
		r.Body = strings.ReplaceAll(r.Body, `"`+value+`"`, `"`+unknown[name]+`"`)
	}
	return r
}

// answer is all of a reply but its time.
type answer struct {
	status int
	text   string
}

func strangersCall(t *testing.T, stranger *adminClient, r apitest.Request) answer {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), r.Method, stranger.url+r.Path, strings.NewReader(r.Body))
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(request.Header, r.Header)
	request.Header.Set("Authorization", "Bearer "+stranger.token)
	request.Header.Set("X-Request-Id", "the-same")
	response, err := stranger.http.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	response.Header.Del("Date")
	return answer{response.StatusCode, fmt.Sprintf("%d %v\n%s", response.StatusCode, response.Header, body)}
}

// checkRefusal fails unless an account's call about what is another's was refused as it must be.
func checkRefusal(t *testing.T, c apitest.Call, r apitest.Request, got answer) {
	t.Helper()
	want := []int{404, 422} // such as an overlap that is no duration
	if !slices.Contains(c.Callers, "account") {
		want = []int{403}
	}
	if r.Odd {
		want = append(want, 400, 413, 415, 422)
	}
	if !slices.Contains(want, got.status) {
		t.Errorf("%s %s %.200q, odd: %v: got %s", r.Method, r.Path, r.Body, r.Odd, got.text)
	}
}
