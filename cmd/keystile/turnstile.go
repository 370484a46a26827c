package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"keystile/admin"
	"keystile/cache"
	"keystile/keys"
	"keystile/proxy"
)

const (
	// usedInterval is how often the times of last use are written to the store.
	usedInterval = 10 * time.Second
	// adminGrace is how long requests to the admin listener may take to end.
	adminGrace = time.Second
)

var errDraining = errors.New("draining")

// turnstile is one running Keystile: a store, its mirror, and the two listeners.
type turnstile struct {
	config config
	log    *slog.Logger
	mirror *cache.Mirror
	store  store
	proxy  *proxy.Proxy

	proxies func() []admin.Proxy // that share the store
	contact contact              // with the store

	proxyListener, adminListener net.Listener
	adminTLS                     *tls.Config // nil: plain HTTP
	proxyServer, adminServer     *http.Server
	draining                     atomic.Bool
}

// openTurnstile opens the store and both listeners. Nothing is served before run.
func openTurnstile(c config, token admin.Token, env []string, log *slog.Logger) (_ *turnstile, err error) {
	t := &turnstile{config: c, log: log, mirror: cache.NewMirror()}
	defer func() {
		if err != nil {
			t.close()
		}
	}()
	peppers, err := loadPeppers(c.Keys.PepperFile)
	if err != nil {
		return nil, err
	}
	registry := newRegistry(t.mirror)
	options, err := proxyOptions(c, env)
	if err != nil {
		return nil, err
	}
	options.Records, options.Peppers = t.mirror, peppers
	options.Registerer, options.Log = registry, log
	if c.Proxy.AccessLog {
		options.AccessLog = log
	}
	t.proxy = proxy.New(options)
	t.mirror.Observe(t.proxy.Changed)
	if err := t.listen(); err != nil {
		return nil, err
	}
	if err = t.openStore(peppers, registry); err != nil {
		return nil, err
	}
	t.adminServer = admin.NewServer(admin.New(admin.Options{
		Store: t.store, Accounts: t.store, Trail: t.store, Token: token, Peppers: peppers, PerAccount: c.Keys.PerAccount,
		Hosts: c.Admin.Hosts, MetricsPublic: c.Admin.MetricsPublic, Ready: t.ready, ProxyURL: t.proxyURL(), Proxies: t.proxies,
		Gatherer: registry, Registerer: registry, Log: log, Version: version(),
	}), log)
	t.adminServer.TLSConfig = t.adminTLS
	return t, nil
}

// proxyOptions are the options of the proxy that come from the configuration.
func proxyOptions(c config, env []string) (proxy.Options, error) {
	upstream, err := c.upstreamURL()
	if err != nil {
		return proxy.Options{}, err
	}
	trusted, err := c.trustedProxies()
	if err != nil {
		return proxy.Options{}, err
	}
	transport, err := upstreamTransport(c.Proxy.Upstream)
	if err != nil {
		return proxy.Options{}, err
	}
	headers, err := resolveHeaders(c.Proxy.Upstream.Headers, env)
	if err != nil {
		return proxy.Options{}, err
	}
	options := proxy.Options{
		Upstream: upstream, UpstreamHeaders: make(http.Header), Transport: transport,
		KeyHeader: c.Proxy.KeyHeader, SecretHeader: c.Proxy.SecretHeader,
		TrustedProxies: trusted, PreserveHost: c.Proxy.PreserveHost, WebSocket: c.Proxy.WebSocket,
		DefaultRate:  keys.Rate{PerSecond: c.Proxy.DefaultRate.PerSecond, Burst: c.Proxy.DefaultRate.Burst},
		MaxBody:      int64(c.Proxy.MaxBody),
		BodyProgress: c.Proxy.Timeouts.BodyProgress, WriteProgress: c.Proxy.Timeouts.WriteProgress,
		Silence: c.Proxy.Upstream.Timeouts.Silence, CutStreams: c.Proxy.CutStreams,
	}
	if options.MaxBody == 0 {
		options.MaxBody = math.MaxInt64
	}
	for name, value := range headers {
		options.UpstreamHeaders.Set(name, value.reveal())
	}
	for _, name := range c.Proxy.IgnoreCarriers {
		options.IgnoreCarriers = append(options.IgnoreCarriers, proxy.Carrier(name))
	}
	return options, nil
}

func upstreamTransport(c upstreamConfig) (*http.Transport, error) {
	options := proxy.TransportOptions{
		Dial: c.Timeouts.Dial, TLS: c.Timeouts.TLS, ResponseHeaders: c.Timeouts.ResponseHeaders,
		Idle: c.Timeouts.Idle, MaxConnections: c.MaxConnections,
	}
	if c.CAFile != "" {
		var err error
		if options.RootCAs, err = readAuthorities(c.CAFile, "proxy.upstream.ca_file"); err != nil {
			return nil, err
		}
	}
	return proxy.NewTransport(options), nil
}

// listen binds both listeners.
func (t *turnstile) listen() error {
	c := t.config.Proxy
	certificate, err := openCertificate(c.TLS, "proxy.tls", t.log)
	if err != nil {
		return err
	}
	t.proxyServer = proxy.NewServer(t.proxy, proxy.ServerOptions{
		RequestHeaders: c.Timeouts.RequestHeaders, Idle: c.Timeouts.Idle, Certificate: certificate, Log: t.log,
	})
	listener, err := listenOn(c.Listen, "proxy.listen")
	if err != nil {
		return err
	}
	t.proxyListener = proxy.LimitListener(listener, c.MaxConnections, certificate == nil, t.proxy.TurnedAway)
	return t.listenAdmin()
}

