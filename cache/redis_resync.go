package cache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/redis/go-redis/v9"

	"keystile/keys"
)

// reassertTimeout bounds one re-assertion.
const reassertTimeout = 4 * commandTimeout

// catchUpRounds bounds how often a snapshot may turn out to be behind: a store that
// changes faster than it can be read is tried again later.
const catchUpRounds = 200

// nextSet is a set that is built beside the one that serves, in the form in which it is
// going to serve: with a million keys, another form between would double the memory.
type nextSet struct {
	replica
	table   *table
	version uint64
}

func newNextSet(version uint64) *nextSet {
	n := &nextSet{table: newTable(), version: version}
	n.replica.init()
	return n
}

// put takes the record of id; text is "" for a deletion.
func (n *nextSet) put(id keys.ID, kept keys.Grant, text string) {
	n.replica.put(id, text)
	if text == "" {
		n.table.remove(&id)
	} else {
		n.table.put(kept)
	}
}

// rebuild reads the whole set beside the one that serves, re-asserts the revocations
// that the store lost, catches up, and swaps.
func (f *follower) rebuild(ctx context.Context) error {
	cause := f.resync
	next, err := f.snapshot(ctx)
	if err != nil {
		return fmt.Errorf("reading the whole set: %w", err)
	}
	var lost []string
	if f.loaded {
		if err := f.reassert(ctx, next); err != nil {
			return fmt.Errorf("re-asserting revocations: %w", err)
		}
		if lost, err = f.lost(ctx, next); err != nil {
			return fmt.Errorf("looking for lost keys: %w", err)
		}
	}
	if err := f.catchUp(ctx, next); err != nil {
		return err
	}
	f.swap(next)
	f.countLost(lost)
	f.resync, f.loaded = "", true
	if f.r.o.Events.Resynced != nil {
		f.r.o.Events.Resynced(cause)
	}
	return nil
}

// snapshot scans all records. It may have some of them in a newer state than its
// version: catchUp makes it one moment of the store.
func (f *follower) snapshot(ctx context.Context) (*nextSet, error) {
	version, err := f.session.conn.HGet(ctx, f.r.name("meta"), "version").Uint64()
	if err != nil {
		return nil, err
	}
	next := newNextSet(version)
	page := f.r.clock()
	err = f.r.scan(ctx, f.session, func(id keys.ID, text string) error {
		if now := f.r.clock(); elapsed(page, now) >= pollInterval {
			f.r.o.Mirror.fresh.completed(page) // we are not stopped: the old set serves until it lapses
			page = now
		}
		kept, err := decodeGrant(id, text)
		if err == nil {
			next.put(id, kept, text)
		}
		return err
	})
	return next, err
}

// catchUp applies the log from the set's version on, until the set is the store's.
func (f *follower) catchUp(ctx context.Context, next *nextSet) error {
	for range catchUpRounds {
		answer, err := f.r.readLog(ctx, f.session, next.version)
		if err != nil {
			return err
		}
		for i := range answer.entries {
			if err := next.apply(&answer.entries[i]); err != nil {
				return err
			}
		}
		if next.version == answer.version && len(answer.entries) == 0 {
			if next.digest != answer.digest {
				return errors.New("the set that was read has another digest than the store says")
			}
			return nil
		}
	}
	return errors.New("the store changes faster than it can be read")
}

// readLog reads the log without writing a row: this process does not yet judge by
// what it reads.
func (r *Redis) readLog(ctx context.Context, s *session, after uint64) (answer pollAnswer, err error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	pipe := s.conn.TxPipeline()
	meta := pipe.HMGet(ctx, r.name("meta"), "version", "digest", "store")
	log := pipe.XRangeN(ctx, r.name("log"), fmt.Sprintf("%d-1", after), "+", pollEntries)
	if _, err := pipe.Exec(ctx); err != nil {
		return answer, err
	}
	word := func(i int) string { w, _ := meta.Val()[i].(string); return w }
	if word(2) != r.storeID() {
		return answer, errForeign
	}
	answer.version, answer.digest = parseNumber(word(0)), parseNumber(word(1))
	for _, message := range log.Val() {
		values := make([]any, 0, 2*len(message.Values))
		for field, value := range message.Values {
			values = append(values, field, value)
		}
		entry, err := decodeEntry([]any{message.ID, values})
		if err != nil {
			return answer, err
		}
		answer.entries = append(answer.entries, entry)
	}
	return answer, nil
}

// apply takes an entry into a set that may already have a later state of its record.
func (n *nextSet) apply(e *logEntry) error {
	if e.before != n.version {
		return errors.New("the log does not continue where the set was read")
	}
	n.version = e.version
	switch have := n.table.find(&e.id); {
	case e.id == keys.ID{} || have != nil && have.grant.Version > e.version:
	case e.text == "":
		n.put(e.id, keys.Grant{}, "")
	default:
		kept, err := decodeGrant(e.id, e.text)
		if err != nil {
			return err
		}
		n.put(e.id, kept, e.text)
	}
	return nil
}

// swap makes next the set that serves, and tells the watchers what differs.
func (f *follower) swap(next *nextSet) {
	r := f.r
	r.mu.Lock()
	defer r.mu.Unlock()
	var news []keys.Change
	if len(r.watchers) > 0 {
		news = differences(r.o.Mirror.table.Load(), next)
	}
	r.o.Mirror.replace(next.version, next.table)
	r.set = next.replica
	for _, change := range news {
		r.tell(change)
	}
}

