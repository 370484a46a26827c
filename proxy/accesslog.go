package proxy

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"keystile/keys"
)

// accessLogBuffer is how many lines may wait to be written.
const accessLogBuffer = 4096

// entry is one line of the access log, taken when the request has ended.
type entry struct {
	level     slog.Level
	at        time.Time
	requestID string
	client    string
	method    string
	path      string
	key       keys.ID // zero: nobody proved one
	account   string
	verdict   Verdict
	cause     cause
	failure   string
	status    int
	bytesIn   int64
	bytesOut  int64
	duration  time.Duration
	overhead  time.Duration // before the upstream was called; zero: it was not
	firstByte time.Duration // until the head of the answer; zero: there was none
}

// accessLog writes a line for each request, without making the request wait: lines
// go through a bounded buffer, and one that finds it full is dropped and counted.
type accessLog struct {
	log     *slog.Logger
	least   slog.Level // lines below it are not written
	queue   chan entry
	dropped prometheus.Counter
	stop    chan struct{}
	once    sync.Once
	written sync.WaitGroup
}

// newAccessLog starts the writer. Without an access log, failures of the upstream
// still go to the general log.
func newAccessLog(access, general *slog.Logger, dropped prometheus.Counter) *accessLog {
	a := &accessLog{log: access, least: slog.LevelDebug, dropped: dropped, queue: make(chan entry, accessLogBuffer), stop: make(chan struct{})}
	if access == nil {
		a.log, a.least = general, slog.LevelWarn
	}
	a.written.Go(a.run)
	return a
}

// enabled reports whether a line of this level would be written.
func (a *accessLog) enabled(level slog.Level) bool {
	return level >= a.least && a.log.Enabled(context.Background(), level)
}

// write queues a line, or drops it.
func (a *accessLog) write(e entry) {
	select {
	case a.queue <- e:
	default:
		a.dropped.Inc()
	}
}

// run writes lines until close, and then those that are left.
func (a *accessLog) run() {
	for {
		select {
		case e := <-a.queue:
			a.print(e)
		case <-a.stop:
			for len(a.queue) > 0 {
				a.print(<-a.queue)
			}
			return
		}
	}
}

// close writes what is queued. Lines that come later stay in the buffer.
func (a *accessLog) close() {
	a.once.Do(func() { close(a.stop) })
	a.written.Wait()
}

func (a *accessLog) print(e entry) {
	r := slog.NewRecord(e.at, e.level, "request", 0)
	r.AddAttrs(slog.String("request_id", e.requestID), slog.String("verdict", e.verdict.String()), slog.Int("status", e.status))
	if e.key != (keys.ID{}) {
		r.AddAttrs(slog.String("key", e.key.String()), slog.String("account", e.account))
	}
	r.AddAttrs(slog.String("client", e.client), slog.String("method", e.method), slog.String("path", e.path),
		slog.Int64("bytes_in", e.bytesIn), slog.Int64("bytes_out", e.bytesOut), slog.Float64("duration_seconds", e.duration.Seconds()))
	if e.overhead > 0 {
		r.AddAttrs(slog.Float64("overhead_seconds", e.overhead.Seconds()))
	}
	if e.firstByte > 0 {
		r.AddAttrs(slog.Float64("first_byte_seconds", e.firstByte.Seconds()))
	}
	if e.cause != causeNone {
		r.AddAttrs(slog.String("cause", causeWords[e.cause]), slog.String("error", keys.Redact(e.failure)))
	}
	_ = a.log.Handler().Handle(context.Background(), r) // there is nobody else to tell
}

// record writes the line of a finished exchange.
func (p *Proxy) record(x *exchange, now time.Time) {
	level := slog.LevelInfo
	if x.key == (keys.ID{}) && x.verdict != InternalError { // somebody who proved no key: strangers must not fill the log
		level = slog.LevelDebug
	} else if x.cause != causeNone {
		level = slog.LevelWarn
	}
	if !p.access.enabled(level) {
		return
	}
	e := entry{
		level: level, at: now, requestID: x.requestID, client: p.clientAddress(x.in),
		method: loggedMethod(x.in), path: pathOf(x.in), key: x.key, account: x.account,
		verdict: x.verdict, cause: x.cause, failure: x.failure, status: x.status(),
		bytesIn: x.bytesIn(), bytesOut: x.out.bytes(), duration: now.Sub(x.began),
	}
	if !x.called.IsZero() {
		e.overhead = x.called.Sub(x.began)
	}
	if first := x.out.firstByte(); !first.IsZero() {
		e.firstByte = first.Sub(x.began)
	}
	p.access.write(e)
}

// loggedMethod is the method if it is one that is forwarded: another could be any
// text.
func loggedMethod(r *http.Request) string {
	if slices.Contains(methods, r.Method) {
		return r.Method
	}
	return "other"
}
