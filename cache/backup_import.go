package cache

import (
	"context"
	"errors"
	"fmt"
	"io"

	"keystile/keys"
)

// importPage is how many entries of a backup are decided and written at a time.
const importPage = 100

// ImportOptions says how a backup is brought into a store. The zero value is the safe
// way: no key that the store knows to be deleted, or to be inactive, admits a request
// afterwards, however old the backup is.
//
// Each key is judged by itself. Where both have it, the higher version wins: the
// version of a store is raised above that of every backup it takes, so that versions
// tell what came after what. (They do not where two stores went on separately from one
// backup: then only what was said above holds.) A key that the store does not have is
// made, under a new version and in the order of the backup, unless its name is taken or
// its account is full; an account may be filled beyond its limit with what the backup
// has of it.
//
// An account that the store does not have is made as it is in the backup, also one that
// was deleted, but then without what was deleted with it. One that the store has stays as
// it is, but is made inactive where the backup has it so and at a higher version; and a
// default account that nobody has changed becomes what the backup has.
//
// A store does not remember the tokens that it has revoked. So one that it does not have is
// made only of a backup of another store: of its own, it was revoked since. (One that was
// revoked after it came with a backup comes again with the same backup.)
type ImportOptions struct {
	// Revive brings deleted keys back, and switches keys on that are active in the
	// backup, whatever the versions. It does neither with accounts and tokens.
	Revive bool
	// DryRun only reports; nothing is written.
	DryRun bool
}

// ImportReport says what an import has done, or after an error, has done at least.
type ImportReport struct {
	Backup Backup `json:"backup"`

	Created int `json:"created"`
	Updated int `json:"updated"`
	Deleted int `json:"deleted"` // keys that the backup knows to be deleted
	Noted   int `json:"noted"`   // deletions of keys that the store never had
	Left    int `json:"left"`    // what the store has is as new as the backup, or newer

	AccountsMade    int `json:"accounts_made"`
	AccountsChanged int `json:"accounts_changed"`
	TokensMade      int `json:"tokens_made"`

	// Skipped names what the backup says and the store has not taken.
	Skipped []Skipped `json:"skipped"`
	// OverLimit has the number of keys of each account that was filled beyond its limit.
	OverLimit map[string]int `json:"over_limit"`

	// Receipt says how far the last change has reached.
	Receipt keys.Receipt `json:"-"`
}

// Skipped is something that a backup says of a key, a token or an account and that was not
// taken.
type Skipped struct {
	Key     keys.ID    `json:"key,omitzero"`    // zero: not of a key
	Token   string     `json:"token,omitempty"` // id; empty: not of a token
	Account string     `json:"account"`
	Name    string     `json:"name"` // in the backup
	Why     SkipReason `json:"why"`
}

// SkipReason says why something was skipped.
type SkipReason string

// The reasons why something was skipped.
const (
	SkipDeleted  SkipReason = "deleted"    // the store knows the key to be deleted
	SkipRevoked  SkipReason = "revoked"    // the store the backup was made of has the token no more
	SkipInactive SkipReason = "inactive"   // the key or account is inactive in the store, and stays so
	SkipTaken    SkipReason = "name_taken" // another key has the name, so the key was not made
	SkipName     SkipReason = "name_kept"  // another key has the name, so the key keeps the one it has
	SkipLimit    SkipReason = "limit"      // the account is full
	SkipAccount  SkipReason = "account"    // in the store the key belongs to another account
)

// SkipReasons returns all reasons.
func SkipReasons() []SkipReason {
	return []SkipReason{SkipDeleted, SkipRevoked, SkipInactive, SkipTaken, SkipName, SkipLimit, SkipAccount}
}

// importer is one import.
type importer struct {
	ImportOptions
	to     ledger
	file   contents
	report ImportReport
	draft  tally
	limits map[string]int // how many keys the accounts of the backup may have
	// ghosts are what a dry run would have changed so far, for the entries to come.
	ghosts *page
	// creating says which of two passes this is. Revocations come first, and names
	// become free before others take them.
	creating bool
}

// tally is what became of the entries of one page.
type tally struct {
	created, updated, deleted, noted, left int

	skipped []Skipped
	over    map[string]int
}

