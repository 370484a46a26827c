package main

import (
	"net/netip"
	"net/url"
	"time"

	"keystile/keys"
)

// config holds every option of Keystile. One declaration says everything there is to know about an option: the yaml tag is its name in the
// file, enum the values it may have, min its lowest value, is the rule its text must pass (config_check.go), and doc the sentence that
// config.yaml, the JSON Schema and this source share.
type config struct {
	Proxy proxyConfig `yaml:"proxy" doc:"The listener that clients of the generation API call, and what stands behind it."`
	Admin adminConfig `yaml:"admin" doc:"The listener for administrators: management API, health and metrics."`
	Keys  keysConfig  `yaml:"keys" doc:"Rules for the keys that are handed out."`
	Audit auditConfig `yaml:"audit" doc:"The audit trail: who changed what, when, and from where."`
	Store storeConfig `yaml:"store" doc:"Where key records are kept."`
	Log   logConfig   `yaml:"log" doc:"What Keystile writes to its standard error."`
}

type proxyConfig struct {
	Listen         string         `yaml:"listen" is:"address" doc:"Address on which clients are served, as host:port. Without a host: every interface."`
	Upstream       upstreamConfig `yaml:"upstream" doc:"The server to which admitted requests are forwarded."`
	Engine         string         `yaml:"engine" enum:"auto,standard" doc:"How requests are carried: standard is Go's net/http; auto lets Keystile choose, and means standard in this version."`
	TrustedProxies []string       `yaml:"trusted_proxies" is:"prefix" doc:"Addresses or networks (CIDR) of load balancers in front of Keystile; only their X-Forwarded-* and Forwarded headers are believed. Empty: nobody's."`
	TLS            tlsConfig      `yaml:"tls" doc:"Certificate of the proxy listener; both files or neither. Without them the listener speaks plain HTTP. It speaks HTTP/1.1 either way."`
	DefaultRate    rateConfig     `yaml:"default_rate" doc:"Rate limit of every key that has none of its own, counted by each Keystile process for itself."`
	KeyHeader      string         `yaml:"key_header" is:"header" doc:"Header in which a client sends its key. It is removed before forwarding."`
	SecretHeader   string         `yaml:"secret_header" is:"header" doc:"Header in which a client sends its secret. It is removed before forwarding."`
	IgnoreCarriers []string       `yaml:"ignore_carriers" enum:"key_secret,bearer,x_api_key,basic" doc:"Ways of sending credentials that are not read, only removed: for clients that send an Authorization of their own beside their key. Any of key_secret, bearer, x_api_key, basic, but not all of them."`
	PreserveHost   bool           `yaml:"preserve_host" doc:"Send the client's Host header to the upstream instead of the upstream's own name."`
	WebSocket      bool           `yaml:"websocket" doc:"Let clients upgrade a connection to WebSocket. No other upgrade is ever forwarded."`
	MaxBody        size           `yaml:"max_body" min:"0" doc:"Largest request body in bytes, or with a unit: 65536, 512KiB, 64MiB, 2GiB. A larger one gets 413. 0: no limit."`
	MaxConnections int            `yaml:"max_connections" min:"0" doc:"Client connections that may be open at once; one more gets 503, or with TLS is closed. 0: half of what the limit on open files leaves, (limit - 200) / 2."`
	CutStreams     bool           `yaml:"cut_streams" doc:"Cut the open streams of a key that was switched off or deleted, or of a secret that was ended, within one second; the client sees a broken transfer. false: they may end by themselves."`
	AccessLog      bool           `yaml:"access_log" doc:"Write one line for each request: key, verdict, status, bytes, times, request id."`
	DrainTimeout   time.Duration  `yaml:"drain_timeout" min:"0s" doc:"How long open requests may go on after SIGTERM before they are cut. 0s: cut at once."`
	Timeouts       clientTimeouts `yaml:"timeouts" doc:"How long a client may keep Keystile waiting. There is no limit on a whole request: a stream may last for hours."`
}

