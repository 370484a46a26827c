package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/alexedwards/scs/v2/memstore"
	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"
)

const (
	sessionPath     = apiBase + "/session"
	sessionIdle     = 30 * time.Minute
	sessionLifetime = 12 * time.Hour
	maxSessions     = 100 // of one principal

	sessionCookie       = "keystile_session"
	secureSessionCookie = "__Host-keystile_session" // browsers drop it without TLS
	sessionPrincipal    = "principal"
)

// sessions are the sign-ins of the console. They live in the memory of this process: a
// restart signs everybody out. Of one principal there are maxSessions at most: for one more
// its oldest ends, or whoever has an account's token could fill the memory.
type sessions struct {
	mu      sync.Mutex // a use must not bring back what a sign-out has ended
	store   *memstore.MemStore
	manager *scs.SessionManager
}

// newSessions does without scs.New: its codec, encoding/gob, is 200 kB of binary.
func newSessions() *sessions {
	store := memstore.New()
	return &sessions{store: store, manager: &scs.SessionManager{
		IdleTimeout: sessionIdle, Lifetime: sessionLifetime,
		Store: store, HashTokenInStore: true, Codec: sessionCodec{},
	}}
}

// sessionCodec is how scs keeps a session: as JSON.
type sessionCodec struct{}

type sessionData struct {
	Deadline time.Time
	Values   map[string]any
}

// Encode returns what Decode reads.
func (sessionCodec) Encode(deadline time.Time, values map[string]any) ([]byte, error) {
	return json.Marshal(sessionData{deadline, values})
}

// Decode reads what Encode returned.
func (sessionCodec) Decode(text []byte) (time.Time, map[string]any, error) {
	var data sessionData
	err := json.Unmarshal(text, &data)
	return data.Deadline, data.Values, err
}

// principal returns who signed in to the session id: administrator, or the id of an
// account's token; empty: there is no such session, or it has expired. Only a use puts off
// its idle expiry.
func (s *sessions) principal(ctx context.Context, id string, use bool) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx, err := s.manager.Load(ctx, id)
	if err != nil {
		return ""
	}
	principal := s.manager.GetString(ctx, sessionPrincipal)
	if principal != "" && use {
		if _, _, err := s.manager.Commit(ctx); err != nil {
			return ""
		}
	}
	return principal
}

// start begins a session under a new id, and ends the old one.
func (s *sessions) start(ctx context.Context, old, principal string) (id string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx, err = s.manager.Load(ctx, old); err != nil {
		return "", err
	}
	if err := s.manager.RenewToken(ctx); err != nil {
		return "", err
	}
	if err := s.makeRoom(principal); err != nil {
		return "", err
	}
	s.manager.Put(ctx, sessionPrincipal, principal)
	id, _, err = s.manager.Commit(ctx)
	return id, err
}

// makeRoom ends the oldest session of a principal that has as many as it may.
func (s *sessions) makeRoom(principal string) error {
	all, err := s.store.All()
	if err != nil {
		return err
	}
	count, oldest, earliest := 0, "", time.Time{}
	for key, text := range all {
		deadline, values, err := sessionCodec{}.Decode(text)
		if err != nil || values[sessionPrincipal] != principal {
			continue
		}
		if count++; count == 1 || deadline.Before(earliest) {
			oldest, earliest = key, deadline
		}
	}
	if count < maxSessions {
		return nil
	}
	return s.store.Delete(oldest)
}

func (s *sessions) end(ctx context.Context, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx, err := s.manager.Load(ctx, id)
	if err != nil {
		return err
	}
	return s.manager.Destroy(ctx)
}

func sessionCookieName(r *http.Request) string {
	if r.TLS != nil {
		return secureSessionCookie
	}
	return sessionCookie
}

// sessionID returns the id in the cookie of a request, or nothing.
func sessionID(r *http.Request) string {
	cookie, err := r.Cookie(sessionCookieName(r))
	if err != nil {
		return ""
	}
	return cookie.Value
}

// setSessionCookie returns the header that gives the browser a session's id until it is
// closed; without an id, the header that takes it away.
func setSessionCookie(r *http.Request, id string) string {
	cookie := http.Cookie{
		Name: sessionCookieName(r), Value: id, Path: "/",
		Secure: r.TLS != nil, HttpOnly: true, SameSite: http.SameSiteStrictMode,
	}
	if id == "" {
		cookie.MaxAge = -1
	}
	return cookie.String()
}

