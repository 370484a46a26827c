package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"keystile/cache"
	"keystile/cache/redistest"
)

// runStore runs a store command in the folder of p, with its configuration, and
// returns what it says.
func runStore(t testing.TB, p *process, code int, env []string, args ...string) (stdout, stderr string) {
	t.Helper()
	c := start(t, command{folder: p.folder, args: append([]string{"store"}, args...), env: env})
	if got := c.wait(t); got != code {
		t.Fatalf("keystile store %q ended with exit code %d: %s", args, got, c.stderr.text())
	}
	return c.stdout.text(), c.stderr.text()
}

func TestStoreInUseIsExportedThroughTheAdminListener(t *testing.T) {
	p := startServe(t, newSample(t).URL, command{})
	api := p.client(t)
	made := api.create(t, "first")
	gone := api.create(t, "second")
	api.delete(t, gone.Key)
	_, said := runStore(t, p, 1, nil, "export", "backup")
	if want := "opening the key store data/keystile.db: another process is using it: stop that process, or name another file; " +
		"or ask it for a backup: GET /api/v1/store/export\n"; said != want {
		t.Errorf("it says %q", said)
	}
	got := api.call(t, "GET", "/api/v1/store/export", "")
	if got.status != http.StatusOK || !strings.HasPrefix(got.header.Get("Content-Disposition"), `attachment; filename="keystile-`) {
		t.Fatalf("got %d %v %s", got.status, got.header, got.body)
	}
	for _, secret := range []string{proofOf(made.Secret), proofOf(gone.Secret), p.token} {
		if strings.Contains(string(got.body), secret) {
			t.Error("a secret is in the backup")
		}
	}
	writeFile(t, filepath.Join(p.folder, "backup"), string(got.body), 0o600)
	if anonymous, _ := ask(http.DefaultClient, "GET", p.admin+"/api/v1/store/export", ""); anonymous.status != http.StatusUnauthorized {
		t.Errorf("without the token: %d", anonymous.status)
	}
	p.stop(t)

	elsewhere := []string{"KEYSTILE_STORE_BOLT_PATH=elsewhere.db"}
	runStore(t, p, 0, elsewhere, "import", "backup")
	p = startServe(t, newSample(t).URL, command{folder: p.folder, env: elsewhere})
	admits(t, p, newLasting(t), made.Secret, "")
}

// An operator outgrows a machine, and comes back: keys work on with the same secrets.
func TestKeysMoveFromBoltToRedisAndBack(t *testing.T) {
	p := startServe(t, newSample(t).URL, command{})
	api := p.client(t)
	made, off := api.create(t, "first"), api.create(t, "second")
	api.patch(t, off.Key, `{"active":false}`)
	p.stop(t)
	runStore(t, p, 0, nil, "export", "from-bolt")

	server := safeRedis(t)
	env := []string{"KEYSTILE_STORE_DRIVER=redis", "KEYSTILE_STORE_REDIS_URL=redis://" + server.Addr(), unhurried}
	if said, _ := runStore(t, p, 0, env, "import", "from-bolt"); !strings.HasSuffix(said, "\neffective everywhere\n") {
		t.Errorf("it says %q", said)
	}
	serving := startServe(t, newSample(t).URL, command{folder: p.folder, env: env})
	awaitReady(t, serving)
	admits(t, serving, newLasting(t), made.Secret, "")
	admits(t, serving, newLasting(t), off.Secret, "key_inactive")
	serving.client(t).patch(t, made.Key, `{"name":"renamed"}`)

	// It works while somebody serves, who has the state file, and is none of the proxies.
	runStore(t, p, 0, env, "export", "from-redis")
	if info, err := os.Stat(filepath.Join(p.folder, "from-redis")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", info, err)
	}
	api = serving.client(t)
	api.delete(t, made.Key)
	said, _ := runStore(t, p, 0, env, "import", "from-redis")
	if !strings.Contains(said, "deleted since; it stays deleted") {
		t.Errorf("it says %q", said)
	}
	admits(t, serving, newLasting(t), made.Secret, "bad_credentials")
	runStore(t, p, 0, env, "import", "--revive", reviveWords, "from-redis")
	admits(t, serving, newLasting(t), made.Secret, "")
	if proxies := proxiesOf(t, api); len(proxies) != 1 {
		t.Errorf("proxies: %+v", proxies)
	}
	serving.stop(t)

	runStore(t, p, 0, env, "export", "from-redis")
	said, _ = runStore(t, p, 0, nil, "import", "from-redis")
	if !strings.Contains(said, "1  keys changed") {
		t.Errorf("it says %q", said)
	}
	p = startServe(t, newSample(t).URL, command{folder: p.folder})
	if list := p.client(t).list(t); len(list) != 2 || list[0].Name != "renamed" {
		t.Errorf("back again: %+v", list)
	}
	admits(t, p, newLasting(t), made.Secret, "")
}

