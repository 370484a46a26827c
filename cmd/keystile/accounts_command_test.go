package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"keystile/keys"
)

const (
	aTokenID      = "AAAAAAAAAAAAA"
	accountsToken = "kac_" + aTokenID + "_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
)

// accountCalls are commands that call the admin API at once or after they have read the account.
func accountCalls() [][]string {
	return [][]string{
		{"accounts", "list"},
		{"accounts", "create", "acme"},
		{"accounts", "create", "acme", "-o", "json"},
		{"accounts", "rename", "acme", "Acme Ltd"},
		{"accounts", "limit", "acme", "5"},
		{"accounts", "enable", "acme"},
		{"accounts", "disable", "acme"},
		{"accounts", "delete", "--yes", "acme"},
		{"accounts", "tokens", "list", "acme"},
		{"accounts", "tokens", "create", "acme"},
		{"accounts", "tokens", "create", "-q", "acme"},
		{"accounts", "tokens", "revoke", "acme", aTokenID},
		{"audit", "list"},
		{"audit", "list", "-o", "json"},
		{"audit", "verify"},
	}
}

func TestReplyAboutAccountsThatIsNotKeystilesIsAClearError(t *testing.T) {
	const plain = "application/json"
	for name, c := range map[string]struct{ mediaType, body, why string }{
		"nothing":         {plain, "", "JSON of another kind"},
		"a page":          {"text/html", "<html>", "status 200, text/html"},
		"an empty object": {plain, `{}`, "JSON of another kind"},
		"null":            {plain, `null`, "JSON of another kind"},
		"wrong types":     {plain, `{"accounts":{},"tokens":7,"entries":"x","account":[],"id":1}`, "JSON of another kind"},
		"others":          {plain, `{"accounts":[{"account":"../x"}],"tokens":[{"id":"$(rm -rf ~)"}],"account":"other","id":"BBBBBBBBBBBBC","token":"kac_BBBBBBBBBBBBB_` + strings.Repeat("A", 52) + `"}`, "JSON of another kind"},
		"a command":       {plain, `{"account":"other","id":"$(rm -rf ~)","token":"$(rm -rf ~)"}`, "JSON of another kind"},
		"no problem":      {"application/problem+json", `{"code":7}`, "a problem of another kind"},
	} {
		t.Run(name, func(t *testing.T) {
			url := hostile(t, c.mediaType, c.body)
			want := "what answers at " + url + ", the address from --address, is not the admin API of keystile (" + c.why + "): name another by --address\n"
			for _, args := range accountCalls() {
				if code, out, said := commandAt(t, url, args...); code != 1 || out != "" || said != want {
					t.Errorf("%q: exit code %d, %q, %q", args, code, tail(out), tail(said))
				}
			}
		})
	}
}

func TestProblemsWithAccountsSayWhatToDo(t *testing.T) {
	for problem, want := range map[string]string{
		"forbidden":         "this is for administrators, and the token from KEYSTILE_ADMIN_TOKEN is not theirs: give that of the administrator by --token-file or KEYSTILE_ADMIN_TOKEN",
		"account_not_found": `there is no such account, or none that this token may use: "keystile accounts list" shows an administrator the accounts there are`,
		"account_inactive":  `the account is inactive, so its token can only read: an administrator can change that with "keystile accounts enable"`,
		"store_unreachable": `the key store cannot be reached, or did not confirm the change: try again later; "keystile accounts list" shows whether the change was made`,
	} {
		url := hostile(t, "application/problem+json", fmt.Sprintf(`{"code":%q,"detail":"x"}`, problem))
		if code, out, said := commandAt(t, url, "accounts", "disable", "acme"); code != 1 || out != "" || said != want+"\n" {
			t.Errorf("%s: exit code %d, %q, %q", problem, code, out, said)
		}
	}
}

// fixedAccounts answers calls about the account acme, which somebody else always changes first.
func fixedAccounts(t testing.TB, change http.HandlerFunc) string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.Method != http.MethodGet {
			change(w, r)
			return
		}
		fmt.Fprint(w, `{"account":"acme","name":"Acme","active":true,"limit":10,"version":7}`)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestAccountChangedMeanwhileIsNeitherRenamedNorDeleted(t *testing.T) {
	url := fixedAccounts(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-Match") != `"7"` {
			fmt.Fprint(w, `{"account":"acme","active":false,"version":9,"effective":"everywhere"}`)
			return
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusPreconditionFailed)
		fmt.Fprint(w, `{"code":"version_mismatch"}`)
	})
	for _, args := range [][]string{{"rename", "acme", "b"}, {"limit", "acme", "default"}, {"delete", "--yes", "acme"}, {"delete", "--yes", "--with-keys", "acme"}} {
		code, out, said := commandAt(t, url, append([]string{"accounts"}, args...)...)
		if code != 1 || out != "" || said != `nothing was done, for somebody has just changed the account: look at it with "keystile accounts list" and try again`+"\n" {
			t.Errorf("%q: exit code %d, %q, %q", args, code, out, said)
		}
	}
	if code, out, said := commandAt(t, url, "accounts", "disable", "acme"); code != 0 || out != "disabled everywhere: account acme\n" {
		t.Errorf("disable: exit code %d, %q, %q", code, out, said)
	}
}

