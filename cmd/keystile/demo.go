package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"keystile/admin"
	"keystile/cmd/keystile/sample"
	"keystile/keys"
)

// demoFacts is what somebody needs to use a demo.
type demoFacts struct {
	Proxy  string `json:"proxy"`
	Admin  string `json:"admin"`
	Token  string `json:"token"`
	Key    string `json:"key"`
	Secret string `json:"secret"`
}

func demoCommand(std stdio) *cobra.Command {
	cmd := &cobra.Command{
		Use: "demo", Short: "Try Keystile: a sample generator behind it, a temporary store and a first key", Args: noArguments,
	}
	output := cmd.Flags().StringP("output", "o", "text", "text, or json: the facts as one object on the first line")
	proxyListen := cmd.Flags().String("proxy-listen", "127.0.0.1:8080", "address of the proxy listener; port 0: any free one")
	adminListen := cmd.Flags().String("admin-listen", "127.0.0.1:8081", "address of the admin listener; port 0: any free one")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		print, known := map[string]func(io.Writer, demoFacts) error{"text": printFacts, "json": writeFacts}[*output]
		if !known {
			return wrongOutput(*output)
		}
		return demo(cmd.Context(), std, *proxyListen, *adminListen, print)
	}
	return cmd
}

// demo runs until ctx is done, and leaves nothing behind.
func demo(ctx context.Context, std stdio, proxyListen, adminListen string, print func(io.Writer, demoFacts) error) (err error) {
	folder, err := os.MkdirTemp("", "keystile-demo-")
	if err != nil {
		return fmt.Errorf("making a folder for the temporary store: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	log := newLog(logConfig{Level: "info", Format: "auto"}, std.err)
	takeStandardLog(log)

	generator, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listening for the sample generator: %w", err)
	}
	defer generator.Close()
	c := defaultConfig()
	c.Proxy.Listen, c.Admin.Listen = proxyListen, adminListen
	c.Proxy.Upstream.URL = "http://" + generator.Addr().String()
	c.Store.Bolt.Path = filepath.Join(folder, "keystile.db")
	if c.Admin.readable(adminListen) {
		return usageError{fmt.Errorf("--admin-listen: %s can be reached from other machines, and the demo has no TLS: choose an address on loopback, "+
			"such as 127.0.0.1:8081, or use keystile serve with admin.tls", adminListen)}
	}
	if err := c.check(); err != nil {
		return usageError{err}
	}
	facts := demoFacts{Token: admin.NewToken()}
	token, err := admin.ParseAdminToken(facts.Token)
	if err != nil {
		return err
	}
	t, err := openTurnstile(c, token, std.env, log)
	if err != nil {
		return demoHint(err)
	}
	facts.Proxy, facts.Admin = t.proxyURL(), t.adminURL()
	if facts.Key, facts.Secret, err = firstKey(ctx, t.store); err != nil {
		t.close()
		return err
	}
	return runDemo(ctx, t, generator, log, func() error { return print(std.out, facts) })
}

// runDemo serves the generator and the turnstile, and prints once both answer:
// their listeners are bound, so a connection waits at most for Serve to start.
func runDemo(ctx context.Context, t *turnstile, generator net.Listener, log *slog.Logger, print func() error) error {
	server := &http.Server{Handler: sample.New(sample.Options{Log: log})}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return served("sample generator's", server.Serve(generator)) })
	group.Go(func() error {
		defer server.Close() // after the requests that the turnstile still had
		return t.run(ctx)
	})
	group.Go(print)
	return group.Wait()
}

// demoHint adds what to type when an address is taken.
func demoHint(err error) error {
	if strings.Contains(err.Error(), "in use by another process") {
		return fmt.Errorf("%w; for any free port: keystile demo --proxy-listen 127.0.0.1:0 --admin-listen 127.0.0.1:0", err)
	}
	return err
}

// firstKey makes a key and returns it with its secret.
func firstKey(ctx context.Context, store keys.Store) (key, secret string, err error) {
	id := keys.NewID()
	made := keys.NewSecret(id)
	_, err = store.Create(ctx, keys.Draft{
		ID: id, Account: keys.DefaultAccount, Name: "demo", Digest: (*keys.Peppers)(nil).Digest(made),
	})
	if err != nil {
		return "", "", fmt.Errorf("making the first key: %w", err)
	}
	return id.String(), made.Reveal(), nil
}

// writeFacts writes one JSON object on one line, for scripts.
func writeFacts(w io.Writer, f demoFacts) error { return json.NewEncoder(w).Encode(f) }

// printFacts writes what to paste.
func printFacts(w io.Writer, f demoFacts) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "Keystile is running, with a sample generator behind it. Nothing of this demo is kept.\n\n")
	for _, row := range [][2]string{
		{"proxy", f.Proxy}, {"admin", f.Admin}, {"token", f.Token}, {"key", f.Key}, {"secret", f.Secret},
	} {
		fmt.Fprintf(table, "  %s\t%s\n", row[0], row[1])
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, demoPaste, f.Proxy, f.Key, f.Secret, f.Proxy, f.Secret, f.Admin, f.Admin, f.Token)
	return err
}

// demoPaste are commands that work as they are printed.
const demoPaste = `
Generate a picture:

  curl -s %s/v1/images/generations \
    -H 'X-Key: Key %s' \
    -H 'X-Secret: Secret %s' \
    -H 'Content-Type: application/json' \
    -d '{"prompt": "a lighthouse at dawn"}' \
    | sed 's/.*"b64_json": *"\([^"]*\)".*/\1/' | base64 -d > picture.png

Stream text, word by word:

  curl -sN %s/v1/chat/completions \
    -H 'Authorization: Bearer %s' \
    -H 'Content-Type: application/json' \
    -d '{"stream": true, "messages": [{"role": "user", "content": "Tell me about lighthouses"}]}'

Manage keys in a browser: open %s and sign in with the token above.

List the keys:

  curl -s %s/api/v1/keys -H 'Authorization: Bearer %s'

Ctrl-C ends the demo.
`
