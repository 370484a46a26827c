package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"sync/atomic"
	"time"

	"keystile/keys"
)

// exchange is one request on its way through, and what metrics and the access log
// will say of it.
type exchange struct {
	in        *http.Request
	out       *responseWriter
	requestID string
	began     time.Time
	cancel    context.CancelCauseFunc // ends the upstream request

	verdict Verdict
	key     keys.ID // zero until the secret was proved
	account string
	flight  *flight // nil until forwarding
	body    *requestBody
	called  time.Time   // when the upstream was called; zero: never
	wrote   atomic.Bool // the head of the request was written to the upstream
	barred  Verdict     // why the request could not use the connection it got; Allowed: it could

	upgradedIn atomic.Int64 // bytes from the client after a switch of protocols
	cause      cause        // how the upstream failed
	failure    string       // the error that says so, for the log
}

// exchangeKey finds the exchange in the context of the upstream request.
type exchangeKey struct{}

func exchangeOf(ctx context.Context) *exchange {
	return ctx.Value(exchangeKey{}).(*exchange)
}

// begin starts the exchange: request id, clock, and a context that can be ended.
func (p *Proxy) begin(w http.ResponseWriter, r *http.Request) *exchange {
	p.metrics.inFlight.Inc()
	x := &exchange{began: p.options.Now(), requestID: requestID(r.Header)}
	ctx, cancel := context.WithCancelCause(r.Context())
	x.cancel = cancel
	x.in = r.WithContext(context.WithValue(ctx, exchangeKey{}, x))
	x.out = newResponseWriter(w, x, p.options.WriteProgress, p.options.Now)
	return x
}

// end counts and logs the exchange, however it ended: a broken stream leaves the
// handler as a panic and must be counted too.
func (p *Proxy) end(x *exchange) {
	panicked := recover()
	abort := panicked != nil
	if panicked != nil && !isAbort(panicked) {
		p.reportPanic(x, panicked)
		if !x.out.wroteHeader() {
			p.refuse(x, refusal{verdict: InternalError})
			abort = false
		}
	}
	if abort || x.out.writeError() != nil || x.out.hijacked && x.cutShort() {
		x.verdict = p.brokenVerdict(x)
	}
	abort = abort || x.verdict == ClientGone // or net/http would answer 200 in our place
	x.cancel(nil)
	now := p.options.Now()
	p.metrics.observe(x, now)
	p.record(x, now)
	if abort {
		panic(http.ErrAbortHandler) // the client must see a broken transfer, not a clean end
	}
}

func isAbort(panicked any) bool {
	err, ok := panicked.(error)
	return ok && errors.Is(err, http.ErrAbortHandler)
}

// reportPanic logs where the code panicked. The value is logged only when it is a
// plain runtime error: another could hold what the client sent.
func (p *Proxy) reportPanic(x *exchange, panicked any) {
	x.verdict = InternalError
	what := fmt.Sprintf("%T", panicked)
	var plain interface{ RuntimeError() }
	if err, ok := panicked.(error); ok && errors.As(err, &plain) {
		what = err.Error()
	}
	p.options.Log.Error("panic while serving a request", "verdict", x.verdict.String(),
		"request_id", x.requestID, "panic", what, "stack", string(debug.Stack()))
}

// brokenVerdict says why an exchange was cut short after it was let through.
func (p *Proxy) brokenVerdict(x *exchange) Verdict {
	switch {
	case x.verdict != Allowed:
		return x.verdict
	case errors.Is(context.Cause(x.in.Context()), errRevoked):
		return p.revokedVerdict(x)
	case errors.Is(context.Cause(x.in.Context()), errDraining):
		return ShuttingDown
	case x.body.refusal() != nil:
		return x.body.refusal().verdict
	case x.cause == causeSilence:
		return UpstreamTimeout
	case x.cause != causeNone:
		return UpstreamUnreachable
	}
	return ClientGone
}

// cutShort reports whether we ended the exchange.
func (x *exchange) cutShort() bool {
	cause := context.Cause(x.in.Context())
	return errors.Is(cause, errRevoked) || errors.Is(cause, errDraining)
}

// status is the status that metrics and the access log show.
func (x *exchange) status() int {
	if x.verdict == ClientGone {
		return statusClientGone
	}
	return x.out.status()
}

// bytesIn counts what the client has sent beside the head.
func (x *exchange) bytesIn() int64 {
	n := x.upgradedIn.Load()
	if x.body != nil {
		n += x.body.bytes.Load()
	}
	return n
}
