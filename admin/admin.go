// Package admin is the management side of Keystile on its own listener: the API
// under /api/v1 that creates, lists, reads, renames, switches, rotates and deletes
// keys, does the same with accounts and their tokens, shows the audit trail, lists the
// processes that share the store and exports it, its description at
// /api/v1/openapi.json, that as a page at /reference, the console at / which uses that API,
// and /healthz, /readyz and /metrics.
//
// A request passes, in this order: a request id, the check of the Host header
// against DNS rebinding, the check against cross-origin requests of browsers, the
// token or the cookie of a console's session, the size and media type of the body, once
// more the session or the account's token, who may call the operation (principal.go),
// strict JSON, the operation. With the cookie a change must be announced as JSON even
// where it has no body: no form of another page can do that. Every refusal is a problem
// document (RFC 9457) with a code from one table (problem.go); what went wrong inside is
// only logged, with the request id.
//
// There are two kinds of principal. An administrator does everything. An account, by a token
// that is looked up in the store for each request, sees and changes its own keys, and reads
// of another's what it reads of a key that does not exist. A session is its token's: when
// that is revoked, the session ends. Each change is recorded with its principal.
//
// /healthz and /readyz stand outside the checks, so that a probe may call them by any
// name and without a token; they tell nothing but whether the process serves.
// /metrics needs the right Host, and an administrator's token or session unless the
// caller sits on this machine.
//
// Not promised: that an account learns nothing at all of others, for versions count the
// changes of the whole store, and receipts name processes. The server encrypts nothing
// until its TLSConfig is set. Sessions are in memory: a restart signs out, and each process
// has its own. Browsers keep cookies by host and not by port: two consoles on one host sign
// each other out.
package admin

import (
	"bytes"
	"context"
	stdlog "log"
	"log/slog"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/prometheus/client_golang/prometheus"

	"keystile/keys"
)

// Options is what New needs. Store, Accounts, Trail and Token must be set.
type Options struct {
	// Store keeps the records. Of one that is an Exporter, backups can be made.
	Store keys.Store
	// Accounts keeps the accounts and their tokens; Trail shows all changes. Both are of the
	// same store.
	Accounts keys.Accounts
	Trail    keys.Trail
	// Token is the administrator token. The zero Token admits nobody.
	Token Token
	// Peppers makes the digests of new secrets; nil: without a pepper.
	Peppers *keys.Peppers
	// PerAccount is the store's limit of keys for an account without its own, shown as "limit".
	PerAccount int
	// Hosts are names by which the listener may be called beside localhost and IP
	// addresses; a port is ignored.
	Hosts []string
	// MetricsPublic opens /metrics to callers beyond loopback without the token.
	MetricsPublic bool
	// Ready returns nil when the process can serve, else the reason shown by /readyz.
	// It must not ask the upstream. Nil: always ready.
	Ready func() error
	// ProxyURL is where clients reach the proxy from this machine, for the console's
	// examples; empty: it is not known.
	ProxyURL string
	// Proxies returns the processes that share the store; nil: the list is empty.
	Proxies func() []Proxy
	// Gatherer is what /metrics shows; nil: there is no /metrics.
	Gatherer prometheus.Gatherer
	// Registerer takes the metrics of this package; nil: they are not registered.
	Registerer prometheus.Registerer
	// Log gets one line for each change at info, for each other request at debug;
	// nil: nothing is logged.
	Log *slog.Logger
	// Now tells the time; nil: time.Now.
	Now func() time.Time
	// Version is the version in the description of the API; empty: "dev".
	Version string
}

// Admin is the handler that New returns.
type Admin struct {
	store    keys.Store
	accounts keys.Accounts
	trail    keys.Trail
	exporter Exporter // nil: the store is none
	peppers  *keys.Peppers
	limit    int
	token    Token
	hosts    map[string]bool
	ready    func() error
	proxies  func() []Proxy
	proxyURL string
	sessions *sessions
	brake    *brake
	paces    *paces
	log      *slog.Logger
	now      func() time.Time
	metrics  *metrics
	failures failureLog
	router   *chi.Mux
}

