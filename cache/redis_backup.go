package cache

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"

	"keystile/keys"
)

// errNoStore says that there is nothing to export.
var errNoStore = errors.New("the server has no store under this prefix")

// Export writes a backup of the store as it was at one moment, while others change it.
// It fails when they make more changes meanwhile than the store's log holds. (When a
// key was last used may be of a later moment.)
func (r *Redis) Export(ctx context.Context, w io.Writer) error {
	if err := r.alive(ctx); err != nil {
		return err
	}
	directory := ""
	if r.o.StateFile != "" {
		directory = filepath.Dir(r.o.StateFile)
	}
	file, err := temporary(directory)
	if err != nil {
		return err
	}
	defer file.Close()
	s, err := r.connect(ctx)
	if err != nil {
		return unavailable(exporting, err)
	}
	defer s.close()
	x := newRedisExport(r, s, file)
	if err := x.collect(ctx); err != nil {
		return unavailable(exporting, err)
	}
	if err := x.settle(ctx); err != nil {
		return unavailable(exporting, err)
	}
	return x.write(ctx, w)
}

const exporting = "exporting keys"

// redisExport is an export on its way. The records are read one after the other, while
// they change; then the log says which of them have, and what they are now. In the end
// the digest shows that they are the store's at one version.
type redisExport struct {
	r       *Redis
	s       *session
	file    lineFile
	header  backupHeader
	set     replica
	changed map[keys.ID]string // what the log says of them; "": deleted
	tombs   []backupTomb
	settled int64 // where the lines end that may be out of date
}

func newRedisExport(r *Redis, s *session, file spoolFile) *redisExport {
	x := &redisExport{r: r, s: s, changed: make(map[keys.ID]string)}
	x.file.spoolFile = file
	x.set.init()
	return x
}

// spoolFile is an [os.File] that is written first, then read.
type spoolFile interface {
	io.Writer
	io.ReaderAt
}

// lineFile has the lines of keys in a file, and where they are.
type lineFile struct {
	spoolFile
	lines []keyLine
	end   int64
}

// keyLine says where the line of a key is.
type keyLine struct {
	born uint64
	at   int64
	size int32
}

// add writes the lines of some records.
func (f *lineFile) add(found []stored) error {
	var text []byte
	for i := range found {
		line, err := json.Marshal(backupKey{Record: found[i].Record, LastUsed: found[i].LastUsed})
		if err != nil {
			return err
		}
		f.lines = append(f.lines, keyLine{found[i].Born, f.end + int64(len(text)), int32(len(line) + 1)})
		text = append(append(text, line...), '\n')
	}
	n, err := f.Write(text)
	f.end += int64(n)
	return err
}

// collect writes the line of each record to the file, in the state in which it was
// found, and finds out which of these lines are out of date.
func (x *redisExport) collect(ctx context.Context) error {
	meta, err := x.s.conn.HMGet(ctx, x.r.name("meta"), "store", "version", "pepper").Result()
	if err != nil {
		return err
	}
	word := func(i int) string { s, _ := meta[i].(string); return s }
	if word(0) == "" {
		return own(fmt.Errorf("%w (%s)", errNoStore, x.r.o.Prefix))
	}
	x.header = backupHeader{Store: word(0), Version: parseNumber(word(1)), Made: x.r.now()}
	if pepper := word(2); pepper != "" {
		if err := x.header.Pepper.UnmarshalText([]byte(pepper)); err != nil {
			return err
		}
	}
	if err := x.collectRecords(ctx); err != nil {
		return err
	}
	if err := x.catchUp(ctx); err != nil {
		return err
	}
	return x.collectTombs(ctx)
}

func (x *redisExport) collectRecords(ctx context.Context) error {
	var found []stored
	flush := func() error {
		err := x.r.readUsed(ctx, x.s, found)
		if err == nil {
			err = x.file.add(found)
		}
		found = found[:0]
		return err
	}
	err := x.r.scan(ctx, x.s, func(id keys.ID, text string) error {
		if _, twice := x.set.sums[id]; twice {
			return nil // if it has changed between, the log says so
		}
		kept, err := decodeText(id, text)
		if err != nil {
			return err
		}
		x.set.put(id, text)
		if found = append(found, kept); len(found) < 500 {
			return nil
		}
		return flush()
	})
	if err != nil {
		return err
	}
	return flush()
}