func runImport(ctx context.Context, file io.ReadSeeker, to ledger, o ImportOptions) (ImportReport, error) {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return ImportReport{}, fmt.Errorf("reading the backup: %w", err)
	}
	c, err := verifyBackup(ctx, file)
	if err != nil {
		return ImportReport{}, err
	}
	if !to.peppers().Knows(c.Pepper) {
		return ImportReport{}, ErrBackupPepper
	}
	im := &importer{ImportOptions: o, to: to, file: c, ghosts: newPage(), limits: make(map[string]int)}
	im.report = ImportReport{Backup: c.summary(), Skipped: []Skipped{}, OverLimit: map[string]int{}}
	if !o.DryRun {
		if err := to.raise(ctx, c.Version); err != nil {
			return im.report, err
		}
	}
	if err := im.run(ctx, file); errors.Is(err, keys.ErrNoAccount) {
		return im.report, fmt.Errorf("an account was deleted while it was imported: %w", err)
	} else if err != nil {
		return im.report, err
	}
	if !o.DryRun {
		im.report.Receipt = to.receipt(ctx)
	}
	return im.report, nil
}

// run takes accounts first, which keys and tokens belong to, and what admits more last.
func (im *importer) run(ctx context.Context, file io.ReadSeeker) error {
	if err := im.takeAccounts(ctx); err != nil {
		return err
	}
	for _, im.creating = range []bool{false, true} {
		if err := im.pass(ctx, file); err != nil {
			return err
		}
	}
	return im.takeTokens(ctx)
}

// pass goes through the keys and deletions of the whole file.
func (im *importer) pass(ctx context.Context, file io.ReadSeeker) error {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("reading the backup: %w", err)
	}
	r, err := newBackupReader(file)
	if err != nil {
		return changedMeanwhile(err)
	}
	entries := make([]backupEntry, 0, importPage)
	for {
		entry, err := r.next()
		switch {
		case err != nil && !errors.Is(err, io.EOF):
			return changedMeanwhile(err)
		case err == nil && entry.account == nil && entry.token == nil:
			entries = append(entries, entry)
		}
		if len(entries) > 0 && (err != nil || len(entries) == importPage) {
			if err := im.take(ctx, entries); err != nil {
				return err
			}
			entries = entries[:0]
		}
		if err != nil {
			return nil
		}
	}
}

// changedMeanwhile says that a file that was whole is so no more.
func changedMeanwhile(err error) error {
	return fmt.Errorf("the file was changed while it was imported, a part of it is in the store: %w", err)
}

// take brings some entries into the store, or says what would become of them.
func (im *importer) take(ctx context.Context, entries []backupEntry) error {
	decide := func(p *page) []effect { return im.decide(p, entries) }
	if !im.DryRun {
		if err := im.to.write(ctx, entries, decide); err != nil {
			return err
		}
	} else {
		p, err := im.to.read(ctx, entries)
		if err != nil {
			return err
		}
		im.haunt(p, entries)
		im.remember(decide(p))
	}
	im.count()
	return nil
}

// haunt adds what a dry run would have changed to what the store has.
func (im *importer) haunt(p *page, entries []backupEntry) {
	for i := range entries {
		name := accountName{entries[i].Account, entries[i].Name}
		if id, changed := im.ghosts.names[name]; changed {
			p.names[name] = id // zero: free
		}
	}
	for account := range p.counts {
		p.counts[account] += im.ghosts.counts[account]
	}
}

func (im *importer) remember(effects []effect) {
	for _, e := range effects {
		if e.before != nil {
			im.ghosts.names[accountName{e.before.Account, e.before.Name}] = keys.ID{}
			im.ghosts.counts[e.before.Account]--
		}
		if !e.buried && !e.removed {
			im.ghosts.names[accountName{e.record.Account, e.record.Name}] = e.record.ID
			im.ghosts.counts[e.record.Account]++
		}
	}
}

// count adds what became of a page to the report.
func (im *importer) count() {
	r, d := &im.report, &im.draft
	r.Created += d.created
	r.Updated += d.updated
	r.Deleted += d.deleted
	r.Noted += d.noted
	r.Left += d.left
	r.Skipped = append(r.Skipped, d.skipped...)
	for account, n := range d.over {
		r.OverLimit[account] = n
	}
}

