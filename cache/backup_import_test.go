package cache

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"

	"keystile/cache/redistest"
	"keystile/keys"
)

// crafted is a backup of records and deletions, at their versions.
func crafted(t testing.TB, records []keys.Record, tombs ...backupTomb) []byte {
	t.Helper()
	head := backupHeader{Store: "crafted", Made: time.UnixMilli(1_800_000_000_000), Keys: len(records), Deleted: len(tombs)}
	for _, r := range records {
		head.Version = max(head.Version, r.Version)
	}
	for _, tomb := range tombs {
		head.Version = max(head.Version, tomb.Version)
	}
	var accounts []keys.Account
	for _, r := range records {
		if !slices.ContainsFunc(accounts, func(a keys.Account) bool { return a.ID == r.Account }) {
			accounts = append(accounts, keys.Account{ID: r.Account, Active: true, Version: 1})
		}
	}
	head.Accounts = len(accounts)
	var file bytes.Buffer
	w, err := newBackupWriter(&file, head)
	err = errors.Join(err, w.accounts(accounts, nil))
	for _, r := range records {
		err = errors.Join(err, w.key(r))
	}
	for _, tomb := range tombs {
		err = errors.Join(err, w.line(tomb))
	}
	if err := errors.Join(err, w.finish()); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

// someRecord is a record that no store has.
func someRecord(name string, version uint64) keys.Record {
	id := keys.NewID()
	at := time.UnixMilli(1_700_000_000_000).UTC()
	return keys.Record{
		ID: id, Account: "default", Name: name, Active: true, Created: at, Updated: at, Version: version,
		Digests: [2]keys.Digest{(*keys.Peppers)(nil).Digest(keys.NewSecret(id))},
	}
}

// importCase is what becomes of one key, called "key".
type importCase struct {
	name string
	// store makes what the store has: nil, nothing.
	store func(t *testing.T, s keys.Store) keys.Record
	// file makes what the backup says: by default what the store had at first.
	file    func(r keys.Record) keys.Record
	deleted bool  // the backup has it as a deletion
	rises   int64 // the backup's version against the store's
	revive  bool

	outcome string // created, updated, deleted, noted, left, "" for none
	skipped SkipReason
	gone    bool
	check   func(t *testing.T, after keys.Record)
}

func isActive(want bool) func(*testing.T, keys.Record) {
	return func(t *testing.T, after keys.Record) {
		if after.Active != want {
			t.Errorf("active: %v", after.Active)
		}
	}
}

func isNamed(want string) func(*testing.T, keys.Record) {
	return func(t *testing.T, after keys.Record) {
		if after.Name != want {
			t.Errorf("it is called %q", after.Name)
		}
	}
}

func active(r keys.Record) keys.Record   { r.Active = true; return r }
func inactive(r keys.Record) keys.Record { r.Active = false; return r }
func renamed(r keys.Record) keys.Record  { r.Name = "renamed"; return r }

func importCases() []importCase {
	plain := func(t *testing.T, s keys.Store) keys.Record { return mustMake(t, s, "default", "key", nil) }
	switchedOff := func(t *testing.T, s keys.Store) keys.Record { return mustMake(t, s, "default", "key", off) }
	gone := func(t *testing.T, s keys.Store) keys.Record {
		r := plain(t, s)
		mustDelete(t, s, r.ID)
		return r
	}
	const older, same, newer = -1, 0, +1
	return []importCase{
		{name: "unknown is made", rises: newer, outcome: "created", check: isActive(true)},
		{name: "unknown and inactive is made inactive", file: inactive, rises: newer, outcome: "created", check: isActive(false)},

		{name: "deleted stays deleted", store: gone, rises: older, skipped: SkipDeleted, gone: true},
		{name: "deleted stays deleted against a newer backup", store: gone, rises: newer, skipped: SkipDeleted, gone: true},
		{name: "deleted comes back when asked to", store: gone, rises: older, revive: true, outcome: "created", check: isActive(true)},
		{name: "deleted and inactive comes back inactive", store: gone, file: inactive, rises: older, revive: true, outcome: "created", check: isActive(false)},

		{name: "inactive stays inactive", store: switchedOff, file: active, rises: older, skipped: SkipInactive, check: isActive(false)},
		{name: "inactive stays inactive against a newer backup", store: switchedOff, file: active, rises: newer, skipped: SkipInactive, check: isActive(false)},
		{name: "inactive stays so while the rest is updated", store: switchedOff, file: func(r keys.Record) keys.Record { return active(renamed(r)) }, rises: newer, outcome: "updated", skipped: SkipInactive, check: func(t *testing.T, after keys.Record) {
			isActive(false)(t, after)
			isNamed("renamed")(t, after)
		}},
		{name: "inactive is switched on when asked to", store: switchedOff, file: func(r keys.Record) keys.Record { return active(renamed(r)) }, rises: older, revive: true, outcome: "updated", check: func(t *testing.T, after keys.Record) {
			isActive(true)(t, after)
			isNamed("key")(t, after)
		}},

		{name: "same version is left", store: plain, file: renamed, rises: same, outcome: "left", check: isNamed("key")},
		{name: "higher version is left", store: plain, file: inactive, rises: older, outcome: "left", check: isActive(true)},
		{name: "lower version is updated", store: plain, file: renamed, rises: newer, outcome: "updated", check: isNamed("renamed")},
		{name: "lower version is switched off", store: plain, file: inactive, rises: newer, outcome: "updated", check: isActive(false)},
		{name: "nothing new is left", store: plain, rises: newer, outcome: "left"},
		{name: "another account's is skipped", store: plain, file: func(r keys.Record) keys.Record { r.Account = "other"; return renamed(r) }, rises: newer, skipped: SkipAccount, check: isNamed("key")},

		{name: "newer deletion is done", store: plain, deleted: true, rises: newer, outcome: "deleted", gone: true},
		{name: "older deletion is left", store: plain, deleted: true, rises: older, outcome: "left", check: isActive(true)},
		{name: "known deletion is left", store: gone, deleted: true, rises: newer, outcome: "left", gone: true},
		{name: "unknown deletion is noted", deleted: true, rises: newer, outcome: "noted", gone: true},
	}
}

// run imports into a store that has nothing of this case yet.
func (c importCase) run(t *testing.T, s backedUp, dry bool) {
	record := someRecord("key", 10)
	if c.store != nil {
		record = c.store(t, s)
	}
	said := record
	if c.file != nil {
		said = c.file(record)
	}
	said.Version = uint64(int64(header(t, export(t, s)).Version) + 10*c.rises)
	if c.rises == 0 {
		said.Version = record.Version
	}
	if c.rises < 0 {
		said.Version = record.Version - 1
	}
	file := crafted(t, []keys.Record{said})
	if c.deleted {
		file = crafted(t, nil, backupTomb{said.ID, said.Version})
	}
	before := kept(mustList(t, s))
	report := mustImport(t, s, file, ImportOptions{Revive: c.revive, DryRun: dry})
	c.judge(t, report)
	if dry {
		if diff := cmp.Diff(before, kept(mustList(t, s))); diff != "" {
			t.Errorf("a dry run has changed something:\n%s", diff)
		}
		return
	}
	after, err := s.Get(t.Context(), record.ID)
	if errors.Is(err, keys.ErrNotFound) != c.gone || err != nil && !c.gone {
		t.Fatalf("afterwards: %v", err)
	}
	if c.check != nil {
		c.check(t, after)
	}
}

func (c importCase) judge(t *testing.T, r ImportReport) {
	t.Helper()
	for outcome, n := range map[string]int{"created": r.Created, "updated": r.Updated, "deleted": r.Deleted, "noted": r.Noted, "left": r.Left} {
		if (n == 1) != (c.outcome == outcome) || n > 1 {
			t.Errorf("%s: %d", outcome, n)
		}
	}
	switch {
	case c.skipped == "" && len(r.Skipped) != 0, c.skipped != "" && len(r.Skipped) != 1:
		t.Errorf("skipped: %+v", r.Skipped)
	case c.skipped != "" && r.Skipped[0].Why != c.skipped:
		t.Errorf("skipped for %q", r.Skipped[0].Why)
	}
}

func TestImportNeverWidensWhatTheStoreHasNarrowed(t *testing.T) {
	for _, kind := range kindsOfStore() {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			s := kind.open(t, storeOptions{})
			for range 3 { // so that there are versions below
				mustDelete(t, s, mustMake(t, s, "filler", "", nil).ID)
			}
			for _, c := range importCases() {
				for _, dry := range []bool{true, false} {
					t.Run(fmt.Sprintf("%s, dry %v", c.name, dry), func(t *testing.T) {
						c.run(t, s, dry)
						for _, r := range mustList(t, s) {
							mustDelete(t, s, r.ID)
						}
					})
				}
			}
		})
	}
}