// The token that was given out works on, the one that was revoked does not.
func TestAccountsMoveWithTheirTokens(t *testing.T) {
	p := startServe(t, newSample(t).URL, command{})
	api := p.client(t)
	api.call(t, "POST", "/api/v1/accounts", `{"account":"acme","name":"Acme Ltd","limit":3}`)
	kept, gone := newToken(t, api, "acme"), newToken(t, api, "acme")
	api.call(t, "DELETE", "/api/v1/accounts/acme/tokens/"+gone.ID, "")
	newAdminClient(t, p.admin, kept.Token).create(t, "of acme")
	p.stop(t)
	runStore(t, p, 0, nil, "export", "backup")
	env := []string{"KEYSTILE_STORE_DRIVER=redis", "KEYSTILE_STORE_REDIS_URL=redis://" + safeRedis(t).Addr(), unhurried}
	said, _ := runStore(t, p, 0, env, "import", "backup")
	for _, line := range []string{"2 accounts, 1 tokens, 1 keys", "\n1  accounts made\n", "\n1  tokens made\n"} {
		if !strings.Contains(said, line) {
			t.Errorf("it says %q", said)
		}
	}
	p = startServe(t, newSample(t).URL, command{folder: p.folder, env: env})
	awaitReady(t, p)
	if list := newAdminClient(t, p.admin, kept.Token).list(t); len(list) != 1 || list[0].Name != "of acme" {
		t.Errorf("its keys: %+v", list)
	}
	if got := newAdminClient(t, p.admin, gone.Token).call(t, "GET", "/api/v1/keys", ""); got.status != http.StatusUnauthorized {
		t.Errorf("with the revoked token: %d", got.status)
	}
	if got := p.client(t).call(t, "GET", "/api/v1/accounts/acme", ""); !strings.Contains(string(got.body), `"name":"Acme Ltd","active":true,"limit":3`) {
		t.Errorf("the account: %s", got.body)
	}
}

// accountToken is a token of an account as it is shown once.
type accountToken struct{ ID, Token string }

func newToken(t *testing.T, api *adminClient, account string) (made accountToken) {
	t.Helper()
	got := api.call(t, "POST", "/api/v1/accounts/"+account+"/tokens", `{}`)
	if err := json.Unmarshal(got.body, &made); err != nil || made.Token == "" {
		t.Fatalf("a token: %d %s", got.status, got.body)
	}
	return made
}

