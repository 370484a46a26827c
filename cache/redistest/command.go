package redistest

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// Command sends one command on a connection of its own and returns the reply as redis-cli would print it to a file: the
// elements of an array one a line, nothing for nil. An error is one of the network, after 5 s at most, or the server's own
// words, "ERR ...". It is written by hand because a client library, which retries and pools, is what tests examine.
func (s *Server) Command(args ...string) (string, error) {
	dialer := net.Dialer{Timeout: 5 * time.Second}
	conn, err := dialer.Dial("tcp", s.Addr())
	if err != nil {
		return "", err
	}
	if s.certificates != nil {
		conn = tls.Client(conn, s.certificates.Config)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return "", err
	}
	reader := bufio.NewReader(conn)
	if s.login.password != "" {
		auth := []string{"AUTH", s.login.user, s.login.password}
		if s.login.user == "" {
			auth = []string{"AUTH", s.login.password}
		}
		if _, err := exchange(conn, reader, auth); err != nil {
			return "", err
		}
	}
	return exchange(conn, reader, args)
}

// Must is Command for what has to succeed: an error fails the test.
func (s *Server) Must(args ...string) string {
	s.t.Helper()
	reply, err := s.Command(args...)
	if err != nil {
		s.t.Fatalf("%s on %s: %v", strings.Join(args, " "), s.Addr(), err)
	}
	return reply
}

// exchange sends a command in the form of RESP2 and reads its reply.
func exchange(w io.Writer, r *bufio.Reader, args []string) (string, error) {
	var text strings.Builder
	fmt.Fprintf(&text, "*%d\r\n", len(args))
	for _, arg := range args {
		fmt.Fprintf(&text, "$%d\r\n%s\r\n", len(arg), arg)
	}
	if _, err := io.WriteString(w, text.String()); err != nil {
		return "", err
	}
	return readReply(r)
}

func readReply(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	kind, rest := line[0], strings.TrimSuffix(line[1:], "\r\n")
	switch kind {
	case '+', ':':
		return rest, nil
	case '-':
		return "", errors.New(rest)
	case '$', '*':
	default:
		return "", fmt.Errorf("the reply %q is not RESP2", line)
	}
	size, err := strconv.Atoi(rest)
	if err != nil || size < 0 {
		return "", err
	}
	if kind == '$' {
		return readBulk(r, size)
	}
	return readArray(r, size)
}

func readBulk(r *bufio.Reader, size int) (string, error) {
	text := make([]byte, size+len("\r\n"))
	_, err := io.ReadFull(r, text)
	return string(text[:size]), err
}

func readArray(r *bufio.Reader, size int) (string, error) {
	elements := make([]string, size)
	for i := range elements {
		var err error
		// An error inside an array is an element of EXEC's: the others still have to be read.
		if elements[i], err = readReply(r); err != nil {
			elements[i] = err.Error()
		}
	}
	return strings.Join(elements, "\n"), nil
}
