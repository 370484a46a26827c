package main

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"keystile/cache"
	"keystile/cache/redistest"
	"keystile/keys"
)

// secured is the configuration of a process that reaches a server over TLS, with
// the password in a file and a certificate of its own.
func secured(c *redistest.Certificates) string {
	return fmt.Sprintf("store: {driver: redis, redis: {password_file: password, tls: {ca_file: '%s', cert_file: '%s', key_file: '%s'}}}\n",
		c.CA, c.Client, c.ClientKey)
}

func TestRedisIsReachedOverTLSWithAPasswordFromAFile(t *testing.T) {
	server := redistest.Start(t, redistest.Options{TLS: true, Password: "hunter2", AppendOnly: "always"})
	c := command{
		folder: t.TempDir(), config: secured(server.Certificates()),
		env: []string{"KEYSTILE_STORE_REDIS_URL=rediss://" + server.Addr()},
	}
	writeFile(t, filepath.Join(c.folder, "password"), "hunter2\n", 0o600)
	p := startServe(t, newSample(t).URL, c)
	awaitReady(t, p)
	admits(t, p, newLasting(t), p.client(t).create(t, "").Secret, "")
	p.stop(t)
	if strings.Contains(p.stderr.text(), "hunter2") {
		t.Error("the password is in the log")
	}

	c.args = serveArgs()
	writeFile(t, filepath.Join(c.folder, "password"), "hunter3\n", 0o600)
	wrong, code := startsInVain(t, c)
	if code != 1 || !strings.Contains(wrong.stderr.text(), "the server refuses us") || strings.Contains(wrong.stderr.text(), "hunter3") {
		t.Errorf("with another password: exit code %d, %s", code, wrong.stderr.text())
	}
	writeFile(t, filepath.Join(c.folder, "password"), "hunter2\n", 0o644)
	refuses(t, c, "store.redis.password_file: password has mode 0644, so users other than its owner could read or change the secret in it; type: chmod 0640 password")
}

// replicaPatience is how long a reply waits for replicas at least before it says that
// they lack a change.
const replicaPatience = 400 * time.Millisecond

func TestSentinelsAndClusterAreReachedAsConfigured(t *testing.T) {
	fenced := redistest.Options{Lines: []string{"min-replicas-to-write 1"}}
	primary := redistest.Start(t, fenced)
	fenced.ReplicaOf = primary
	sentinels := redistest.StartSentinel(t, primary, redistest.Start(t, fenced))
	cluster := redistest.StartCluster(t)
	for name, env := range map[string][]string{
		"Sentinels": {
			"KEYSTILE_STORE_REDIS_ADDRESSES=" + strings.Join(sentinels.Addrs(), ","),
			"KEYSTILE_STORE_REDIS_SENTINEL_PRIMARY=" + sentinels.Name(), "KEYSTILE_STORE_REDIS_WAIT_REPLICAS=1",
		},
		"Cluster": {"KEYSTILE_STORE_REDIS_ADDRESSES=" + strings.Join(cluster.Addrs(), ","), "KEYSTILE_STORE_REDIS_CLUSTER=true"},
	} {
		t.Run(name, func(t *testing.T) {
			p := startServe(t, newSample(t).URL, command{env: append(env, "KEYSTILE_STORE_DRIVER=redis", unhurried)})
			awaitReady(t, p)
			made := p.client(t).create(t, "")
			again(t, func() error { // a replica may be late
				began := time.Now()
				kept := p.client(t).patch(t, made.Key, `{"active":true}`)
				if took := time.Since(began); kept.Effective != "everywhere" && took >= replicaPatience {
					return fmt.Errorf("kept: %+v, after %v", kept, took)
				} else if kept.Effective != "everywhere" {
					t.Errorf("kept: %+v, after %v already", kept, took)
				}
				return nil
			})
			admits(t, p, newLasting(t), made.Secret, "")
			p.stop(t)
		})
	}
}

