package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"keystile/admin"
)

// completionTimeout bounds the wait for the names that a shell offers.
const completionTimeout = 2 * time.Second

// keysRun is one run of a keys command.
type keysRun struct {
	std    stdio
	api    apiFlags
	proxy  string // URL of the proxy listener beside the API; "": not known
	output string
}

func keysCommand(std stdio) *cobra.Command {
	k := &keysRun{std: std}
	cmd := &cobra.Command{
		Use: "keys", Short: "List, create, rename, rotate, switch and delete keys, over the admin API",
		Args: noArguments, RunE: needsCommand("list, create, rename, rotate, end-previous, enable, disable or delete"),
	}
	k.api.add(cmd.PersistentFlags())
	cmd.PersistentFlags().StringVarP(&k.output, "output", "o", "text", "text, or json: the object of the API")
	cmd.AddCommand(
		k.listCommand(), k.createCommand(), k.renameCommand(), k.rotateCommand(), k.endPreviousCommand(), k.deleteCommand(),
		k.switchCommand("enable", "Have requests with a key admitted again", true),
		k.switchCommand("disable", "Have requests with a key refused from now on", false),
	)
	return cmd
}

// run is a RunE that has the flags checked before anything is done.
func (k *keysRun) run(do func(ctx context.Context, api *apiClient, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if k.output != "text" && k.output != "json" {
			return wrongOutput(k.output)
		}
		api, proxy, err := k.api.client(k.std.env)
		if err != nil {
			return err
		}
		k.proxy = proxy
		return do(cmd.Context(), api, args)
	}
}

// show writes a reply: the object for programs, the text for people.
func (k *keysRun) show(object any, text string) error {
	if k.output == "json" {
		return json.NewEncoder(k.std.out).Encode(object)
	}
	_, err := io.WriteString(k.std.out, text)
	return err
}

func (k *keysRun) listCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the keys", Args: noArguments,
		RunE: k.run(func(ctx context.Context, api *apiClient, _ []string) error {
			list, err := api.list(ctx)
			if err != nil {
				return err
			}
			return k.show(list, keyTable(list))
		}),
	}
}

func (k *keysRun) createCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "create [NAME]", Short: "Create a key and print its secret, this once", Args: argumentsBetween(0, 1),
	}
	cmd.RunE = k.runForSecret(cmd, func(ctx context.Context, api *apiClient, args []string) (reply secretReply, err error) {
		var body keyBody
		if len(args) > 0 {
			body.Name = &args[0]
		}
		made, err := api.create(ctx, body)
		return secretReply{made, made.Key, made.Secret, receiptText("created", made.Record, made.Receipt)}, err
	})
	return cmd
}

func (k *keysRun) rotateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "rotate KEY|NAME", Short: "Replace the secret of a key and print the new one, this once",
		Args: argumentsBetween(1, 1), ValidArgsFunction: k.names,
	}
	overlap := cmd.Flags().Duration("overlap", 0, "how long the replaced secret goes on, such as 24h, at most 720h (default: it ends at once)")
	cmd.RunE = k.runForSecret(cmd, func(ctx context.Context, api *apiClient, args []string) (none secretReply, err error) {
		if *overlap < 0 || *overlap > admin.MaxOverlap {
			return none, usageError{fmt.Errorf("--overlap: expected 0 to %.0fh, such as 24h, got %s", admin.MaxOverlap.Hours(), *overlap)}
		}
		record, err := api.find(ctx, args[0])
		if err != nil {
			return none, err
		}
		made, err := api.rotate(ctx, record, *overlap)
		done := "rotated"
		if *overlap == 0 {
			done = "rotated and the replaced secret ended"
		}
		return secretReply{made, made.Key, made.Secret, receiptText(done, made.Record, made.Receipt) + overlapLine(made.Record)}, err
	})
	return cmd
}

// secretReply is a reply with a secret: its object, and what people read before the secret.
type secretReply struct {
	object  any
	key     string
	secret  string
	receipt string
}

// runForSecret is the RunE of a command that prints a secret, this once.
func (k *keysRun) runForSecret(cmd *cobra.Command, do func(context.Context, *apiClient, []string) (secretReply, error)) func(*cobra.Command, []string) error {
	quiet := cmd.Flags().BoolP("quiet", "q", false, "print the secret and nothing else")
	return k.run(func(ctx context.Context, api *apiClient, args []string) error {
		if *quiet && k.output == "json" {
			return usageError{errors.New("-q prints the secret and nothing else: leave out -o json, or -q")}
		}
		reply, err := do(ctx, api, args)
		switch {
		case err != nil:
			return err
		case *quiet:
			return k.show(nil, reply.secret+"\n")
		}
		return k.show(reply.object, newSecretText(reply, k.proxy))
	})
}

func (k *keysRun) renameCommand() *cobra.Command {
	return &cobra.Command{
		Use: "rename KEY|NAME NEW-NAME", Short: "Rename a key", Args: argumentsBetween(2, 2), ValidArgsFunction: k.names,
		RunE: k.run(func(ctx context.Context, api *apiClient, args []string) error {
			record, err := api.find(ctx, args[0])
			if err != nil {
				return err
			}
			changed, err := api.update(ctx, record.Key, keyBody{Name: &args[1]}, unchanged(record))
			if err != nil {
				return err
			}
			return k.show(changed, receiptText("renamed", changed.Record, changed.Receipt))
		}),
	}
}

