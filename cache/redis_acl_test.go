package cache

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"keystile/cache/redistest"
	"keystile/keys"
	"keystile/keys/keystest"
)

// aclPassword is the password of the user keystile in tests.
const aclPassword = "a password for tests"

// shippedACL is deploy/redis.acl with that password.
func shippedACL(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile("../deploy/redis.acl")
	if err != nil {
		t.Fatal(err)
	}
	placeholder := strings.Repeat("0", 2*sha256.Size)
	if strings.Count(string(text), " #"+placeholder+" ") != 1 {
		t.Fatal("deploy/redis.acl does not have the placeholder of the password, once")
	}
	sum := sha256.Sum256([]byte(aclPassword))
	return strings.Replace(string(text), placeholder, hex.EncodeToString(sum[:]), 1)
}

// grants are the rules of the user keystile: what "user keystile" is followed by.
func grants(t testing.TB) []string {
	t.Helper()
	for line := range strings.Lines(shippedACL(t)) {
		if words := strings.Fields(line); len(words) > 2 && words[1] == "keystile" {
			return words[2:]
		}
	}
	t.Fatal("deploy/redis.acl has no user keystile")
	return nil
}

// asKeystile says where a server is, for the user keystile.
func asKeystile(addresses ...string) RedisServer {
	return RedisServer{Addresses: addresses, User: "keystile", Password: aclPassword}
}

// commandCount counts the commands that servers have carried out.
type commandCount struct {
	mu    sync.Mutex
	calls map[string]bool
}

// take adds the commands of a server, and fails the test if one was refused.
func (c *commandCount) take(t testing.TB, server *redistest.Server) {
	t.Helper()
	if refused := server.Must("ACL", "LOG"); refused != "" {
		t.Errorf("the server has refused something:\n%s", refused)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calls == nil {
		c.calls = make(map[string]bool)
	}
	for line := range strings.Lines(server.Must("INFO", "commandstats")) {
		if name, _, found := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":"); found {
			c.calls[name] = true
		}
	}
}

func TestShippedACLGrantsWhatTheContractNeedsAndNoMore(t *testing.T) {
	acl, used := shippedACL(t), &commandCount{}
	t.Run("contract", func(t *testing.T) {
		keystest.Run(t, sharedHarness(perFolder(func(t testing.TB) string {
			server := redistest.Start(t, redistest.Options{ACL: acl})
			t.Cleanup(func() { used.take(t, server) })
			return server.Addr()
		}), asKeystile))
	})
	t.Run("beside the contract", func(t *testing.T) {
		server := redistest.Start(t, redistest.Options{ACL: acl})
		useBesideContract(t, server)
		used.take(t, server)
	})
	for _, rule := range grants(t) {
		command, granted := strings.CutPrefix(rule, "+")
		elsewhere := command == "cluster|slots" || command == "command" // see redis_topologies_test.go
		if granted && !elsewhere && !used.calls[command] {
			t.Errorf("deploy/redis.acl grants %s, which nothing needs", command)
		}
	}
}

// useBesideContract has a store do what the contract does not ask for: use another
// database, wait for replicas, repeat what was not answered, move, stay for longer.
func useBesideContract(t *testing.T, server *redistest.Server) {
	network := redistest.NewProxy(t, server.Addr())
	where := asKeystile(network.Addr())
	where.Database = 1
	r := openShared(t, RedisOptions{Server: where, WaitReplicas: 1})
	defer r.Close()
	first, second := keys.NewID(), keys.NewID()
	network.LoseReplies(1, string(second[:]))
	for _, id := range []keys.ID{first, second} { // the first loads the script
		made, err := r.Create(t.Context(), keys.Draft{ID: id, Account: keys.DefaultAccount, Name: id.String(), Digest: (*keys.Peppers)(nil).Digest(keys.NewSecret(id))})
		if err != nil || made.Receipt.Replicas != (keys.Replicas{Want: 1}) || made.Receipt.Everywhere() {
			t.Errorf("got %+v, %v", made, err)
		}
	}
	if network.Lost() != 1 {
		t.Error("no reply was lost")
	}
	var backup bytes.Buffer
	if err := r.Export(t.Context(), &backup); err != nil {
		t.Error(err)
	}
	where.Database = 2
	other := openShared(t, RedisOptions{Server: where})
	defer other.Close()
	if _, err := other.Import(t.Context(), bytes.NewReader(backup.Bytes()), ImportOptions{}); err != nil {
		t.Error(err)
	}
	if list, err := other.List(t.Context(), ""); err != nil || len(list) != 2 {
		t.Errorf("of a backup of two keys there are %d, %v", len(list), err)
	}
	// A connection on which no hint came for a while is tried.
	eventually(t, "PING", func() bool { return strings.Contains(server.Must("INFO", "commandstats"), "cmdstat_ping:") })
}

