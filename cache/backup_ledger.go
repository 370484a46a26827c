package cache

import (
	"context"

	"keystile/keys"
)

// ledger is a store as an import sees it.
type ledger interface {
	perAccount() int
	peppers() *keys.Peppers
	// storeID returns which store it is; "": there is none yet.
	storeID(ctx context.Context) (string, error)
	// raise makes the store's version at least this.
	raise(ctx context.Context, version uint64) error
	// read returns what the store has about the entries.
	read(ctx context.Context, entries []backupEntry) (*page, error)
	// write reads the same, and does what decide returns, in one step. decide may be
	// called again: then what it returned before was not done.
	write(ctx context.Context, entries []backupEntry, decide func(*page) []effect) error
	// accounts passes each account, and what the store has of it (nil: nothing), to decide,
	// and in one step keeps what that returns (nil: nothing) in its place. Of one that is
	// passed again, what decide returned before was not kept.
	accounts(ctx context.Context, some []keys.Account, decide func(e, have *keys.Account) *keys.Account) error
	// tokens passes each token that the store does not have to lacking, and keeps it if that
	// returns true. [keys.ErrNoAccount].
	tokens(ctx context.Context, some []keys.AccountToken, lacking func(e *keys.AccountToken) bool) error
	// receipt waits until what was written has reached everybody.
	receipt(ctx context.Context) keys.Receipt
}

// accountName is a name within its account.
type accountName struct{ account, name string }

// page is what a store has about some entries of a backup.
type page struct {
	records map[keys.ID]stored
	tombs   map[keys.ID]uint64      // version of the deletion; 0: none is known
	names   map[accountName]keys.ID // who has the names that the entries have
	counts  map[string]int          // keys of the accounts that the entries have
}

func newPage() *page {
	return &page{
		records: make(map[keys.ID]stored), tombs: make(map[keys.ID]uint64),
		names: make(map[accountName]keys.ID), counts: make(map[string]int),
	}
}

// effect is one thing to do: to keep a record, to remove one, or to note a deletion.
type effect struct {
	record  stored  // what to keep, under the store's next version, at which a new key is born; else ID and Version
	before  *stored // what the store has, and must still have; nil: nothing
	tomb    uint64  // the deletion that is taken back; 0: there must be none
	most    int     // of a new key: how many its account may have with it
	removed bool
	buried  bool
}

// free takes a record out of the names and the counts of a page.
func (p *page) free(have *stored) {
	delete(p.names, accountName{have.Account, have.Name})
	p.counts[have.Account]--
}
