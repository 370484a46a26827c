package cache

import (
	"bytes"
	stdcmp "cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"

	"keystile/cache/redistest"
	"keystile/keys"
)

// backedUp is what both stores are to an operator.
type backedUp interface {
	keys.Store
	keys.Accounts
	keys.Trail
	Export(ctx context.Context, w io.Writer) error
	Import(ctx context.Context, file io.ReadSeeker, o ImportOptions) (ImportReport, error)
}

// storeOptions are what tests of backups open a store with.
type storeOptions struct {
	perAccount int // 0: 1000
	peppers    *keys.Peppers
	mirror     *Mirror // nil: none for a Bolt, a new one for a Redis
	resynced   func(ResyncCause)
}

// kindOfStore opens an empty store.
type kindOfStore struct {
	name string
	open func(t testing.TB, o storeOptions) backedUp
}

func kindsOfStore() []kindOfStore {
	onRedis := func(address func(testing.TB) string) func(testing.TB, storeOptions) backedUp {
		return func(t testing.TB, o storeOptions) backedUp {
			r, err := OpenRedis(t.Context(), RedisOptions{
				Server:     RedisServer{Addresses: []string{address(t)}},
				PerAccount: stdcmp.Or(o.perAccount, 1000), Peppers: o.peppers, Mirror: o.mirror, ReceiptDeadline: patience,
				Events: RedisEvents{Resynced: o.resynced},
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = r.Close() })
			return r
		}
	}
	return []kindOfStore{
		{"bolt", func(t testing.TB, o storeOptions) backedUp {
			return mustOpen(t, storeFile(t), BoltOptions{PerAccount: stdcmp.Or(o.perAccount, 1000), Peppers: o.peppers, Mirror: o.mirror})
		}},
		{"miniredis", onRedis(func(t testing.TB) string { return miniredis.RunT(t).Addr() })},
		{"redis", onRedis(func(t testing.TB) string {
			return redistest.Start(t, redistest.Options{Lines: []string{"hash-max-listpack-entries 0"}}).Addr()
		})},
	}
}

// onEveryStore runs a test on an empty store of each kind.
func onEveryStore(t *testing.T, test func(t *testing.T, s backedUp)) {
	for _, kind := range kindsOfStore() {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			test(t, kind.open(t, storeOptions{}))
		})
	}
}

// export returns a backup, which is whole.
func export(t testing.TB, s backedUp) []byte {
	t.Helper()
	var file bytes.Buffer
	if err := s.Export(t.Context(), &file); err != nil {
		t.Fatalf("Export: %v", err)
	}
	if _, err := verifyBackup(t.Context(), bytes.NewReader(file.Bytes())); err != nil {
		t.Fatalf("the backup that was just made: %v\n%s", err, file.Bytes())
	}
	return file.Bytes()
}

// header returns the first line of a backup.
func header(t testing.TB, file []byte) backupHeader {
	t.Helper()
	r, err := newBackupReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	return r.backupHeader
}

func mustImport(t testing.TB, s backedUp, file []byte, o ImportOptions) ImportReport {
	t.Helper()
	report, err := s.Import(t.Context(), bytes.NewReader(file), o)
	if err != nil {
		t.Fatalf("Import: %v", err)
	}
	return report
}

func mustList(t testing.TB, s keys.Store) []keys.Record {
	t.Helper()
	list, err := s.List(t.Context(), "")
	if err != nil {
		t.Fatalf("List: %v", err)
	}
	return list
}

// kept is what a backup must keep of records, in their order: all but versions.
func kept(list []keys.Record) []keys.Record {
	for i := range list {
		list[i].Version = 0
	}
	return list
}