func (k *keysRun) switchCommand(name, short string, active bool) *cobra.Command {
	return k.changeCommand(name, short, keyBody{Active: &active}, func(changed admin.Updated) string {
		return receiptText(name+"d", changed.Record, changed.Receipt)
	})
}

func (k *keysRun) endPreviousCommand() *cobra.Command {
	short := "End the secret before the present one now, and not only when its overlap is over"
	return k.changeCommand("end-previous", short, keyBody{Previous: json.RawMessage("null")}, func(changed admin.Updated) string {
		return receiptText("earlier secret ended", changed.Record, changed.Receipt) +
			fmt.Sprintf("The present secret goes on: if it has leaked, \"keystile keys rotate %s\" ends it.\n", changed.Key)
	})
}

// changeCommand changes a key whatever else has become of it: what ends access waits for nobody.
func (k *keysRun) changeCommand(name, short string, change keyBody, text func(admin.Updated) string) *cobra.Command {
	return &cobra.Command{
		Use: name + " KEY|NAME", Short: short, Args: argumentsBetween(1, 1), ValidArgsFunction: k.names,
		RunE: k.run(func(ctx context.Context, api *apiClient, args []string) error {
			record, err := api.find(ctx, args[0])
			if err != nil {
				return err
			}
			changed, err := api.update(ctx, record.Key, change, nil)
			if err != nil {
				return err
			}
			return k.show(changed, text(changed))
		}),
	}
}

func (k *keysRun) deleteCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "delete KEY|NAME", Short: "Delete a key for ever", Args: argumentsBetween(1, 1), ValidArgsFunction: k.names,
	}
	yes := cmd.Flags().Bool("yes", false, "do not ask")
	cmd.RunE = k.run(func(ctx context.Context, api *apiClient, args []string) error {
		if !*yes && !isTerminal(k.std.in) {
			return usageError{errors.New("a deleted key cannot be brought back, and here is no terminal to ask on: add --yes")}
		}
		record, err := api.find(ctx, args[0])
		if err != nil {
			return err
		}
		if question := fmt.Sprintf("Delete %s %q? It cannot be brought back.", record.Key, record.Name); !*yes && !k.std.confirm(ctx, question) {
			return errors.New("nothing was deleted")
		}
		gone, err := api.delete(ctx, record.Key, unchanged(record))
		if err != nil {
			return err
		}
		return k.show(gone, receiptText("deleted", record, gone.Receipt))
	})
	return cmd
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

// names offers the names of keys to a shell that completes the first argument.
func (k *keysRun) names(cmd *cobra.Command, args []string, _ string) (names []cobra.Completion, _ cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
	defer cancel()
	if api, _, err := k.api.client(k.std.env); err == nil && len(args) == 0 {
		list, _ := api.list(ctx)
		for _, r := range list.Keys {
			names = append(names, cobra.CompletionWithDesc(r.Name, r.Key))
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// keyTable lists keys for people.
func keyTable(list keyList) string {
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "KEY\tNAME\tACCOUNT\tSTATE\tCREATED (UTC)\tLAST USED")
	for _, r := range list.Keys {
		state := map[bool]string{true: "active", false: "inactive"}[r.Active]
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n",
			r.Key, printable(r.Name), printable(r.Account), state, minute(r.Created), minute(r.LastUsed))
	}
	_ = table.Flush() // to a Builder
	for _, r := range list.Keys {
		text.WriteString(overlapLine(r))
	}
	fmt.Fprintf(&text, "keys: %d, limit of an account: %d\n", len(list.Keys), list.Limit)
	return text.String()
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

// overlapLine says until when a key has two secrets, and which was last used; "": it has one.
func overlapLine(r admin.Record) string {
	if r.PreviousValidUntil == "" {
		return ""
	}
	last := map[string]string{"present": " The present one was last used.", "previous": " It was the one last used."}[r.LastUsedSecret]
	return fmt.Sprintf("An earlier secret of %s works until %s: \"keystile keys end-previous %s\" ends it now.%s\n",
		r.Key, printable(r.PreviousValidUntil), r.Key, last)
}

// newSecretText tells people of a new secret; proxy "": its address is not known.
func newSecretText(reply secretReply, proxy string) string {
	if proxy == "" {
		proxy = "http://ADDRESS-OF-THE-PROXY"
	}
	return fmt.Sprintf(`%skey     %s
secret  %s

Keep the secret where nobody else can read it: it is not shown again. Use it, with the path that you need:

  curl %s/ -H 'Authorization: Bearer %s'
`, reply.receipt, reply.key, reply.secret, proxy, reply.secret)
}

// receiptText says what was done to a key, and how far that has reached.
func receiptText(done string, r admin.Record, receipt admin.Receipt) string {
	if receipt.Effective == "everywhere" {
		return fmt.Sprintf("%s everywhere: %s %q\n", done, r.Key, r.Name)
	}
	return fmt.Sprintf("%s, but not everywhere yet: %s %q\n%sThe change is made; it need not be repeated.\n",
		done, r.Key, r.Name, pendingLines(receipt))
}
