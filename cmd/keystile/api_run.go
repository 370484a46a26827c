package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"keystile/admin"
)

// completionTimeout bounds the wait for the names that a shell offers.
const completionTimeout = 2 * time.Second

// apiRun is one run of a command that calls the admin API.
type apiRun struct {
	std    stdio
	api    apiFlags
	proxy  string // URL of the proxy listener beside the API; "": not known
	output string
}

func (a *apiRun) addFlags(flags *pflag.FlagSet) {
	a.api.add(flags)
	flags.StringVarP(&a.output, "output", "o", "text", "text, or json: the object of the API")
}

// run is a RunE that has the flags checked before anything is done.
func (a *apiRun) run(do func(ctx context.Context, api *apiClient, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if a.output != "text" && a.output != "json" {
			return wrongOutput(a.output)
		}
		api, proxy, err := a.api.client(a.std.env)
		if err != nil {
			return err
		}
		a.proxy = proxy
		return do(cmd.Context(), api, args)
	}
}

// show writes a reply: the object for programs, the text for people.
func (a *apiRun) show(object any, text string) error {
	if a.output == "json" {
		return json.NewEncoder(a.std.out).Encode(object)
	}
	_, err := io.WriteString(a.std.out, text)
	return err
}

// secretReply is a reply with a secret or a token: its object, and what people read of it.
type secretReply struct {
	object  any
	secret  string
	text    string
	pending string // how far the change has not reached; "": it is everywhere
}

// runForSecret is the RunE of a command that prints a secret, this once. With -q, what is
// pending goes beside it, to the standard error.
func (a *apiRun) runForSecret(cmd *cobra.Command, what string, do func(context.Context, *apiClient, []string) (secretReply, error)) func(*cobra.Command, []string) error {
	quiet := cmd.Flags().BoolP("quiet", "q", false, "print the "+what+" and nothing else")
	return a.run(func(ctx context.Context, api *apiClient, args []string) error {
		if *quiet && a.output == "json" {
			return usageError{fmt.Errorf("-q prints the %s and nothing else: leave out -o json, or -q", what)}
		}
		reply, err := do(ctx, api, args)
		switch {
		case err != nil:
			return err
		case *quiet:
			_, _ = io.WriteString(a.std.err, reply.pending) // the secret matters more
			return a.show(nil, reply.secret+"\n")
		}
		return a.show(reply.object, reply.text)
	})
}

// mayAsk refuses to go on where nobody can be asked.
func (a *apiRun) mayAsk(yes bool, what string) error {
	if yes || isTerminal(a.std.in) {
		return nil
	}
	return usageError{fmt.Errorf("a deleted %s cannot be brought back, and here is no terminal to ask on: add --yes", what)}
}

// confirm asks on the terminal; no answer is no.
func (s stdio) confirm(ctx context.Context, question string) bool {
	fmt.Fprintf(s.err, "%s [y/N] ", question)
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(s.in).ReadString('\n')
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case <-ctx.Done():
		return false
	case word := <-answer:
		return word == "y" || word == "yes"
	}
}

// offer has a shell offer words that the API knows, where they are wanted.
func (a *apiRun) offer(cmd *cobra.Command, wanted bool, words func(context.Context, *apiClient) []cobra.Completion) ([]cobra.Completion, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
	defer cancel()
	api, _, err := a.api.client(a.std.env)
	if err != nil || !wanted {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return words(ctx, api), cobra.ShellCompDirectiveNoFileComp
}

// tableText is a table for people: its heads, then the rows, with tabs between cells.
func tableText(heads string, rows func(io.Writer)) string {
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, heads)
	rows(table)
	_ = table.Flush() // to a Builder
	return text.String()
}

// switchWord is the state of what can be switched on and off.
func switchWord(active bool) string {
	if active {
		return "active"
	}
	return "inactive"
}

// minute shortens a time of the API; "" is never.
func minute(timestamp string) string {
	if timestamp == "" {
		return "never"
	}
	t, err := time.Parse(time.RFC3339, timestamp)
	if err != nil {
		return printable(timestamp)
	}
	return t.UTC().Format("2006-01-02 15:04")
}

// receiptText says what was done, to what, and how far that has reached.
func receiptText(done, what string, receipt admin.Receipt) string {
	if receipt.Effective == "everywhere" {
		return fmt.Sprintf("%s everywhere: %s\n", done, what)
	}
	return pendingText(done, what, receipt)
}

// pendingText is receiptText of a change that is not everywhere yet; "": it is.
func pendingText(done, what string, receipt admin.Receipt) string {
	if receipt.Effective == "everywhere" {
		return ""
	}
	return fmt.Sprintf("%s, but not everywhere yet: %s\n%sThe change is made; it need not be repeated.\n",
		done, what, pendingLines(receipt))
}
