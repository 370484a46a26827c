package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"keystile/keys"
)

func accountsOf(t testing.TB, s keys.Accounts) []keys.Account {
	t.Helper()
	accounts, err := s.Accounts(t.Context())
	if err != nil {
		t.Fatalf("Accounts: %v", err)
	}
	return accounts
}

func accountIn(t testing.TB, s keys.Accounts, id string) keys.Account {
	t.Helper()
	account, err := s.Account(t.Context(), id)
	if err != nil {
		t.Fatalf("Account(%q): %v", id, err)
	}
	return account
}

func tokensIn(t testing.TB, s keys.Accounts, account string) []keys.AccountToken {
	t.Helper()
	tokens, err := s.Tokens(t.Context(), account)
	if err != nil {
		t.Fatalf("Tokens(%q): %v", account, err)
	}
	return tokens
}

// trailOf returns the entries of a trail, each of which follows the one before.
func trailOf(t testing.TB, s keys.Trail) (entries []keys.Entry) {
	t.Helper()
	page, err := s.Audit(t.Context(), 0, 1000)
	if err != nil {
		t.Fatalf("Audit: %v", err)
	}
	link := page.Anchor
	for _, sealed := range page.Entries {
		entry, err := link.Follow(sealed)
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, entry)
	}
	if link != page.Head {
		t.Fatalf("the trail ends at %d, its head is %d", link.Number, page.Head.Number)
	}
	return entries
}

// actions are what the entries after the first n say, as "action account".
func actions(entries []keys.Entry, n int) (said []string) {
	for _, e := range entries[n:] {
		said = append(said, fmt.Sprintf("%s %s", e.Action, e.Account))
	}
	return said
}

// furnishWithAccounts makes accounts of all sorts, with tokens and keys.
func furnishWithAccounts(t testing.TB, s backedUp) {
	t.Helper()
	mustChange(t, s, "default", func(a *keys.Account) { a.Name, a.Limit = "Main", 50 })
	haveAccount(t, s, "acme")
	mustChange(t, s, "acme", func(a *keys.Account) { a.Name, a.Limit = "Acme Ltd", 2 })
	mustMake(t, s, "acme", "a", nil)
	mustMake(t, s, "acme", "b", off)
	for i := range 3 {
		mustMakeToken(t, s, "acme", fmt.Sprint("token ", i))
	}
	gone := mustMakeToken(t, s, "acme", "revoked")
	if _, err := s.DeleteToken(t.Context(), "acme", gone.ID); err != nil {
		t.Fatal(err)
	}
	mustMake(t, s, "stopped", "c", nil)
	mustMakeToken(t, s, "stopped", "")
	mustChange(t, s, "stopped", func(a *keys.Account) { a.Active = false })
	haveAccount(t, s, "empty")
}

// keptOf is what a backup must keep of accounts: all but versions and the last change.
func keptOf(accounts []keys.Account) []keys.Account {
	for i := range accounts {
		accounts[i].Version, accounts[i].Updated = 0, time.Time{}
		if accounts[i].ID == keys.DefaultAccount {
			accounts[i].Created = time.Time{} // each store has its own
		}
	}
	return accounts
}

// byID forgets the order of tokens, which those that were made in one millisecond lose.
func byID(tokens []keys.AccountToken) []keys.AccountToken {
	slices.SortFunc(tokens, func(a, b keys.AccountToken) int { return strings.Compare(a.ID, b.ID) })
	return slices.Concat([]keys.AccountToken{}, tokens) // not nil
}

func TestBackupMovesAccountsAndTokensBetweenStores(t *testing.T) {
	for _, from := range kindsOfStore() {
		for _, to := range kindsOfStore() {
			t.Run(from.name+" to "+to.name, func(t *testing.T) {
				t.Parallel()
				source, target := from.open(t, storeOptions{}), to.open(t, storeOptions{})
				furnishWithAccounts(t, source)
				file := export(t, source)
				dry := mustImport(t, target, file, ImportOptions{DryRun: true})
				report := mustImport(t, target, file, ImportOptions{})
				report.Receipt = keys.Receipt{}
				if diff := cmp.Diff(dry, report); diff != "" || report.AccountsMade != 3 || report.AccountsChanged != 1 || report.TokensMade != 4 || len(report.Skipped) != 0 {
					t.Errorf("%+v (-dry +done):\n%s", report, diff)
				}
				if diff := cmp.Diff(keptOf(accountsOf(t, source)), keptOf(accountsOf(t, target))); diff != "" {
					t.Errorf("accounts (-source +target):\n%s", diff)
				}
				for _, account := range []string{"acme", "stopped", "empty", "default"} {
					if diff := cmp.Diff(byID(tokensIn(t, source, account)), byID(tokensIn(t, target, account))); diff != "" {
						t.Errorf("tokens of %s (-source +target):\n%s", account, diff)
					}
				}
				if diff := cmp.Diff(kept(mustList(t, source)), kept(mustList(t, target))); diff != "" {
					t.Errorf("keys (-source +target):\n%s", diff)
				}
				entries := trailOf(t, target)
				want := strings.Fields("account.create acme account.update default account.create empty account.create stopped " +
					"key.create acme key.create acme key.create stopped token.create acme token.create acme token.create acme token.create stopped")
				if diff := cmp.Diff(want, strings.Fields(strings.Join(actions(entries, 0), " "))); diff != "" {
					t.Errorf("the trail (-want +got):\n%s", diff)
				}
				for _, e := range entries {
					if e.Principal != "keystile" {
						t.Errorf("%s by %q", e.Action, e.Principal)
					}
				}
				if again := mustImport(t, target, file, ImportOptions{}); again.AccountsMade+again.AccountsChanged+again.TokensMade != 0 || len(again.Skipped) != 0 {
					t.Errorf("imported again: %+v", again)
				}
				if n := len(trailOf(t, target)); n != len(entries) {
					t.Errorf("%d entries for what changes nothing", n-len(entries))
				}
			})
		}
	}
}

