package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"keystile/admin"
	"keystile/cache"
	"keystile/keys"
)

// importResult is what there is to say about an import.
type importResult struct {
	report cache.ImportReport
	dryRun bool
}

// writeImport writes one JSON object on one line, for programs.
func writeImport(w io.Writer, r importResult) error {
	said := struct {
		cache.ImportReport
		DryRun bool `json:"dry_run"`
		*admin.Receipt
	}{ImportReport: r.report, DryRun: r.dryRun}
	if !r.dryRun {
		receipt := admin.ReceiptOf(r.report.Receipt)
		said.Receipt = &receipt
	}
	return json.NewEncoder(w).Encode(said)
}

// printImport writes the report for people.
func printImport(w io.Writer, r importResult) error {
	b := r.report.Backup
	var text strings.Builder
	fmt.Fprintf(&text, "backup of store %s at version %d, made %s: %d accounts, %d tokens, %d keys, %d deletions\n",
		b.Store, b.Version, b.Made.Format(time.RFC3339), b.Accounts, b.Tokens, b.Keys, b.Deleted)
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, row := range []struct {
		n    int
		what string
	}{
		{r.report.Created, "keys made"},
		{r.report.Updated, "keys changed"},
		{r.report.Deleted, "keys deleted, as in the backup"},
		{r.report.Noted, "deletions noted, of keys that the store never had"},
		{r.report.AccountsMade, "accounts made"},
		{r.report.AccountsChanged, "accounts changed"},
		{r.report.TokensMade, "tokens made"},
		{r.report.Left, "left as they are: the store is as new, or newer"},
		{len(r.report.Skipped), "skipped"},
	} {
		fmt.Fprintf(table, "%d\t%s\n", row.n, row.what)
	}
	for _, s := range r.report.Skipped {
		fmt.Fprintf(table, "\t%s\t%s\t%q\t%s\n", skippedWhat(s), s.Account, s.Name, skipWords()[s.Why])
	}
	_ = table.Flush() // to a Builder
	for _, account := range slices.Sorted(maps.Keys(r.report.OverLimit)) {
		fmt.Fprintf(&text, "account %s has %d keys, more than its limit\n", account, r.report.OverLimit[account])
	}
	text.WriteString(reach(r))
	_, err := io.WriteString(w, text.String())
	return err
}

// skippedWhat names what was skipped: a key, a token or an account.
func skippedWhat(s cache.Skipped) string {
	switch {
	case s.Key != keys.ID{}:
		return s.Key.String()
	case s.Token != "":
		return "token " + printable(s.Token)
	}
	return "the account"
}

// skipWords say why something was skipped.
func skipWords() map[cache.SkipReason]string {
	return map[cache.SkipReason]string{
		cache.SkipDeleted:  "deleted since; it stays deleted",
		cache.SkipRevoked:  "the store has it no more; it stays so: make a new one if it is needed",
		cache.SkipInactive: "switched off; it stays so",
		cache.SkipTaken:    "another key has the name: rename that one and import again",
		cache.SkipName:     "another key has the name: it keeps the one it has",
		cache.SkipLimit:    "the account has all the keys it may have",
		cache.SkipAccount:  "it belongs to another account in the store",
	}
}

// reach says how far the import has reached.
func reach(r importResult) string {
	switch {
	case r.dryRun:
		return "a dry run: nothing was written\n"
	case r.report.Receipt.Everywhere():
		return "effective everywhere\n"
	}
	return pendingLines(admin.ReceiptOf(r.report.Receipt))
}

// pendingLines say what a change has not reached.
func pendingLines(receipt admin.Receipt) string {
	var text strings.Builder
	for _, p := range receipt.Pending {
		fmt.Fprintf(&text, "pending: %s, effective by %s\n", printable(p.Proxy), printable(cmp.Or(p.EffectiveBy, "nobody knows when")))
	}
	if r := receipt.Replicas; r != nil {
		fmt.Fprintf(&text, "pending: %d of %d replicas have it\n", r.Have, r.Want)
	}
	return text.String()
}
