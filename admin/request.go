package admin

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

	"keystile/keys"
)

// call is what is learned about a request while it is served.
type call struct {
	id        string // request id
	principal principal
	operation string // id of the operation; empty: none was reached
	key       string // the key it is about; empty: none, or not well formed
}

type callKey struct{}

// callOf returns the call of a request; outside of one, an empty one.
func callOf(ctx context.Context) *call {
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		return c
	}
	return &call{}
}

// observe is the outermost layer: request id, common headers, panics, log and metrics.
func (a *Admin) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &call{id: requestID(r)}
		r = r.WithContext(context.WithValue(r.Context(), callKey{}, c))
		w.Header().Set("X-Request-Id", c.id)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cross-Origin-Resource-Policy", "same-origin")
		w.Header().Set("Content-Security-Policy", inertPolicy)
		w.Header().Set("Cache-Control", "no-store")
		reply := middleware.NewWrapResponseWriter(w, r.ProtoMajor)
		start := a.now()
		defer a.finish(reply, r, start)
		next.ServeHTTP(reply, r)
	})
}

// finish is deferred by observe. It answers a panic with 500, or cuts the connection
// when a reply has begun.
func (a *Admin) finish(reply middleware.WrapResponseWriter, r *http.Request, start time.Time) {
	thrown := recover()
	if thrown != nil && thrown != http.ErrAbortHandler {
		a.logPanic(r, thrown)
		if reply.Status() == 0 {
			writeProblem(reply, r, internalError.problem(""))
			thrown = nil
		}
	}
	a.metrics.observe(reply.Status())
	a.logRequest(reply, r, a.now().Sub(start))
	if thrown != nil {
		panic(http.ErrAbortHandler)
	}
}

// logPanic logs what kind of value was thrown and where. The value itself could hold a secret,
// unless it is the runtime's. A stack shows arguments as addresses.
func (a *Admin) logPanic(r *http.Request, thrown any) {
	what := fmt.Sprintf("%T", thrown)
	if fault, ok := thrown.(runtime.Error); ok {
		what = fault.Error()
	}
	a.log.ErrorContext(r.Context(), "admin request panicked",
		"request_id", callOf(r.Context()).id, "panic", what, "stack", string(debug.Stack()))
}

// logRequest writes one line: at info for a principal's change that reached its operation. It logs the
// pattern of the route, never the path, in which people paste secrets.
func (a *Admin) logRequest(reply middleware.WrapResponseWriter, r *http.Request, took time.Duration) {
	c := callOf(r.Context())
	level := slog.LevelDebug
	attributes := []slog.Attr{
		slog.String("method", knownMethod(r.Method)),
		slog.String("route", chi.RouteContext(r.Context()).RoutePattern()),
		slog.Int("status", reply.Status()),
		slog.Duration("took", took),
		slog.String("peer", r.RemoteAddr),
		slog.String("request_id", c.id),
	}
	if c.operation != "" {
		attributes = append(attributes, slog.String("principal", c.principal.String()), slog.String("operation", c.operation))
		if c.principal.known() && !safeMethod(r.Method) {
			level = slog.LevelInfo
		}
	}
	if c.key != "" {
		attributes = append(attributes, slog.String("key", c.key))
	}
	a.log.LogAttrs(r.Context(), level, "admin request", attributes...)
}

// knownMethod keeps a method that a stranger made up out of the log.
func knownMethod(method string) string {
	switch method {
	case http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete:
		return method
	}
	if safeMethod(method) {
		return method
	}
	return "other"
}

func safeMethod(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions
}

var requestIDShape = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// requestID returns the client's X-Request-Id where it is well formed and nothing that must not
// be logged, else a new one.
func requestID(r *http.Request) string {
	sent := r.Header.Values("X-Request-Id")
	if len(sent) == 1 && requestIDShape.MatchString(sent[0]) && shown(sent[0]) == sent[0] {
		return sent[0]
	}
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails: crypto/rand ends the process instead
	return hex.EncodeToString(random[:])
}

// logFailure logs why a request could not be served, for the operator alone.
func (a *Admin) logFailure(ctx context.Context, err error) {
	c := callOf(ctx)
	level := slog.LevelError
	if errors.Is(err, context.Canceled) {
		level = slog.LevelDebug // the client has gone
	}
	a.log.Log(ctx, level, "admin request failed",
		"request_id", c.id, "operation", c.operation, "key", c.key, "error", keys.Redact(err.Error()))
}
