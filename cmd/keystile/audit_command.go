package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"keystile/keys"
)

// auditRun is one run of an audit command.
type auditRun struct{ apiRun }

func auditCommand(std stdio) *cobra.Command {
	a := &auditRun{apiRun{std: std}}
	cmd := &cobra.Command{
		Use: "audit", Short: "List and verify the record of all changes, over the admin API",
		Args: noArguments, RunE: needsCommand("list or verify"),
	}
	a.addFlags(cmd.PersistentFlags())
	cmd.AddCommand(a.listCommand(), a.verifyCommand())
	return cmd
}

func (a *auditRun) listCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Short: "List changes, newest last", Args: noArguments,
	}
	after := cmd.Flags().Uint64("after", 0, "list those with numbers above this one (default: the newest)")
	limit := cmd.Flags().Int("limit", 100, fmt.Sprintf("how many to list at most, up to %d", maxAuditPage))
	cmd.RunE = a.run(func(ctx context.Context, api *apiClient, _ []string) error {
		if *limit < 1 || *limit > maxAuditPage {
			return usageError{fmt.Errorf("--limit: expected a number from 1 to %d, got %d", maxAuditPage, *limit)}
		}
		if !cmd.Flags().Changed("after") {
			first, err := api.audit(ctx, 0, 1)
			if err != nil {
				return err
			}
			*after = first.Head.Number - min(first.Head.Number, uint64(*limit))
		}
		page, err := api.audit(ctx, *after, *limit)
		if err != nil {
			return err
		}
		return a.show(page, auditTable(page))
	})
	return cmd
}

// auditTable lists entries for people.
func auditTable(page auditPage) string {
	return tableText("NUMBER\tTIME (UTC)\tWHO\tWHAT\tON\tCHANGE\tFROM\tVERSION", func(table io.Writer) {
		for _, sealed := range page.Entries {
			var e keys.Entry
			if err := json.Unmarshal(sealed.Entry, &e); err != nil {
				fmt.Fprintf(table, "%s\n", printable("an entry that cannot be read: "+string(sealed.Entry)))
				continue
			}
			fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%d\n", e.Number, e.Time.UTC().Format("2006-01-02 15:04:05"), printable(entryActor(&e)),
				printable(string(e.Action)), printable(entrySubject(&e)), entryChange(&e), printable(e.Peer), e.Version)
		}
	}) + keptLine(page)
}

func keptLine(page auditPage) string {
	if page.Head.Number == 0 {
		return "there are no entries\n"
	}
	return fmt.Sprintf("entries kept: %d to %d\n", page.Anchor.Number+1, page.Head.Number)
}

// entryActor is who made the change.
func entryActor(e *keys.Entry) string {
	if e.Token == "" {
		return e.Principal
	}
	return e.Principal + " by token " + e.Token
}

// entrySubject is what was changed, and whose that is.
func entrySubject(e *keys.Entry) string {
	if e.Subject == "" {
		return "account " + e.Account
	}
	return e.Subject + " of " + e.Account
}

// entryChange is what differs between before and after; of a creation or deletion, the name.
func entryChange(e *keys.Entry) string {
	var changes []string
	switch {
	case e.Before != nil && e.After != nil:
		changes = stateChanges(e.Before, e.After)
	case e.Before != nil && e.Before.Name != "":
		changes = append(changes, strconv.Quote(e.Before.Name))
	case e.After != nil && e.After.Name != "":
		changes = append(changes, strconv.Quote(e.After.Name))
	}
	if n := len(e.Keys); n > 0 {
		changes = append(changes, fmt.Sprintf("with %d keys", n))
	}
	return strings.Join(changes, ", ")
}

func stateChanges(before, after *keys.State) (changes []string) {
	if before.Name != after.Name {
		changes = append(changes, fmt.Sprintf("%q to %q", before.Name, after.Name))
	}
	if before.Active != after.Active {
		changes = append(changes, switchWord(after.Active))
	}
	if before.Limit != after.Limit {
		changes = append(changes, fmt.Sprintf("limit %s to %s", limitWord(before.Limit), limitWord(after.Limit)))
	}
	if before.Rate != after.Rate {
		changes = append(changes, fmt.Sprintf("rate %s to %s", rateWord(before.Rate), rateWord(after.Rate)))
	}
	if !before.PreviousValidUntil.Equal(after.PreviousValidUntil) {
		changes = append(changes, overlapChange(after))
	}
	return changes
}

func limitWord(limit int) string {
	if limit == 0 {
		return "default"
	}
	return strconv.Itoa(limit)
}

func rateWord(r keys.Rate) string {
	if r == (keys.Rate{}) {
		return "default"
	}
	return fmt.Sprintf("%g/s (burst %d)", r.PerSecond, r.Burst)
}

func overlapChange(after *keys.State) string {
	if after.PreviousValidUntil.IsZero() {
		return "earlier secret ended"
	}
	return "earlier secret until " + after.PreviousValidUntil.UTC().Format("2006-01-02 15:04")
}

func (a *auditRun) verifyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "verify", Short: "Check that no entry of the audit trail was changed or removed",
		Long: `Check by their hashes that no entry of the audit trail was changed or removed: from the oldest that is kept to the head, which
is printed. Who can write all of the store can write another trail, with another head: keep the head elsewhere, and give
it the next time as --head.`,
		Args: noArguments,
	}
	head := cmd.Flags().String("head", "", "NUMBER:HASH that an earlier verify printed: the trail must pass through it")
	cmd.RunE = a.run(func(ctx context.Context, api *apiClient, _ []string) error {
		known, err := parseLink(*head)
		if err != nil {
			return usageError{fmt.Errorf("--head: %w", err)}
		}
		v := verification{known: known}
		if err := v.run(ctx, api); err != nil {
			return err
		}
		return a.show(v.report(), v.text())
	})
	return cmd
}

// linkText is a link as people keep it.
func linkText(l keys.Link) string {
	hash, _ := l.Hash.MarshalText() // always nil
	return fmt.Sprintf("%d:%s", l.Number, hash)
}

// parseLink reads what linkText returns; "": the zero link, through which each trail passes.
func parseLink(text string) (link keys.Link, err error) {
	if text == "" {
		return link, nil
	}
	number, hash, _ := strings.Cut(text, ":")
	if link.Number, err = strconv.ParseUint(number, 10, 64); err == nil {
		err = link.Hash.UnmarshalText([]byte(hash))
	}
	if err != nil || linkText(link) != text {
		return link, errors.New(`expected NUMBER:HASH as "keystile audit verify" prints it, a number and 64 hexadecimal digits`)
	}
	return link, nil
}