// New returns the handler of the admin listener. It panics when Registerer already has
// the metrics of another Admin.
func New(o Options) *Admin {
	a := &Admin{
		store: o.Store, accounts: o.Accounts, trail: o.Trail, peppers: o.Peppers, limit: o.PerAccount,
		token: o.Token, hosts: hostSet(o.Hosts),
		ready: o.Ready, proxies: o.Proxies, proxyURL: o.ProxyURL,
		sessions: newSessions(), brake: newBrake(), paces: newPaces(), log: o.Log, now: o.Now,
		metrics: newMetrics(o.Registerer), router: chi.NewRouter(),
	}
	a.exporter, _ = o.Store.(Exporter)
	if a.ready == nil {
		a.ready = func() error { return nil }
	}
	if a.proxies == nil {
		a.proxies = func() []Proxy { return nil }
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	if a.now == nil {
		a.now = time.Now
	}
	a.routes(o)
	return a
}

func (a *Admin) routes(o Options) {
	a.router.Use(a.observe, middleware.GetHead)
	a.router.NotFound(a.notFound)
	a.router.MethodNotAllowed(a.methodNotAllowed)
	a.router.Get("/healthz", a.healthz)
	a.router.Get("/readyz", a.readyz)
	if o.Gatherer != nil {
		door := a.metricsDoor(o.MetricsPublic)
		a.router.With(a.knownHost, a.sameOrigin, door).Get("/metrics", a.exposition(o.Gatherer).ServeHTTP)
	}
	a.console(a.router.With(a.knownHost))
	a.reference(a.router.With(a.knownHost))
	a.router.Route(apiBase, func(r chi.Router) {
		r.Use(a.knownHost, a.sameOrigin, a.authenticated, singleQueryValues, jsonBody, a.stillSignedIn)
		a.operations(r, o.Version)
	})
}

// ServeHTTP answers one request.
func (a *Admin) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.router.ServeHTTP(w, r) }

// notFound answers for paths that do not exist.
func (a *Admin) notFound(w http.ResponseWriter, r *http.Request) {
	writeProblem(w, r, pathNotFound.problem(""))
}

// methodNotAllowed answers 405 with Allow (RFC 9110, 15.5.6), or 404 when no method
// would do: the router does not look at the path of a method unknown to it.
func (a *Admin) methodNotAllowed(w http.ResponseWriter, r *http.Request) {
	path := r.URL.RawPath
	if path == "" {
		path = r.URL.Path
	}
	allow := http.Header{}
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPatch, http.MethodDelete} {
		if a.router.Match(chi.NewRouteContext(), method, path) {
			allow.Add("Allow", method)
		}
	}
	if len(allow) == 0 {
		a.notFound(w, r)
		return
	}
	if a.router.Match(chi.NewRouteContext(), http.MethodGet, path) {
		allow.Add("Allow", http.MethodHead)
	}
	p := wrongMethod.problem("")
	p.header = allow
	writeProblem(w, r, p)
}

// NewServer returns a server for the admin listener, HTTP/1.1 alone, with limits on time
// and size that suit short requests, and on connections (MaxConnections). To serve TLS, set
// its TLSConfig. Close and Shutdown are the caller's. A nil log discards what net/http has
// to say.
func NewServer(a *Admin, log *slog.Logger) *http.Server {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	open := &connections{onClose: a.metrics.displaced.Inc}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true) // connections counts one request at a time on each
	return &http.Server{
		Handler:                      a,
		Protocols:                    protocols,
		ConnContext:                  open.opened,
		ConnState:                    open.changed,
		ReadHeaderTimeout:            5 * time.Second,
		ReadTimeout:                  30 * time.Second,
		WriteTimeout:                 60 * time.Second,
		IdleTimeout:                  60 * time.Second,
		MaxHeaderBytes:               32 << 10,
		ErrorLog:                     stdlog.New(serverLog{log}, "", 0),
		DisableGeneralOptionsHandler: true, // "OPTIONS *" must pass the handler too
	}
}

// serverLog takes what net/http has to say. That a TLS handshake fails any stranger can
// bring about: debug level.
type serverLog struct{ log *slog.Logger }

// Write logs one line.
func (l serverLog) Write(line []byte) (int, error) {
	level := slog.LevelWarn
	if bytes.Contains(line, []byte("TLS handshake error")) {
		level = slog.LevelDebug
	}
	l.log.Log(context.Background(), level, string(bytes.TrimSpace(line)))
	return len(line), nil
}