// The whole story of an operator who restores last week's backup.
func TestOldBackupBringsNothingBackUnlessAskedTo(t *testing.T) {
	onEveryStore(t, func(t *testing.T, s backedUp) {
		deleted := mustMake(t, s, "default", "deleted since", nil)
		disabled := mustMake(t, s, "default", "disabled since", nil)
		mustMake(t, s, "default", "untouched", nil)
		file := export(t, s)
		mustDelete(t, s, deleted.ID)
		mustUpdate(t, s, disabled.ID, off)
		report := mustImport(t, s, file, ImportOptions{})
		want := []Skipped{
			{Key: disabled.ID, Account: "default", Name: "disabled since", Why: SkipInactive},
			{Key: deleted.ID, Account: "default", Name: "deleted since", Why: SkipDeleted},
		}
		if diff := cmp.Diff(want, report.Skipped); diff != "" || report.Left != 1 {
			t.Errorf("%+v\n%s", report, diff)
		}
		if r, err := s.Get(t.Context(), disabled.ID); err != nil || r.Active {
			t.Errorf("the disabled key: %v, %v", r.Active, err)
		}
		if _, err := s.Get(t.Context(), deleted.ID); !errors.Is(err, keys.ErrNotFound) {
			t.Errorf("the deleted key: %v", err)
		}
		if report = mustImport(t, s, file, ImportOptions{Revive: true}); report.Created != 1 || report.Updated != 1 || len(report.Skipped) != 0 {
			t.Errorf("asked to: %+v", report)
		}
		for _, id := range []keys.ID{deleted.ID, disabled.ID} {
			if r, err := s.Get(t.Context(), id); err != nil || !r.Active {
				t.Errorf("revived: %v, %v", r.Active, err)
			}
		}
		if h := header(t, export(t, s)); h.Deleted != 0 {
			t.Errorf("%d deletions are still known", h.Deleted)
		}
		revived, err := s.Get(t.Context(), deleted.ID)
		if err != nil {
			t.Fatal(err)
		}
		revived.Name, revived.Version = "renamed", revived.Version+100
		if report = mustImport(t, s, crafted(t, []keys.Record{revived}), ImportOptions{}); report.Updated != 1 {
			t.Errorf("after it came back: %+v", report)
		}
	})
}

