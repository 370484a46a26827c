package cache

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"keystile/keys"
)

// Import brings what a backup has into the store; see [ImportOptions]. The file is read
// several times. One that is damaged is refused before anything is written: [ErrBackup],
// [ErrBackupPepper]. It is written a part at a time, revocations first: after an error
// it can be imported again. Others may go on changing the store meanwhile.
func (r *Redis) Import(ctx context.Context, file io.ReadSeeker, o ImportOptions) (ImportReport, error) {
	if err := r.alive(ctx); err != nil {
		return ImportReport{}, err
	}
	l := &redisLedger{r: r}
	defer l.release()
	return runImport(ctx, file, l, o)
}

// importAttempts is how often others may be quicker than an import at one page.
const importAttempts = 100

// redisLedger is a Redis as an import sees it.
type redisLedger struct {
	r       *Redis
	last    *session // that wrote last: WAIT on it speaks of all that was written
	version uint64   // of the last change
}

func (l *redisLedger) perAccount() int        { return l.r.o.PerAccount }
func (l *redisLedger) peppers() *keys.Peppers { return l.r.o.Peppers }

func (l *redisLedger) release() {
	if l.last != nil {
		l.r.release(l.last, nil)
		l.last = nil
	}
}

// wrote notes the session that wrote, and the version of that.
func (l *redisLedger) wrote(s *session, version uint64) {
	l.release()
	l.last, l.version = s, version
}

func (l *redisLedger) receipt(ctx context.Context) keys.Receipt {
	if l.last == nil {
		return keys.Receipt{Version: l.version} // nothing was written
	}
	s := l.last
	l.last = nil
	return l.r.receipt(ctx, s, l.version)
}

// raise makes the store where there is none yet.
func (l *redisLedger) raise(ctx context.Context, version uint64) error {
	return l.r.read(ctx, importing, func(s *session) error {
		if l.r.storeID() == "" {
			if err := l.r.find(ctx, s); err != nil {
				return err
			}
		}
		_, err := l.r.call(ctx, s, l.r.scripts.raise, nil, version)
		return err
	})
}

func (l *redisLedger) write(ctx context.Context, entries []backupEntry, decide func(*page) []effect) error {
	for range importAttempts {
		p, err := l.read(ctx, entries)
		if err != nil {
			return err
		}
		effects := decide(p)
		if len(effects) == 0 {
			return nil
		}
		if err := l.do(ctx, effects); !errors.Is(err, errConflict) {
			return err
		}
	}
	return unavailable(importing, errConflict)
}

// do has a script do all effects, or none of them: then somebody was quicker.
func (l *redisLedger) do(ctx context.Context, effects []effect) error {
	names := []string{l.r.operationName(rand.Text())}
	for i := range effects {
		names = append(names, l.r.namesOf(effects[i].account()))
	}
	answer, s, err := l.r.change(ctx, importing, l.r.scripts.imported, names, func(s *sealer) ([]any, error) {
		var args []any
		for i := range effects {
			more, err := effects[i].arguments(s)
			if err != nil {
				return nil, unavailable(importing, err)
			}
			args = append(args, more...)
		}
		return args, nil
	})
	if err != nil {
		return err
	}
	if err := l.r.refusal(s, importing, answer); err != nil {
		return err
	}
	l.wrote(s, parseNumber(answer[1]))
	return nil
}

// account is whose key the effect is about.
func (e *effect) account() string {
	if e.before != nil {
		return e.before.Account
	}
	return e.record.Account
}

// arguments are what the script wants to know of an effect.
func (e *effect) arguments(s *sealer) ([]any, error) {
	expected, tomb, most := "", "", ""
	if e.before != nil {
		expected = strconv.FormatUint(e.before.Version, 10)
	}
	if e.tomb != 0 {
		tomb = strconv.FormatUint(e.tomb, 10)
	}
	id := string(e.record.ID[:])
	switch {
	case e.buried:
		return []any{"bury", id, expected, tomb, "", "", "", e.record.Version, "", "", "", ""}, nil
	case e.removed:
		sealed, err := s.seal(keyEntry(keys.KeyDeleted, &e.before.Record, nil, s.now))
		return append([]any{"remove", id, expected, tomb, "", "", "", "", "", ""}, sealed...), err
	}
	if e.before == nil {
		most = strconv.Itoa(e.most)
	}
	tail, err := encodeRest(&e.record.Record)
	if err != nil {
		return nil, err
	}
	sealed, err := s.seal(e.entry(s.now))
	return append([]any{
		"keep", id, expected, tomb, most, e.record.Name, digit(e.record.Active), tail, useText(e.record.LastUsed), e.record.Account,
	}, sealed...), err
}

// entry is what the trail says of a record that is kept.
func (e *effect) entry(now time.Time) keys.Entry {
	if e.before == nil {
		return keyEntry(keys.KeyCreated, nil, &e.record.Record, now)
	}
	before := &e.before.Record
	return keyEntry(keys.UpdateAction(before, &e.record.Record), before, &e.record.Record, now)
}

// read reads what the store has about some entries. It may be of several moments: the
// script that writes compares.
func (l *redisLedger) read(ctx context.Context, entries []backupEntry) (p *page, err error) {
	err = l.r.read(ctx, importing, func(s *session) error {
		p, err = l.page(ctx, s, entries)
		return err
	})
	return p, err
}

func (l *redisLedger) page(ctx context.Context, s *session, entries []backupEntry) (*page, error) {
	ids := make([]string, len(entries))
	holders := make(map[accountName]*redis.StringCmd)
	counts := make(map[string]*redis.IntCmd)
	pipe := s.conn.Pipeline()
	for i := range entries {
		e := &entries[i]
		ids[i] = string(e.ID[:])
		if e.deleted {
			continue
		}
		holders[accountName{e.Account, e.Name}] = pipe.HGet(ctx, l.r.namesOf(e.Account), e.Name)
		if counts[e.Account] == nil {
			counts[e.Account] = pipe.HLen(ctx, l.r.namesOf(e.Account))
		}
	}
	records := pipe.HMGet(ctx, l.r.name("records"), ids...)
	tombs := pipe.HMGet(ctx, l.r.name("tombs"), ids...)
	_, err := pipe.Exec(ctx)
	if errors.Is(err, redis.Nil) { // a name that is free; there may be another error behind it
		err = errors.Join(records.Err(), tombs.Err())
	}
	if err != nil {
		return nil, err
	}
	p := newPage()
	for name, holder := range holders {
		if id, err := idOf(holder.Val()); err == nil {
			p.names[name] = id
		}
	}
	for account, count := range counts {
		p.counts[account] = int(count.Val())
	}
	return p, p.fill(entries, records.Val(), tombs.Val())
}

// fill notes the records and the deletions of entries, as Redis returns them.
func (p *page) fill(entries []backupEntry, records, tombs []any) error {
	for i := range entries {
		id := entries[i].ID
		if text, ok := records[i].(string); ok {
			kept, err := decodeText(id, text)
			if err != nil {
				return err
			}
			p.records[id] = kept
		}
		if text, ok := tombs[i].(string); ok {
			p.tombs[id] = parseNumber(text)
		}
	}
	return nil
}
