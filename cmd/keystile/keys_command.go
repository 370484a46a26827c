package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"keystile/admin"
)

// keysRun is one run of a keys command.
type keysRun struct {
	apiRun
	account string // whose keys; "": all that the token may see
}

func keysCommand(std stdio) *cobra.Command {
	k := &keysRun{apiRun: apiRun{std: std}}
	cmd := &cobra.Command{
		Use: "keys", Short: "List, create, rename, rotate, switch and delete keys, over the admin API",
		Args: noArguments, RunE: needsCommand("list, create, rename, rotate, end-previous, enable, disable or delete"),
	}
	k.addFlags(cmd.PersistentFlags())
	cmd.PersistentFlags().StringVar(&k.account, "account", "", "the account whose keys are meant (default: all that the token may see; create: the account of the token, else \"default\")")
	_ = cmd.RegisterFlagCompletionFunc("account", k.accountIDs) // fails for a flag that is not there
	cmd.AddCommand(
		k.listCommand(), k.createCommand(), k.renameCommand(), k.rotateCommand(), k.endPreviousCommand(), k.deleteCommand(),
		k.switchCommand("enable", "Have requests with a key admitted again", true),
		k.switchCommand("disable", "Have requests with a key refused from now on", false),
	)
	return cmd
}

func (k *keysRun) listCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the keys", Args: noArguments,
		RunE: k.run(func(ctx context.Context, api *apiClient, _ []string) error {
			list, err := api.list(ctx, k.account)
			if err != nil {
				return err
			}
			return k.show(list, keyTable(list, k.account != "" || api.isOfAccount()))
		}),
	}
}

func (k *keysRun) createCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "create [NAME]", Short: "Create a key and print its secret, this once", Args: argumentsBetween(0, 1),
	}
	cmd.RunE = k.runForSecret(cmd, "secret", func(ctx context.Context, api *apiClient, args []string) (reply secretReply, err error) {
		body := keyBody{Account: k.account}
		if len(args) > 0 {
			body.Name = &args[0]
		}
		made, err := api.create(ctx, body)
		return k.newSecret("created", made, made.Record, made.Secret, made.Receipt), err
	})
	return cmd
}

func (k *keysRun) rotateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "rotate KEY|NAME", Short: "Replace the secret of a key and print the new one, this once",
		Args: argumentsBetween(1, 1), ValidArgsFunction: k.names,
	}
	overlap := cmd.Flags().Duration("overlap", 0, "how long the replaced secret goes on, such as 24h, at most 720h (default: it ends at once)")
	cmd.RunE = k.runForSecret(cmd, "secret", func(ctx context.Context, api *apiClient, args []string) (none secretReply, err error) {
		if *overlap < 0 || *overlap > admin.MaxOverlap {
			return none, usageError{fmt.Errorf("--overlap: expected 0 to %.0fh, such as 24h, got %s", admin.MaxOverlap.Hours(), *overlap)}
		}
		record, err := api.find(ctx, k.account, args[0])
		if err != nil {
			return none, err
		}
		made, err := api.rotate(ctx, record, *overlap)
		done := "rotated"
		if *overlap == 0 {
			done = "rotated and the replaced secret ended"
		}
		return k.newSecret(done, made, made.Record, made.Secret, made.Receipt), err
	})
	return cmd
}

// newSecret tells people of a new secret of a key.
func (k *keysRun) newSecret(done string, object any, r admin.Record, secret string, receipt admin.Receipt) secretReply {
	proxy := cmp.Or(k.proxy, "http://ADDRESS-OF-THE-PROXY")
	text := fmt.Sprintf(`key     %s
secret  %s

Keep the secret where nobody else can read it: it is not shown again. Use it, with the path that you need:

  curl %s/ -H 'Authorization: Bearer %s'
`, r.Key, secret, proxy, secret)
	return secretReply{
		object: object, secret: secret,
		text:    receiptText(done, keyText(r), receipt) + overlapLine(r) + text,
		pending: pendingText(done, keyText(r), receipt),
	}
}