// A rotation that ended an old secret holds, though a newer backup knows of no end.
func TestImportMovesNoEndOfASecretBack(t *testing.T) {
	onEveryStore(t, func(t *testing.T, s backedUp) {
		r := mustMake(t, s, "default", "rotated", nil)
		said := r
		fresh := (*keys.Peppers)(nil).Digest(keys.NewSecret(r.ID))
		said.Digests = [2]keys.Digest{fresh, r.Digests[0]}
		said.Version = r.Version + 100
		r = mustUpdate(t, s, r.ID, func(r *keys.Record) { r.Digests[0].Until = 1_700_000_000_000 })
		mustImport(t, s, crafted(t, []keys.Record{said}), ImportOptions{})
		after, err := s.Get(t.Context(), r.ID)
		if want := [2]keys.Digest{fresh, r.Digests[0]}; err != nil || after.Digests != want {
			t.Errorf("got %+v, %v, want %+v", after.Digests, err, want)
		}
	})
}

func TestImportBringsNoOldSecretBackThatWasEndedEarly(t *testing.T) {
	onEveryStore(t, func(t *testing.T, s backedUp) {
		id := mustMake(t, s, "default", "rotated", nil).ID
		mustUpdate(t, s, id, func(r *keys.Record) {
			_ = r.Rotate((*keys.Peppers)(nil).Digest(keys.NewSecret(id)), time.Hour, time.Now())
		})
		file := export(t, s)
		want := mustUpdate(t, s, id, (*keys.Record).EndOverlap)
		mustImport(t, s, file, ImportOptions{})
		if after, err := s.Get(t.Context(), id); err != nil || after.Digests != want.Digests {
			t.Errorf("got %+v, %v, want %+v", after.Digests, err, want.Digests)
		}
	})
}