// catchUp applies the log from where the scan began, until the set is the store's.
func (x *redisExport) catchUp(ctx context.Context) error {
	reader := follower{r: x.r, session: x.s}
	for range catchUpRounds {
		answer, err := reader.readLog(ctx, x.header.Version)
		if err != nil {
			return err
		}
		for i := range answer.entries {
			e := &answer.entries[i]
			if e.before != x.header.Version {
				return errors.New("the store was changed faster than it could be read: export it again")
			}
			x.header.Version = e.version
			if e.id != (keys.ID{}) {
				x.set.put(e.id, e.text)
				x.changed[e.id] = e.text
			}
		}
		if len(answer.entries) == 0 && answer.version == x.header.Version {
			if x.set.digest != answer.digest {
				return errors.New("the records that were read have another digest than the store says: export it again")
			}
			return nil
		}
	}
	return errors.New("the store was changed faster than it could be read: export it again")
}

// collectTombs reads the deletions up to the version that is exported.
func (x *redisExport) collectTombs(ctx context.Context) error {
	seen := make(map[keys.ID]bool)
	for cursor := uint64(0); ; {
		pairs, next, err := x.s.conn.HScan(ctx, x.r.name("tombs"), cursor, "", 1000).Result()
		if err != nil {
			return err
		}
		for i := 0; i+1 < len(pairs); i += 2 {
			id, err := idOf(pairs[i])
			if err != nil {
				return err
			}
			version := parseNumber(pairs[i+1])
			if _, present := x.set.sums[id]; version <= x.header.Version && !present && !seen[id] {
				seen[id] = true
				x.tombs = append(x.tombs, backupTomb{id, version})
			}
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// settle adds a line for each record whose line is out of date, and puts all in order.
func (x *redisExport) settle(ctx context.Context) error {
	x.settled = x.file.end
	var late []stored
	for id, text := range x.changed {
		if text == "" {
			continue
		}
		kept, err := decodeText(id, text)
		if err != nil {
			return err
		}
		late = append(late, kept)
	}
	for some := range slices.Chunk(late, 500) {
		if err := x.r.readUsed(ctx, x.s, some); err != nil {
			return err
		}
		if err := x.file.add(some); err != nil {
			return err
		}
	}
	slices.SortFunc(x.file.lines, func(a, b keyLine) int { return cmp.Compare(a.born, b.born) })
	x.header.Keys, x.header.Deleted = len(x.set.sums), len(x.tombs)
	return nil
}

// write writes the backup. It asks the server for nothing.
func (x *redisExport) write(ctx context.Context, to io.Writer) error {
	w, err := newBackupWriter(to, x.header)
	if err != nil {
		return err
	}
	var text []byte
	for _, line := range x.file.lines {
		if ctx.Err() != nil {
			return unavailable(exporting, ctx.Err())
		}
		text = slices.Grow(text[:0], int(line.size))[:line.size]
		if _, err := x.file.ReadAt(text, line.at); err != nil {
			return err
		}
		if line.at < x.settled && x.outOfDate(text) {
			continue
		}
		if err := w.raw(text); err != nil {
			return err
		}
	}
	for _, tomb := range x.tombs {
		if err := w.line(tomb); err != nil {
			return err
		}
	}
	return w.finish()
}

// outOfDate reports whether a record has changed since its line was written.
func (x *redisExport) outOfDate(line []byte) bool {
	var id keys.ID
	copy(id[:], bytes.TrimPrefix(line, []byte(`{"key":"`+keys.KeyPrefix))) // as encoding/json has written it
	_, changed := x.changed[id]
	return changed
}

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
	names := []string{l.r.name("used"), l.r.operationName(newOperation())}
	var args []any
	for i := range effects {
		more, err := effects[i].arguments()
		if err != nil {
			return unavailable(importing, err)
		}
		args = append(args, more...)
		names = append(names, l.r.namesOf(effects[i].account()))
	}
	answer, s, err := l.r.operation(ctx, importing, l.r.scripts.imported, names, args...)
	if err != nil {
		return err
	}
	if err := l.r.refusal(s, importing, answer); err != nil {
		return err
	}
	l.release()
	l.last, l.version = s, parseNumber(answer[1])
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
func (e *effect) arguments() ([]any, error) {
	expected, tomb, most, used := "", "", "", ""
	if e.before != nil {
		expected = strconv.FormatUint(e.before.Version, 10)
	}
	if e.tomb != 0 {
		tomb = strconv.FormatUint(e.tomb, 10)
	}
	id := string(e.record.ID[:])
	switch {
	case e.buried:
		return []any{"bury", id, expected, tomb, "", "", "", e.record.Version, "", ""}, nil
	case e.removed:
		return []any{"remove", id, expected, tomb, "", "", "", "", "", ""}, nil
	}
	if e.before == nil {
		most = strconv.Itoa(e.most)
	}
	if !e.record.LastUsed.IsZero() {
		used = strconv.FormatInt(e.record.LastUsed.UnixMilli(), 10)
	}
	tail, err := encodeRest(&e.record.Record)
	return []any{
		"keep", id, expected, tomb, most, e.record.Name, digit(e.record.Active), tail, used, e.record.Account,
	}, err
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