func TestLostReplyAboutAnAccountSaysHowToFindOut(t *testing.T) {
	url := fixedAccounts(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	for advice, calls := range map[string][][]string{
		`"keystile accounts list" shows whether the change was made`: {
			{"create", "acme"}, {"rename", "acme", "b"}, {"disable", "acme"}, {"delete", "--yes", "acme"},
		},
		`a token may have been made that nobody has: "keystile accounts tokens list acme" shows it by its time; revoke that one and create another`: {
			{"tokens", "create", "acme"}, {"tokens", "create", "-q", "acme", "ci"},
		},
		`"keystile accounts tokens list acme" shows whether the change was made`: {{"tokens", "revoke", "acme", aTokenID}},
	} {
		for _, args := range calls {
			code, out, said := commandAt(t, url, append([]string{"accounts"}, args...)...)
			if want := "no whole reply from " + url + ", the address from --address (EOF): " + advice + "\n"; code != 1 || out != "" || said != want {
				t.Errorf("%q: exit code %d, %q, %q", args, code, out, said)
			}
		}
	}
}

func TestPendingTokenIsPrintedWithWhatIsPendingBesideIt(t *testing.T) {
	url := hostile(t, "application/json", `{"id":"`+aTokenID+`","name":"ci","token":"`+accountsToken+`","replicas":{"want":1,"have":0}}`)
	const pending = "created, but not everywhere yet: token " + aTokenID + ` of account acme "ci"` + "\npending: 0 of 1 replicas have it\nThe change is made; it need not be repeated.\n"
	code, out, said := commandAt(t, url, "accounts", "tokens", "create", "-q", "acme", "ci")
	if code != 0 || out != accountsToken+"\n" || said != pending {
		t.Errorf("exit code %d, %q, %q", code, out, said)
	}
	code, out, said = commandAt(t, url, "accounts", "tokens", "create", "acme", "ci")
	if code != 0 || said != "" || !strings.HasPrefix(out, pending+"token   "+accountsToken+"\n") {
		t.Errorf("exit code %d, %q, %q", code, out, said)
	}
}

// What is no account would be another path of the API.
func TestAccountOfAnotherShapeIsNotAskedFor(t *testing.T) {
	url := hostile(t, "application/json", `{}`)
	for _, id := range []string{"", ".", "..", "../keys", "a/tokens", "a?with_keys=true", "-a", "é", strings.Repeat("a", 65)} {
		for _, args := range [][]string{{"rename", "--", id, "b"}, {"disable", "--", id}, {"delete", "--yes", "--", id}, {"tokens", "list", "--", id}, {"tokens", "create", "--", id}, {"tokens", "revoke", "--", id, aTokenID}} {
			code, _, said := commandAt(t, url, append([]string{"accounts"}, args...)...)
			if code != 2 || !strings.HasPrefix(said, "no account is called ") {
				t.Errorf("%q: exit code %d, %q", args, code, said)
			}
		}
	}
	for _, id := range []string{"", "..", accountsToken, "aaaaaaaaaaaaa"} {
		code, _, said := commandAt(t, url, "accounts", "tokens", "revoke", "acme", id)
		if code != 2 || said != `expected the id of a token, 13 letters and digits: "keystile accounts tokens list acme" shows those there are`+"\n" {
			t.Errorf("%q: exit code %d, %q", id, code, said)
		}
	}
}

func TestLimitThatIsNoneIsUsedWrongly(t *testing.T) {
	for _, limit := range []string{"", "0", "-1", "1001", "ten", "1.5"} {
		code, _, said := commandAt(t, "127.0.0.1:1", "accounts", "limit", "--", "acme", limit)
		if code != 2 || !strings.HasPrefix(said, `the limit: expected a number of keys from 1 to 1000, or "default", got `) {
			t.Errorf("%q: exit code %d, %q", limit, code, said)
		}
	}
}

func TestTextsOfAccountsAndEntriesCannotControlATerminal(t *testing.T) {
	for _, c := range []struct {
		body string
		args []string
	}{
		{`{"accounts":[{"account":"acme","name":"a\u001b[2J\u202eb","created":"\u001b]0;"}]}`, []string{"accounts", "list"}},
		{`{"tokens":[{"id":"` + aTokenID + `","name":"a\u001b[2J\u202eb","created":"\u001b]0;"}]}`, []string{"accounts", "tokens", "list", "acme"}},
		{`{"account":"acme","name":"a\u001b[2J\u202eb","effective":"everywhere"}`, []string{"accounts", "create", "acme"}},
		{auditOf(`{"number":1,"principal":"\u001b[2J","action":"\u202e","account":"\u001b","subject":"\u001b","peer":"\u001b","before":{"name":"\u001b"},"after":{"name":"\u202e"}}`), []string{"audit", "list"}},
		{auditOf(`["\u202e\u001b"]`), []string{"audit", "list"}},
	} {
		if code, out, said := commandAt(t, hostile(t, "application/json", c.body), c.args...); code != 0 || strings.ContainsAny(out, "\x1b\u202e") {
			t.Errorf("%q: exit code %d, %q, %q", c.args, code, out, said)
		}
	}
}

// auditOf is a page of one entry.
func auditOf(entry string) string {
	zero := strings.Repeat("0", 64)
	return fmt.Sprintf(`{"anchor":{"number":0,"hash":%q},"head":{"number":1,"hash":%q},"entries":[{"hash":%q,"entry":%s}]}`, zero, zero, zero, entry)
}

func TestEntriesSayWhoChangedWhatOnWhichFromWhere(t *testing.T) {
	const secretEnd = `"previous_valid_until":"2026-03-04T05:06:00Z"`
	for entry, want := range map[string]string{
		`"principal":"administrator","action":"key.create","subject":"kst_1","account":"acme","peer":"192.0.2.1:5","version":9,"after":{"name":"shop","active":true}`:                                                           `1 2026-01-02 03:04:05 administrator key.create kst_1 of acme "shop" 192.0.2.1:5 9`,
		`"principal":"account:acme","token":"T","action":"key.update","subject":"kst_1","account":"acme","version":9,"before":{"name":"a","active":true},"after":{"name":"b","active":false}`:                                   `1 2026-01-02 03:04:05 account:acme by token T key.update kst_1 of acme "a" to "b", inactive 9`,
		`"principal":"administrator","action":"account.update","account":"acme","version":9,"before":{"active":false,"limit":3},"after":{"active":true}`:                                                                        `1 2026-01-02 03:04:05 administrator account.update account acme active, limit 3 to default 9`,
		`"principal":"administrator","action":"key.rotate","subject":"kst_1","account":"acme","version":9,"before":{"name":"a","active":true},"after":{"name":"a","active":true,` + secretEnd + `}`:                             `1 2026-01-02 03:04:05 administrator key.rotate kst_1 of acme earlier secret until 2026-03-04 05:06 9`,
		`"principal":"administrator","action":"key.update","subject":"kst_1","account":"acme","version":9,"before":{"active":true,` + secretEnd + `},"after":{"active":true,"rate":{"per_second":2.5,"burst":5}}`:               `1 2026-01-02 03:04:05 administrator key.update kst_1 of acme rate default to 2.5/s (burst 5), earlier secret ended 9`,
		`"principal":"administrator","action":"key.update","subject":"kst_1","account":"acme","version":9,"before":{"active":true,"rate":{"per_second":2,"burst":3}},"after":{"active":true,"rate":{"per_second":2,"burst":9}}`: `1 2026-01-02 03:04:05 administrator key.update kst_1 of acme rate 2/s (burst 3) to 2/s (burst 9) 9`,
		`"principal":"administrator","action":"account.delete","account":"acme","version":9,"before":{"name":"Acme Ltd","active":true},"keys":["kst_1","kst_2"]`:                                                                `1 2026-01-02 03:04:05 administrator account.delete account acme "Acme Ltd", with 2 keys 9`,
		`"principal":"keystile","action":"token.delete","subject":"T","account":"acme","version":9,"before":{"name":"ci","active":true}`:                                                                                        `1 2026-01-02 03:04:05 keystile token.delete T of acme "ci" 9`,
	} {
		url := hostile(t, "application/json", auditOf(`{"number":1,"time":"2026-01-02T03:04:05.678Z",`+entry+`}`))
		_, out, said := commandAt(t, url, "audit", "list", "--after", "0")
		lines := strings.Split(out, "\n")
		if len(lines) != 4 || strings.Join(strings.Fields(lines[1]), " ") != want || lines[2] != "entries kept: 1 to 1" {
			t.Errorf("%s\n%s%s", want, out, said)
		}
	}
}

func TestNewestEntriesAreListedUnlessAskedOtherwise(t *testing.T) {
	tr := newTrail(t, 30)
	tr.size = maxAuditPage
	for _, c := range []struct {
		args        []string
		first, last int
	}{
		{[]string{"--limit", "7"}, 24, 30}, {nil, 1, 30}, {[]string{"--after", "0", "--limit", "7"}, 1, 7}, {[]string{"--after", "28"}, 29, 30},
	} {
		code, out, said := commandAt(t, tr.at(t), append([]string{"audit", "list"}, c.args...)...)
		numbers := regexp.MustCompile(`(?m)^\d+`).FindAllString(out, -1)
		if code != 0 || len(numbers) != c.last-c.first+1 || numbers[0] != fmt.Sprint(c.first) || numbers[len(numbers)-1] != fmt.Sprint(c.last) {
			t.Errorf("%q: exit code %d, %q, %q", c.args, code, numbers, said)
		}
	}
	for _, limit := range []string{"0", "1001", "-1"} {
		if code, _, said := commandAt(t, tr.at(t), "audit", "list", "--limit", limit); code != 2 || said != "--limit: expected a number from 1 to 1000, got "+limit+"\n" {
			t.Errorf("%s: exit code %d, %q", limit, code, said)
		}
	}
}

func TestKeysOfAnInactiveAccountAreListedAsSuch(t *testing.T) {
	id := keys.NewID().String()
	for members, want := range map[string]string{
		`"active":true`:                   "active",
		`"active":false`:                  "inactive",
		`"active":true,"suspended":true`:  "account inactive",
		`"active":false,"suspended":true`: "inactive",
	} {
		url := hostile(t, "application/json", `{"keys":[{"key":"`+id+`","name":"shop","account":"acme",`+members+`}],"limit":3}`)
		_, out, _ := keysAt(t, url, "list", "--account", "acme")
		if !strings.Contains(out, "  acme     "+want+"  ") || !strings.HasSuffix(out, "\nkeys: 1, limit of the account: 3\n") {
			t.Errorf("%s: %q", members, out)
		}
	}
}

func TestCompletionOffersWhatTheServerHas(t *testing.T) {
	tokens := `,"tokens":[{"id":"` + aTokenID + `","name":"ci"}]`
	url := hostile(t, "application/json", `{"keys":[{"key":"kst_0000000000000000000001","name":"shop","account":"acme"}],"accounts":[{"account":"acme","name":"Acme Ltd"},{"account":"zoo"}]`+tokens+`}`)
	const accounts, end = "acme\tAcme Ltd\nzoo\n", ":4\n"
	for want, calls := range map[string][][]string{
		accounts + end: {
			{"accounts", "rename", ""},
			{"accounts", "limit", ""},
			{"accounts", "enable", ""},
			{"accounts", "disable", ""},
			{"accounts", "delete", ""},
			{"accounts", "tokens", "list", ""},
			{"accounts", "tokens", "create", ""},
			{"accounts", "tokens", "revoke", ""},
			{"keys", "create", "--account", ""},
			{"keys", "list", "--account", ""},
		},
		"shop\tkst_0000000000000000000001\n" + end: {{"keys", "rotate", ""}, {"keys", "--account", "acme", "delete", ""}},
		aTokenID + "\tci\n" + end:                  {{"accounts", "tokens", "revoke", "acme", ""}},
		end:                                        {{"accounts", "rename", "acme", ""}, {"accounts", "tokens", "revoke", "acme", aTokenID, ""}},
	} {
		for _, args := range calls {
			code, out, _ := commandWith(t, []string{tokenVariable + "=" + aToken, addressVariable + "=" + url}, append([]string{"__complete"}, args...)...)
			if code != 0 || out != want {
				t.Errorf("%q: exit code %d, %q", args, code, out)
			}
		}
	}
}

func TestCompletionHasAScriptForEachShell(t *testing.T) {
	for shell, want := range map[string]string{
		"bash": "complete -o default -F __start_keystile keystile", "zsh": "#compdef keystile", "fish": "complete -c keystile", "powershell": "Register-ArgumentCompleter -CommandName 'keystile'",
	} {
		if code, out, said := commandWith(t, nil, "completion", shell); code != 0 || said != "" || !strings.Contains(out, want) {
			t.Errorf("%s: exit code %d, %q, %q", shell, code, tail(out), said)
		}
	}
	for _, args := range [][]string{{"completion"}, {"completion", "tcsh"}, {"completion", "bash", "x"}} {
		if code, out, said := commandWith(t, nil, args...); code != 2 || out != "" || !strings.Contains(said, "keystile completion") {
			t.Errorf("%q: exit code %d, %q, %q", args, code, out, said)
		}
	}
}