func TestImportBringsNoRevokedTokenBackIntoItsStore(t *testing.T) {
	for _, kind := range kindsOfStore() {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			s := kind.open(t, storeOptions{})
			haveAccount(t, s, "acme")
			kept, revoked := mustMakeToken(t, s, "acme", "kept"), mustMakeToken(t, s, "acme", "revoked")
			file := export(t, s)
			if _, err := s.DeleteToken(t.Context(), "acme", revoked.ID); err != nil {
				t.Fatal(err)
			}
			for _, o := range []ImportOptions{{DryRun: true}, {}, {Revive: true}} {
				report := mustImport(t, s, file, o)
				want := []Skipped{{Token: revoked.ID, Account: "acme", Name: "revoked", Why: SkipRevoked}}
				if diff := cmp.Diff(want, report.Skipped); diff != "" || report.TokensMade != 0 {
					t.Errorf("%+v: %+v\n%s", o, report, diff)
				}
				if diff := cmp.Diff([]keys.AccountToken{kept}, tokensIn(t, s, "acme")); diff != "" {
					t.Errorf("%+v (-want +got):\n%s", o, diff)
				}
			}
			other := kind.open(t, storeOptions{})
			haveAccount(t, other, "acme")
			if report := mustImport(t, other, file, ImportOptions{}); report.TokensMade != 2 || len(report.Skipped) != 0 {
				t.Errorf("into another store: %+v", report)
			}
		})
	}
}

func TestImportBringsADeletedAccountBackEmpty(t *testing.T) {
	onEveryStore(t, func(t *testing.T, s backedUp) {
		mustMake(t, s, "acme", "key", nil)
		mustMakeToken(t, s, "acme", "token")
		file := export(t, s)
		if _, err := s.DeleteAccount(t.Context(), "acme", true, nil); err != nil {
			t.Fatal(err)
		}
		report := mustImport(t, s, file, ImportOptions{})
		var why []SkipReason
		for _, skipped := range report.Skipped {
			why = append(why, skipped.Why)
		}
		if report.AccountsMade != 1 || !slices.Equal(why, []SkipReason{SkipDeleted, SkipRevoked}) {
			t.Errorf("%+v", report)
		}
		if n := len(mustList(t, s)) + len(tokensIn(t, s, "acme")); n != 0 {
			t.Errorf("it has %d keys and tokens", n)
		}
	})
}

func TestBackupKeepsTheOrderOfTokens(t *testing.T) {
	var want []keys.AccountToken
	for i := range 5 {
		want = append(want, keys.AccountToken{
			ID: fmt.Sprint("id", (3*i+2)%5), Account: "default", Sum: keys.Sum{1}, Created: time.UnixMilli(1_700_000_000_000 + int64(i)).UTC(),
		})
	}
	var file bytes.Buffer
	w, err := newBackupWriter(&file, backupHeader{Store: "crafted", Version: 1, Accounts: 1, Tokens: len(want)})
	if err := errors.Join(err, w.accounts([]keys.Account{{ID: "default", Active: true}}, want), w.finish()); err != nil {
		t.Fatal(err)
	}
	onEveryStore(t, func(t *testing.T, s backedUp) {
		mustImport(t, s, file.Bytes(), ImportOptions{})
		if diff := cmp.Diff(want, tokensIn(t, s, "default")); diff != "" {
			t.Errorf("imported (-want +got):\n%s", diff)
		}
		c, err := verifyBackup(t.Context(), bytes.NewReader(export(t, s)))
		if diff := cmp.Diff(want, c.tokens); diff != "" || err != nil {
			t.Errorf("exported (-want +got):\n%s%v", diff, err)
		}
	})
}

