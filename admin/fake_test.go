package admin

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"keystile/keys"
)

const (
	testToken = "kat_for_tests_only_0123456789abcdef"
	testLimit = 10
)

// testTime is the time of every fake store: not UTC and with more than milliseconds.
var testTime = time.Date(2026, 3, 4, 15, 6, 7, 8_901_234, time.FixedZone("east", 3*3600))

// fakeStore is a map with the methods of keys.Store.
type fakeStore struct {
	mu         sync.Mutex
	records    map[keys.ID]keys.Record
	accounts   map[string]keys.Account
	tokens     map[string]keys.AccountToken
	trail      fakeTrail
	lookups    int // calls of Token
	operations map[string]fakeOperation
	version    uint64
	pending    []keys.Pending
	replicas   keys.Replicas
	err        error // returned by every call
	panic      any   // thrown by every call
}

type fakeOperation struct {
	request [32]byte
	id      keys.ID
}

var _ keys.Store = (*fakeStore)(nil)

func newFakeStore() *fakeStore {
	return &fakeStore{
		records: map[keys.ID]keys.Record{}, operations: map[string]fakeOperation{}, tokens: map[string]keys.AccountToken{},
		accounts: map[string]keys.Account{keys.DefaultAccount: {ID: keys.DefaultAccount, Active: true}},
	}
}

// enter locks the store and fails as the test wants.
func (s *fakeStore) enter() error {
	s.mu.Lock()
	if s.panic != nil {
		s.mu.Unlock()
		panic(s.panic)
	}
	if s.err != nil {
		s.mu.Unlock()
	}
	return s.err
}

func (s *fakeStore) Get(_ context.Context, id keys.ID) (keys.Record, error) {
	if err := s.enter(); err != nil {
		return keys.Record{}, err
	}
	defer s.mu.Unlock()
	record, ok := s.records[id]
	if !ok {
		return record, keys.ErrNotFound
	}
	return record, nil
}

func (s *fakeStore) List(_ context.Context, account string) ([]keys.Record, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	var list []keys.Record
	for _, r := range s.records {
		if account == "" || r.Account == account {
			list = append(list, r)
		}
	}
	slices.SortFunc(list, func(a, b keys.Record) int { return a.Created.Compare(b.Created) })
	return list, nil
}

func (s *fakeStore) taken(account, name string, except keys.ID) bool {
	for id, r := range s.records {
		if id != except && r.Account == account && r.Name == name {
			return true
		}
	}
	return false
}

func (s *fakeStore) Create(ctx context.Context, d keys.Draft) (keys.Created, error) {
	if err := s.enter(); err != nil {
		return keys.Created{}, err
	}
	defer s.mu.Unlock()
	if before, ok := s.operations[d.Operation.Key]; ok && d.Operation.Key != "" {
		record, found := s.records[before.id]
		switch {
		case before.request != d.Operation.Request:
			return keys.Created{}, keys.ErrOperationReused
		case !found:
			return keys.Created{}, keys.ErrNotFound
		}
		return keys.Created{Record: record, Receipt: s.receipt(record.Version), Replayed: true}, nil
	}
	account, ok := s.accounts[d.Account]
	limit := cmp.Or(account.Limit, testLimit)
	switch {
	case !ok:
		return keys.Created{}, keys.ErrNoAccount
	case s.owned(d.Account) >= limit:
		return keys.Created{}, &keys.LimitError{Limit: limit}
	}
	if d.Name == "" {
		d.Name = keys.DefaultName(func(name string) bool { return s.taken(d.Account, name, keys.ID{}) })
	}
	if s.taken(d.Account, d.Name, keys.ID{}) {
		return keys.Created{}, keys.ErrNameTaken
	}
	s.version++
	now := testTime.Add(time.Duration(s.version) * time.Second)
	record := keys.Record{
		ID: d.ID, Account: d.Account, Name: d.Name, Active: true, Suspended: !account.Active, Created: now, Updated: now,
		Version: s.version, Rate: d.Rate, Digests: [2]keys.Digest{d.Digest},
	}
	s.records[d.ID] = record
	s.write(ctx, keys.Entry{Action: keys.KeyCreated, Account: d.Account, Subject: d.ID.String(), After: keys.KeyState(&record, testTime)})
	s.operations[d.Operation.Key] = fakeOperation{d.Operation.Request, d.ID}
	return keys.Created{Record: record, Receipt: s.receipt(s.version)}, nil
}

func (s *fakeStore) receipt(version uint64) keys.Receipt {
	return keys.Receipt{Version: version, Pending: s.pending, Replicas: s.replicas}
}

func (s *fakeStore) Update(ctx context.Context, id keys.ID, change func(*keys.Record) error) (keys.Record, keys.Receipt, error) {
	if err := s.enter(); err != nil {
		return keys.Record{}, keys.Receipt{}, err
	}
	defer s.mu.Unlock()
	record, ok := s.records[id]
	if !ok {
		return record, keys.Receipt{}, keys.ErrNotFound
	}
	before := record
	if err := change(&record); err != nil {
		return record, keys.Receipt{}, err
	}
	if s.taken(record.Account, record.Name, id) {
		return record, keys.Receipt{}, keys.ErrNameTaken
	}
	if record != before {
		s.version++
		record.Version, record.Updated = s.version, record.Updated.Add(time.Second)
		s.records[id] = record
		s.write(ctx, keys.Entry{
			Action: keys.UpdateAction(&before, &record), Account: record.Account, Subject: id.String(),
			Before: keys.KeyState(&before, testTime), After: keys.KeyState(&record, testTime),
		})
	}
	return record, s.receipt(record.Version), nil
}