// haveAccount makes an account, where the store keeps accounts and has it not yet.
func haveAccount(t testing.TB, s keys.Store, id string) {
	t.Helper()
	if accounts, ok := s.(keys.Accounts); ok {
		if _, _, err := accounts.CreateAccount(t.Context(), keys.Account{ID: id}); err != nil && !errors.Is(err, keys.ErrAccountExists) {
			t.Fatalf("CreateAccount(%q): %v", id, err)
		}
	}
}

// mustMakeToken makes a token of an account.
func mustMakeToken(t testing.TB, s keys.Accounts, account, name string) keys.AccountToken {
	t.Helper()
	made, _, err := s.CreateToken(t.Context(), keys.AccountToken{
		ID: rand.Text()[:13], Account: account, Name: name, Sum: sha256.Sum256([]byte(rand.Text())),
	})
	if err != nil {
		t.Fatalf("CreateToken(%q): %v", name, err)
	}
	return made
}

func mustChange(t testing.TB, s keys.Accounts, account string, change func(*keys.Account)) keys.Account {
	t.Helper()
	changed, _, err := s.UpdateAccount(t.Context(), account, func(a *keys.Account) error {
		change(a)
		return nil
	})
	if err != nil {
		t.Fatalf("UpdateAccount(%q): %v", account, err)
	}
	return changed
}

// mustMake makes a key, with its account, then changes it.
func mustMake(t testing.TB, s keys.Store, account, name string, change func(*keys.Record)) keys.Record {
	t.Helper()
	haveAccount(t, s, account)
	id := keys.NewID()
	made, err := s.Create(t.Context(), keys.Draft{
		ID: id, Account: account, Name: name, Digest: (*keys.Peppers)(nil).Digest(keys.NewSecret(id)),
	})
	if err != nil {
		t.Fatalf("Create(%q): %v", name, err)
	}
	if change == nil {
		return made.Record
	}
	return mustUpdate(t, s, id, change)
}

func mustUpdate(t testing.TB, s keys.Store, id keys.ID, change func(*keys.Record)) keys.Record {
	t.Helper()
	record, _, err := s.Update(t.Context(), id, func(r *keys.Record) error {
		change(r)
		return nil
	})
	if err != nil {
		t.Fatalf("Update: %v", err)
	}
	return record
}

func mustDelete(t testing.TB, s keys.Store, id keys.ID) {
	t.Helper()
	if _, err := s.Delete(t.Context(), id, nil); err != nil {
		t.Fatalf("Delete: %v", err)
	}
}

func off(r *keys.Record) { r.Active = false }

// furnish makes keys of all sorts, and returns one that was deleted.
func furnish(t testing.TB, s keys.Store) (deleted keys.ID) {
	t.Helper()
	var none *keys.Peppers
	mustMake(t, s, "default", "plain", nil)
	gone := mustMake(t, s, "default", "deleted", nil)
	mustMake(t, s, "default", `odd <name> "é" 🔑`, func(r *keys.Record) { r.Rate = keys.Rate{PerSecond: 0.5, Burst: 3} })
	mustMake(t, s, "another", "off", off)
	rotated := mustMake(t, s, "another", "rotated", func(r *keys.Record) {
		r.Digests[1] = r.Digests[0]
		r.Digests[1].Until = 1_900_000_000_123
		r.Digests[0] = none.Digest(keys.NewSecret(r.ID))
	})
	mustMake(t, s, "third", "plain", func(r *keys.Record) { r.Name = "renamed" })
	mustDelete(t, s, gone.ID)
	if err := s.Touch(t.Context(), map[keys.ID]keys.Use{rotated.ID: {At: time.UnixMilli(1_800_000_000_456), Mark: rotated.Digests[1].Mark()}}); err != nil {
		t.Fatal(err)
	}
	return gone.ID
}

