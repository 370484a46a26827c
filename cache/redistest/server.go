// Package redistest gives tests real Redis servers and a network between that can be made to fail. It is used by tests
// only: no package of the product imports it.
//
// [Start] runs a redis-server of its own on a free port of the loopback, in the test's temporary folder; [StartSentinel]
// and [StartCluster] run several. [NewProxy] stands between a client and a server and loses, delays and cuts what goes
// through, in ways that can be changed at any time. Every one ends with its test, and when the test failed, its log
// holds the end of what each server printed. A wait is a poll with a bound that only passes when something is broken;
// then the test fails and says what was waited for. A redis-server that is not installed fails the test as well.
//
// Not promised: that a port stays free between [Server.Kill] and [Server.Restart] (ports are taken from below the range
// that the system hands out, so that only another test could take it); faults below TCP, such as lost or reordered
// packets; sentinels and clusters with TLS. Methods that end or start a process, and all that take a testing.TB,
// are for the goroutine of the test.
package redistest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// patience bounds every wait. A loaded machine may take seconds where an idle one takes milliseconds.
const patience = time.Minute

// Options says how a server differs from one that keeps nothing on disk, asks for no password and is on its own.
type Options struct {
	AppendOnly string   // appendfsync of the append-only file: "always", "everysec" or "no". Empty: no such file
	Password   string   // of the default user. Empty: none is needed. Not together with ACL
	ACL        string   // lines of an ACL file, "user NAME ...". Empty: no such file. Command keeps a user of its own
	TLS        bool     // TLS only, and only for clients with a certificate; see Server.Certificates
	ReplicaOf  *Server  // the primary to follow, with the same Password, ACL and TLS. Start waits for the link
	Cluster    bool     // a node of a cluster that knows no other yet; see StartCluster
	Lines      []string // lines of redis.conf that come last, such as "maxmemory 2mb"
}

// Server is a redis-server process, with its port and its folder, which outlive the process.
type Server struct {
	*process
	options      Options
	port         int
	bus          int // port on which nodes of a cluster talk to each other
	login        login
	certificates *Certificates
}

// login is how Command makes itself known; the user may be empty.
type login struct{ user, password string }

// Start starts a redis-server and returns when it answers; a replica, when its primary has sent it everything.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	s := &Server{options: o, process: newProcess(t, "redis.conf")}
	s.secure()
	s.launch(s.configuration)
	if o.ReplicaOf != nil {
		s.AwaitLink(o.ReplicaOf)
	}
	return s
}

// launch writes the configuration and starts the process, on another port if somebody was faster on this one.
func (s *Server) launch(configuration func() string) {
	s.t.Helper()
	for attempt := 1; ; attempt++ {
		s.port, s.bus = freePort(s.t), freePort(s.t)
		s.write("redis.conf", configuration())
		s.start()
		err := s.answers()
		if err == nil {
			return
		}
		s.Kill()
		if attempt == 5 || !strings.Contains(err.Error(), "Address already in use") {
			s.t.Fatalf("redis-server did not start: %v", err)
		}
	}
}

// freePort returns a port of the loopback on which nobody listens. It is below the range from which systems take the
// ports of outgoing connections, one of which could otherwise sit on the port of a server that is down.
func freePort(t testing.TB) int {
	t.Helper()
	for range 100 {
		port := 10_000 + rand.IntN(22_000)
		if listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			_ = listener.Close()
			return port
		}
	}
	t.Fatal("no free port was found on the loopback in 100 attempts")
	return 0
}

// secure prepares what the configuration names: certificates and the ACL file.
func (s *Server) secure() {
	s.t.Helper()
	o := s.options
	if o.ReplicaOf != nil {
		s.certificates = o.ReplicaOf.certificates
	}
	if o.TLS && s.certificates == nil {
		s.certificates = issue(s.t, s.dir)
	}
	if o.ACL != "" && o.Password != "" {
		s.t.Fatal("redistest: an ACL file replaces the password: give it to the default user there")
	}
	s.login = login{password: o.Password}
	if o.ACL != "" {
		s.login = login{user: "redistest", password: "redistest"}
		s.write("users.acl", strings.TrimRight(o.ACL, "\n")+"\nuser redistest on >redistest ~* &* +@all\n")
	}
}

