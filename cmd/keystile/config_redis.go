package main

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// longestReceipt keeps a reply within what the admin listener gives one to be written.
const longestReceipt = 30 * time.Second

type redisConfig struct {
	URL                  string         `yaml:"url" is:"redis_url" doc:"Where Redis or Valkey answers: redis://host:port/database, or rediss:// for TLS. Without a password: that one is read from password_file."`
	Addresses            []string       `yaml:"addresses" is:"redis_server" doc:"Several servers, as host:port: nodes of a Cluster, or the Sentinels. They replace the host of url, which then says no more than TLS or not, and the database."`
	Cluster              bool           `yaml:"cluster" doc:"The servers are a Redis Cluster."`
	SentinelPrimary      string         `yaml:"sentinel_primary" doc:"Name by which Sentinels know the primary; the servers are then Sentinels. Empty: they are not."`
	User                 string         `yaml:"user" doc:"User of Redis (ACL). Empty: the user named default."`
	PasswordFile         string         `yaml:"password_file" doc:"File with the password for Redis. Empty: none."`
	SentinelUser         string         `yaml:"sentinel_user" doc:"User of the Sentinels, which have users of their own. Empty: the user named default."`
	SentinelPasswordFile string         `yaml:"sentinel_password_file" doc:"File with the password for the Sentinels. Empty: none."`
	TLS                  redisTLSConfig `yaml:"tls" doc:"How the servers are recognised, and this process by them; for a url with rediss:// only."`
	Prefix               string         `yaml:"prefix" is:"redis_prefix" doc:"What the names of all entries begin with. The braces keep them on one node of a cluster."`
	Name                 string         `yaml:"name" doc:"Name of this process in receipts and in the list of proxies. Empty: its host and process id."`
	StateFile            string         `yaml:"state_file" is:"required" doc:"What this process remembers of the store between its starts: a store that lost everything is noticed by it. One file for each process; never copy it."`
	MaxStaleness         time.Duration  `yaml:"max_staleness" min:"1s" doc:"How long a proxy that cannot reach the store goes on with the records it holds, before it answers 503."`
	WaitReplicas         int            `yaml:"wait_replicas" min:"0" doc:"Replicas that must confirm a change before it counts as effective everywhere. 0: none."`
	ReceiptDeadline      time.Duration  `yaml:"receipt_deadline" min:"1ms" doc:"How long a change waits until every proxy has applied it, before the reply names those that are pending. At most 30s."`
	AllowUnfenced        bool           `yaml:"allow_unfenced" doc:"Start even when a replicated primary has no min-replicas-to-write; changes are then never reported as effective everywhere."`
	FenceLag             time.Duration  `yaml:"fence_lag" min:"1s" doc:"How long after a failover an old primary may still take writes: at least min-replicas-max-lag of Redis."`
}

type redisTLSConfig struct {
	CAFile     string `yaml:"ca_file" doc:"PEM file of the authorities trusted to sign the servers' certificates. Empty: the system's."`
	CertFile   string `yaml:"cert_file" doc:"PEM file with the certificate that this process shows, and its chain. Empty: none."`
	KeyFile    string `yaml:"key_file" doc:"PEM file with the private key of that certificate."`
	ServerName string `yaml:"server_name" is:"optional_host" doc:"Name that the servers' certificates must have. Empty: the host that is called."`
}

func defaultRedis() redisConfig {
	return redisConfig{
		URL: "redis://127.0.0.1:6379/0", Addresses: []string{}, Prefix: "{keystile}", StateFile: "data/redis.state",
		MaxStaleness: 30 * time.Second, ReceiptDeadline: 2 * time.Second, FenceLag: 10 * time.Second,
	}
}

// parsedURL is store.redis.url of a config that passed its check.
func (c redisConfig) parsedURL() *url.URL {
	u, err := url.Parse(c.URL)
	if err != nil {
		return &url.URL{}
	}
	return u
}

// servers are the addresses to call, each as host:port.
func (c redisConfig) servers() []string {
	if len(c.Addresses) > 0 {
		return c.Addresses
	}
	u := c.parsedURL()
	port := u.Port()
	switch {
	case port != "":
	case c.SentinelPrimary != "":
		port = "26379"
	default:
		port = "6379"
	}
	return []string{net.JoinHostPort(u.Hostname(), port)}
}

