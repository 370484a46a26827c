package cache

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"keystile/keys"
)

// Create keeps a new, active record. See [keys.Store].
func (r *Redis) Create(ctx context.Context, draft keys.Draft) (keys.Created, error) {
	if err := checkDraft(&draft); err != nil {
		return keys.Created{}, err
	}
	now := r.now()
	record := keys.Record{
		ID: draft.ID, Account: draft.Account, Active: true, Created: now, Updated: now,
		Rate: draft.Rate, Digests: [2]keys.Digest{draft.Digest},
	}
	tail, err := encodeRest(&record)
	if err != nil {
		return keys.Created{}, err
	}
	request, caller, unnamed := "", rand.Text(), digit(draft.Name == "")
	if draft.Operation != (keys.Operation{}) {
		key := sha256.Sum256([]byte(draft.Operation.Key))
		request, caller = hex.EncodeToString(draft.Operation.Request[:]), hex.EncodeToString(key[:])
	}
	answer, s, err := r.change(ctx, "creating a key", r.scripts.create,
		[]string{r.namesOf(draft.Account), r.operationName(rand.Text()), r.operationName(caller)},
		func(s *sealer) ([]any, error) {
			record.Name = cmp.Or(draft.Name, s.more, keys.DefaultName(func(string) bool { return false }))
			return s.one(keyEntry(keys.KeyCreated, nil, &record, now), string(record.ID[:]), record.Account, record.Name, unnamed, tail,
				r.o.PerAccount, request, keys.OperationLifetime.Milliseconds(), now.UnixMilli())
		})
	if err != nil {
		return keys.Created{}, err
	}
	return r.created(ctx, s, answer, draft.ID)
}

func (r *Redis) created(ctx context.Context, s *session, answer []string, id keys.ID) (keys.Created, error) {
	const doing = "creating a key"
	if err := r.refusal(s, doing, answer); err != nil {
		return keys.Created{}, err
	}
	replayed := answer[0] == "replayed"
	field := string(id[:])
	if replayed {
		field = answer[1]
	}
	kept, err := decodeField(field, answer[2])
	found := []stored{kept}
	if err == nil && replayed {
		err = r.readUsed(ctx, s, found)
	}
	if err != nil {
		r.release(s, err)
		return keys.Created{}, unavailable(doing, err)
	}
	return keys.Created{Record: found[0].Record, Receipt: r.receipt(ctx, s, kept.Version), Replayed: replayed}, nil
}

// refusal releases the session and returns the error that a script's answer means,
// or nil if it is an outcome.
func (r *Redis) refusal(s *session, doing string, answer []string) error {
	var err error
	switch answer[0] {
	case "done", "replayed":
		return nil
	case "limit":
		err = &keys.LimitError{Limit: int(parseNumber(answer[1]))}
	case "taken":
		err = keys.ErrNameTaken
	case "missing":
		err = keys.ErrNotFound
	case "unowned":
		err = keys.ErrNoAccount
	case "account_exists":
		err = keys.ErrAccountExists
	case "tokenless":
		err = keys.ErrNoToken
	case "reused":
		err = keys.ErrOperationReused
	case "conflict":
		err = errConflict
	case "exists":
		err = unavailable(doing, errIDTaken)
	default:
		err = fmt.Errorf("%w: %s: a script answered %q", keys.ErrUnavailable, doing, answer[0])
	}
	r.release(s, nil)
	return err
}

// errConflict says that a record changed between reading and writing it.
var errConflict = errors.New("the record was changed meanwhile")

// Update changes a record. See [keys.Store].
func (r *Redis) Update(ctx context.Context, id keys.ID, change func(*keys.Record) error) (keys.Record, keys.Receipt, error) {
	updated, s, err := r.amend(ctx, id, r.least, change)
	if err != nil {
		return keys.Record{}, keys.Receipt{}, err
	}
	if s == nil { // nothing changed
		if s, err = r.mark(ctx); err != nil {
			return keys.Record{}, keys.Receipt{}, unavailable("reading how far a change has reached", err)
		}
	}
	return updated, r.receipt(ctx, s, updated.Version), nil
}

// mark returns a session that has written something just now, so that WAIT speaks of all
// that was written before, by whomever. On one that was idle meanwhile it would say at
// once that every replica has it.
func (r *Redis) mark(ctx context.Context) (*session, error) {
	s, err := r.acquire(ctx)
	if err != nil || r.o.WaitReplicas == 0 {
		return s, err
	}
	if err := s.conn.Set(ctx, r.operationName(rand.Text()), "", operationMark).Err(); err != nil {
		r.release(s, err)
		return nil, err
	}
	return s, nil
}

// operationMark is how long what mark wrote is kept. Nobody reads it.
const operationMark = time.Second