func TestBackupMovesEverythingBetweenStores(t *testing.T) {
	for _, from := range kindsOfStore() {
		for _, to := range kindsOfStore() {
			t.Run(from.name+" to "+to.name, func(t *testing.T) {
				t.Parallel()
				source, target := from.open(t, storeOptions{}), to.open(t, storeOptions{})
				deleted := furnish(t, source)
				file := export(t, source)
				report := mustImport(t, target, file, ImportOptions{})
				if report.Created != 5 || report.Noted != 1 || len(report.Skipped) != 0 || !report.Receipt.Everywhere() {
					t.Errorf("the report is %+v", report)
				}
				want := kept(mustList(t, source))
				for i := range want {
					want[i].LastUsed.Mark = keys.Mark{} // not in a backup
				}
				if diff := cmp.Diff(want, kept(mustList(t, target))); diff != "" {
					t.Errorf("(-source +target):\n%s", diff)
				}
				sourceHeader, targetHeader := header(t, file), header(t, export(t, target))
				if targetHeader.Version <= sourceHeader.Version || targetHeader.Store == sourceHeader.Store {
					t.Errorf("from %+v came %+v", sourceHeader, targetHeader)
				}
				for _, r := range births(t, target) {
					if r.Born <= sourceHeader.Version || r.Version != r.Born {
						t.Errorf("%q has version %d, born %d, not above %d", r.Name, r.Version, r.Born, sourceHeader.Version)
					}
				}
				if _, err := target.Create(t.Context(), keys.Draft{ID: deleted, Account: "default"}); err == nil {
					t.Error("the id of a deleted key was used again")
				}
				if again := mustImport(t, target, file, ImportOptions{}); again.Left != 6 || again.Created+again.Updated+again.Deleted+again.Noted != 0 {
					t.Errorf("imported again: %+v", again)
				}
				mustMake(t, target, "default", "afterwards", nil)
			})
		}
	}
}

// births returns the records with the versions at which they came into this store. A
// process that knows of a later version takes a key that it does not know, and that
// was there before, for one that it knows to be deleted.
func births(t testing.TB, s backedUp) (found []stored) {
	t.Helper()
	var err error
	switch s := s.(type) {
	case *Bolt:
		err = s.db.View(func(tx *bbolt.Tx) (err error) {
			found, err = allRecords(tx)
			return err
		})
	case *Redis:
		err = s.read(t.Context(), "", func(c *session) (err error) {
			found, err = s.allRecords(t.Context(), c)
			return err
		})
	}
	if err != nil || len(found) == 0 {
		t.Fatalf("%d records, %v", len(found), err)
	}
	return found
}

// A follower takes part in a store that is imported into: the log and the digest that
// the import leaves are right, or it would have to read everything again.
func TestImportReachesAProxyLikeAnyChange(t *testing.T) {
	source := kindsOfStore()[0].open(t, storeOptions{})
	furnish(t, source)
	file := export(t, source)
	for _, kind := range kindsOfStore() {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			mirror := NewMirror()
			s := kind.open(t, storeOptions{mirror: mirror, resynced: func(cause ResyncCause) {
				if cause != ResyncStart {
					t.Errorf("everything was read again: %s", cause)
				}
			}})
			var changes []keys.Change
			if err := s.Watch(t.Context(), func(c keys.Change) { changes = append(changes, c) }); err != nil {
				t.Fatal(err)
			}
			report := mustImport(t, s, file, ImportOptions{})
			if !report.Receipt.Everywhere() || report.Receipt.Version != mirror.Version() {
				t.Errorf("receipt %+v, mirror at %d", report.Receipt, mirror.Version())
			}
			for _, r := range mustList(t, s) {
				if grant, _ := mirror.Get(r.ID); *grant != r.Grant() {
					t.Errorf("%q: mirror has %+v", r.Name, grant)
				}
			}
			if mirror.Len() != 5 || len(changes) != 5 {
				t.Errorf("mirror: %d keys, %d changes watched", mirror.Len(), len(changes))
			}
			await(t, "the records are fresh", func() bool { return mirror.Fresh() == nil })
		})
	}
}