// listenAdmin binds the admin listener.
func (t *turnstile) listenAdmin() error {
	c := t.config.Admin
	certificate, err := openCertificate(c.TLS, "admin.tls", t.log)
	if err != nil {
		return err
	}
	listener, err := listenOn(c.Listen, "admin.listen")
	if err != nil {
		return err
	}
	if bound := listener.Addr().String(); c.readable(bound) && !c.AllowPlainHTTP { // by an odd entry for localhost
		_ = listener.Close()
		return fmt.Errorf("admin.listen: %s", plainBeyondLoopback(bound))
	}
	// One more than the server keeps, so that it can accept the new one before it closes another.
	t.adminListener = proxy.LimitListener(listener, admin.MaxConnections+1, certificate == nil, nil)
	if certificate != nil {
		t.adminTLS = certificate.TLSConfig()
	}
	return nil
}

// openCertificate loads the certificate of a section; nil: it names none.
func openCertificate(c tlsConfig, section string, log *slog.Logger) (*proxy.Certificate, error) {
	if c.CertFile == "" {
		return nil, nil
	}
	if err := checkKeyFile(c.KeyFile, section+".key_file"); err != nil {
		return nil, err
	}
	certificate, err := proxy.OpenCertificate(c.CertFile, c.KeyFile, log, nil)
	if err != nil {
		return nil, cannotLoadCertificate(section, c.CertFile, err)
	}
	return certificate, nil
}

// listenOn says in one sentence what to do when an address cannot be had.
func listenOn(address, option string) (net.Listener, error) {
	listener, err := net.Listen("tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s: %s is in use by another process: stop that one or choose another address", option, address)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("%s: %s needs privileges: choose a port of 1024 or above", option, address)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("%s: this machine does not have the address of %s: choose one that it has", option, address)
	case errors.As(err, new(*net.DNSError)):
		return nil, fmt.Errorf("%s: the name in %s cannot be resolved (%w): use an address of this machine", option, address, err)
	case err != nil:
		return nil, fmt.Errorf("%s: listening on %s: %w", option, address, err)
	}
	return listener, nil
}

// ready returns why no new requests should be sent here, or nil.
func (t *turnstile) ready() error {
	if t.draining.Load() {
		return errDraining
	}
	return t.contact.explain(t.mirror.Fresh())
}

// run serves until ctx is done or a listener fails, then drains and closes.
func (t *turnstile) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return served("proxy", serveOn(t.proxyServer, t.proxyListener)) })
	group.Go(func() error { return served("admin", serveOn(t.adminServer, t.adminListener)) })
	group.Go(func() error {
		t.keepUsed(ctx)
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		t.drain()
		return nil
	})
	err := group.Wait()
	t.close()
	return err
}

// serveOn serves with TLS where the server has a certificate.
func serveOn(server *http.Server, listener net.Listener) error {
	if server.TLSConfig != nil {
		return server.ServeTLS(listener, "", "")
	}
	return server.Serve(listener)
}

func served(which string, err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("the %s listener failed: %w", which, err)
}

// keepUsed writes the times of last use from time to time.
func (t *turnstile) keepUsed(ctx context.Context) {
	tick := time.NewTicker(usedInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			t.writeUsed()
		}
	}
}

func (t *turnstile) writeUsed() {
	used := t.proxy.TakeUsed()
	if len(used) == 0 {
		return
	}
	if err := t.store.Touch(context.Background(), used); err != nil {
		t.log.Error("the times of last use were not kept", "error", err)
	}
}

// drain fails readiness first, then gives requests in flight their time. The admin
// listener answers until the proxy is done, so that readiness can be seen to fail.
func (t *turnstile) drain() {
	t.draining.Store(true)
	t.log.Info("draining", "timeout_seconds", t.config.Proxy.DrainTimeout.Seconds())
	deadline, cancel := context.WithTimeout(context.Background(), t.config.Proxy.DrainTimeout)
	defer cancel()
	_ = t.proxyServer.Shutdown(deadline)
	t.proxy.Drain(deadline) // also what has switched protocols, and what is left
	_ = t.proxyServer.Close()

	grace, cancel := context.WithTimeout(context.Background(), adminGrace)
	defer cancel()
	_ = t.adminServer.Shutdown(grace)
	_ = t.adminServer.Close()
}

// close releases everything, in reverse order of opening.
func (t *turnstile) close() {
	if t.store != nil {
		t.writeUsed()
		if err := t.store.Close(); err != nil {
			t.log.Error("closing the store failed", "error", err)
		}
	}
	for _, listener := range []net.Listener{t.adminListener, t.proxyListener} {
		if listener != nil {
			_ = listener.Close()
		}
	}
	if t.proxy != nil {
		t.proxy.Close()
	}
}

// proxyURL is where clients reach the proxy from this machine.
func (t *turnstile) proxyURL() string {
	return listenerURL(t.config.Proxy.TLS, t.proxyListener.Addr().String())
}

// adminURL is where administrators reach the admin listener from this machine.
func (t *turnstile) adminURL() string {
	return listenerURL(t.config.Admin.TLS, t.adminListener.Addr().String())
}

// listenerURL is where a listener at address is reached from its machine.
func listenerURL(c tlsConfig, address string) string {
	scheme := "http"
	if c.CertFile != "" {
		scheme = "https"
	}
	return scheme + "://" + reachable(address)
}

// reachable names loopback where an address says "every interface".
func reachable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if isWildcard(host) {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}
