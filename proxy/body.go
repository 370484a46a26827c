package proxy

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync/atomic"
	"time"
)

// requestBody is the client's body on its way to the upstream. It keeps the limit,
// moves the read deadline while bytes arrive, and remembers why reading failed, so
// that the client's mistake is never put down to the upstream.
type requestBody struct {
	io.ReadCloser
	control  *http.ResponseController
	progress time.Duration
	now      func() time.Time
	armed    time.Time
	bytes    atomic.Int64
	ended    atomic.Bool // read to its end
	failure  atomic.Pointer[error]
}

// newRequestBody wraps the body of r; w is net/http's own writer. Call it only for a
// request that has a body.
func newRequestBody(w http.ResponseWriter, r *http.Request, limit int64, progress time.Duration, now func() time.Time) *requestBody {
	return &requestBody{
		ReadCloser: http.MaxBytesReader(w, r.Body, limit),
		control:    http.NewResponseController(w), progress: progress, now: now,
	}
}

// Read reads from the client.
func (b *requestBody) Read(p []byte) (int, error) {
	b.arm()
	n, err := b.ReadCloser.Read(p)
	b.bytes.Add(int64(n))
	switch {
	case err == io.EOF:
		b.ended.Store(true)
		// Left armed, the deadline would end the request in the middle of its answer.
		_ = b.control.SetReadDeadline(time.Time{})
	case err != nil:
		b.failure.CompareAndSwap(nil, &err)
	}
	return n, err
}

func (b *requestBody) arm() {
	now := b.now()
	if due(now, b.armed, b.progress) {
		b.armed = now
		_ = b.control.SetReadDeadline(now.Add(b.progress))
	}
}

// unread reports whether some of the body may still be on the connection. Then the
// connection must not be kept: net/http would hold the answer back until it has read
// the rest, and what is left after that could be read as the next request.
func (b *requestBody) unread() bool { return b != nil && !b.ended.Load() }

// boundRest ends, after a while, the wait for the rest of a body that was not read to its
// end. When the handler has returned and the answer is sent, net/http reads on, to spare
// the client a reset, and has cleared all deadlines before. Then it closes the connection.
func (b *requestBody) boundRest(after time.Duration) {
	if b.unread() {
		time.AfterFunc(after, func() { _ = b.control.SetReadDeadline(time.Unix(1, 0)) })
	}
}

// refusal returns what to tell a client whose body could not be read, or nil if it
// could.
func (b *requestBody) refusal() *refusal {
	if b == nil || b.failure.Load() == nil {
		return nil
	}
	err := *b.failure.Load()
	var large *http.MaxBytesError
	switch {
	case errors.Is(err, http.ErrBodyReadAfterClose):
		return nil
	case errors.As(err, &large):
		return &refusal{verdict: BodyTooLarge}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &refusal{verdict: BadRequest, message: "The request body stopped arriving. Send it without long pauses."}
	case errors.Is(err, io.ErrUnexpectedEOF):
		return &refusal{verdict: ClientGone}
	}
	return &refusal{verdict: BadRequest, message: "The request body is not framed as HTTP/1.1 requires (RFC 9112 section 7.1)."}
}

// responseBody is the upstream's body on its way to the client. It ends the request
// when the upstream is silent for too long, and remembers why reading failed.
type responseBody struct {
	io.ReadCloser
	x       *exchange
	silence time.Duration
	timer   *time.Timer
}

func newResponseBody(x *exchange, body io.ReadCloser, silence time.Duration) *responseBody {
	b := &responseBody{ReadCloser: body, x: x, silence: silence}
	b.timer = time.AfterFunc(silence, func() { x.cancel(errSilence) })
	return b
}

// Read reads from the upstream. The clock stands still between reads, while it is
// the client who keeps us waiting.
func (b *responseBody) Read(p []byte) (int, error) {
	b.timer.Reset(b.silence)
	n, err := b.ReadCloser.Read(p)
	b.timer.Stop()
	if err != nil && err != io.EOF {
		b.x.upstreamBroke(err)
	}
	return n, err
}

// Close stops the clock and closes the upstream's body.
func (b *responseBody) Close() error {
	b.timer.Stop()
	return b.ReadCloser.Close()
}
