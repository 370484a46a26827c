package admin

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"keystile/keys"
)

// failureInterval is the least time between two log lines about failed authentications.
const failureInterval = time.Second

// knownHost refuses a Host that is neither localhost, an IP address nor configured: a
// page whose name was re-bound to this machine cannot choose another.
func (a *Admin) knownHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := hostName(r.Host)
		_, err := netip.ParseAddr(host)
		if err != nil && host != "localhost" && !a.hosts[host] {
			writeProblem(w, r, unknownHost.problem(""))
			return
		}
		next.ServeHTTP(w, r)
	})
}

func hostSet(names []string) map[string]bool {
	set := make(map[string]bool, len(names))
	for _, name := range names {
		set[hostName(name)] = true
	}
	delete(set, "")
	return set
}

// hostName returns the host of a Host header in lower case, without port, brackets
// and the dot of an absolute name.
func hostName(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// sameOrigin refuses changes that a browser sends for a page of another origin.
func (a *Admin) sameOrigin(next http.Handler) http.Handler {
	protection := http.NewCrossOriginProtection()
	protection.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		writeProblem(w, r, forbidden.problem("a browser may send changes only from this listener's own pages"))
	}))
	return protection.Handler(next)
}

// authenticated lets only principals through, by token or by session. To the calls about
// the session itself everybody may come.
func (a *Admin) authenticated(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, p := a.principal(r)
		if p != nil {
			writeProblem(w, r, p)
			return
		}
		if who.known() {
			recognized(r.Context(), who)
			r = r.WithContext(keys.WithActor(r.Context(), who.actor(r)))
		}
		next.ServeHTTP(w, r)
	})
}

// recognized notes who sent the request that is served.
func recognized(ctx context.Context, who principal) {
	callOf(ctx).principal = who
	claimFor(ctx, who)
}

// principal returns who sent a request, or why it is refused. A token counts before a cookie.
func (a *Admin) principal(r *http.Request) (principal, *problem) {
	if len(r.Header.Values("Authorization")) > 0 {
		return a.principalOfToken(r)
	}
	kept := a.sessions.principal(r.Context(), sessionID(r), isUse(r))
	if kept != "" && !safeMethod(r.Method) && !isJSON(r.Header) {
		return principal{}, wrongMediaType.problem("")
	}
	who, err := a.signedIn(r.Context(), kept)
	switch {
	case r.URL.Path == sessionPath: // which asks again; and signing out needs no store
		return who, nil
	case err != nil:
		return who, a.refuse(r.Context(), err)
	case !who.known():
		return who, a.refusal(r, false)
	}
	return who, nil
}

func (a *Admin) principalOfToken(r *http.Request) (principal, *problem) {
	text, sent := bearer(r)
	if !sent {
		return principal{}, a.refusal(r, false)
	}
	who, err := a.recognize(r.Context(), text)
	switch {
	case err != nil:
		return who, a.refuse(r.Context(), err)
	case !who.known():
		return who, a.refusal(r, true)
	}
	return who, nil
}

// bearer returns the token of the one Authorization header (RFC 6750, 2.1).
func bearer(r *http.Request) (token string, sent bool) {
	values := r.Header.Values("Authorization")
	if len(values) != 1 {
		return "", false
	}
	scheme, token, found := strings.Cut(values[0], " ")
	return strings.TrimLeft(token, " "), found && strings.EqualFold(scheme, "Bearer")
}

// refusal counts a failed authentication and returns what its sender reads. It comes late
// when a wrong token was sent.
func (a *Admin) refusal(r *http.Request, sent bool) *problem {
	reason, detail := "missing", "send a token as: Authorization: Bearer <token>, or sign in"
	if sent {
		reason, detail = "wrong", "the token is wrong, or was revoked"
	}
	a.metrics.refused.WithLabelValues(reason).Inc()
	if count, due := a.failures.add(a.now()); due {
		a.log.WarnContext(r.Context(), "admin authentication failed", "reason", reason,
			"peer", r.RemoteAddr, "request_id", callOf(r.Context()).id, "failures", count)
	}
	p := unauthorized.problem(detail)
	p.header = http.Header{"Www-Authenticate": {`Bearer realm="keystile"`}}
	if sent {
		a.brake.hold(r.Context())
	}
	return p
}

// failureLog says when failed authentications are to be logged, so that a stranger
// cannot fill the log.
type failureLog struct {
	mu    sync.Mutex
	last  time.Time
	count int
}

// add counts a failure. When a line is due it returns the failures since the last one.
func (f *failureLog) add(now time.Time) (count int, due bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count++
	if !f.last.IsZero() && now.Sub(f.last) < failureInterval {
		return 0, false
	}
	count, f.count, f.last = f.count, 0, now
	return count, true
}

// metricsDoor asks for the administrator token, except of callers on this machine or when
// public: the metrics are about all accounts.
func (a *Admin) metricsDoor(public bool) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		guarded := a.authenticated(administratorsAlone(next))
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if public || onThisMachine(r) {
				next.ServeHTTP(w, r)
				return
			}
			guarded.ServeHTTP(w, r)
		})
	}
}

func administratorsAlone(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p := callOf(r.Context()).principal.refused(administratorsOnly, r.Method); p != nil {
			writeProblem(w, r, p)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// onThisMachine reports whether the TCP peer is loopback and speaks for itself. A
// reverse proxy on this machine makes everybody's peer loopback; the headers it
// adds give it away, and one that adds none goes unnoticed.
func onThisMachine(r *http.Request) bool {
	if !isLoopback(r.RemoteAddr) {
		return false
	}
	for name := range r.Header {
		if strings.HasPrefix(name, "X-Forwarded-") || name == "Forwarded" || name == "X-Real-Ip" || name == "Via" {
			return false
		}
	}
	return true
}

// singleQueryValues refuses a query that is malformed or says something twice, for
// which of the two counts would be a guess.
func singleQueryValues(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query, err := url.ParseQuery(r.URL.RawQuery)
		if err != nil {
			writeProblem(w, r, badRequest.problem("the query is malformed"))
			return
		}
		for name, values := range query {
			if len(values) > 1 {
				writeProblem(w, r, badRequest.problem("the query says "+shown(name)+" twice"))
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}