// decide says what to do with each entry of a page, and what has become of it. What is
// decided of one is seen by those after it.
func (im *importer) decide(p *page, entries []backupEntry) (effects []effect) {
	im.draft = tally{over: make(map[string]int)}
	for i := range entries {
		e := &entries[i]
		have, present := p.records[e.ID]
		var todo *effect
		switch {
		case e.deleted && !im.creating:
			todo = im.bury(p, e, have, present)
		case e.deleted || present == im.creating: // of the other pass
		case present:
			todo = im.amend(p, e, have)
		default:
			todo = im.create(p, e)
		}
		if todo != nil {
			effects = append(effects, *todo)
		}
	}
	return effects
}

// bury decides about a deletion that the backup knows of.
func (im *importer) bury(p *page, e *backupEntry, have stored, present bool) *effect {
	switch {
	case present && e.Version > have.Version:
		im.draft.deleted++
		p.free(&have)
		return &effect{record: stored{Record: e.Record}, before: &have, removed: true}
	case !present && p.tombs[e.ID] == 0:
		im.draft.noted++
		return &effect{record: stored{Record: e.Record}, buried: true}
	}
	im.draft.left++
	return nil
}

// amend decides about a key that the store has.
func (im *importer) amend(p *page, e *backupEntry, have stored) *effect {
	if e.Account != have.Account {
		return im.skip(e, SkipAccount)
	}
	skipped := len(im.draft.skipped)
	next := im.merge(e, have)
	holder := p.names[accountName{next.Account, next.Name}]
	if next.Name != have.Name && holder != e.ID && holder != (keys.ID{}) {
		im.skip(e, SkipName)
		next.Name = have.Name
	}
	switch {
	case !same(next, have):
		im.draft.updated++
	case len(im.draft.skipped) == skipped:
		im.draft.left++
		fallthrough
	default:
		return nil
	}
	p.free(&have)
	p.names[accountName{next.Account, next.Name}] = e.ID
	p.counts[next.Account]++
	return &effect{record: next, before: &have}
}

// merge returns what both the backup and the store say of a key, and never switches it
// on unless it is asked to.
func (im *importer) merge(e *backupEntry, have stored) stored {
	next := have
	if e.Version > have.Version {
		next.Record = e.Record
		next.Created = have.Created
		next.Suspended = have.Suspended
		next.Digests = soonerEnds(e.Digests, have.Digests)
	}
	if e.Active && !have.Active {
		if next.Active = im.Revive; !im.Revive {
			im.skip(e, SkipInactive)
		}
	}
	return next
}

// same reports whether a record says nothing new.
func same(next, have stored) bool {
	next.Version, next.Updated, next.LastUsed = have.Version, have.Updated, have.LastUsed
	return next == have
}

// soonerEnds returns digests, of which those that the store has too end no later than
// they do there.
func soonerEnds(digests, have [2]keys.Digest) [2]keys.Digest {
	for i := range digests {
		d := &digests[i]
		for _, h := range have {
			if h.Sum == d.Sum && h.Scheme == d.Scheme && h.Pepper == d.Pepper {
				d.EndBy(h.Until)
			}
		}
	}
	return digests
}

// create decides about a key that the store does not have.
func (im *importer) create(p *page, e *backupEntry) *effect {
	tomb := p.tombs[e.ID]
	most := max(im.limits[e.Account], im.file.held[e.Account])
	name := accountName{e.Account, e.Name}
	switch {
	case tomb != 0 && !im.Revive:
		return im.skip(e, SkipDeleted)
	case p.names[name] != keys.ID{}:
		return im.skip(e, SkipTaken)
	case p.counts[e.Account] >= most:
		return im.skip(e, SkipLimit)
	}
	im.draft.created++
	p.names[name] = e.ID
	p.counts[e.Account]++
	if n := p.counts[e.Account]; n > im.limits[e.Account] {
		im.draft.over[e.Account] = n
	}
	return &effect{record: stored{Record: e.Record}, tomb: tomb, most: most}
}

func (im *importer) skip(e *backupEntry, why SkipReason) *effect {
	im.draft.skipped = append(im.draft.skipped, Skipped{Key: e.ID, Account: e.Account, Name: e.Name, Why: why})
	return nil
}