func (s *fakeStore) Delete(ctx context.Context, id keys.ID, check func(keys.Record) error) (keys.Receipt, error) {
	if err := s.enter(); err != nil {
		return keys.Receipt{}, err
	}
	defer s.mu.Unlock()
	record, ok := s.records[id]
	if !ok {
		return keys.Receipt{}, keys.ErrNotFound
	}
	if check != nil {
		if err := check(record); err != nil {
			return keys.Receipt{}, err
		}
	}
	delete(s.records, id)
	s.version++
	s.write(ctx, keys.Entry{Action: keys.KeyDeleted, Account: record.Account, Subject: id.String(), Before: keys.KeyState(&record, testTime)})
	return s.receipt(s.version), nil
}

func (s *fakeStore) Touch(_ context.Context, used map[keys.ID]keys.Use) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, use := range used {
		if record, ok := s.records[id]; ok {
			record.LastUsed = use
			s.records[id] = record
		}
	}
	return nil
}

func (s *fakeStore) Watch(context.Context, func(keys.Change)) error { return nil }
func (s *fakeStore) Close() error                                   { return nil }

// bench is an Admin with its fake store, its log and a server on loopback.
type bench struct {
	t     testing.TB
	store *fakeStore
	log   *lockedBuffer
	admin *Admin
	url   string
}

// lockedBuffer is a log that may be read while it is written.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func newBench(t testing.TB, adjust ...func(*Options)) *bench {
	t.Helper()
	token, err := ParseAdminToken(testToken)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, store: newFakeStore(), log: &lockedBuffer{}}
	o := Options{
		Store: b.store, Accounts: b.store, Trail: b.store, Token: token, PerAccount: testLimit,
		Log: slog.New(slog.NewJSONHandler(b.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, f := range adjust {
		f(&o)
	}
	b.admin = New(o)
	b.admin.brake.delay = 0
	server := httptest.NewServer(b.admin)
	t.Cleanup(server.Close)
	b.url = server.URL
	return b
}

// reply is what came back.
type reply struct {
	status int
	header http.Header
	text   string
	body   map[string]any // nil when it is not a JSON object
}

// code returns the code of a problem document.
func (r reply) code() string {
	code, _ := r.body["code"].(string)
	return code
}

// text returns a member that must be a string.
func (r reply) member(name string) string {
	text, _ := r.body[name].(string)
	return text
}

// send calls the API with the token; header has pairs of name and value.
func (b *bench) send(method, path, body string, header ...string) reply {
	b.t.Helper()
	return b.as(testToken, method, path, body, header...)
}

func (b *bench) request(method, path, body string) *http.Request {
	b.t.Helper()
	request, err := http.NewRequest(method, b.url+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	return request
}

func (b *bench) do(request *http.Request) reply {
	b.t.Helper()
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		b.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return checked(b.t, request, reply{status: response.StatusCode, header: response.Header, text: string(text)})
}

// checked decodes a reply and checks what holds for every one, and that it is as described.
func checked(t testing.TB, request *http.Request, r reply) reply {
	t.Helper()
	_ = json.Unmarshal([]byte(r.text), &r.body)
	if err := committed(t).Check(request.Method, request.URL.EscapedPath(), r.status, r.header, []byte(r.text)); err != nil {
		t.Errorf("%v: %s", err, r.text)
	}
	id := r.header.Get("X-Request-Id")
	if !requestIDShape.MatchString(id) || r.header.Get("X-Content-Type-Options") != "nosniff" || r.header.Get("Cache-Control") != "no-store" ||
		!strings.Contains(r.header.Get("Content-Security-Policy"), "frame-ancestors 'none'") {
		t.Errorf("reply %d lacks a common header: %v", r.status, r.header)
	}
	if r.status >= 400 && r.header.Get("Content-Type") != problemMediaType {
		t.Errorf("reply %d has Content-Type %q: %s", r.status, r.header.Get("Content-Type"), r.text)
	}
	if r.status >= 400 && (r.code() == "" || r.member("request_id") != id || r.body["status"] != float64(r.status) ||
		r.member("title") != http.StatusText(r.status) || r.member("detail") == "" || r.member("type") != "about:blank") {
		t.Errorf("reply %d is not a whole problem document: %s", r.status, r.text)
	}
	return r
}

// wants fails the test unless the reply has this status and, for a refusal, this code.
func (r reply) wants(t testing.TB, status int, code string) reply {
	t.Helper()
	if r.status != status || r.code() != code {
		t.Fatalf("got %d %q, want %d %q: %s", r.status, r.code(), status, code, r.text)
	}
	return r
}

// create makes a key and returns it and its secret.
func (b *bench) create(body string) (key, secret string) {
	b.t.Helper()
	made := b.send("POST", "/api/v1/keys", body).wants(b.t, 201, "")
	return made.member("key"), made.member("secret")
}

func withRegistry(registry *prometheus.Registry) func(*Options) {
	return func(o *Options) { o.Gatherer, o.Registerer = registry, registry }
}