func TestImportKeepsNamesUniqueAndAccountsWithinTheirLimit(t *testing.T) {
	for _, kind := range kindsOfStore() {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			for _, dry := range []bool{true, false} {
				s := kind.open(t, storeOptions{perAccount: 3})
				mustMake(t, s, "default", "a", nil)
				kept := mustMake(t, s, "default", "b", nil)
				said := kept
				said.Name, said.Version = "a", 50
				report := mustImport(t, s, crafted(t, []keys.Record{said, someRecord("b", 50), someRecord("c", 50), someRecord("d", 50)}), ImportOptions{DryRun: dry})
				var why []string
				for _, skipped := range report.Skipped {
					why = append(why, skipped.Name+" "+string(skipped.Why))
				}
				// "d" finds the account with three keys, though the backup has four of it: two are the store's alone.
				if want := "a name_kept, b name_taken"; report.Created != 2 || strings.Join(why, ", ") != want || report.OverLimit["default"] != 4 {
					t.Errorf("dry %v: %+v, want skipped %s", dry, report, want)
				}
			}
		})
	}
}

func TestImportFillsAnAccountOnlyAsFarAsTheBackup(t *testing.T) {
	for _, kind := range kindsOfStore() {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			file := crafted(t, []keys.Record{someRecord("a", 9), someRecord("b", 9), someRecord("c", 9)})
			for _, dry := range []bool{true, false} {
				s := kind.open(t, storeOptions{perAccount: 2})
				mustMake(t, s, "default", "there", nil)
				report := mustImport(t, s, file, ImportOptions{DryRun: dry})
				if report.Created != 2 || len(report.Skipped) != 1 || report.Skipped[0].Why != SkipLimit || report.OverLimit["default"] != 3 {
					t.Errorf("dry %v: %+v", dry, report)
				}
			}
		})
	}
}

func TestDryRunReportsWhatAnImportDoesAndWritesNothing(t *testing.T) {
	onEveryStore(t, func(t *testing.T, s backedUp) {
		furnish(t, s)
		var said []keys.Record
		for i, r := range mustList(t, s) {
			r.Version += 1000
			r.Name = fmt.Sprint("renamed ", i)
			said = append(said, r)
		}
		for i := range 3 * importPage { // names that become free, and pages that see those before them
			said = append(said, someRecord(fmt.Sprint("new ", i), 500))
		}
		said = append(said, someRecord("plain", 500), someRecord("renamed", 500))
		file := crafted(t, said, backupTomb{keys.NewID(), 600})
		before := export(t, s)
		dry := mustImport(t, s, file, ImportOptions{DryRun: true})
		if now, then := header(t, export(t, s)), header(t, before); now.Version != then.Version || now.Keys != then.Keys || now.Deleted != then.Deleted {
			t.Errorf("a dry run wrote: %+v, before %+v", now, then)
		}
		done := mustImport(t, s, file, ImportOptions{})
		done.Receipt = keys.Receipt{}
		if diff := cmp.Diff(dry, done); diff != "" || done.Updated != 5 || done.Created != 3*importPage+2 {
			t.Errorf("%+v (-dry +done):\n%s", done, diff)
		}
	})
}

