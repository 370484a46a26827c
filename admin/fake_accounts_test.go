package admin

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"keystile/keys"
)

var (
	_ keys.Accounts = (*fakeStore)(nil)
	_ keys.Trail    = (*fakeStore)(nil)
)

// fakeTrail is a list with the method of keys.Trail.
type fakeTrail struct {
	head    keys.Link
	entries []keys.SealedEntry
}

// write adds an entry as the context's actor.
func (s *fakeStore) write(ctx context.Context, e keys.Entry) {
	actor := keys.ActorOf(ctx)
	e.Time, e.Version = testTime.UTC(), s.version
	e.Principal, e.Token, e.Peer, e.RequestID = actor.Principal, actor.Token, actor.Peer, actor.RequestID
	sealed, head, err := keys.Seal(s.trail.head, e)
	if err != nil {
		panic(err)
	}
	s.trail.entries, s.trail.head = append(s.trail.entries, sealed), head
}

func (s *fakeStore) Audit(_ context.Context, after uint64, limit int) (keys.TrailPage, error) {
	if err := s.enter(); err != nil {
		return keys.TrailPage{}, err
	}
	defer s.mu.Unlock()
	first := min(after, uint64(len(s.trail.entries)))
	list := s.trail.entries[first:]
	return keys.TrailPage{Head: s.trail.head, Entries: list[:min(limit, len(list))]}, nil
}

func (s *fakeStore) Account(_ context.Context, id string) (keys.Account, error) {
	if err := s.enter(); err != nil {
		return keys.Account{}, err
	}
	defer s.mu.Unlock()
	account, ok := s.accounts[id]
	if !ok {
		return account, keys.ErrNoAccount
	}
	return account, nil
}

func (s *fakeStore) Accounts(context.Context) ([]keys.Account, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	var list []keys.Account
	for _, account := range s.accounts {
		list = append(list, account)
	}
	slices.SortFunc(list, func(a, b keys.Account) int { return strings.Compare(a.ID, b.ID) })
	return list, nil
}

func (s *fakeStore) CreateAccount(ctx context.Context, k keys.Account) (keys.Account, keys.Receipt, error) {
	if err := s.enter(); err != nil {
		return keys.Account{}, keys.Receipt{}, err
	}
	defer s.mu.Unlock()
	if _, ok := s.accounts[k.ID]; ok {
		return keys.Account{}, keys.Receipt{}, keys.ErrAccountExists
	}
	s.version++
	k.Active, k.Version, k.Created, k.Updated = true, s.version, testTime, testTime
	s.accounts[k.ID] = k
	s.write(ctx, keys.Entry{Action: keys.AccountCreated, Account: k.ID, After: keys.AccountState(&k)})
	return k, s.receipt(s.version), nil
}

func (s *fakeStore) UpdateAccount(ctx context.Context, id string, change func(*keys.Account) error) (keys.Account, keys.Receipt, error) {
	if err := s.enter(); err != nil {
		return keys.Account{}, keys.Receipt{}, err
	}
	defer s.mu.Unlock()
	before, ok := s.accounts[id]
	if !ok {
		return before, keys.Receipt{}, keys.ErrNoAccount
	}
	k := before
	if err := change(&k); err != nil {
		return k, keys.Receipt{}, err
	}
	if k != before {
		s.version++
		k.Version = s.version
		s.accounts[id] = k
		for key, record := range s.records {
			if record.Account == id && record.Suspended == k.Active {
				s.version++
				record.Suspended, record.Version = !k.Active, s.version
				s.records[key] = record
			}
		}
		s.write(ctx, keys.Entry{Action: keys.AccountUpdated, Account: id, Before: keys.AccountState(&before), After: keys.AccountState(&k)})
	}
	return k, s.receipt(s.version), nil
}

func (s *fakeStore) DeleteAccount(ctx context.Context, id string, withKeys bool, check func(keys.Account) error) (keys.Receipt, error) {
	if err := s.enter(); err != nil {
		return keys.Receipt{}, err
	}
	defer s.mu.Unlock()
	k, ok := s.accounts[id]
	switch {
	case !ok:
		return keys.Receipt{}, keys.ErrNoAccount
	case check != nil && check(k) != nil:
		return keys.Receipt{}, check(k)
	case id == keys.DefaultAccount:
		return keys.Receipt{}, keys.ErrDefaultAccount
	case !withKeys && s.owned(id) > 0:
		return keys.Receipt{}, keys.ErrAccountHasKeys
	}
	for key, record := range s.records {
		if record.Account == id {
			delete(s.records, key)
		}
	}
	for token, t := range s.tokens {
		if t.Account == id {
			delete(s.tokens, token)
		}
	}
	delete(s.accounts, id)
	s.version++
	s.write(ctx, keys.Entry{Action: keys.AccountDeleted, Account: id, Before: keys.AccountState(&k)})
	return s.receipt(s.version), nil
}