// isUse reports whether a request counts against the idle expiry. The console reads the
// keys by itself as long as it is open, and asks for the session when somebody is there.
func isUse(r *http.Request) bool {
	return !safeMethod(r.Method) || r.URL.Path == sessionPath
}

// stillSignedIn refuses a request whose session, or account's token, has ended while its body
// was on the way: nothing is begun after a sign-out or a revocation.
func (a *Admin) stillSignedIn(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		bySession := len(r.Header.Values("Authorization")) == 0 && r.URL.Path != sessionPath
		if bySession && a.sessions.principal(r.Context(), sessionID(r), false) == "" {
			writeProblem(w, r, a.refusal(r, false))
			return
		}
		if p := a.stillHolds(r); p != nil {
			writeProblem(w, r, p)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// stillHolds looks the account's token of a request with a body up once more.
func (a *Admin) stillHolds(r *http.Request) *problem {
	c := callOf(r.Context())
	if c.principal.token == "" || r.Method != http.MethodPost && r.Method != http.MethodPatch {
		return nil
	}
	again, err := a.signedIn(r.Context(), c.principal.token)
	switch {
	case err != nil:
		return a.refuse(r.Context(), err)
	case !again.known() && r.URL.Path != sessionPath:
		return a.refusal(r, false)
	}
	c.principal = again
	return nil
}

// SessionState says whether the cookie of the request belongs to a session.
type SessionState struct {
	SignedIn  bool   `json:"signed_in"`
	Principal string `json:"principal,omitempty" enum:"administrator,account" doc:"Who signed in."`
	Account   string `json:"account,omitempty" doc:"Whose token it was; absent: an administrator's."`
	Proxy     string `json:"proxy,omitempty" doc:"Where clients reach the proxy from the machine that it runs on. Only after sign-in." example:"http://127.0.0.1:8080"`
}

func (a *Admin) getSession(w http.ResponseWriter, r *http.Request) error {
	who, err := a.signedIn(r.Context(), a.sessions.principal(r.Context(), sessionID(r), true))
	if err != nil {
		return err
	}
	return answer(w, a.sessionState(who))
}

// sessionState is what the holder of a cookie reads.
func (a *Admin) sessionState(who principal) SessionState {
	switch {
	case who.administrator:
		return SessionState{SignedIn: true, Principal: administrator, Proxy: a.proxyURL}
	case who.known():
		return SessionState{SignedIn: true, Principal: "account", Account: who.account.ID, Proxy: a.proxyURL}
	}
	return SessionState{}
}

type signInInput struct {
	request *http.Request
	Body    struct {
		_     struct{} `additionalProperties:"false"`
		Token string   `json:"token" maxLength:"4096" doc:"The administrator token, or an account's."`
	}
}

// Resolve keeps the request, for its cookie.
func (in *signInInput) Resolve(ctx huma.Context) []error {
	in.request, _ = humachi.Unwrap(ctx)
	return refuseIdempotencyKey(ctx, "repeat the call, which begins another session")
}

type signInOutput struct {
	SetCookie string `header:"Set-Cookie"`
	Body      SessionState
}

func (a *Admin) signIn(ctx context.Context, in *signInInput) (*signInOutput, error) {
	who, err := a.recognize(ctx, in.Body.Token)
	switch {
	case err != nil:
		return nil, err
	case !who.known():
		return nil, a.refusal(in.request, true)
	}
	id, err := a.sessions.start(ctx, sessionID(in.request), who.kept())
	if err != nil {
		return nil, err
	}
	recognized(ctx, who)
	return &signInOutput{setSessionCookie(in.request, id), a.sessionState(who)}, nil
}

// signedOutReply describes the reply to a sign-out.
func signedOutReply() map[string]*huma.Response {
	return map[string]*huma.Response{"204": {
		Description: "No Content",
		Headers:     map[string]*huma.Param{"Set-Cookie": {Schema: &huma.Schema{Type: huma.TypeString}}},
	}}
}

func (a *Admin) signOut(w http.ResponseWriter, r *http.Request) error {
	if err := a.sessions.end(r.Context(), sessionID(r)); err != nil {
		return err
	}
	w.Header().Set("Set-Cookie", setSessionCookie(r, ""))
	w.WriteHeader(http.StatusNoContent)
	return nil
}