// eventually polls condition, which other goroutines or processes make true.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(time.Minute); !condition(); {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// sharedHarness opens stores of one prefix, in the server that start starts for each
// folder.
func sharedHarness(start func(t testing.TB, dir string) string, server func(addresses ...string) RedisServer) keystest.Harness {
	return keystest.Harness{
		Open: func(t testing.TB, dir string, o keystest.Options) keystest.Store {
			return openShared(t, RedisOptions{Server: server(start(t, dir)), PerAccount: o.PerAccount, AuditKeep: o.AuditKeep, Now: o.Now, ReceiptDeadline: patience})
		},
		Immediate: true, Brief: true,
	}
}

func openShared(t testing.TB, o RedisOptions) *Redis {
	t.Helper()
	r, err := OpenRedis(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestShippedACLRefusesTheRest(t *testing.T) {
	server := redistest.Start(t, redistest.Options{ACL: shippedACL(t)})
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), Username: "keystile", Password: aclPassword})
	t.Cleanup(func() { _ = client.Close() })
	for _, command := range []string{
		"FLUSHALL", "FLUSHDB", "CONFIG GET *", "CONFIG SET appendonly no", "KEYS *", "SCAN 0", "DEL {keystile}:meta",
		"RENAME {keystile}:meta {keystile}:other", "EXPIRE {keystile}:meta 1", "SHUTDOWN", "DEBUG SLEEP 0", "MONITOR", "SAVE", "BGREWRITEAOF",
		"REPLICAOF NO ONE", "CLIENT LIST", "CLIENT KILL TYPE normal", "ACL LIST", "ACL SETUSER keystile allkeys", "SCRIPT FLUSH", "FUNCTION LIST",
		"SWAPDB 0 1", "MOVE {keystile}:meta 1", "CLUSTER RESET", "CLUSTER NODES", "XTRIM {keystile}:log MAXLEN 0", "XDEL {keystile}:log 1-0",
		"GET other", "SET other 1", "HGET {other}:records 1", "HSET keystile:meta version 0", "PUBLISH other 1", "SUBSCRIBE {other}:hint",
		"EVAL return(redis.call('GET','other')) 0", "EVAL return(redis.call('FLUSHALL')) 0", "EVAL return(redis.call('KEYS','*')) 0",
	} {
		args := make([]any, 0, 4)
		for _, word := range strings.Fields(command) {
			args = append(args, word)
		}
		err := client.Do(t.Context(), args...).Err()
		if err == nil || !strings.Contains(err.Error(), "NOPERM") && !strings.Contains(err.Error(), "The user executing the script can't") {
			t.Errorf("%s: %v", command, err)
		}
	}
	nobody := redis.NewClient(&redis.Options{Addr: server.Addr()})
	t.Cleanup(func() { _ = nobody.Close() })
	if err := nobody.Ping(t.Context()).Err(); err == nil || !strings.Contains(err.Error(), "NOAUTH") {
		t.Errorf("without a password: %v", err)
	}
}

// The placeholder is no password's hash: who forgets to replace it is refused.
func TestShippedACLAdmitsNobodyAsItIs(t *testing.T) {
	text, err := os.ReadFile("../deploy/redis.acl")
	if err != nil {
		t.Fatal(err)
	}
	server := redistest.Start(t, redistest.Options{ACL: string(text)})
	for _, password := range []string{aclPassword, "", "0", strings.Repeat("0", 64)} {
		s := asKeystile(server.Addr())
		s.Password = password
		err := openRefused(t, RedisOptions{Server: s})
		if err == nil {
			t.Fatalf("the password %q is accepted", password)
		}
		if errors.Is(err, keys.ErrUnavailable) || !strings.Contains(err.Error(), "the server refuses us") {
			t.Errorf("the password %q: %v", password, err)
		}
	}
	if !slices.Contains(strings.Fields(string(text)), "default") {
		t.Error("the user default is not switched off")
	}
}