func TestEveryOptionOfRedisReachesTheStore(t *testing.T) {
	folder := t.TempDir()
	password, sentinels := filepath.Join(folder, "password"), filepath.Join(folder, "sentinels")
	writeFile(t, password, "hunter2\n", 0o600)
	writeFile(t, sentinels, "hunter3\n", 0o600)
	c := defaultConfig()
	c.Keys.PerAccount = 3
	c.Audit.Keep = 7
	c.Store.Redis = redisConfig{
		URL: "rediss://elsewhere/5", Addresses: []string{"a:1", "b:2"}, SentinelPrimary: "primary", Cluster: true,
		User: "user", PasswordFile: password, SentinelUser: "watcher", SentinelPasswordFile: sentinels,
		TLS: redisTLSConfig{ServerName: "redis.example.com"}, Prefix: "{p}", Name: "west", StateFile: "state",
		MaxStaleness: 1, ReceiptDeadline: 2, WaitReplicas: 4, FenceLag: 5, AllowUnfenced: true,
	}
	mirror, peppers, log := cache.NewMirror(), &keys.Peppers{}, slog.New(slog.DiscardHandler)
	got, err := redisOptions(c, mirror, peppers, log)
	if err != nil {
		t.Fatal(err)
	}
	if got.Server.TLS == nil || got.Server.TLS.ServerName != "redis.example.com" {
		t.Errorf("TLS is %+v", got.Server.TLS)
	}
	got.Server.TLS = nil
	want := cache.RedisOptions{
		Server: cache.RedisServer{
			Addresses: []string{"a:1", "b:2"}, Cluster: true, SentinelPrimary: "primary", SentinelUser: "watcher", SentinelPassword: "hunter3",
			User: "user", Password: "hunter2", Database: 5,
		},
		Prefix: "{p}", StateFile: "state", Name: "west", Mirror: mirror, PerAccount: 3, AuditKeep: 7, Peppers: peppers,
		MaxStaleness: 1, ReceiptDeadline: 2, WaitReplicas: 4, FenceLag: 5, AllowUnfenced: true, Log: log,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestReceiptTellsOfReplicasThatLackTheChange(t *testing.T) {
	p := startServe(t, newSample(t).URL, atRedis(safeRedis(t).Addr(), "only", "wait_replicas: 2"))
	awaitReady(t, p)
	got := p.client(t).call(t, "POST", keysPath, "{}")
	if got.status != http.StatusCreated || !strings.Contains(string(got.body), `"replicas":{"want":2,"have":0}`) || strings.Contains(string(got.body), "everywhere") {
		t.Errorf("%d %s", got.status, got.body)
	}
}

func TestClientCertificateIsReadAgainForEachConnection(t *testing.T) {
	a, folder := newAuthority(t), t.TempDir()
	a.write(t, folder, 2)
	conf, err := redisTLS(redisTLSConfig{CertFile: filepath.Join(folder, "tls.crt"), KeyFile: filepath.Join(folder, "tls.key")})
	if err != nil || conf.RootCAs != nil || conf.MinVersion != tls.VersionTLS12 {
		t.Fatalf("got %+v, %v", conf, err)
	}
	serial := func() int64 {
		pair, err := conf.GetClientCertificate(&tls.CertificateRequestInfo{})
		if err != nil {
			t.Fatal(err)
		}
		return pair.Leaf.SerialNumber.Int64()
	}
	before := serial()
	a.write(t, folder, 3)
	if after := serial(); before != 2 || after != 3 {
		t.Errorf("the certificates are number %d and %d", before, after)
	}
}

func TestMistakesInFilesForRedisAreFoundAtTheStart(t *testing.T) {
	folder := t.TempDir()
	text := filepath.Join(folder, "text")
	writeFile(t, text, "no certificate\n", 0o600)
	for name, test := range map[string]struct {
		change func(c *redisConfig)
		want   string
	}{
		"no password":          {func(c *redisConfig) { c.PasswordFile = "missing" }, "store.redis.password_file: the file cannot be opened"},
		"no Sentinel password": {func(c *redisConfig) { c.SentinelPasswordFile = "missing" }, "store.redis.sentinel_password_file: the file cannot be opened"},
		"no authority":         {func(c *redisConfig) { c.TLS.CAFile = "missing" }, "store.redis.tls.ca_file: the file cannot be opened: open missing"},
		"a text as authority":  {func(c *redisConfig) { c.TLS.CAFile = text }, "store.redis.tls.ca_file: " + text + " has no PEM certificate"},
		"no certificate":       {func(c *redisConfig) { c.TLS.CertFile, c.TLS.KeyFile = "missing", text }, "store.redis.tls.cert_file: the file cannot be opened: open missing: no such file or directory: name a file that exists"},
	} {
		c := redisConfig{URL: "rediss://redis"}
		test.change(&c)
		if _, err := redisServer(c); err == nil || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
}
