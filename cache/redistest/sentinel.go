package redistest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// primaryName is what sentinels call the primary.
const primaryName = "keystile"

// Sentinel is three sentinels that watch a primary and its replicas. A primary that does not answer for 500 ms is
// replaced, which takes some 1 to 5 s in all. A former primary that comes back is made a replica after 8 s or more.
type Sentinel struct {
	t       testing.TB
	nodes   []*Server
	servers []*Server
}

// StartSentinel starts three sentinels, and returns when they know each other and every server. The servers were started
// with Start, the replicas with Options.ReplicaOf.
func StartSentinel(t testing.TB, primary *Server, replicas ...*Server) *Sentinel {
	t.Helper()
	if primary.certificates != nil {
		t.Fatal("redistest: sentinels cannot watch servers with TLS")
	}
	s := &Sentinel{t: t, servers: append([]*Server{primary}, replicas...)}
	for range 3 {
		node := &Server{process: newProcess(t, "redis.conf", "--sentinel")}
		node.launch(func() string { return sentinelConfiguration(node, primary) })
		s.nodes = append(s.nodes, node)
	}
	s.Settle()
	return s
}

func sentinelConfiguration(node, primary *Server) string {
	lines := []string{
		"bind 127.0.0.1", "protected-mode no", fmt.Sprintf("port %d", node.port), fmt.Sprintf("dir %q", node.dir),
		fmt.Sprintf("sentinel monitor %s 127.0.0.1 %d 2", primaryName, primary.port),
		"sentinel down-after-milliseconds " + primaryName + " 500",
		"sentinel failover-timeout " + primaryName + " 2000",
		"sentinel parallel-syncs " + primaryName + " 10",
	}
	if primary.login.user != "" {
		lines = append(lines, "sentinel auth-user "+primaryName+" "+primary.login.user)
	}
	if primary.login.password != "" {
		lines = append(lines, "sentinel auth-pass "+primaryName+" "+primary.login.password)
	}
	return strings.Join(lines, "\n") + "\n"
}

// Name returns the name by which sentinels know the primary.
func (s *Sentinel) Name() string { return primaryName }

// Addrs returns the host and port of each sentinel.
func (s *Sentinel) Addrs() (addrs []string) {
	for _, node := range s.nodes {
		addrs = append(addrs, node.Addr())
	}
	return addrs
}

// Nodes returns the sentinels themselves, to end or stop one.
func (s *Sentinel) Nodes() []*Server { return slices.Clone(s.nodes) }

// PrimaryAddr returns the host and port that all sentinels which answer name as the primary's. It is empty while they
// disagree, or fewer than two answer.
func (s *Sentinel) PrimaryAddr() string {
	votes := map[string]int{}
	for _, node := range up(s.nodes) {
		reply, err := node.Command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", primaryName)
		if err == nil {
			votes[strings.Replace(reply, "\n", ":", 1)]++
		}
	}
	for addr, count := range votes {
		if len(votes) == 1 && count >= 2 {
			return addr
		}
	}
	return ""
}

// up returns those servers that neither ended nor stand still.
func up(servers []*Server) []*Server {
	return slices.DeleteFunc(slices.Clone(servers), func(s *Server) bool { return s.hasEnded() || s.stopped })
}

// Primary waits until sentinels agree and returns the server that they name.
func (s *Sentinel) Primary() *Server {
	s.t.Helper()
	return s.AwaitFailover("")
}

// AwaitFailover waits until sentinels agree on a primary with another address than from, and returns it once it accepts
// that it is one.
func (s *Sentinel) AwaitFailover(from string) (primary *Server) {
	s.t.Helper()
	s.nodes[0].await("another primary than "+from, func() error {
		addr, servers := s.PrimaryAddr(), up(s.servers)
		at := slices.IndexFunc(servers, func(server *Server) bool { return server.Addr() == addr })
		if at < 0 || addr == from {
			return fmt.Errorf("sentinels say %q", addr)
		}
		primary = servers[at]
		role, err := primary.Command("ROLE")
		if err == nil && !strings.HasPrefix(role, "master") {
			err = fmt.Errorf("%s says that its role is %q", addr, role)
		}
		return err
	})
	return primary
}

// Failover orders the first sentinel to make a replica the primary, and returns the new primary.
func (s *Sentinel) Failover() *Server {
	s.t.Helper()
	from := s.Primary().Addr()
	s.nodes[0].await("the order to fail over", func() error {
		// While another failover ends, or no replica was asked lately, sentinels refuse.
		_, err := s.nodes[0].Command("SENTINEL", "FAILOVER", primaryName)
		return err
	})
	return s.AwaitFailover(from)
}

// Settle waits until all sentinels know each other and see a primary that is well, and every server that is up follows
// it and has everything.
func (s *Sentinel) Settle() {
	s.t.Helper()
	s.nodes[0].await("sentinels and servers to settle", func() error {
		for _, node := range up(s.nodes) {
			if err := s.sees(node); err != nil {
				return err
			}
		}
		return s.follow()
	})
}

// sees returns an error unless the sentinel knows the others and the servers.
func (s *Sentinel) sees(node *Server) error {
	state, err := node.Command("SENTINEL", "MASTER", primaryName)
	if err != nil {
		return err
	}
	for _, want := range []string{
		"\nflags\nmaster\n",
		fmt.Sprintf("\nnum-other-sentinels\n%d\n", len(s.nodes)-1),
		fmt.Sprintf("\nnum-slaves\n%d\n", len(s.servers)-1),
	} {
		if !strings.Contains(state, want) {
			return fmt.Errorf("a sentinel's state lacks %q:\n%s", want, state)
		}
	}
	return nil
}

// follow returns an error unless the servers that are up are the primary and its replicas.
func (s *Sentinel) follow() error {
	addr, servers := s.PrimaryAddr(), up(s.servers)
	at := slices.IndexFunc(servers, func(server *Server) bool { return server.Addr() == addr })
	if at < 0 {
		return fmt.Errorf("no server that is up has the address %q", addr)
	}
	for i, server := range servers {
		if i == at {
			continue
		}
		if err := server.follows(servers[at]); err != nil {
			return err
		}
	}
	return nil
}
