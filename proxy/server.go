package proxy

import (
	"bytes"
	"cmp"
	"context"
	"log"
	"log/slog"
	"net/http"
	"time"
)

// maxHeaderBytes is how large the head of a request may be. net/http allows 4 KiB
// more than it is told.
const maxHeaderBytes = 32<<10 - 4<<10

// ServerOptions bound the connections of clients. A zero duration means the default
// in its comment.
type ServerOptions struct {
	RequestHeaders time.Duration // to send the head of a request; 5 s
	Idle           time.Duration // a connection is kept without a request for this long; 60 s
	// Certificate answers TLS handshakes; nil: the server speaks plain HTTP.
	Certificate *Certificate
	Log         *slog.Logger // nil: discarded
}

// NewServer returns a server for the proxy listener: HTTP/1.1 alone, no limit on the
// time of a whole request, which would cut long streams.
func NewServer(handler http.Handler, o ServerOptions) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	server := &http.Server{
		Handler:                      handler,
		Protocols:                    protocols,
		ReadHeaderTimeout:            cmp.Or(o.RequestHeaders, 5*time.Second),
		IdleTimeout:                  cmp.Or(o.Idle, 60*time.Second),
		MaxHeaderBytes:               maxHeaderBytes,
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     log.New(serverLog{o.Log}, "", 0),
	}
	if o.Certificate != nil {
		server.TLSConfig = o.Certificate.TLSConfig()
	}
	return server
}

// serverLog takes what net/http has to say. Most of it strangers cause (broken
// handshakes and heads): debug level. That no connection can be accepted is ours.
type serverLog struct{ log *slog.Logger }

// Write logs one line.
func (l serverLog) Write(line []byte) (int, error) {
	level := slog.LevelDebug
	if bytes.Contains(line, []byte("Accept error")) {
		level = slog.LevelError
	}
	l.log.Log(context.Background(), level, "proxy listener", "message", string(bytes.TrimSpace(line)))
	return len(line), nil
}
