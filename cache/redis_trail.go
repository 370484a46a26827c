package cache

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"keystile/keys"
)

// moves is how often other processes may be quicker than one change.
const moves = 1000

// position is where the store and its trail are at one time.
type position struct {
	version uint64
	head    keys.Link
}

// sealer seals the entries of one change, one after the other.
type sealer struct {
	from, to position
	more     string // what else the script has answered that one has to know
	actor    keys.Actor
	now      time.Time
}

// seal returns what a script wants to know of an entry, which gets the next version
// unless it has one.
func (s *sealer) seal(e keys.Entry) ([]any, error) {
	if e.Version == 0 {
		e.Version = s.to.version + 1
	}
	sealed, head, err := keys.Seal(s.to.head, madeBy(s.actor, e))
	s.to = position{e.Version, head}
	return []any{linkText(head), sealed.Text}, err
}

// one returns the arguments of a change with one entry.
func (s *sealer) one(e keys.Entry, args ...any) ([]any, error) {
	sealed, err := s.seal(e)
	return append(sealed, args...), err
}

// turns lets changes seal and write one at a time.
type turns struct {
	taken chan struct{} // full while somebody has the turn
	end   position      // where the trail has got to, as far as is known; only for who has the turn

	mu     sync.Mutex
	failed *unanswered
}

// unanswered tells those who wait that the store does not answer the change that has the
// turn.
type unanswered struct {
	told chan struct{}
	err  error // set before told is closed
}

func newTurns() *turns {
	return &turns{taken: make(chan struct{}, 1), failed: &unanswered{told: make(chan struct{})}}
}

// errTurn says that a change was not tried.
var errTurn = errors.New("the change before it has failed")

// take waits for the changes before. If the store does not answer one of them, nobody who
// waits tries the same: the wait would become as long as all of theirs.
func (q *turns) take(ctx context.Context) error {
	q.mu.Lock()
	failed := q.failed
	q.mu.Unlock()
	select {
	case q.taken <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-failed.told:
		return fmt.Errorf("%w: %w", errTurn, failed.err)
	}
}

// give lets the next change come. err says that the store did not answer this one; nil: it
// did.
func (q *turns) give(err error) {
	if err != nil {
		q.mu.Lock()
		q.failed.err = err
		close(q.failed.told)
		q.failed = &unanswered{told: make(chan struct{})}
		q.mu.Unlock()
	}
	<-q.taken
}

// change runs a script that makes a change with its entries in the trail, as plan seals
// them: again, where another process was quicker. plan returns the script's arguments.
// See operation.
func (r *Redis) change(
	ctx context.Context, doing string, script *redis.Script, names []string, plan func(*sealer) ([]any, error),
) (answer []string, s *session, err error) {
	if err := r.alive(ctx); err != nil {
		return nil, nil, err
	}
	if err := r.turns.take(ctx); err != nil {
		return nil, nil, unavailable(doing, err)
	}
	defer func() {
		if errors.Is(err, keys.ErrUnavailable) && !errors.Is(err, errLags) && ctx.Err() == nil {
			r.turns.give(err)
		} else {
			r.turns.give(nil)
		}
	}()
	more := ""
	for range moves {
		seal := &sealer{from: r.turns.end, to: r.turns.end, more: more, actor: keys.ActorOf(ctx), now: r.now()}
		args, err := plan(seal)
		if err != nil {
			return nil, nil, err
		}
		args = append([]any{seal.from.version, linkText(seal.from.head), r.o.AuditKeep}, args...)
		answer, s, err := r.operation(ctx, doing, script, names, args...)
		switch {
		case err != nil:
			return nil, nil, err
		case answer[0] == "done":
			r.turns.end = seal.to
		case answer[0] == "moved":
			r.release(s, nil)
			if r.turns.end, more, err = decodeMoved(answer); err != nil {
				return nil, nil, unavailable(doing, err)
			}
			continue
		}
		return answer, s, nil
	}
	return nil, nil, unavailable(doing, errors.New("others have changed the store all the time"))
}

// decodeMoved reads where a script says that the store is.
func decodeMoved(answer []string) (at position, more string, err error) {
	if len(answer) != 4 {
		return at, "", errors.New("a script does not say where the store is")
	}
	at.version = parseNumber(answer[1])
	at.head, err = parseLink(answer[2])
	return at, answer[3], err
}

// linkText is how a link is kept: its number and its hash; of the zero link, "".
func linkText(l keys.Link) string {
	if l == (keys.Link{}) {
		return ""
	}
	return strconv.FormatUint(l.Number, 10) + " " + hex.EncodeToString(l.Hash[:])
}

func parseLink(text string) (l keys.Link, err error) {
	if text == "" {
		return l, nil
	}
	number, hash, _ := strings.Cut(text, " ")
	if l.Number, err = strconv.ParseUint(number, 10, 64); err == nil {
		err = l.Hash.UnmarshalText([]byte(hash))
	}
	if err != nil {
		return l, fmt.Errorf("a link of the audit trail cannot be read: %w", err)
	}
	return l, nil
}

// Audit returns a part of the audit trail. See [keys.Trail].
func (r *Redis) Audit(ctx context.Context, after uint64, limit int) (keys.TrailPage, error) {
	var page keys.TrailPage
	err := r.read(ctx, "reading the audit trail", func(s *session) (err error) {
		page, err = r.readTrail(ctx, s, after, limit)
		return err
	})
	return page, err
}

func (r *Redis) readTrail(ctx context.Context, s *session, after uint64, limit int) (page keys.TrailPage, err error) {
	pipe := s.conn.TxPipeline()
	meta := pipe.HMGet(ctx, r.name("meta"), "store", "head", "anchor")
	entries := pipe.XRangeN(ctx, r.name("audit"), fmt.Sprintf("(%d-0", after), "+", int64(max(1, limit))) // of 0, servers differ
	if _, err := pipe.Exec(ctx); err != nil {
		return page, err
	}
	word := func(i int) string { w, _ := meta.Val()[i].(string); return w }
	if err := r.known(word(0)); err != nil {
		return page, own(err)
	}
	head, err := parseLink(word(1))
	anchor, err2 := parseLink(word(2))
	if err := errors.Join(err, err2); err != nil {
		return page, err
	}
	page.Head, page.Anchor = head, anchor
	for _, message := range entries.Val()[:min(len(entries.Val()), max(0, limit))] {
		page.Entries = append(page.Entries, sealedEntry(message))
	}
	return page, nil
}

// sealedEntry reads an entry of the trail. A hash that is none is kept as zero: who follows
// the trail sees that it was changed, and where.
func sealedEntry(message redis.XMessage) (sealed keys.SealedEntry) {
	sealed.Text, _ = message.Values["t"].(string)
	hash, _ := message.Values["h"].(string)
	if sealed.Hash.UnmarshalText([]byte(hash)) != nil {
		sealed.Hash = keys.Sum{}
	}
	return sealed
}