// owned returns how many keys an account has.
func (s *fakeStore) owned(account string) (n int) {
	for _, record := range s.records {
		if record.Account == account {
			n++
		}
	}
	return n
}

func (s *fakeStore) CreateToken(ctx context.Context, t keys.AccountToken) (keys.AccountToken, keys.Receipt, error) {
	if err := s.enter(); err != nil {
		return keys.AccountToken{}, keys.Receipt{}, err
	}
	defer s.mu.Unlock()
	if _, ok := s.accounts[t.Account]; !ok {
		return keys.AccountToken{}, keys.Receipt{}, keys.ErrNoAccount
	}
	s.version++
	t.Created = testTime.Add(time.Duration(s.version) * time.Second)
	s.tokens[t.ID] = t
	s.write(ctx, keys.Entry{Action: keys.TokenCreated, Account: t.Account, Subject: t.ID, After: keys.TokenState(&t)})
	return t, s.receipt(s.version), nil
}

func (s *fakeStore) Token(_ context.Context, id string) (keys.AccountToken, error) {
	if err := s.enter(); err != nil {
		return keys.AccountToken{}, err
	}
	defer s.mu.Unlock()
	s.lookups++
	t, ok := s.tokens[id]
	if !ok {
		return t, keys.ErrNoToken
	}
	return t, nil
}

func (s *fakeStore) Tokens(_ context.Context, account string) ([]keys.AccountToken, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	if _, ok := s.accounts[account]; !ok {
		return nil, keys.ErrNoAccount
	}
	var list []keys.AccountToken
	for _, t := range s.tokens {
		if t.Account == account {
			list = append(list, t)
		}
	}
	slices.SortFunc(list, func(a, b keys.AccountToken) int { return a.Created.Compare(b.Created) })
	return list, nil
}

func (s *fakeStore) DeleteToken(ctx context.Context, account, id string) (keys.Receipt, error) {
	if err := s.enter(); err != nil {
		return keys.Receipt{}, err
	}
	defer s.mu.Unlock()
	t, ok := s.tokens[id]
	switch _, known := s.accounts[account]; {
	case !known:
		return keys.Receipt{}, keys.ErrNoAccount
	case !ok || t.Account != account:
		return keys.Receipt{}, keys.ErrNoToken
	}
	delete(s.tokens, id)
	s.version++
	s.write(ctx, keys.Entry{Action: keys.TokenDeleted, Account: account, Subject: id, Before: keys.TokenState(&t)})
	return s.receipt(s.version), nil
}

// account makes an account with a token, and returns the token.
func (b *bench) account(id string) string {
	b.t.Helper()
	b.send("POST", "/api/v1/accounts", `{"account":"`+id+`"}`).wants(b.t, 201, "")
	return b.send("POST", "/api/v1/accounts/"+id+"/tokens", "").wants(b.t, 201, "").member("token")
}

// as calls the API with another token than the administrator's.
func (b *bench) as(token, method, path, body string, header ...string) reply {
	b.t.Helper()
	request := b.request(method, path, body)
	request.Header.Set("Authorization", "Bearer "+token)
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Add(header[i], header[i+1])
	}
	return b.do(request)
}

// entries returns the audit trail as the API shows it, checked with its hashes.
func (b *bench) entries() []keys.Entry {
	b.t.Helper()
	page := b.page("")
	link := page.Anchor
	var entries []keys.Entry
	for _, sealed := range page.Entries {
		e, err := link.Follow(keys.SealedEntry{Text: string(sealed.Entry), Hash: sealed.Hash})
		if err != nil {
			b.t.Fatal(err)
		}
		entries = append(entries, e)
	}
	if link != page.Head {
		b.t.Fatalf("the trail ends at %d, and its head says %d", link.Number, page.Head.Number)
	}
	return entries
}

// errDown is what a store says that cannot be reached.
var errDown = fmt.Errorf("asking inner: %w", keys.ErrUnavailable)