type upstreamConfig struct {
	URL            string                  `yaml:"url" is:"http_url" doc:"Where requests go: http or https, a host, and if wanted a port and a base path that is put before every request's path."`
	Headers        map[string]headerSource `yaml:"headers" doc:"Headers set on every forwarded request, such as the upstream's own credential. A value is text, {file: path} or {env: NAME}; for a header that carries a secret only the last two are accepted. Only in the file, never from the environment."`
	CAFile         string                  `yaml:"ca_file" doc:"PEM file of the authorities trusted to sign the upstream's certificate, instead of the system's. Empty: the system's."`
	MaxConnections int                     `yaml:"max_connections" min:"0" doc:"Connections to the upstream that may be open at once; further requests wait for one. 0: no limit."`
	Timeouts       upstreamTimeouts        `yaml:"timeouts" doc:"How long Keystile waits for the upstream."`
}

type upstreamTimeouts struct {
	Dial            time.Duration `yaml:"dial" min:"1ms" doc:"Longest wait for a connection to be made."`
	TLS             time.Duration `yaml:"tls" min:"1ms" doc:"Longest wait for the TLS handshake on a new connection."`
	ResponseHeaders time.Duration `yaml:"response_headers" min:"1ms" doc:"Longest wait for the answer to begin once the request was sent; generating may take minutes."`
	Silence         time.Duration `yaml:"silence" min:"1ms" doc:"Longest wait for the next byte of an answer that has begun."`
	Idle            time.Duration `yaml:"idle" min:"1ms" doc:"How long an unused connection is kept. Keep it below the upstream's own limit, which is 5s for uvicorn and Node, or a request is now and then sent into a connection that is closing."`
}

type tlsConfig struct {
	CertFile string `yaml:"cert_file" doc:"PEM file with the certificate and its chain. Read again when it changes."`
	KeyFile  string `yaml:"key_file" doc:"PEM file with the private key. Read again when it changes."`
}

type rateConfig struct {
	PerSecond float64 `yaml:"per_second" min:"0" doc:"Requests per second in the long run; fractions are allowed. 0: no limit."`
	Burst     int     `yaml:"burst" min:"0" doc:"Requests that may come at once. At least 1 when per_second is above 0."`
}

type clientTimeouts struct {
	RequestHeaders time.Duration `yaml:"request_headers" min:"1ms" doc:"Longest wait for the headers of a request: from its first byte on, or from the start of a new connection."`
	Idle           time.Duration `yaml:"idle" min:"1ms" doc:"How long a connection may stay open between two requests."`
	BodyProgress   time.Duration `yaml:"body_progress" min:"1ms" doc:"Longest wait for the next byte of a request body."`
	WriteProgress  time.Duration `yaml:"write_progress" min:"1ms" doc:"Longest wait for the client to take the next bytes of its answer."`
}

type adminConfig struct {
	Listen         string    `yaml:"listen" is:"address" doc:"Address of the admin listener, as host:port. Beyond loopback it needs tls, or allow_plain_http. It keeps 100 connections. For one more it closes another: first those that have not brought a token or a session, of them those from this machine last, then those of accounts, then idle ones of administrators; never one that is serving an administrator."`
	TLS            tlsConfig `yaml:"tls" doc:"Certificate of the admin listener; both files or neither. Without them the listener speaks plain HTTP. It speaks HTTP/1.1 either way. The name in it that administrators use belongs into hosts."`
	AllowPlainHTTP bool      `yaml:"allow_plain_http" doc:"Listen beyond loopback without TLS, where the administrator's token crosses the network readable: for a private network, or behind something that encrypts."`
	TokenFile      string    `yaml:"token_file" is:"required" doc:"File with the administrator's token, made at the first start with mode 0600. The variable KEYSTILE_ADMIN_TOKEN takes its place."`
	Hosts          []string  `yaml:"hosts" is:"host" doc:"Names by which the admin listener may be called, beside localhost and IP addresses; any other Host is refused, except for /healthz and /readyz."`
	MetricsPublic  bool      `yaml:"metrics_public" doc:"Serve /metrics without a token to callers from other machines too."`
}