// A server that has lost everything is taken as it is only when somebody says so.
func TestLostStoreIsAcceptedAndFilledFromABackup(t *testing.T) {
	server := safeRedis(t)
	c := atRedis(server.Addr(), "east")
	p := startServe(t, newSample(t).URL, c)
	awaitReady(t, p)
	made := p.client(t).create(t, "first")
	runStore(t, p, 0, c.env, "export", "backup")
	_, said := runStore(t, p, 1, c.env, "accept", "--yes")
	if !strings.Contains(said, "the state file data/redis.state is in use by another process") {
		t.Errorf("while it serves: %q", said)
	}
	p.stop(t)
	server.Must("FLUSHALL")

	c.folder = p.folder
	p = startServe(t, newSample(t).URL, c)
	eventually(t, "the alarm", func() bool { return strings.Contains(p.stderr.text(), "store_rollback") })
	if status, _ := readiness(t, p); status == http.StatusOK {
		t.Error("it is ready")
	}
	p.stop(t)
	shown, said := runStore(t, p, 1, c.env, "accept")
	if shown != "prefix {keystile}: no store: the next start makes one, empty\n" || !strings.Contains(said, "nothing was changed") {
		t.Errorf("it says %q and %q", shown, said)
	}
	runStore(t, p, 0, c.env, "import", "backup")
	shown, _ = runStore(t, p, 1, c.env, "accept")
	if !strings.HasPrefix(shown, "prefix {keystile}: store ") || !strings.HasSuffix(shown, " 1 keys\n") {
		t.Errorf("it shows %q", shown)
	}
	p = startServe(t, newSample(t).URL, c)
	eventually(t, "the alarm", func() bool { return strings.Contains(p.stderr.text(), "store_rollback") })
	p.stop(t)
	runStore(t, p, 0, c.env, "accept", "--yes")
	p = startServe(t, newSample(t).URL, c)
	awaitReady(t, p)
	admits(t, p, newLasting(t), made.Secret, "")
}

func TestBackupOfAnotherPepperSaysWhereToPutIt(t *testing.T) {
	p := start(t, command{args: []string{"store", "export"}}) // only for its folder
	p.wait(t)
	writeFile(t, filepath.Join(p.folder, "pepper"), strings.Repeat("p", 40)+"\n", 0o600)
	with := []string{"KEYSTILE_KEYS_PEPPER_FILE=pepper"}
	serving := startServe(t, newSample(t).URL, command{folder: p.folder, env: with})
	serving.client(t).create(t, "first")
	serving.stop(t)
	runStore(t, p, 0, with, "export", "backup")
	server := redistest.Start(t, redistest.Options{})
	for _, where := range [][]string{
		{"KEYSTILE_STORE_BOLT_PATH=other.db"}, {"KEYSTILE_STORE_DRIVER=redis", "KEYSTILE_STORE_REDIS_URL=redis://" + server.Addr()},
	} {
		_, said := runStore(t, p, 1, where, "import", "backup")
		if want := "backup: the pepper does not match the one this backup was made with: nothing was imported; " +
			"have keys.pepper_file name a file with that one, too\n"; !strings.HasSuffix(said, want) {
			t.Errorf("it says %q", said)
		}
	}
}

// failing is a store whose export breaks off.
type failing struct{ backedUp }

func (failing) Export(_ context.Context, w io.Writer) error {
	_, _ = io.WriteString(w, "a part")
	return errors.New("the disk is full")
}

// A backup that fails takes nothing from the one before it.
func TestFileIsReplacedAsAWholeOrNotAtAll(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "backup")
	writeFile(t, path, "the one before", 0o644)
	err := replaceFile(path, func(file *os.File) error { return failing{}.Export(t.Context(), file) })
	if err == nil || readFile(t, path) != "the one before" {
		t.Errorf("%v; the file has %q", err, readFile(t, path))
	}
	err = replaceFile(path, func(file *os.File) error {
		if readFile(t, path) != "the one before" {
			t.Error("there is no backup while the next is written")
		}
		_, err := file.WriteString("the next")
		return err
	})
	if info, statErr := os.Stat(path); err != nil || statErr != nil || readFile(t, path) != "the next" || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v, mode %v", err, statErr, info.Mode())
	}
	if entries, _ := os.ReadDir(folder); len(entries) != 1 {
		t.Errorf("something stays: %v", entries)
	}
}

func TestEveryReasonToSkipHasItsWords(t *testing.T) {
	for _, why := range cache.SkipReasons() {
		if skipWords()[why] == "" {
			t.Errorf("%s has none", why)
		}
	}
}