// craftedAccounts is a backup of accounts and records, of another store.
func craftedAccounts(t testing.TB, version uint64, accounts []keys.Account, records ...keys.Record) []byte {
	t.Helper()
	var file bytes.Buffer
	w, err := newBackupWriter(&file, backupHeader{
		Store: "crafted", Version: version, Made: time.UnixMilli(1_800_000_000_000), Accounts: len(accounts), Keys: len(records),
	})
	err = errors.Join(err, w.accounts(accounts, nil))
	for _, r := range records {
		err = errors.Join(err, w.key(r))
	}
	if err := errors.Join(err, w.finish()); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

func TestImportOnlyMakesAccountsThatAreThereInactive(t *testing.T) {
	const older, newer = -1, +1
	for _, c := range []struct {
		name      string
		inStore   bool // active in the store
		inBackup  bool
		rises     int64
		revive    bool
		changed   bool
		skipped   bool
		afterward bool
	}{
		{"newer inactive", true, false, newer, false, true, false, false},
		{"older inactive", true, false, older, false, false, false, true},
		{"newer active", false, true, newer, false, false, true, false},
		{"older active", false, true, older, false, false, true, false},
		{"active, asked to revive", false, true, newer, true, false, true, false},
		{"both active", true, true, newer, false, false, false, true},
		{"both inactive", false, false, newer, false, false, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			onEveryStore(t, func(t *testing.T, s backedUp) {
				key := mustMake(t, s, "acme", "key", nil)
				mustChange(t, s, "acme", func(a *keys.Account) { a.Name, a.Active = "Acme", false })
				have := mustChange(t, s, "acme", func(a *keys.Account) { a.Limit, a.Active = 7, c.inStore })
				said := have
				said.Name, said.Limit, said.Active, said.Version = "Said", 9, c.inBackup, uint64(int64(have.Version)+c.rises)
				file := craftedAccounts(t, said.Version, []keys.Account{said})
				before := len(trailOf(t, s))
				dry := mustImport(t, s, file, ImportOptions{DryRun: true, Revive: c.revive})
				if diff := cmp.Diff(have, accountIn(t, s, "acme")); diff != "" {
					t.Errorf("a dry run has changed something:\n%s", diff)
				}
				report := mustImport(t, s, file, ImportOptions{Revive: c.revive})
				if version := accountIn(t, s, "acme").Version; c.changed && report.Receipt.Version != version {
					t.Errorf("the receipt speaks of %d, the change was %d", report.Receipt.Version, version)
				}
				report.Receipt = keys.Receipt{}
				if diff := cmp.Diff(dry, report); diff != "" || (report.AccountsChanged == 1) != c.changed || (len(report.Skipped) == 1) != c.skipped {
					t.Errorf("%+v (-dry +done):\n%s", report, diff)
				}
				after := accountIn(t, s, "acme")
				if after.Name != "Acme" || after.Limit != 7 || after.Active != c.afterward {
					t.Errorf("afterwards: %+v", after)
				}
				if r, err := s.Get(t.Context(), key.ID); err != nil || r.Suspended == c.afterward || !r.Active {
					t.Errorf("the key: %+v, %v", r, err)
				}
				if said := actions(trailOf(t, s), before); c.changed != slices.Equal(said, []string{"account.update acme"}) || !c.changed && said != nil {
					t.Errorf("the trail says %q", said)
				}
			})
		})
	}
}

// An account may have been inactive before its keys came.
func TestImportedKeyOfAnInactiveAccountIsSuspended(t *testing.T) {
	onEveryStore(t, func(t *testing.T, s backedUp) {
		haveAccount(t, s, "there")
		mustChange(t, s, "there", func(a *keys.Account) { a.Active = false })
		one, two := someRecord("one", 5), someRecord("two", 5)
		one.Account, two.Account = "there", "made"
		mustImport(t, s, craftedAccounts(t, 9, []keys.Account{
			{ID: "there", Active: true, Version: 1}, {ID: "made", Active: false, Version: 1},
		}, one, two), ImportOptions{})
		for _, r := range mustList(t, s) {
			if !r.Suspended || !r.Active {
				t.Errorf("%q: %+v", r.Name, r)
			}
		}
	})
}