type keysConfig struct {
	PerAccount int    `yaml:"per_account" min:"1" doc:"Keys that an account without a limit of its own may have at once."`
	PepperFile string `yaml:"pepper_file" doc:"File with one pepper of at least 32 characters on each line: the first signs the digests of new secrets, all of them verify. Empty: no pepper. Keep a copy: no secret can be verified without the pepper that signed it."`
}

type auditConfig struct {
	Keep int `yaml:"keep" min:"1" doc:"Entries that are kept; for each one more the oldest is removed. The same for all processes that share a store."`
}

type storeConfig struct {
	Driver string      `yaml:"driver" enum:"bolt,redis" doc:"bolt: one file, for one process. redis: a server that several Keystile processes share."`
	Bolt   boltConfig  `yaml:"bolt" doc:"Options of the driver bolt."`
	Redis  redisConfig `yaml:"redis" doc:"Options of the driver redis."`
}

type boltConfig struct {
	Path string `yaml:"path" is:"required" doc:"File of the store, made when missing. A relative path counts from the working directory."`
}

type logConfig struct {
	Level  string `yaml:"level" enum:"debug,info,warn,error" doc:"The least important lines still written."`
	Format string `yaml:"format" enum:"auto,text,json" doc:"How lines are written. auto: text on a terminal, JSON otherwise."`
}

// defaultConfig is what Keystile does when nobody says otherwise.
func defaultConfig() config {
	return config{
		Proxy: defaultProxy(),
		Admin: adminConfig{Listen: "127.0.0.1:8081", TokenFile: "data/admin.token", Hosts: []string{}},
		Keys:  keysConfig{PerAccount: 10},
		Audit: auditConfig{Keep: keys.DefaultAuditKeep},
		Store: storeConfig{
			Driver: "bolt",
			Bolt:   boltConfig{Path: "data/keystile.db"},
			Redis:  defaultRedis(),
		},
		Log: logConfig{Level: "info", Format: "auto"},
	}
}

func defaultProxy() proxyConfig {
	return proxyConfig{
		Listen: ":8080",
		Upstream: upstreamConfig{
			URL: "http://127.0.0.1:9000", Headers: map[string]headerSource{},
			// Idle is short because uvicorn and Node close theirs after 5 s.
			Timeouts: upstreamTimeouts{
				Dial: 5 * time.Second, TLS: 5 * time.Second, ResponseHeaders: 600 * time.Second,
				Silence: 300 * time.Second, Idle: 4 * time.Second,
			},
		},
		Engine: "auto", TrustedProxies: []string{},
		KeyHeader: "X-Key", SecretHeader: "X-Secret", IgnoreCarriers: []string{},
		MaxBody: 64 << 20, CutStreams: true, AccessLog: true, DrainTimeout: 10 * time.Second,
		Timeouts: clientTimeouts{
			RequestHeaders: 5 * time.Second, Idle: 60 * time.Second,
			BodyProgress: 30 * time.Second, WriteProgress: 30 * time.Second,
		},
	}
}

// upstreamURL is proxy.upstream.url of a config that passed its check.
func (c config) upstreamURL() (*url.URL, error) {
	return url.Parse(c.Proxy.Upstream.URL)
}

// trustedProxies are proxy.trusted_proxies of a config that passed its check; a single address becomes a network of one.
func (c config) trustedProxies() ([]netip.Prefix, error) {
	prefixes := make([]netip.Prefix, 0, len(c.Proxy.TrustedProxies))
	for _, text := range c.Proxy.TrustedProxies {
		prefix, err := parsePrefix(text)
		if err != nil {
			return nil, err
		}
		prefixes = append(prefixes, prefix)
	}
	return prefixes, nil
}