func TestNoSecretIsInABackup(t *testing.T) {
	pepper, err := keys.NewPeppers(bytes.Repeat([]byte("p3pp3r-"), 6))
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range kindsOfStore() {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			s := kind.open(t, storeOptions{peppers: pepper})
			id := keys.NewID()
			secret := keys.NewSecret(id)
			operation := keys.Operation{Key: "an idempotency key"}
			if _, err := s.Create(t.Context(), keys.Draft{ID: id, Account: "default", Digest: pepper.Digest(secret), Operation: operation}); err != nil {
				t.Fatal(err)
			}
			file := string(export(t, s))
			proof := secret.Reveal()[len(keys.SecretPrefix)+len(id)+1:]
			for i := range len(proof) - 8 {
				for _, form := range []string{proof[i : i+8], hex.EncodeToString([]byte(proof[i : i+8]))} {
					if strings.Contains(file, form) {
						t.Fatalf("a part of the secret is in the backup:\n%s", file)
					}
				}
			}
			for _, word := range []string{keys.SecretPrefix, "p3pp3r", operation.Key} {
				if strings.Contains(file, word) {
					t.Errorf("%q is in the backup:\n%s", word, file)
				}
			}
		})
	}
}

// smallBackup is a backup with two keys and a deletion.
// smallBackup has two accounts, a token, two keys and a deletion.
func smallBackup(t testing.TB) []byte {
	s := kindsOfStore()[0].open(t, storeOptions{})
	haveAccount(t, s, "acme")
	mustMakeToken(t, s, "acme", "deploy")
	mustMake(t, s, "default", "one", off)
	mustMake(t, s, "default", "two", nil)
	mustDelete(t, s, mustMake(t, s, "default", "three", nil).ID)
	return export(t, s)
}

// refusesWhole imports files that must be refused and leave no trace.
func refusesWhole(t *testing.T, s backedUp, files func(refuse func(what string, file []byte))) {
	t.Helper()
	before := header(t, export(t, s)).Version
	files(func(what string, file []byte) {
		report, err := s.Import(t.Context(), bytes.NewReader(file), ImportOptions{})
		if !errors.Is(err, ErrBackup) || report.Created != 0 {
			t.Errorf("%s: %v, %+v", what, err, report)
		} else if strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: more than one line: %v", what, err)
		}
	})
	if now := header(t, export(t, s)); now.Version != before || now.Keys+now.Deleted+now.Tokens != 0 || now.Accounts != 1 {
		t.Errorf("something was imported: %+v", now)
	}
}

func TestEveryDamagedByteIsRefusedWhole(t *testing.T) {
	file := smallBackup(t)
	onEveryStore(t, func(t *testing.T, s backedUp) {
		refusesWhole(t, s, func(refuse func(string, []byte)) {
			for i := range file {
				for _, bit := range []byte{0x01, 0x20, 0x80} {
					damaged := bytes.Clone(file)
					damaged[i] ^= bit
					refuse(fmt.Sprintf("byte %d of %d xor %#x", i, len(file), bit), damaged)
				}
				refuse(fmt.Sprintf("cut off after %d of %d", i, len(file)), file[:i])
			}
			refuse("twice", append(bytes.Clone(file), file...))
			refuse("a line more", append(bytes.Clone(file), '\n'))
			lines := bytes.SplitAfter(file, []byte("\n"))
			for i := range len(lines) - 1 {
				refuse(fmt.Sprintf("without line %d", i+1), bytes.Join(append(append([][]byte{}, lines[:i]...), lines[i+1:]...), nil))
			}
		})
		if report := mustImport(t, s, file, ImportOptions{}); report.Created != 2 {
			t.Errorf("the file itself: %+v", report)
		}
	})
}

// sealed ends lines with their checksum.
func sealed(lines ...string) []byte {
	text := strings.Join(lines, "\n") + "\n"
	sum := sha256.Sum256([]byte(text))
	return []byte(text + `{"sha256":"` + hex.EncodeToString(sum[:]) + "\"}\n")
}

