package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

var (
	errSilence       = errors.New("the upstream paused for too long in the middle of its answer")
	errNoStatus      = errors.New("the upstream answered with a status below 100") // net/http panics when it is to write one
	errUnaskedSwitch = errors.New("the upstream switched to a protocol that was not asked for")
)

// cause says in which way the upstream failed.
type cause uint8

const (
	causeNone     cause = iota
	causeDial           // no connection
	causeTLS            // no TLS session
	causeTimeout        // no answer in time
	causeClosed         // connection closed before an answer
	causeProtocol       // an answer that is not HTTP
	causeBroken         // connection broken in the middle of an answer
	causeSilence        // no bytes for too long in the middle of an answer
	causeCount
)

// causeWords are the metric labels.
var causeWords = [causeCount]string{
	"none", "dial", "tls", "timeout", "closed", "protocol", "broken", "silence",
}

// upstreamFailed tells the client why there is no answer. It sorts out first what
// was not the upstream's fault.
func (p *Proxy) upstreamFailed(_ http.ResponseWriter, r *http.Request, err error) {
	x := exchangeOf(r.Context())
	switch {
	case x.out.hijacked: // the client left before it had read the head of the switch
		x.verdict = ClientGone
	case x.barred != Allowed:
		p.refuse(x, refusal{verdict: x.barred, retryAfter: time.Second})
	case x.flight.ended():
		p.refuse(x, refusal{verdict: p.revokedVerdict(x)})
	case errors.Is(context.Cause(r.Context()), errRevoked):
		p.refuse(x, refusal{verdict: p.revokedVerdict(x), noRetry: x.wrote.Load()})
	case errors.Is(context.Cause(r.Context()), errDraining):
		p.refuse(x, refusal{verdict: ShuttingDown, retryAfter: time.Second, noRetry: x.wrote.Load()})
	case x.body.refusal() != nil:
		p.refuseBody(x, *x.body.refusal())
	case r.Context().Err() != nil:
		x.verdict = ClientGone
	default:
		p.blameUpstream(x, err)
	}
}

// revokedVerdict says what the change that ended the request made of its key.
func (p *Proxy) revokedVerdict(x *exchange) Verdict {
	grant, _ := p.options.Records.Get(x.key)
	proved := x.flight.proved
	if !grant.Active && (grant.Digests[0].Sum == proved.Sum || grant.Digests[1].Sum == proved.Sum) {
		return KeyInactive
	}
	return BadCredentials
}

// refuseBody answers a client whose body could not be read.
func (p *Proxy) refuseBody(x *exchange, r refusal) {
	if r.verdict == ClientGone {
		x.verdict = ClientGone
		return
	}
	p.refuse(x, r)
}

// blameUpstream counts a failure of the upstream and answers 502 or 504.
func (p *Proxy) blameUpstream(x *exchange, err error) {
	x.cause, x.failure = causeOf(err), unquoted(err)
	verdict := UpstreamUnreachable
	if x.cause == causeTimeout {
		verdict = UpstreamTimeout
	}
	p.refuse(x, refusal{verdict: verdict, noRetry: x.wrote.Load()})
}

// unquoted returns the text of an error up to what it quotes: an answer that is not
// HTTP is quoted, and may send back the credentials that the upstream was sent.
func unquoted(err error) string {
	text, _, _ := strings.Cut(err.Error(), `"`)
	return strings.TrimSpace(text)
}

// causeOf classifies an error of the transport before an answer.
func causeOf(err error) cause {
	var operation *net.OpError
	var timeout interface{ Timeout() bool }
	switch {
	case isTLS(err):
		return causeTLS
	case errors.As(err, &operation) && operation.Op == "dial":
		return causeDial
	case errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout():
		return causeTimeout
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || operation != nil:
		return causeClosed
	case strings.Contains(err.Error(), "server closed idle connection"): // net/http has no value for it
		return causeClosed
	}
	return causeProtocol
}

func isTLS(err error) bool {
	var record tls.RecordHeaderError
	var alert tls.AlertError
	var certificate *tls.CertificateVerificationError
	return errors.As(err, &record) || errors.As(err, &alert) || errors.As(err, &certificate) ||
		strings.Contains(err.Error(), "TLS handshake") // net/http has no value for its timeout
}

// upstreamBroke remembers that the answer broke off, unless the client or we ended it.
func (x *exchange) upstreamBroke(err error) {
	ended := context.Cause(x.in.Context())
	switch {
	case x.cause != causeNone || x.body.refusal() != nil:
	case errors.Is(ended, errSilence):
		x.cause, x.failure = causeSilence, errSilence.Error()
	case ended == nil:
		x.cause, x.failure = causeBroken, unquoted(err)
	}
}