func (c redisConfig) database() int {
	number, _ := strconv.Atoi(strings.TrimPrefix(c.parsedURL().Path, "/"))
	return number
}

func (c redisConfig) encrypted() bool { return c.parsedURL().Scheme == "rediss" }

// readable reports whether others could read, and change, what is sent.
func (c redisConfig) readable() bool {
	return !c.encrypted() && slices.ContainsFunc(c.servers(), func(address string) bool {
		host, _, _ := net.SplitHostPort(address)
		return !isLoopback(host)
	})
}

// problems are those of options that must fit together.
func (c redisConfig) problems() []problem {
	var list []problem
	add := func(wrong bool, option, with, text string) {
		if wrong {
			list = append(list, problem{"store.redis." + option, text, with})
		}
	}
	sentinel := c.SentinelPrimary != ""
	add(sentinel && c.Cluster, "cluster", "store.redis.sentinel_primary", "cannot be true beside store.redis.sentinel_primary: a Cluster has no Sentinels")
	add(len(c.Addresses) > 1 && !c.Cluster && !sentinel, "addresses", "",
		"names several servers, so it needs store.redis.cluster, or store.redis.sentinel_primary if they are Sentinels")
	add(c.Cluster && c.database() != 0, "url", "store.redis.cluster", "must name database 0: a Cluster has no other")
	add(!sentinel && c.SentinelUser != "", "sentinel_user", "", "needs store.redis.sentinel_primary beside it")
	add(!sentinel && c.SentinelPasswordFile != "", "sentinel_password_file", "", "needs store.redis.sentinel_primary beside it")
	// Without a password no user is sent, and the process would be the user default.
	add(c.User != "" && c.PasswordFile == "", "user", "", "needs store.redis.password_file beside it")
	add(c.SentinelUser != "" && c.SentinelPasswordFile == "", "sentinel_user", "", "needs store.redis.sentinel_password_file beside it")
	add(c.TLS.CertFile != "" && c.TLS.KeyFile == "", "tls.cert_file", "", "needs store.redis.tls.key_file beside it")
	add(c.TLS.KeyFile != "" && c.TLS.CertFile == "", "tls.key_file", "", "needs store.redis.tls.cert_file beside it")
	for name, value := range map[string]string{
		"ca_file": c.TLS.CAFile, "cert_file": c.TLS.CertFile, "key_file": c.TLS.KeyFile, "server_name": c.TLS.ServerName,
	} {
		add(value != "" && !c.encrypted(), "tls."+name, "", "needs a store.redis.url that begins with rediss://: as it is, nothing is encrypted")
	}
	add(c.ReceiptDeadline > longestReceipt, "receipt_deadline", "", fmt.Sprintf("must be at most %v, got %v", longestReceipt, c.ReceiptDeadline))
	return list
}

func checkRedisURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "redis" && u.Scheme != "rediss" || u.Opaque != "" {
		return fmt.Errorf("expected a URL such as redis://127.0.0.1:6379/0, got %s", shown(text))
	}
	if err := checkAuthority(u, text, "name the user in store.redis.user, put the password into a file and name it in store.redis.password_file"); err != nil {
		return err
	}
	if database := strings.TrimPrefix(u.Path, "/"); database != "" && !isPort(database) {
		return fmt.Errorf("expected the number of a database after the address, got %s", shown(text))
	}
	return nil
}

func checkRedisServer(text string) error {
	if err := checkAddress(text); err != nil {
		return err
	}
	if host, port, _ := net.SplitHostPort(text); host == "" || port == "0" {
		return fmt.Errorf("expected a server as host:port, got %s", shown(text))
	}
	return nil
}

// checkRedisPrefix sees to it that all names are on one node of a cluster: the server takes what stands between the first two braces.
func checkRedisPrefix(text string) error {
	open := strings.IndexByte(text, '{')
	if open < 0 || strings.IndexByte(text[open:], '}') < 2 {
		return fmt.Errorf("expected a name with a part in braces such as \"{keystile}\", got %s", shown(text))
	}
	return nil
}

func checkOptionalHost(text string) error {
	if text == "" {
		return nil
	}
	return checkHost(text)
}