// A checksum proves that a file is what was written, not that it makes sense.
func TestBackupThatMakesNoSenseIsRefusedWhole(t *testing.T) {
	lines := strings.Split(strings.TrimSpace(string(smallBackup(t))), "\n")
	head, acme, own, token, one, two, tomb := lines[0], lines[1], lines[2], lines[3], lines[4], lines[5], lines[6]
	replaced := func(line, old, new string) string {
		if !strings.Contains(line, old) {
			t.Fatalf("%q is not in %s", old, line)
		}
		return strings.Replace(line, old, new, 1)
	}
	nameOf := func(line string) string {
		var key struct{ Name, Key string }
		_ = json.Unmarshal([]byte(line), &key)
		return key.Name
	}
	idOf := func(line string) string { return line[strings.Index(line, "kst_"):][:26] }
	s := kindsOfStore()[0].open(t, storeOptions{})
	refusesWhole(t, s, func(refuse func(string, []byte)) {
		for what, file := range map[string][]byte{
			"nothing":                   {},
			"another file":              []byte("hello\n"),
			"newer format":              sealed(replaced(head, `"keystile_backup":2`, `"keystile_backup":3`), acme, own, token, one, two, tomb),
			"no format":                 sealed(replaced(head, `"keystile_backup":2,`, ``), acme, own, token, one, two, tomb),
			"more keys than told":       sealed(replaced(head, `"keys":2`, `"keys":1`), acme, own, token, one, two, tomb),
			"fewer keys than told":      sealed(replaced(head, `"keys":2`, `"keys":3`), acme, own, token, one, two, tomb),
			"negative number of keys":   sealed(replaced(head, `"keys":2`, `"keys":-2`), acme, own, token, one, two, tomb),
			"too high a version":        sealed(replaced(head, `"version":`, `"version":900719925474099`), acme, own, token, one, two, tomb),
			"the same key twice":        sealed(head, acme, own, token, one, one, tomb),
			"a key that is deleted":     sealed(head, acme, own, token, one, two, replaced(tomb, idOf(tomb), idOf(one))),
			"the same name twice":       sealed(head, acme, own, token, one, replaced(two, nameOf(two), nameOf(one)), tomb),
			"deletion first":            sealed(head, acme, own, token, tomb, one, two),
			"unknown member":            sealed(head, acme, own, token, replaced(one, `{`, `{"x":1,`), two, tomb),
			"two objects in a line":     sealed(head, acme, own, token, one+one, two, tomb),
			"name not normalized":       sealed(head, acme, own, token, replaced(one, `"name":"`, `"name":" `), two, tomb),
			"account with line break":   sealed(head, acme, own, token, replaced(one, `"account":"`, `"account":"\n`), two, tomb),
			"account of another shape":  sealed(head, acme, own, token, replaced(one, `"account":"default"`, `"account":"a shop"`), two, tomb),
			"older format":              sealed(replaced(head, `"keystile_backup":2`, `"keystile_backup":1`), acme, own, token, one, two, tomb),
			"numbers that are 0 in sum": sealed(replaced(head, `:2,"tokens":1,"keys":2,"deleted":1`, strings.Replace(`:N,"tokens":N,"keys":N,"deleted":N`, "N", "4611686018427387904", 4))),
			"the same account twice":    sealed(head, acme, acme, token, one, two, tomb),
			"account after the token":   sealed(head, acme, token, own, one, two, tomb),
			"no id of an account":       sealed(head, replaced(acme, `"acme"`, `"a/b"`), own, replaced(token, `"acme"`, `"a/b"`), one, two, tomb),
			"limit too high":            sealed(head, replaced(acme, `"active"`, `"limit":1001,"active"`), own, token, one, two, tomb),
			"limit below zero":          sealed(head, replaced(acme, `"active"`, `"limit":-1,"active"`), own, token, one, two, tomb),
			"account not normalized":    sealed(head, replaced(acme, `"active"`, `"name":" a","active"`), own, token, one, two, tomb),
			"account at version 0":      sealed(head, acme[:strings.Index(acme, `"version"`)]+`"version":0}`, own, token, one, two, tomb),
			"account newer than store":  sealed(head, replaced(acme, `"version":`, `"version":1`), own, token, one, two, tomb),
			"key of no account":         sealed(head, acme, own, token, replaced(one, `"default"`, `"other"`), two, tomb),
			"token of no account":       sealed(head, acme, own, replaced(token, `"acme"`, `"other"`), one, two, tomb),
			"the same token twice":      sealed(replaced(head, `"tokens":1`, `"tokens":2`), acme, own, token, token, one, two, tomb),
			"token without an id":       sealed(head, acme, own, token[:len(`{"id":"`)]+token[strings.Index(token, `","account"`):], one, two, tomb),
			"token without a digest":    sealed(head, acme, own, token[:strings.Index(token, `,"sum"`)]+"}", one, two, tomb),
			"token not normalized":      sealed(head, acme, own, replaced(token, `"deploy"`, `"deploy "`), one, two, tomb),
			"no account":                sealed(head, acme, own, token, replaced(one, `"account":"default"`, `"account":""`), two, tomb),
			"newer than its store":      sealed(head, acme, own, token, replaced(one, `"version":`, `"version":1`), two, tomb),
			"version 0":                 sealed(head, acme, own, token, one, two, tomb[:strings.Index(tomb, `"version"`)]+`"version":0}`),
			"unknown scheme":            sealed(head, acme, own, token, replaced(one, `"scheme":1`, `"scheme":7`), two, tomb),
			"rate without burst":        sealed(head, acme, own, token, replaced(one, `"digests"`, `"rate":{"per_second":1,"burst":0},"digests"`), two, tomb),
			"id too short":              sealed(head, acme, own, token, replaced(one, `"key":"kst_`, `"key":"kst`), two, tomb),
			"a very long line":          sealed(head, acme, own, token, replaced(one, `{`, `{`+strings.Repeat(" ", longestLine)), two, tomb),
		} {
			refuse(what, file)
		}
	})
	if report := mustImport(t, s, sealed(head, acme, own, token, one, two, tomb), ImportOptions{}); report.Created != 2 {
		t.Errorf("sealed again: %+v", report)
	}
}

