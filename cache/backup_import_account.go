package cache

import (
	"cmp"
	"context"
	"slices"

	"keystile/keys"
)

// accountFate is what becomes of one account.
type accountFate struct {
	made, changed, inactive bool

	limit int // of its own
}

// takeAccounts brings the accounts into the store, or says what would become of them.
func (im *importer) takeAccounts(ctx context.Context) error {
	for some := range slices.Chunk(im.file.accounts, importPage) {
		fates := make(map[string]accountFate) // an account may be decided about again
		err := im.to.accounts(ctx, some, func(e, have *keys.Account) *keys.Account {
			next, fate := decideAccount(e, have)
			if fates[e.ID] = fate; im.DryRun {
				return nil
			}
			return next
		})
		if err != nil {
			return err
		}
		for i := range some {
			im.countAccount(&some[i], fates[some[i].ID])
		}
	}
	return nil
}

// decideAccount decides about an account, of which the store has what have says (nil:
// nothing), and returns what the store is to have instead; nil: it stays as it is.
func decideAccount(e, have *keys.Account) (*keys.Account, accountFate) {
	if have == nil {
		return e, accountFate{made: true, limit: e.Limit}
	}
	next := *have
	switch {
	case have.Version == 0: // a default account that nobody has changed
		next = permittedAccount(*have, *e)
	case e.Version > have.Version && !e.Active:
		next.Active = false
	}
	fate := accountFate{changed: next != *have, inactive: e.Active && !have.Active, limit: next.Limit}
	if !fate.changed {
		return nil, fate
	}
	return &next, fate
}

func (im *importer) countAccount(e *keys.Account, fate accountFate) {
	im.limits[e.ID] = cmp.Or(fate.limit, im.to.perAccount())
	switch {
	case fate.made:
		im.report.AccountsMade++
	case fate.changed:
		im.report.AccountsChanged++
	case fate.inactive:
		im.report.Skipped = append(im.report.Skipped, Skipped{Account: e.ID, Name: e.Name, Why: SkipInactive})
	}
}

// takeTokens brings the tokens into the store, or says what would become of them.
func (im *importer) takeTokens(ctx context.Context) error {
	home, err := im.to.storeID(ctx)
	if err != nil {
		return err
	}
	for some := range slices.Chunk(im.file.tokens, importPage) {
		var lacks []*keys.AccountToken
		err := im.to.tokens(ctx, some, func(e *keys.AccountToken) bool {
			lacks = append(lacks, e)
			return home != im.file.Store && !im.DryRun
		})
		if err != nil {
			return err
		}
		for _, e := range lacks {
			im.countToken(e, home == im.file.Store)
		}
	}
	return nil
}

func (im *importer) countToken(e *keys.AccountToken, revoked bool) {
	if !revoked {
		im.report.TokensMade++
		return
	}
	im.report.Skipped = append(im.report.Skipped, Skipped{Token: e.ID, Account: e.Account, Name: e.Name, Why: SkipRevoked})
}
