package cache

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"keystile/cache/redistest"
	"keystile/keys"
	"keystile/keys/keystest"
)

// prefixHarness opens stores by o, each folder's under a prefix of its own, which tag has
// the hash of the folder in: on a Cluster it decides on which node the store is.
func prefixHarness(o RedisOptions) keystest.Harness {
	return keystest.Harness{
		Open: func(t testing.TB, dir string, with keystest.Options) keystest.Store {
			sum := sha256.Sum256([]byte(dir))
			o := o
			o.Prefix, o.PerAccount, o.AuditKeep, o.Now = "{"+hex.EncodeToString(sum[:8])+"}", with.PerAccount, with.AuditKeep, with.Now
			o.ReceiptDeadline = patience
			return openShared(t, o)
		},
		Immediate: true, Brief: true,
	}
}

// admit makes the user of deploy/redis.acl on a server, for names of any prefix.
func admit(t testing.TB, servers ...*redistest.Server) {
	t.Helper()
	for _, server := range servers {
		server.Must(slices.Concat([]string{"ACL", "SETUSER", "keystile"}, grants(t), []string{"~*", "&*"})...)
	}
}

func TestRedisMeetsTheContractOverTLSWithAPassword(t *testing.T) {
	server := redistest.Start(t, redistest.Options{TLS: true, Password: "hunter2"})
	keystest.Run(t, prefixHarness(RedisOptions{Server: RedisServer{
		Addresses: []string{server.Addr()}, Password: "hunter2", TLS: server.Certificates().Config,
	}}))
}

func TestRedisIsReachedOnlyByThoseItKnows(t *testing.T) {
	server := redistest.Start(t, redistest.Options{TLS: true, Password: "hunter2"})
	config := server.Certificates().Config
	right := RedisServer{Addresses: []string{server.Addr()}, Password: "hunter2", TLS: config}
	for name, change := range map[string]func(s *RedisServer){
		"no TLS":                    func(s *RedisServer) { s.TLS = nil },
		"no client certificate":     func(s *RedisServer) { s.TLS = &tls.Config{RootCAs: config.RootCAs} },
		"an authority we know not":  func(s *RedisServer) { s.TLS = &tls.Config{Certificates: config.Certificates} },
		"a server of another name":  func(s *RedisServer) { s.TLS = config.Clone(); s.TLS.ServerName = "redis.example.com" },
		"another password, refused": func(s *RedisServer) { s.Password = "hunter3" },
		"no password, refused":      func(s *RedisServer) { s.Password = "" },
		"another user, refused":     func(s *RedisServer) { s.User = "keystile" },
	} {
		o := RedisOptions{Server: right, Mirror: NewMirror()}
		change(&o.Server)
		// A server that answers no is the operator's to mend; one that cannot be spoken to may come back.
		if strings.HasSuffix(name, "refused") {
			if err := openRefused(t, o); err == nil || errors.Is(err, keys.ErrUnavailable) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		r, err := OpenRedis(t.Context(), o)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, err := r.List(t.Context(), ""); !errors.Is(err, keys.ErrUnavailable) || o.Mirror.Fresh() == nil {
			t.Errorf("%s: a list, %v, fresh: %v", name, err, o.Mirror.Fresh())
		}
		_ = r.Close()
	}
}

// sentinelGrants are what deploy/README.md says that a user of Sentinels needs.
func sentinelGrants(t testing.TB) []string {
	t.Helper()
	text, err := os.ReadFile("../deploy/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rules, found := strings.CutPrefix(strings.TrimSpace(line), "user keystile on #<hash> "); found {
			return append(strings.Fields(rules), "on", ">"+aclPassword)
		}
	}
	t.Fatal("deploy/README.md does not say what a user of Sentinels needs")
	return nil
}

// startSentinels starts a primary that is fenced by its one replica, Sentinels, and on
// all of them the user keystile.
func startSentinels(t testing.TB) (*redistest.Sentinel, RedisOptions) {
	t.Helper()
	fenced := redistest.Options{Lines: []string{"min-replicas-to-write 1", "min-replicas-max-lag 10"}}
	primary := redistest.Start(t, fenced)
	fenced.ReplicaOf = primary
	replica := redistest.Start(t, fenced)
	sentinels := redistest.StartSentinel(t, primary, replica)
	admit(t, primary, replica)
	for _, node := range sentinels.Nodes() {
		node.Must(slices.Concat([]string{"ACL", "SETUSER", "keystile"}, sentinelGrants(t))...)
		t.Cleanup(func() { (&commandCount{}).take(t, node) })
	}
	server := asKeystile(sentinels.Addrs()...)
	server.SentinelPrimary, server.SentinelUser, server.SentinelPassword = sentinels.Name(), "keystile", aclPassword
	return sentinels, RedisOptions{Server: server, WaitReplicas: 1}
}

func TestRedisMeetsTheContractBehindSentinels(t *testing.T) {
	_, o := startSentinels(t)
	keystest.Run(t, prefixHarness(o))
}

func TestAcknowledgedRevocationSurvivesAFailover(t *testing.T) {
	sentinels, o := startSentinels(t)
	o.Mirror = NewMirror()
	r := openShared(t, o)
	defer r.Close()
	made, off := newKey(t, r), func(record *keys.Record) error { record.Active = false; return nil }
	eventually(t, "the revocation to be kept by the replica, too", func() bool {
		_, receipt, err := r.Update(t.Context(), made.ID, off)
		return err == nil && receipt.Everywhere() && receipt.Replicas == keys.Replicas{Want: 1, Have: 1}
	})
	sentinels.Failover()
	eventually(t, "changes to be kept again", func() bool {
		_, err := r.Delete(t.Context(), newKey(t, r).ID, nil)
		return err == nil
	})
	if got, err := r.Get(t.Context(), made.ID); err != nil || got.Active {
		t.Errorf("after the failover: %+v, %v", got, err)
	}
	eventually(t, "the mirror to be fresh", func() bool { return o.Mirror.Fresh() == nil })
	if grant, present := o.Mirror.Get(made.ID); !present || grant.Active {
		t.Errorf("after the failover the mirror has %+v, %v", grant, present)
	}
}

// newKey makes a key, as often as it takes.
func newKey(t testing.TB, r *Redis) (made keys.Record) {
	t.Helper()
	eventually(t, "a key to be made", func() bool {
		id := keys.NewID()
		created, err := r.Create(t.Context(), keys.Draft{ID: id, Account: keys.DefaultAccount, Digest: (*keys.Peppers)(nil).Digest(keys.NewSecret(id))})
		made = created.Record
		return err == nil
	})
	return made
}

func TestRedisMeetsTheContractOnACluster(t *testing.T) {
	cluster, used := redistest.StartCluster(t), &commandCount{}
	admit(t, cluster.Nodes()...)
	server := asKeystile(cluster.Addrs()...)
	server.Cluster = true
	t.Run("contract", func(t *testing.T) { keystest.Run(t, prefixHarness(RedisOptions{Server: server})) })
	for _, node := range cluster.Nodes() {
		if stats := node.Must("INFO", "commandstats"); !strings.Contains(stats, "cmdstat_evalsha:") {
			t.Error("a node of the Cluster had no store")
		}
		used.take(t, node)
	}
	for _, command := range []string{"cluster|slots", "command"} {
		if !used.calls[command] {
			t.Errorf("deploy/redis.acl grants %s, which nothing needs", command)
		}
	}
}