// keyText is a key and its name.
func keyText(r admin.Record) string { return fmt.Sprintf("%s %q", r.Key, r.Name) }

func (k *keysRun) renameCommand() *cobra.Command {
	return &cobra.Command{
		Use: "rename KEY|NAME NEW-NAME", Short: "Rename a key", Args: argumentsBetween(2, 2), ValidArgsFunction: k.names,
		RunE: k.run(func(ctx context.Context, api *apiClient, args []string) error {
			record, err := api.find(ctx, k.account, args[0])
			if err != nil {
				return err
			}
			changed, err := api.update(ctx, record.Key, keyBody{Name: &args[1]}, unchanged(record))
			if err != nil {
				return err
			}
			return k.show(changed, receiptText("renamed", keyText(changed.Record), changed.Receipt))
		}),
	}
}

func (k *keysRun) switchCommand(name, short string, active bool) *cobra.Command {
	return k.changeCommand(name, short, keyBody{Active: &active}, func(changed admin.Updated) string {
		return receiptText(name+"d", keyText(changed.Record), changed.Receipt)
	})
}

func (k *keysRun) endPreviousCommand() *cobra.Command {
	short := "End the secret before the present one now, and not only when its overlap is over"
	return k.changeCommand("end-previous", short, keyBody{Previous: json.RawMessage("null")}, func(changed admin.Updated) string {
		return receiptText("earlier secret ended", keyText(changed.Record), changed.Receipt) +
			fmt.Sprintf("The present secret goes on: if it has leaked, \"keystile keys rotate %s\" ends it.\n", changed.Key)
	})
}

// changeCommand changes a key whatever else has become of it: what ends access waits for nobody.
func (k *keysRun) changeCommand(name, short string, change keyBody, text func(admin.Updated) string) *cobra.Command {
	return &cobra.Command{
		Use: name + " KEY|NAME", Short: short, Args: argumentsBetween(1, 1), ValidArgsFunction: k.names,
		RunE: k.run(func(ctx context.Context, api *apiClient, args []string) error {
			record, err := api.find(ctx, k.account, args[0])
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
		if err := k.mayAsk(*yes, "key"); err != nil {
			return err
		}
		record, err := api.find(ctx, k.account, args[0])
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
		return k.show(gone, receiptText("deleted", keyText(record), gone.Receipt))
	})
	return cmd
}

// names offers the names of keys to a shell that completes the first argument.
func (k *keysRun) names(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return k.offer(cmd, len(args) == 0, func(ctx context.Context, api *apiClient) (names []cobra.Completion) {
		list, _ := api.list(ctx, k.account)
		for _, r := range list.Keys {
			names = append(names, cobra.CompletionWithDesc(r.Name, r.Key))
		}
		return names
	})
}

// keyTable lists keys for people, either all of one account or those of all accounts.
func keyTable(list keyList, ofOne bool) string {
	var text strings.Builder
	text.WriteString(tableText("KEY\tNAME\tACCOUNT\tSTATE\tCREATED (UTC)\tLAST USED", func(table io.Writer) {
		for _, r := range list.Keys {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n",
				r.Key, printable(r.Name), printable(r.Account), keyState(r), minute(r.Created), minute(r.LastUsed))
		}
	}))
	for _, r := range list.Keys {
		text.WriteString(overlapLine(r))
	}
	which := map[bool]string{true: "the", false: "an"}[ofOne]
	fmt.Fprintf(&text, "keys: %d, limit of %s account: %d\n", len(list.Keys), which, list.Limit)
	return text.String()
}

// keyState says whether requests with a key are admitted, and what refuses them.
func keyState(r admin.Record) string {
	if r.Active && r.Suspended {
		return "account inactive"
	}
	return switchWord(r.Active)
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