func TestImportKeepsAccountsWithinTheirOwnLimit(t *testing.T) {
	for _, kind := range kindsOfStore() {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			for _, dry := range []bool{true, false} {
				s := kind.open(t, storeOptions{perAccount: 1})
				haveAccount(t, s, "there")
				mustChange(t, s, "there", func(a *keys.Account) { a.Limit = 2 })
				mustMake(t, s, "there", "first", nil)
				mustMake(t, s, "there", "second", nil)
				there, one, two := someRecord("third", 5), someRecord("one", 5), someRecord("two", 5)
				there.Account, one.Account, two.Account = "there", "made", "made"
				report := mustImport(t, s, craftedAccounts(t, 9, []keys.Account{
					{ID: "there", Active: true, Limit: 30, Version: 1}, {ID: "made", Active: true, Limit: 2, Version: 1},
				}, there, one, two), ImportOptions{DryRun: dry})
				if report.Created != 2 || len(report.Skipped) != 1 || report.Skipped[0].Why != SkipLimit || len(report.OverLimit) != 0 {
					t.Errorf("dry %v: %+v", dry, report)
				}
			}
		})
	}
}

func TestBackupOfFormat1MakesTheAccountsOfItsKeys(t *testing.T) {
	onEveryStore(t, func(t *testing.T, s backedUp) {
		record := someRecord("key", 5)
		record.Account = "acme"
		lines := strings.Split(string(craftedAccounts(t, 9, []keys.Account{{ID: "acme", Version: 1}}, record)), "\n")
		lines[0] = strings.Replace(lines[0], `"keystile_backup":2`, `"keystile_backup":1`, 1)
		lines[0] = strings.Replace(lines[0], `"accounts":1,"tokens":0,`, "", 1)
		report := mustImport(t, s, sealed(lines[0], lines[2]), ImportOptions{})
		if account := accountIn(t, s, "acme"); report.AccountsMade != 1 || report.Created != 1 || !account.Active || account.Created.IsZero() {
			t.Errorf("%+v: %+v", report, account)
		}
		if untouched := accountIn(t, s, "default"); untouched.Version != 0 {
			t.Errorf("the default account: %+v", untouched)
		}
	})
}

// meddling is a ledger before whose next step somebody changes the store.
type meddling struct {
	ledger
	meddle func()
}

func (m *meddling) write(ctx context.Context, entries []backupEntry, decide func(*page) []effect) error {
	m.meddle()
	return m.ledger.write(ctx, entries, decide)
}

func (m *meddling) tokens(ctx context.Context, some []keys.AccountToken, lacking func(*keys.AccountToken) bool) error {
	m.meddle()
	return m.ledger.tokens(ctx, some, lacking)
}

func TestImportNeedsTheAccountOfWhatItMakes(t *testing.T) {
	source := kindsOfStore()[0].open(t, storeOptions{})
	haveAccount(t, source, "acme")
	mustMakeToken(t, source, "acme", "token")
	token := export(t, source)
	mustMake(t, source, "acme", "key", nil)
	for what, file := range map[string][]byte{"token": token, "key": export(t, source)} {
		t.Run(what, func(t *testing.T) {
			onEveryStore(t, func(t *testing.T, s backedUp) {
				to := &meddling{ledgerOf(s), func() {
					if _, err := s.DeleteAccount(t.Context(), "acme", true, nil); err != nil && !errors.Is(err, keys.ErrNoAccount) {
						t.Error(err)
					}
				}}
				_, err := runImport(t.Context(), bytes.NewReader(file), to, ImportOptions{})
				if !errors.Is(err, keys.ErrNoAccount) || !strings.HasPrefix(err.Error(), "an account was deleted while it was imported") {
					t.Errorf("got %v", err)
				}
				if n := len(mustList(t, s)); n != 0 {
					t.Errorf("%d keys of no account", n)
				}
				if report := mustImport(t, s, file, ImportOptions{}); report.AccountsMade != 1 || report.TokensMade != 1 {
					t.Errorf("again: %+v", report)
				}
			})
		})
	}
}

func ledgerOf(s backedUp) ledger {
	if b, ok := s.(*Bolt); ok {
		return &boltLedger{b: b}
	}
	return &redisLedger{r: s.(*Redis)}
}

// Between reading and writing somebody changes the account.
func TestImportDecidesAgainWhenAnAccountHasChanged(t *testing.T) {
	for _, kind := range kindsOfStore()[1:] {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			r := kind.open(t, storeOptions{}).(*Redis)
			asked := 0
			decide := func(e, have *keys.Account) *keys.Account {
				if asked++; asked == 1 {
					haveAccount(t, r, "acme")
					mustChange(t, r, "acme", func(a *keys.Account) { a.Active = false })
				}
				next, _ := decideAccount(e, have)
				return next
			}
			l := &redisLedger{r: r}
			defer l.release()
			if err := l.accounts(t.Context(), []keys.Account{{ID: "acme", Name: "Said", Active: true, Version: 1}}, decide); err != nil || asked != 2 {
				t.Errorf("%v, asked %d times", err, asked)
			}
			if a := accountIn(t, r, "acme"); a.Active || a.Name != "" {
				t.Errorf("%+v", a)
			}
		})
	}
}
