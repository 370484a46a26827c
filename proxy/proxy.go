// Package proxy is the hot path: it judges a request by its credentials from
// memory, forwards it to the upstream and streams the answer back, or refuses it.
//
// A request goes through credentials, record, verdict, limit, forwarding, metrics,
// in that order, which is the security policy; [Proxy.ServeHTTP] is that order. The
// package owns no path: the whole path space belongs to the upstream.
//
// So that nothing starts under an old record once a change has been acknowledged, a
// request enters its key's row of the table of flights, reads the record once more,
// and only then asks for an upstream connection; a change swaps the record, then
// calls [Proxy.Changed], which ends the flights that have no connection yet.
//
// Not promised: a process stopped in the microseconds between its last check and
// its write to the upstream may still send that request. Rate limits hold per
// process.
package proxy

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"keystile/keys"
)

// Records is where the proxy finds keys. It takes no context, because nothing here
// may do I/O.
type Records interface {
	// Get returns the grant of id, which the caller must not change, and true; for an
	// unknown id the zero Grant and false.
	Get(id keys.ID) (*keys.Grant, bool)
	// Current reports whether this is still the latest version of the key.
	Current(id keys.ID, version uint64) bool
	// Fresh returns why the records may be out of date, or nil.
	Fresh() error
}

// Options say how a Proxy works. Upstream and Records are required.
type Options struct {
	Records Records
	Peppers *keys.Peppers // nil: none
	// Upstream is where requests go: scheme, host and a base path that is put before
	// the client's path.
	Upstream *url.URL
	// UpstreamHeaders are set on every forwarded request, in place of the client's.
	UpstreamHeaders http.Header
	// Transport carries requests to the upstream; nil: NewTransport(TransportOptions{}).
	Transport http.RoundTripper

	KeyHeader      string         // header of the key; "": X-Key
	SecretHeader   string         // header of the secret; "": X-Secret
	IgnoreCarriers []Carrier      // removed without being read
	TrustedProxies []netip.Prefix // peers whose forwarding headers are believed
	DefaultRate    keys.Rate      // for keys without a rate of their own; zero: none
	PreserveHost   bool           // forward the client's Host instead of the upstream's
	WebSocket      bool           // let WebSocket upgrades through
	CutStreams     bool           // break off answers to a key, or by a secret, that is ended meanwhile

	MaxBody       int64         // bytes of a request body; 0: 64 MiB
	BodyProgress  time.Duration // a request body may rest for this long; 0: 30 s
	WriteProgress time.Duration // a client may refuse bytes for this long; 0: 30 s
	Silence       time.Duration // the upstream may pause a response body for this long; 0: 300 s

	Registerer prometheus.Registerer // nil: metrics are kept but not registered
	AccessLog  *slog.Logger          // a line for each request; nil: only failures of the upstream, to Log
	Log        *slog.Logger          // nil: discarded
	Now        func() time.Time      // nil: time.Now
}

// Proxy is the handler of the proxy listener. Make one with New.
type Proxy struct {
	options  Options
	carriers carriers
	flights  flights
	limits   limiters
	metrics  *metrics
	access   *accessLog
	reverse  *httputil.ReverseProxy
}

// New returns a Proxy. Close it to end its access log.
func New(o Options) *Proxy {
	o.setDefaults()
	p := &Proxy{options: o, metrics: newMetrics(o.Registerer)}
	p.carriers = newCarriers(o.KeyHeader, o.SecretHeader, o.IgnoreCarriers)
	p.carriers.remove(requestIDHeader) // ours are set afterwards
	for name := range o.UpstreamHeaders {
		p.carriers.remove(name)
	}
	p.flights.init()
	p.limits.init(o.DefaultRate)
	p.access = newAccessLog(o.AccessLog, o.Log, p.metrics.logDropped)
	p.reverse = p.newReverseProxy()
	return p
}