func TestBackupOfAnotherPepperIsRefusedWhole(t *testing.T) {
	pepper := func(letters ...string) *keys.Peppers {
		var secrets [][]byte
		for _, letter := range letters {
			secrets = append(secrets, []byte(strings.Repeat(letter, keys.MinPepperLength)))
		}
		p, err := keys.NewPeppers(secrets...)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	for _, kind := range kindsOfStore() {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			open := func(p *keys.Peppers) backedUp { return kind.open(t, storeOptions{peppers: p}) }
			source := open(pepper("a"))
			mustMake(t, source, "default", "one", nil)
			file := export(t, source)
			for _, p := range []*keys.Peppers{nil, pepper("b")} {
				s := open(p)
				if _, err := s.Import(t.Context(), bytes.NewReader(file), ImportOptions{}); !errors.Is(err, ErrBackupPepper) {
					t.Errorf("got %v", err)
				}
				if now := header(t, export(t, s)); now.Keys != 0 || now.Version != 0 {
					t.Errorf("something was imported: %+v", now)
				}
			}
			mustImport(t, open(pepper("b", "a")), file, ImportOptions{})
			plain := open(nil)
			mustMake(t, plain, "default", "one", nil)
			mustImport(t, open(pepper("a")), export(t, plain), ImportOptions{})
		})
	}
}

// stalled is a reader of a backup that does not read on.
type stalled struct{ reached, proceed chan struct{} }