// errLags says that the server has lost changes.
var errLags = errors.New("the server has an older record than this process; what it lost is being made again")

// least returns the version that the store's record of a key, read afterwards, has at
// least, if it has lost nothing. Another server may have taken over that lacks what this
// process judges by: a change of the record there would be newer than all that is known,
// so a revocation that was lost would stay lost.
func (r *Redis) least(id keys.ID) uint64 {
	version := r.o.Mirror.Version()
	if known, present := r.o.Mirror.Get(id); present {
		return known.Version
	}
	return version + 1
}

// whatever is for those who mend what the store has lost.
func whatever(keys.ID) uint64 { return 0 }

// amend reads a record, which must have the least version, has it changed, and writes it
// if it is still at the same version; else it begins again. It returns the session that wrote, nil if nothing
// changed.
func (r *Redis) amend(ctx context.Context, id keys.ID, least func(keys.ID) uint64, change func(*keys.Record) error) (keys.Record, *session, error) {
	for {
		updated, s, err := r.tryAmend(ctx, id, least(id), change)
		if !errors.Is(err, errConflict) {
			return updated, s, err
		}
	}
}

func (r *Redis) tryAmend(ctx context.Context, id keys.ID, least uint64, change func(*keys.Record) error) (none keys.Record, _ *session, _ error) {
	const doing = "updating a key"
	before, err := r.Get(ctx, id)
	if err != nil {
		return none, nil, err
	}
	if before.Version < least {
		return none, nil, unavailable(doing, errLags)
	}
	after := before
	if err := change(&after); err != nil {
		return none, nil, err
	}
	if after = permitted(before, after); after == before {
		return before, nil, nil
	}
	after.Updated = r.now()
	tail, err := encodeRest(&after)
	if err != nil {
		return none, nil, err
	}
	answer, s, err := r.change(ctx, doing, r.scripts.update,
		[]string{r.namesOf(before.Account), r.operationName(rand.Text())},
		func(s *sealer) ([]any, error) {
			return s.one(keyEntry(keys.UpdateAction(&before, &after), &before, &after, after.Updated),
				string(id[:]), before.Version, after.Name, digit(after.Active), tail)
		})
	if err != nil {
		return none, nil, err
	}
	if err := r.refusal(s, doing, answer); err != nil {
		return none, nil, err
	}
	after.Version = parseNumber(answer[1])
	return after, s, nil
}

func digit(yes bool) string {
	if yes {
		return "1"
	}
	return "0"
}

// Delete removes the record for ever. See [keys.Store].
func (r *Redis) Delete(ctx context.Context, id keys.ID, check func(keys.Record) error) (keys.Receipt, error) {
	version, s, err := r.remove(ctx, id, check)
	if err != nil {
		return keys.Receipt{}, err
	}
	return r.receipt(ctx, s, version), nil
}

// remove deletes a record that passes check, as amend changes one.
func (r *Redis) remove(ctx context.Context, id keys.ID, check func(keys.Record) error) (uint64, *session, error) {
	for {
		version, s, err := r.tryRemove(ctx, id, check)
		if !errors.Is(err, errConflict) {
			return version, s, err
		}
	}
}

func (r *Redis) tryRemove(ctx context.Context, id keys.ID, check func(keys.Record) error) (uint64, *session, error) {
	before, err := r.Get(ctx, id)
	if err != nil {
		return 0, nil, err
	}
	if check != nil {
		if err := check(before); err != nil {
			return 0, nil, err
		}
	}
	const doing = "deleting a key"
	answer, s, err := r.change(ctx, doing, r.scripts.delete,
		[]string{r.namesOf(before.Account), r.operationName(rand.Text())},
		func(s *sealer) ([]any, error) {
			return s.one(keyEntry(keys.KeyDeleted, &before, nil, r.now()), string(id[:]), before.Version)
		})
	if err != nil {
		return 0, nil, err
	}
	if err := r.refusal(s, doing, answer); err != nil {
		return 0, nil, err
	}
	return parseNumber(answer[1]), s, nil
}

// touchPart is how many last uses are sent at a time.
const touchPart = 1000

// Touch keeps when keys were last used. See [keys.Store].
func (r *Redis) Touch(ctx context.Context, used map[keys.ID]keys.Use) error {
	pairs := make([]any, 0, 2*len(used))
	for id, use := range used {
		pairs = append(pairs, string(id[:]), useText(use))
	}
	for part := range slices.Chunk(pairs, 2*touchPart) {
		_, s, err := r.operation(ctx, "keeping when keys were used", r.scripts.touch, nil, part...)
		if err != nil {
			return err
		}
		r.release(s, nil)
	}
	return r.alive(ctx)
}

// now is the time that records carry, to the millisecond.
func (r *Redis) now() time.Time { return r.o.Now().UTC().Truncate(time.Millisecond) }