func TestDryRunOnAnEmptyServerMakesNoStore(t *testing.T) {
	server := redistest.Start(t, redistest.Options{})
	o := RedisOptions{Server: RedisServer{Addresses: []string{server.Addr()}}}
	r, err := DialRedis(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	report := mustImport(t, r, smallBackup(t), ImportOptions{DryRun: true})
	if size := server.Must("DBSIZE"); size != "0" || report.Created != 2 {
		t.Errorf("DBSIZE %s after %+v", size, report)
	}
	if err := r.Export(t.Context(), new(bytes.Buffer)); !errors.Is(err, errNoStore) {
		t.Errorf("exported nothing: %v", err)
	}
	if found, err := InspectRedis(t.Context(), o); err != nil || found != (RedisContents{}) {
		t.Errorf("found %+v, %v", found, err)
	}
	mustImport(t, r, smallBackup(t), ImportOptions{})
	if found, err := InspectRedis(t.Context(), o); err != nil || found.Keys != 2 || found.Store != r.store || found.Version == 0 {
		t.Errorf("found %+v, %v, want store %s", found, err, r.store)
	}
	export(t, r)
}

// One who maintains a store is none of the proxies that receipts wait for.
func TestMaintenanceIsNotInTheTableOfProxies(t *testing.T) {
	server := redistest.Start(t, redistest.Options{})
	o := RedisOptions{Server: RedisServer{Addresses: []string{server.Addr()}}, StateFile: storeFile(t), ReceiptDeadline: patience}
	serving, err := OpenRedis(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer serving.Close()
	if err := serving.Watch(t.Context(), func(keys.Change) {}); err != nil {
		t.Fatal(err)
	}
	r, err := DialRedis(t.Context(), o) // the state file is in use
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	report := mustImport(t, r, smallBackup(t), ImportOptions{})
	if serving.o.Mirror.Len() != 2 || !report.Receipt.Everywhere() {
		t.Errorf("the proxy has %d keys, receipt %+v", serving.o.Mirror.Len(), report.Receipt)
	}
	if rows := server.Must("HLEN", "{keystile}:proxies"); rows != "1" {
		t.Errorf("%s rows", rows)
	}
}

// Between reading and writing somebody takes a name, fills the account, deletes a key.
func TestImportDecidesAgainWhenTheStoreHasChanged(t *testing.T) {
	address := miniredis.RunT(t).Addr()
	open := func() *Redis {
		r, err := OpenRedis(t.Context(), RedisOptions{Server: RedisServer{Addresses: []string{address}}, PerAccount: 3})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.Close() })
		return r
	}
	mine, theirs := open(), open()
	doomed, other := mustMake(t, mine, "default", "doomed", nil), mustMake(t, mine, "another", "other", nil)
	for what, interfere := range map[string]func(e *backupEntry){
		"name":      func(e *backupEntry) { mustMake(t, theirs, "default", e.Name, nil) },
		"deletion":  func(*backupEntry) { mustDelete(t, theirs, doomed.ID) },
		"disabling": func(*backupEntry) { mustUpdate(t, theirs, other.ID, off) },
		"limit": func(e *backupEntry) {
			for range 3 {
				mustMake(t, theirs, "full", "", nil)
			}
		},
	} {
		record := someRecord("contested", 20)
		switch what {
		case "deletion":
			record = doomed
			record.Name, record.Version = "renamed", 100
		case "disabling":
			record = other
			record.Name, record.Version = "renamed", 100
		case "limit":
			record.Account = "full"
		}
		entry := backupEntry{Record: record}
		im := &importer{to: &redisLedger{r: mine}, limits: map[string]int{"default": 3, "another": 3, "full": 3}, creating: what == "name" || what == "limit"}
		asked := 0
		err := im.to.write(t.Context(), []backupEntry{entry}, func(p *page) []effect {
			if asked++; asked == 1 {
				interfere(&entry)
			}
			return im.decide(p, []backupEntry{entry})
		})
		if err != nil || asked != 2 {
			t.Errorf("%s: %v, decided %d times", what, err, asked)
		}
		after, err := mine.Get(t.Context(), record.ID)
		if what == "disabling" {
			if err != nil || after.Active || after.Name != "renamed" {
				t.Errorf("%s: %+v, %v", what, after, err)
			}
		} else if !errors.Is(err, keys.ErrNotFound) {
			t.Errorf("%s: the key is there (%v)", what, err)
		}
	}
}

func TestImportCutShortIsFinishedByAnother(t *testing.T) {
	var records []keys.Record
	for i := range 3 * importPage {
		records = append(records, someRecord(fmt.Sprint("key ", i), uint64(i)+1))
	}
	file := crafted(t, records)
	mirror := NewMirror()
	b := mustOpen(t, storeFile(t), BoltOptions{PerAccount: 1000, Mirror: mirror})
	commits := 0
	b.commit = func(tx *bbolt.Tx) error {
		if commits++; commits == 3 {
			return errors.New("the disk is full")
		}
		return tx.Commit()
	}
	report, err := b.Import(t.Context(), bytes.NewReader(file), ImportOptions{})
	if !errors.Is(err, keys.ErrUnavailable) || report.Created != importPage || len(mustList(t, b)) != importPage || mirror.Len() != importPage {
		t.Fatalf("%v, %+v, %d keys, %d in the mirror", err, report, len(mustList(t, b)), mirror.Len())
	}
	if report = mustImport(t, b, file, ImportOptions{}); report.Created != 2*importPage || report.Left != importPage || mirror.Len() != 3*importPage {
		t.Errorf("again: %+v, %d in the mirror", report, mirror.Len())
	}
}