func (s *stalled) Write(p []byte) (int, error) {
	if s.reached != nil {
		close(s.reached)
		s.reached = nil
	}
	<-s.proceed
	return len(p), nil
}

// A transaction that reads keeps bbolt from making its file larger.
func TestSlowReaderOfABackupHoldsNothingUp(t *testing.T) {
	b := mustOpen(t, storeFile(t), BoltOptions{})
	mustCreate(t, b)
	w := &stalled{reached: make(chan struct{}), proceed: make(chan struct{})}
	reached, done := w.reached, make(chan error)
	go func() { done <- b.Export(t.Context(), w) }()
	<-reached
	if open := b.db.Stats().OpenTxN; open != 0 {
		close(w.proceed)
		<-done
		t.Fatalf("%d transactions are open while nobody reads", open)
	}
	mustCreate(t, b)
	close(w.proceed)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(b.path), ".keystile*")); len(left) > 0 {
		t.Errorf("temporary files stay: %v", left)
	}
}

// Files of before deletions were kept have no bucket for them.
func TestOlderFileGetsAPlaceForDeletions(t *testing.T) {
	path := storeFile(t)
	b := mustOpen(t, path, BoltOptions{})
	record := mustCreate(t, b)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	raw(t, path, asSchema1)
	b = mustOpen(t, path, BoltOptions{})
	file := export(t, b)
	mustDelete(t, b, record.ID)
	if report := mustImport(t, b, file, ImportOptions{}); len(report.Skipped) != 1 {
		t.Errorf("the deletion was not kept: %+v", report)
	}
	if _, err := b.Create(t.Context(), keys.Draft{ID: record.ID, Account: "default"}); !errors.Is(err, errIDTaken) {
		t.Errorf("the id was used again: %v", err)
	}
}

func TestShippedACLIsEnoughForBackups(t *testing.T) {
	server := redistest.Start(t, redistest.Options{ACL: shippedACL(t)})
	o := RedisOptions{Server: asKeystile(server.Addr())}
	r, err := DialRedis(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	file := smallBackup(t)
	mustImport(t, r, file, ImportOptions{DryRun: true})
	mustImport(t, r, file, ImportOptions{})
	mustImport(t, r, export(t, r), ImportOptions{Revive: true})
	if found, err := InspectRedis(t.Context(), o); err != nil || found.Keys != 2 {
		t.Errorf("found %+v, %v", found, err)
	}
	if refused := server.Must("ACL", "LOG"); refused != "" {
		t.Errorf("the server has refused something:\n%s", refused)
	}
}

// Whatever stands above a right checksum, reading it ends with all of it or ErrBackup.
func FuzzBackup(f *testing.F) {
	lines := strings.Split(string(smallBackup(f)), "\n")
	f.Add(strings.Join(lines[:len(lines)-2], "\n"))
	f.Add(`{"keystile_backup":1,"keys":0,"deleted":0}`)
	f.Add(`{"keystile_backup":2,"accounts":0,"tokens":0,"keys":0,"deleted":0}`)
	f.Add(`{"keystile_backup":2,"accounts":4611686018427387904,"tokens":4611686018427387904,"keys":4611686018427387904,"deleted":4611686018427387904}`)
	f.Add(`{"keystile_backup":1,"version":9,"keys":9223372036854775807,"deleted":9223372036854775807}`)
	f.Fuzz(func(t *testing.T, text string) {
		c, err := verifyBackup(t.Context(), bytes.NewReader(sealed(text)))
		if err != nil && !errors.Is(err, ErrBackup) {
			t.Errorf("got %v", err)
		}
		n := 0
		for _, keys := range c.held {
			n += keys
		}
		if err == nil && (n != c.Keys || c.Accounts+c.Tokens+c.Keys+c.Deleted != strings.Count(text, "\n")) {
			t.Errorf("%+v of %d lines", c, strings.Count(text, "\n"))
		}
	})
}
