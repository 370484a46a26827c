package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"keystile/admin"
	"keystile/keys"
)

// accountsRun is one run of an accounts command.
type accountsRun struct{ apiRun }

func accountsCommand(std stdio) *cobra.Command {
	a := &accountsRun{apiRun{std: std}}
	cmd := &cobra.Command{
		Use: "accounts", Short: "List, create, change and delete accounts and their tokens, over the admin API",
		Args: noArguments, RunE: needsCommand("list, create, rename, limit, enable, disable, delete or tokens"),
	}
	a.addFlags(cmd.PersistentFlags())
	cmd.AddCommand(
		a.listCommand(), a.createCommand(), a.renameCommand(), a.limitCommand(), a.deleteCommand(), a.tokensCommand(),
		a.switchCommand("enable", "Have the keys of an account admitted again", true),
		a.switchCommand("disable", "Have all keys of an account refused from now on", false),
	)
	return cmd
}

func (a *accountsRun) listCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the accounts", Args: noArguments,
		RunE: a.run(func(ctx context.Context, api *apiClient, _ []string) error {
			list, err := api.accounts(ctx)
			if err != nil {
				return err
			}
			return a.show(list, accountTable(list))
		}),
	}
}

func (a *accountsRun) createCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "create ACCOUNT", Short: "Create an account", Args: argumentsBetween(1, 1),
	}
	name := cmd.Flags().String("name", "", "name for people (default: none)")
	limit := cmd.Flags().String("limit", "", "how many keys it may have (default: keys.per_account of the server)")
	cmd.RunE = a.run(func(ctx context.Context, api *apiClient, args []string) error {
		body := accountBody{ID: &args[0]}
		if *name != "" {
			body.Name = name
		}
		if *limit != "" {
			var err error
			if body.Limit, err = parseLimit("--limit", *limit); err != nil {
				return err
			}
		}
		made, err := api.createAccount(ctx, body)
		if err != nil {
			return err
		}
		return a.show(made, receiptText("created", accountText(made.Account), made.Receipt))
	})
	return cmd
}

// parseLimit reads the number of keys that an account may have; "default" is null.
func parseLimit(from, text string) (any, error) {
	if text == "default" {
		return json.RawMessage("null"), nil
	}
	limit, err := strconv.Atoi(text)
	if err != nil || limit < 1 || limit > keys.MaxLimit {
		return nil, usageError{fmt.Errorf(`%s: expected a number of keys from 1 to %d, or "default", got %s`, from, keys.MaxLimit, shown(text))}
	}
	return limit, nil
}

func (a *accountsRun) renameCommand() *cobra.Command {
	return &cobra.Command{
		Use: "rename ACCOUNT NAME", Short: "Give an account another name for people", Args: argumentsBetween(2, 2), ValidArgsFunction: a.accountIDs,
		RunE: a.run(func(ctx context.Context, api *apiClient, args []string) error {
			return a.changeUnchanged(ctx, api, args[0], accountBody{Name: &args[1]}, "renamed")
		}),
	}
}

func (a *accountsRun) limitCommand() *cobra.Command {
	return &cobra.Command{
		Use: "limit ACCOUNT NUMBER|default", Short: "Say how many keys an account may have",
		Long: `Say how many keys an account may have. A number below that of its keys only keeps new ones out; "default" is
keys.per_account of the server.`,
		Args: argumentsBetween(2, 2), ValidArgsFunction: a.accountIDs,
		RunE: a.run(func(ctx context.Context, api *apiClient, args []string) error {
			limit, err := parseLimit("the limit", args[1])
			if err != nil {
				return err
			}
			return a.changeUnchanged(ctx, api, args[0], accountBody{Limit: limit}, "limit changed")
		}),
	}
}

// changeUnchanged changes an account unless somebody else has changed it since it was read.
func (a *accountsRun) changeUnchanged(ctx context.Context, api *apiClient, id string, change accountBody, done string) error {
	found, err := api.account(ctx, id)
	if err != nil {
		return err
	}
	changed, err := api.updateAccount(ctx, id, change, ifVersion(found.Version))
	if err != nil {
		return err
	}
	return a.show(changed, receiptText(done, accountText(changed.Account), changed.Receipt))
}

// switchCommand changes an account whatever else has become of it: what ends access waits for nobody.
func (a *accountsRun) switchCommand(name, short string, active bool) *cobra.Command {
	return &cobra.Command{
		Use: name + " ACCOUNT", Short: short, Args: argumentsBetween(1, 1), ValidArgsFunction: a.accountIDs,
		RunE: a.run(func(ctx context.Context, api *apiClient, args []string) error {
			changed, err := api.updateAccount(ctx, args[0], accountBody{Active: &active}, nil)
			if err != nil {
				return err
			}
			return a.show(changed, receiptText(name+"d", accountText(changed.Account), changed.Receipt))
		}),
	}
}

func (a *accountsRun) deleteCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "delete ACCOUNT", Short: "Delete an account and its tokens for ever", Args: argumentsBetween(1, 1), ValidArgsFunction: a.accountIDs,
	}
	yes := cmd.Flags().Bool("yes", false, "do not ask")
	withKeys := cmd.Flags().Bool("with-keys", false, "delete its keys, too; without it, an account that has some is kept")
	cmd.RunE = a.run(func(ctx context.Context, api *apiClient, args []string) error {
		if err := a.mayAsk(*yes, "account"); err != nil {
			return err
		}
		found, err := api.account(ctx, args[0])
		if err != nil {
			return err
		}
		if !*yes {
			question, err := deleteQuestion(ctx, api, found, *withKeys)
			if err != nil {
				return err
			}
			if !a.std.confirm(ctx, question) {
				return errors.New("nothing was deleted")
			}
		}
		gone, err := api.deleteAccount(ctx, found, *withKeys)
		if err != nil {
			return err
		}
		return a.show(gone, receiptText("deleted", accountText(found), gone.Receipt))
	})
	return cmd
}

// deleteQuestion says what would be lost with an account.
func deleteQuestion(ctx context.Context, api *apiClient, a admin.Account, withKeys bool) (string, error) {
	lost := "its tokens"
	if withKeys {
		list, err := api.list(ctx, a.Account)
		if err != nil {
			return "", err
		}
		lost = fmt.Sprintf("its tokens and its keys (now %d)", len(list.Keys))
	}
	return fmt.Sprintf("Delete %s with %s? It cannot be brought back.", accountText(a), lost), nil
}

// accountIDs offers accounts to a shell that completes the first argument, or a flag.
func (a *apiRun) accountIDs(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return a.offer(cmd, len(args) == 0, func(ctx context.Context, api *apiClient) (ids []cobra.Completion) {
		list, _ := api.accounts(ctx)
		for _, found := range list.Accounts {
			ids = append(ids, cobra.CompletionWithDesc(found.Account, printable(found.Name)))
		}
		return ids
	})
}

// accountText is an account and its name, where it has one.
func accountText(a admin.Account) string {
	if a.Name == "" {
		return "account " + a.Account
	}
	return fmt.Sprintf("account %s %q", a.Account, a.Name)
}

// accountTable lists accounts for people.
func accountTable(list accountList) string {
	return tableText("ACCOUNT\tNAME\tSTATE\tLIMIT\tCREATED (UTC)", func(table io.Writer) {
		for _, a := range list.Accounts {
			limit := strconv.Itoa(a.Limit)
			if a.DefaultLimit {
				limit += " (default)"
			}
			created := "-" // the default account was always there
			if a.Created != "" {
				created = minute(a.Created)
			}
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", a.Account, printable(a.Name), switchWord(a.Active), limit, created)
		}
	})
}