// differences returns what leads from a set to the next, in the order of versions.
// When a key was deleted is not known any more.
func differences(from *table, next *nextSet) (changes []keys.Change) {
	for n := range next.table.all() {
		if old := from.find(&n.grant.ID); old == nil || old.grant != n.grant {
			changes = append(changes, keys.Change{Version: n.grant.Version, ID: n.grant.ID, Grant: n.grant})
		}
	}
	for n := range from.all() {
		if next.table.find(&n.grant.ID) == nil {
			changes = append(changes, keys.Change{Version: next.version, ID: n.grant.ID, Deleted: true})
		}
	}
	slices.SortStableFunc(changes, func(a, b keys.Change) int { return cmp.Compare(a.Version, b.Version) })
	return changes
}

// reassert makes the store forget nothing that this process knows to be revoked: what
// it knows at a version not below the store's, or on a line of history that was lost,
// wins where it admits less. Activations and creations are not re-asserted.
func (f *follower) reassert(ctx context.Context, next *nextSet) error {
	mirror := f.r.o.Mirror
	highest := mirror.Version()
	for n := range next.table.all() {
		known, present := mirror.Get(n.grant.ID)
		var err error
		switch {
		case !present:
			err = f.reassertDeletion(ctx, &n.grant, highest)
		case (n.grant.Version <= known.Version || known.Version > f.fork) && narrower(known, &n.grant):
			err = f.narrowAgain(ctx, known)
		}
		if err != nil {
			return err
		}
	}
	return f.raise(ctx, highest)
}

// reassertDeletion deletes a key that the store has, and this process has not, if it is
// older than what this process knows. Where histories have parted, its version does not
// say so: it may have been changed on the other line.
func (f *follower) reassertDeletion(ctx context.Context, kept *keys.Grant, highest uint64) error {
	since := kept.Version
	if since > highest && f.fork != nothingLost {
		text, err := f.session.conn.HGet(ctx, f.r.name("records"), string(kept.ID[:])).Result()
		if errors.Is(err, redis.Nil) {
			return nil
		}
		if err != nil {
			return err
		}
		record, err := decodeText(kept.ID, text)
		if err != nil {
			return err
		}
		since = record.Born
	}
	if since > highest {
		return nil
	}
	return f.deleteAgain(ctx, kept.ID, highest)
}

// narrower reports whether known admits less than kept.
func narrower(known, kept *keys.Grant) bool {
	return kept.Active && !known.Active || intersection(kept.Digests, known.Digests) != kept.Digests
}

// intersection returns the digests of kept that known has too, each with the earlier
// end.
func intersection(kept, known [2]keys.Digest) [2]keys.Digest {
	for i, d := range kept {
		found := keys.Digest{}
		for _, k := range known {
			if k.Sum == d.Sum && k.Scheme == d.Scheme && k.Pepper == d.Pepper {
				found = d
				found.EndBy(k.Until)
			}
		}
		kept[i] = found
	}
	return kept
}

// errNewer says that the store has decided later than what this process knows.
var errNewer = errors.New("the store's record is newer")

func (f *follower) deleteAgain(ctx context.Context, id keys.ID, highest uint64) error {
	ctx, cancel := context.WithTimeout(ctx, reassertTimeout)
	defer cancel()
	_, s, err := f.r.remove(ctx, id, func(record keys.Record) error {
		if record.Version > highest && f.fork == nothingLost {
			return errNewer
		}
		return nil
	})
	return f.again(id, "deleted", s, err)
}

func (f *follower) narrowAgain(ctx context.Context, known *keys.Grant) error {
	ctx, cancel := context.WithTimeout(ctx, reassertTimeout)
	defer cancel()
	_, s, err := f.r.amend(ctx, known.ID, whatever, func(record *keys.Record) error {
		if record.Version > known.Version && known.Version <= f.fork {
			return errNewer
		}
		record.Active = record.Active && known.Active
		record.Digests = intersection(record.Digests, known.Digests)
		return nil
	})
	return f.again(known.ID, "narrowed", s, err)
}

// again counts and logs a re-assertion; that another process was quicker is no error.
func (f *follower) again(id keys.ID, what string, s *session, err error) error {
	if s != nil {
		f.r.release(s, nil)
	}
	if errors.Is(err, errNewer) || errors.Is(err, keys.ErrNotFound) {
		return nil
	}
	if err == nil && s != nil {
		f.r.o.Log.Error("the store had lost a revocation; it is re-asserted", "key", id.String(), "revocation", what)
		if f.r.o.Events.Reasserted != nil {
			f.r.o.Events.Reasserted()
		}
	}
	return err
}

// lost returns the keys that this process has, and that the store lacks although nobody
// deleted them. Versions do not tell: those of a new server begin above all others.
func (f *follower) lost(ctx context.Context, next *nextSet) (lost []string, err error) {
	var missing []string
	for n := range f.r.o.Mirror.table.Load().all() {
		if next.table.find(&n.grant.ID) == nil {
			missing = append(missing, string(n.grant.ID[:]))
		}
	}
	for ids := range slices.Chunk(missing, 1000) {
		deleted, err := f.session.conn.HMGet(ctx, f.r.name("tombs"), ids...).Result()
		if err != nil {
			return nil, err
		}
		for i, version := range deleted {
			if version == nil {
				lost = append(lost, ids[i])
			}
		}
	}
	return lost, nil
}

// countLost counts and logs keys that the store has lost.
func (f *follower) countLost(lost []string) {
	for _, field := range lost {
		if id, err := idOf(field); err == nil {
			f.r.o.Log.Error("the store has lost a key", "key", id.String())
		}
	}
	if len(lost) > 0 && f.r.o.Events.Lost != nil {
		f.r.o.Events.Lost(len(lost))
	}
}

// raise moves the store's version to at least the highest that was seen.
func (f *follower) raise(ctx context.Context, highest uint64) error {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	_, err := f.r.call(ctx, f.session, f.r.scripts.raise, nil, highest)
	return err
}
