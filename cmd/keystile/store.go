package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"keystile/admin"
	"keystile/cache"
	"keystile/keys"
)

// loadPeppers reads keys.pepper_file; without one there are no peppers.
func loadPeppers(file string) (*keys.Peppers, error) {
	if file == "" {
		return nil, nil
	}
	secrets, err := readPeppers(file)
	if err != nil {
		return nil, err
	}
	peppers, err := keys.NewPeppers(secrets...)
	if err != nil {
		return nil, fmt.Errorf("keys.pepper_file: %s: %w", file, err)
	}
	return peppers, nil
}

// store keeps everything that must not be lost.
type store interface {
	keys.Store
	keys.Accounts
	keys.Trail
}

// openStore opens the store that store.driver names, which fills the mirror.
func (t *turnstile) openStore(peppers *keys.Peppers, registry prometheus.Registerer) error {
	if t.config.Store.Driver == "redis" {
		return t.shareStore(peppers, registry)
	}
	store, err := openBolt(t.config, t.mirror, peppers, t.log)
	if err != nil {
		return err
	}
	t.store, t.proxies = store, t.onlyThisOne
	return nil
}

// shareStore opens the store that other processes have open too.
func (t *turnstile) shareStore(peppers *keys.Peppers, registry prometheus.Registerer) error {
	options, err := redisOptions(t.config, t.mirror, peppers, t.log)
	if err != nil {
		return err
	}
	counted := newStoreMetrics(registry)
	options.Events = eventsTo(counted, &t.contact)
	store, err := openRedis(t.config, options)
	if err != nil {
		return err
	}
	t.store = store
	t.proxies = func() []admin.Proxy { return sharing(store) }
	registerProxies(registry, t.proxies, t.mirror)
	return nil
}

func openBolt(c config, mirror *cache.Mirror, peppers *keys.Peppers, log *slog.Logger) (*cache.Bolt, error) {
	store, err := cache.OpenBolt(c.Store.Bolt.Path, cache.BoltOptions{
		Mirror: mirror, PerAccount: c.Keys.PerAccount, AuditKeep: c.Audit.Keep, Peppers: peppers, Log: log,
	})
	return store, withPepperAdvice(err, c.Keys.PepperFile)
}

func openRedis(c config, options cache.RedisOptions) (*cache.Redis, error) {
	store, err := cache.OpenRedis(context.Background(), options)
	return store, withPepperAdvice(atServer(options, err), c.Keys.PepperFile)
}

// atServer says of which server an error is; nil stays nil.
func atServer(o cache.RedisOptions, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("opening the key store at %s: %w", strings.Join(o.Server.Addresses, ", "), err)
}

// withPepperAdvice says where the right pepper is to be put.
func withPepperAdvice(err error, file string) error {
	switch {
	case !errors.Is(err, cache.ErrPepperMismatch):
		return err
	case file == "":
		return fmt.Errorf("%w: have keys.pepper_file, which is not set, name the file with the right one", err)
	}
	return fmt.Errorf("%w: add the right one to %s, the file that keys.pepper_file names", err, file)
}

// redisOptions are the options of the Redis store that come from the configuration.
func redisOptions(c config, mirror *cache.Mirror, peppers *keys.Peppers, log *slog.Logger) (cache.RedisOptions, error) {
	r := c.Store.Redis
	server, err := redisServer(r)
	return cache.RedisOptions{
		Server: server, Prefix: r.Prefix, StateFile: r.StateFile, Name: r.Name,
		Mirror: mirror, PerAccount: c.Keys.PerAccount, AuditKeep: c.Audit.Keep, Peppers: peppers,
		MaxStaleness: r.MaxStaleness, ReceiptDeadline: r.ReceiptDeadline, WaitReplicas: r.WaitReplicas,
		FenceLag: r.FenceLag, AllowUnfenced: r.AllowUnfenced, Log: log,
	}, err
}

// redisServer says where the server is, with the passwords from their files.
func redisServer(c redisConfig) (cache.RedisServer, error) {
	s := cache.RedisServer{
		Addresses: c.servers(), Cluster: c.Cluster, Database: c.database(),
		SentinelPrimary: c.SentinelPrimary, SentinelUser: c.SentinelUser, User: c.User,
	}
	for _, p := range []struct {
		file, option string
		into         *string
	}{
		{c.PasswordFile, "store.redis.password_file", &s.Password},
		{c.SentinelPasswordFile, "store.redis.sentinel_password_file", &s.SentinelPassword},
	} {
		if p.file == "" {
			continue
		}
		password, err := readSecretFile(p.file, p.option)
		if err != nil {
			return s, err
		}
		*p.into = password.reveal()
	}
	if !c.encrypted() {
		return s, nil
	}
	var err error
	s.TLS, err = redisTLS(c.TLS)
	return s, err
}

// redisTLS reads the files once, so that mistakes in them are found at the start. The
// certificate is read again for each connection: it may have been renewed.
func redisTLS(c redisTLSConfig) (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName}
	if c.CAFile != "" {
		var err error
		if conf.RootCAs, err = readAuthorities(c.CAFile, "store.redis.tls.ca_file"); err != nil {
			return nil, err
		}
	}
	if c.CertFile != "" {
		if err := checkKeyFile(c.KeyFile, "store.redis.tls.key_file"); err != nil {
			return nil, err
		}
		if _, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile); err != nil {
			err = fmt.Errorf("loading the certificate from %s and %s: %w", c.CertFile, c.KeyFile, err)
			return nil, cannotLoadCertificate("store.redis.tls", c.CertFile, err)
		}
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
			return &pair, err
		}
	}
	return conf, nil
}

// readAuthorities reads the PEM file that an option names.
func readAuthorities(file, option string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, cannotOpen(file, option, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: %s has no PEM certificate", option, file)
	}
	return pool, nil
}

// onlyThisOne is the list of proxies where nobody else has the store open.
func (t *turnstile) onlyThisOne() []admin.Proxy {
	host, err := os.Hostname()
	if err != nil {
		host = "this process"
	}
	return []admin.Proxy{{Proxy: host, Applied: t.mirror.Version(), Serving: t.mirror.Fresh() == nil}}
}

// sharing lists the processes that share the store, by name.
func sharing(store *cache.Redis) (list []admin.Proxy) {
	for _, p := range store.Proxies() {
		list = append(list, admin.Proxy{Proxy: p.Name, Applied: p.Applied, Serving: p.Serving})
	}
	slices.SortFunc(list, func(a, b admin.Proxy) int {
		return cmp.Or(strings.Compare(a.Proxy, b.Proxy), cmp.Compare(a.Applied, b.Applied))
	})
	return list
}
