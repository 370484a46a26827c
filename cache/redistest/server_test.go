package redistest

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// failure is a test of which only its failure is of interest.
type failure struct {
	testing.TB
	message string
}

func (f *failure) Helper() {}

func (f *failure) Fatal(args ...any) {
	f.message = fmt.Sprint(args...)
	runtime.Goexit()
}

func (f *failure) Fatalf(format string, args ...any) { f.Fatal(fmt.Sprintf(format, args...)) }

// fails returns the message with which the action fails its test.
func fails(t *testing.T, action func(testing.TB)) string {
	t.Helper()
	f, done := &failure{TB: t}, make(chan struct{})
	go func() {
		defer close(done)
		action(f)
	}()
	<-done
	return f.message
}

func TestMissingServerFailsTheTestWithWhatToType(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	message := fails(t, func(tb testing.TB) { Start(tb, Options{}) })
	if want := "apt-get install -y --no-install-recommends redis-server"; !strings.Contains(message, want) {
		t.Errorf("the message %q lacks %q", message, want)
	}
}

func TestServerThatRefusesItsConfigurationFailsTheTestWithItsWords(t *testing.T) {
	t.Parallel()
	message := fails(t, func(tb testing.TB) { Start(tb, Options{Lines: []string{"appendfsync sometimes"}}) })
	if !strings.Contains(message, "argument(s) must be one of") {
		t.Errorf("the message does not quote redis-server: %q", message)
	}
}

func TestPortOfAnotherProcessIsNotTakenForTheServer(t *testing.T) {
	t.Parallel()
	other := Start(t, Options{})
	late := Start(t, Options{})
	late.Kill()
	late.port = other.port
	late.write("redis.conf", late.configuration())
	if message := fails(t, func(tb testing.TB) { late.t = tb; late.Restart() }); !strings.Contains(message, "Address already in use") {
		t.Errorf("Restart says %q", message)
	}
	late.t = t
}

func TestEveryAcknowledgedChangeSurvivesAKillWithAppendOnlyAlways(t *testing.T) {
	t.Parallel()
	s := Start(t, Options{AppendOnly: "always"})
	for i := range 20 {
		s.Must("SET", "n", fmt.Sprint(i))
		s.Kill()
		s.Restart()
		if got := s.Must("GET", "n"); got != fmt.Sprint(i) {
			t.Fatalf("after a kill: %q, want %d", got, i)
		}
	}
}

func TestServerWithoutAppendOnlyForgetsAtAKill(t *testing.T) {
	t.Parallel()
	s := Start(t, Options{})
	addr := s.Addr()
	s.Must("SET", "n", "1")
	s.Terminate()
	s.Restart()
	if got := s.Must("GET", "n"); got != "" || s.Addr() != addr {
		t.Errorf("after a restart n is %q, and the address %s, was %s", got, s.Addr(), addr)
	}
}

func TestLinesOfTheConfigurationHold(t *testing.T) {
	t.Parallel()
	s := Start(t, Options{Lines: []string{"maxmemory 2mb", "maxmemory-policy allkeys-lru"}})
	if got := s.Must("CONFIG", "GET", "maxmemory*"); !strings.Contains(got, "2097152") || !strings.Contains(got, "allkeys-lru") {
		t.Errorf("CONFIG GET says %q", got)
	}
	if _, err := os.Stat(filepath.Join(s.Dir(), "redis.conf")); err != nil {
		t.Error(err)
	}
}

func TestStoppedServerAnswersNothingUntilContinued(t *testing.T) {
	t.Parallel()
	s := Start(t, Options{})
	conn := dial(t, s.Addr())
	s.Stop()
	conn.send("PING")
	conn.silent()
	s.Continue()
	conn.hears("+PONG")
}

func TestStoppedServerCanBeTerminated(t *testing.T) {
	t.Parallel()
	s := Start(t, Options{})
	s.Stop()
	s.Terminate()
	if _, err := s.Command("PING"); err == nil {
		t.Error("a terminated server answers")
	}
}

func TestPasswordIsAsked(t *testing.T) {
	t.Parallel()
	s := Start(t, Options{Password: "secret"})
	s.Must("PING")
	if want := fmt.Sprintf("redis://:secret@%s/0", s.Addr()); s.URL() != want {
		t.Errorf("URL is %s, want %s", s.URL(), want)
	}
	conn := dial(t, s.Addr())
	conn.send("PING")
	conn.hears("-NOAUTH")
}

func TestUserOfTheACLFileMayDoWhatItSays(t *testing.T) {
	t.Parallel()
	s := Start(t, Options{ACL: "user default off\nuser app on >word ~app:* +get +set"})
	s.Must("SET", "app:a", "1")
	conn := dial(t, s.Addr())
	for _, step := range [][2]string{
		{"GET app:a", "-NOAUTH"},
		{"AUTH app word", "+OK"},
		{"GET app:a", "$1"},
		{"GET other", "-NOPERM"},
		{"FLUSHALL", "-NOPERM"},
	} {
		conn.send(step[0])
		conn.hears(step[1])
		if step[1] == "$1" {
			conn.hears("1")
		}
	}
	message := fails(t, func(tb testing.TB) { Start(tb, Options{ACL: "user default off", Password: "x"}) })
	if !strings.Contains(message, "replaces the password") {
		t.Errorf("a password beside the ACL file is accepted: %q", message)
	}
}

