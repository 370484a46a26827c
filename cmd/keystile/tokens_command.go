package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"keystile/admin"
)

func (a *accountsRun) tokensCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "tokens", Short: "List, create and revoke the tokens by which an account manages its keys",
		Args: noArguments, RunE: needsCommand("list, create or revoke"),
	}
	cmd.AddCommand(a.listTokensCommand(), a.createTokenCommand(), a.revokeTokenCommand())
	return cmd
}

func (a *accountsRun) listTokensCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list ACCOUNT", Short: "List the tokens of an account; none is ever shown again", Args: argumentsBetween(1, 1), ValidArgsFunction: a.accountIDs,
		RunE: a.run(func(ctx context.Context, api *apiClient, args []string) error {
			list, err := api.tokens(ctx, args[0])
			if err != nil {
				return err
			}
			return a.show(list, tokenTable(list))
		}),
	}
}

func (a *accountsRun) createTokenCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "create ACCOUNT [NAME]", Short: "Create a token and print it, this once", Args: argumentsBetween(1, 2), ValidArgsFunction: a.accountIDs,
	}
	cmd.RunE = a.runForSecret(cmd, "token", func(ctx context.Context, api *apiClient, args []string) (secretReply, error) {
		made, err := api.createToken(ctx, args[0], append(args, "")[1])
		what := tokenWords(made.AccountToken, args[0])
		return secretReply{
			object: made, secret: made.Token,
			text:    receiptText("created", what, made.Receipt) + newTokenText(made.Token),
			pending: pendingText("created", what, made.Receipt),
		}, err
	})
	return cmd
}

// newTokenText tells people of a new token.
func newTokenText(token string) string {
	return fmt.Sprintf(`token   %s

Keep the token where nobody else can read it: it is not shown again. Who has it manages the keys of the account, and sees
no other: in a file of mode 0600 for --token-file, in %s, or in the console.
`, token, tokenVariable)
}

func (a *accountsRun) revokeTokenCommand() *cobra.Command {
	return &cobra.Command{
		Use: "revoke ACCOUNT TOKEN-ID", Short: "Have a token refused from now on, for ever", Args: argumentsBetween(2, 2), ValidArgsFunction: a.tokenIDs,
		RunE: a.run(func(ctx context.Context, api *apiClient, args []string) error {
			gone, err := api.revokeToken(ctx, args[0], args[1])
			if err != nil {
				return err
			}
			return a.show(gone, receiptText("revoked", tokenWords(admin.AccountToken{ID: gone.ID}, args[0]), gone.Receipt))
		}),
	}
}

// tokenIDs offers accounts, then the tokens of the account, to a shell.
func (a *accountsRun) tokenIDs(cmd *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return a.accountIDs(cmd, args, word)
	}
	return a.offer(cmd, len(args) == 1, func(ctx context.Context, api *apiClient) (ids []cobra.Completion) {
		list, _ := api.tokens(ctx, args[0])
		for _, t := range list.Tokens {
			ids = append(ids, cobra.CompletionWithDesc(t.ID, printable(t.Name)))
		}
		return ids
	})
}

// tokenWords are a token's id, its account, and its name, where it has one.
func tokenWords(t admin.AccountToken, account string) string {
	words := fmt.Sprintf("token %s of account %s", t.ID, account)
	if t.Name != "" {
		words += fmt.Sprintf(" %q", t.Name)
	}
	return words
}

// tokenTable lists tokens for people.
func tokenTable(list tokenList) string {
	return tableText("TOKEN ID\tNAME\tCREATED (UTC)", func(table io.Writer) {
		for _, t := range list.Tokens {
			fmt.Fprintf(table, "%s\t%s\t%s\n", t.ID, printable(t.Name), minute(t.Created))
		}
	})
}