func (o *Options) setDefaults() {
	o.KeyHeader = http.CanonicalHeaderKey(cmp.Or(o.KeyHeader, "X-Key"))
	o.SecretHeader = http.CanonicalHeaderKey(cmp.Or(o.SecretHeader, "X-Secret"))
	o.MaxBody = cmp.Or(o.MaxBody, 64<<20)
	o.BodyProgress = cmp.Or(o.BodyProgress, 30*time.Second)
	o.WriteProgress = cmp.Or(o.WriteProgress, 30*time.Second)
	o.Silence = cmp.Or(o.Silence, 300*time.Second)
	if o.Transport == nil {
		o.Transport = NewTransport(TransportOptions{})
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
}

// ServeHTTP judges one request and forwards or refuses it.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := p.begin(w, r)
	defer p.end(x)

	// What HTTP does not allow us to forward.
	if refused := p.checkRequest(r); refused != nil {
		p.refuse(x, *refused)
		return
	}
	// Credentials: exactly one carrier, well formed.
	sent, refused := p.carriers.read(r.Header)
	if refused != nil {
		p.refuse(x, *refused)
		return
	}
	// Record: from memory, and only while memory can be trusted.
	if err := p.options.Records.Fresh(); err != nil {
		p.refuse(x, refusal{verdict: StoreUnreachable, retryAfter: time.Second})
		return
	}
	grant, _ := p.options.Records.Get(sent.ID())
	// Verdict: an unknown key is the zero grant and costs the same as a wrong secret.
	proved, verdict := p.judge(grant, sent)
	if verdict != BadCredentials {
		x.key, x.account = grant.ID, grant.Account
	}
	if verdict != Allowed {
		p.refuse(x, refusal{verdict: verdict})
		return
	}
	// Limit: only those who proved a key reach it.
	if wait := p.limits.take(grant, x.began); wait > 0 {
		p.refuse(x, refusal{verdict: RateLimited, retryAfter: wait})
		return
	}
	// From here on a change of the record can end the request: enter the table of
	// flights first, then read once more.
	flight := p.flights.enter(grant.ID, proved, x.cancel)
	defer p.flights.leave(flight)
	x.flight = flight
	if verdict := p.judgeAgain(grant, sent); verdict != Allowed {
		p.refuse(x, refusal{verdict: verdict, retryAfter: time.Second})
		return
	}
	p.flights.use(grant.ID, x.began, proved)
	p.forward(x)
}

// judge says whether secret proves grant and may pass. "Inactive" is said only to
// those who proved the secret.
func (p *Proxy) judge(grant *keys.Grant, secret keys.Secret) (keys.Digest, Verdict) {
	proved, ok := p.options.Peppers.Match(grant, secret, p.options.Now())
	switch {
	case !ok:
		return proved, BadCredentials
	case !grant.Active:
		return proved, KeyInactive
	}
	return proved, Allowed
}

// judgeAgain reads freshness and record once more, for a request that is already
// in the table of flights.
func (p *Proxy) judgeAgain(grant *keys.Grant, secret keys.Secret) Verdict {
	if p.options.Records.Fresh() != nil {
		return StoreUnreachable
	}
	if p.options.Records.Current(grant.ID, grant.Version) {
		return Allowed
	}
	latest, _ := p.options.Records.Get(grant.ID)
	_, verdict := p.judge(latest, secret)
	return verdict
}

// Changed ends the requests of key id that were judged under a record which no
// longer admits them and that have no upstream connection yet; with CutStreams, also
// those that are being answered: their clients see a broken transfer. Call it after the
// records answer with grant (present false: the key is gone) and before the change
// counts as applied. It does not wait for the ended requests.
func (p *Proxy) Changed(id keys.ID, grant keys.Grant, present bool) {
	p.flights.changed(id, grant, p.options.Now(), p.options.CutStreams)
	if !present {
		p.limits.forget(id)
	}
}

// TakeUsed returns when keys were last admitted, and by which secret, since the call before.
func (p *Proxy) TakeUsed() map[keys.ID]keys.Use { return p.flights.takeUsed() }

// TurnedAway counts a connection that was refused because too many were open.
func (p *Proxy) TurnedAway() { p.metrics.turnedAway.Inc() }

// Drain waits until no request is being forwarded, or until ctx is done; then it
// ends those that are left.
func (p *Proxy) Drain(ctx context.Context) { p.flights.drain(ctx) }

// Close writes what is left of the access log. Call it after Drain.
func (p *Proxy) Close() { p.access.close() }