func TestServerWithTLSAsksForTheClientsCertificate(t *testing.T) {
	t.Parallel()
	primary := Start(t, Options{TLS: true, Password: "secret"})
	primary.Must("SET", "n", "1")
	replica := Start(t, Options{TLS: true, Password: "secret", ReplicaOf: primary})
	if got := replica.Must("GET", "n"); got != "1" {
		t.Errorf("the replica has %q", got)
	}
	if !strings.HasPrefix(primary.URL(), "rediss://") {
		t.Errorf("URL is %s", primary.URL())
	}
	if message := fails(t, func(tb testing.TB) { StartSentinel(tb, primary) }); !strings.Contains(message, "TLS") {
		t.Errorf("sentinels for servers with TLS: %q", message)
	}
	stranger := primary.Certificates().Config.Clone()
	stranger.Certificates = nil
	if err := ping(primary.Addr(), primary.Certificates().Config); err != nil {
		t.Errorf("a client with its certificate is not served: %v", err)
	}
	if err := ping(primary.Addr(), stranger); err == nil {
		t.Error("a client without a certificate is served")
	}
	c := primary.Certificates()
	pair, err := tls.LoadX509KeyPair(c.Client, c.ClientKey)
	if err != nil {
		t.Fatal(err)
	}
	if err := ping(primary.Addr(), &tls.Config{Certificates: []tls.Certificate{pair}, ServerName: "localhost"}); err == nil {
		t.Error("a client that does not know the authority trusts the server")
	}
}

// ping makes a TLS connection and waits for a line of any reply.
func ping(addr string, config *tls.Config) error {
	conn, err := tls.Dial("tcp", addr, config)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if _, err := fmt.Fprint(conn, "PING\r\n"); err != nil {
		return err
	}
	_, err = bufio.NewReader(conn).ReadString('\n')
	return err
}

func TestReplicaFollowsItsPrimaryAndFencesIt(t *testing.T) {
	t.Parallel()
	primary := Start(t, Options{Lines: []string{"min-replicas-to-write 1", "min-replicas-max-lag 1"}})
	replica := Start(t, Options{ReplicaOf: primary})
	primary.Must("SET", "n", "1")
	primary.await("the replica to have the change", func() error {
		if got, err := replica.Command("GET", "n"); got != "1" {
			return fmt.Errorf("it has %q, %v", got, err)
		}
		return nil
	})
	replica.Stop()
	primary.await("a primary without replicas to refuse writes", func() error {
		_, err := primary.Command("SET", "n", "2")
		if err == nil {
			return fmt.Errorf("it accepts them")
		}
		if !strings.HasPrefix(err.Error(), "NOREPLICAS") {
			return stop(err)
		}
		return nil
	})
}

func TestCommandReadsEveryKindOfReply(t *testing.T) {
	t.Parallel()
	s := Start(t, Options{})
	for _, row := range []struct{ want, script string }{
		{"text", "return 'text'"},
		{"7", "return 7"},
		{"", "return nil"},
		{"OK", "return {ok='OK'}"},
		{"a\n1\nb\nc", "return {'a',1,{'b','c'}}"},
		{"two\r\nlines", "return 'two\\r\\nlines'"},
	} {
		if got := s.Must("EVAL", row.script, "0"); got != row.want {
			t.Errorf("%s: %q, want %q", row.script, got, row.want)
		}
	}
	if _, err := s.Command("EVAL", "return {err='ERR no'}", "0"); err == nil || err.Error() != "ERR no" {
		t.Errorf("an error is %v", err)
	}
	if message := fails(t, func(tb testing.TB) { (&Server{process: &process{t: tb}, port: s.port}).Must("NONSENSE") }); !strings.Contains(message, "unknown command") {
		t.Errorf("Must says %q", message)
	}
}

// client is a connection that speaks inline commands and hears lines.
type client struct {
	t      *testing.T
	conn   net.Conn
	reader *bufio.Reader
}

func dial(t *testing.T, addr string) *client {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &client{t, conn, bufio.NewReader(conn)}
}

func (c *client) send(line string) {
	c.t.Helper()
	if _, err := fmt.Fprintf(c.conn, "%s\r\n", line); err != nil {
		c.t.Fatal(err)
	}
}

// line returns the next line, or why there is none within the bound.
func (c *client) line(bound time.Duration) (string, error) {
	c.t.Helper()
	if err := c.conn.SetReadDeadline(time.Now().Add(bound)); err != nil {
		c.t.Fatal(err)
	}
	return c.reader.ReadString('\n')
}

func (c *client) hears(prefix string) {
	c.t.Helper()
	if line, err := c.line(patience); err != nil || !strings.HasPrefix(line, prefix) {
		c.t.Fatalf("heard %q, %v, want %q", line, err, prefix)
	}
}

// silent fails the test if anything comes, or the connection ends, within 300 ms.
func (c *client) silent() {
	c.t.Helper()
	line, err := c.line(300 * time.Millisecond)
	if timeout, ok := err.(net.Error); !ok || !timeout.Timeout() {
		c.t.Fatalf("heard %q, %v, want silence", line, err)
	}
}

// isCut fails the test unless the connection ends without another byte.
func (c *client) isCut() {
	c.t.Helper()
	line, err := c.line(patience)
	if timeout, ok := err.(net.Error); err == nil || line != "" || ok && timeout.Timeout() {
		c.t.Fatalf("heard %q, %v, want the end of the connection", line, err)
	}
}