func (s *Server) write(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *Server) configuration() string {
	lines := []string{
		"bind 127.0.0.1", "protected-mode no", "daemonize no", `save ""`, fmt.Sprintf("dir %q", s.dir),
		"enable-debug-command local",
		// Replicas are there at once, and a cut off primary knows it within a second.
		"repl-diskless-sync-delay 0", "repl-ping-replica-period 1",
	}
	lines = append(lines, s.listening()...)
	o := s.options
	if o.AppendOnly != "" {
		lines = append(lines, "appendonly yes", "appendfsync "+o.AppendOnly)
	}
	if o.Password != "" {
		lines = append(lines, "requirepass "+o.Password)
	}
	if o.ACL != "" {
		lines = append(lines, "aclfile users.acl", "masteruser "+s.login.user)
	}
	if s.login.password != "" {
		lines = append(lines, "masterauth "+s.login.password)
	}
	if o.ReplicaOf != nil {
		lines = append(lines, fmt.Sprintf("replicaof 127.0.0.1 %d", o.ReplicaOf.port))
	}
	if o.Cluster {
		lines = append(lines, "cluster-enabled yes", fmt.Sprintf("cluster-port %d", s.bus),
			"cluster-announce-ip 127.0.0.1", "cluster-node-timeout 2000")
	}
	return strings.Join(append(lines, o.Lines...), "\n") + "\n"
}

// listening returns the lines that say on which port and how the server listens.
func (s *Server) listening() []string {
	if s.certificates == nil {
		return []string{fmt.Sprintf("port %d", s.port)}
	}
	return append([]string{"port 0", fmt.Sprintf("tls-port %d", s.port), "tls-replication yes"},
		s.certificates.lines()...)
}

// Addr returns the host and port of the server.
func (s *Server) Addr() string { return fmt.Sprintf("127.0.0.1:%d", s.port) }

// URL returns the URL of the server's first database, with Options.Password: redis://, or rediss:// with TLS.
func (s *Server) URL() string {
	scheme, user := "redis", ""
	if s.certificates != nil {
		scheme = "rediss"
	}
	if s.options.Password != "" {
		user = ":" + s.options.Password + "@"
	}
	return fmt.Sprintf("%s://%s%s/0", scheme, user, s.Addr())
}

// Dir returns the folder of the server: redis.conf, the append-only file, what it printed.
func (s *Server) Dir() string { return s.dir }

// Certificates returns the certificates of a server with TLS, and nil of one without.
func (s *Server) Certificates() *Certificates { return s.certificates }

// Restart starts the process again, after Kill, Terminate or an end of its own, with the same port, folder and
// redis.conf, which sentinels may have rewritten. It returns when the server has loaded what it kept.
func (s *Server) Restart() {
	s.t.Helper()
	s.start()
	if err := s.answers(); err != nil {
		s.t.Fatalf("redis-server did not start again: %v", err)
	}
}

// answers waits until the process itself, and not another one with its port, answers and has loaded its data.
func (s *Server) answers() error {
	ours := fmt.Sprintf("process_id:%d\r\n", s.pid())
	return poll(patience, func() error {
		if s.hasEnded() {
			return stop(fmt.Errorf("the process ended: %s", s.output()))
		}
		info, err := s.Command("INFO")
		switch {
		case err != nil:
			return err
		case !strings.Contains(info, ours):
			return stop(fmt.Errorf("another process answers on %s: Address already in use", s.Addr()))
		case strings.Contains(info, "\nloading:1"):
			return fmt.Errorf("it is still loading its data")
		}
		return nil
	})
}

// AwaitLink waits until the server is a replica of the primary that has everything, and the primary counts on it.
func (s *Server) AwaitLink(primary *Server) {
	s.t.Helper()
	s.await("the link of a replica", func() error { return s.follows(primary) })
}

// follows returns an error unless both sides say that the server is a replica of the primary.
func (s *Server) follows(primary *Server) error {
	for server, wants := range map[*Server][]string{
		s:       {fmt.Sprintf("\nmaster_port:%d\r\n", primary.port), "\nmaster_link_status:up\r\n"},
		primary: {"\nrole:master\r\n", fmt.Sprintf(",port=%d,state=online,", s.port)},
	} {
		info, err := server.Command("INFO", "replication")
		if err != nil {
			return err
		}
		for _, want := range wants {
			if !strings.Contains(info, want) {
				return fmt.Errorf("INFO of %s lacks %q: %s", server.Addr(), want, info)
			}
		}
	}
	return nil
}

// await fails the test if the condition does not hold in time.
func (s *Server) await(what string, condition func() error) {
	s.t.Helper()
	if err := poll(patience, condition); err != nil {
		s.t.Fatalf("waiting for %s: %v", what, err)
	}
}
