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

	accounts []keys.Account
	tokens   []keys.AccountToken
	moved    uint64 // the last version by the log that is of no record: of an account, maybe
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
		line, err := json.Marshal(backupKey{Record: found[i].Record, LastUsed: found[i].LastUsed.At})
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
	if err := x.collectAccounts(ctx); err != nil {
		return err
	}
	return x.collectTombs(ctx)
}

// errRestless says that an export has to be tried again.
var errRestless = errors.New("the store was changed faster than it could be read: export it again")

// collectAccounts reads accounts and tokens, and brings the set to a version up to which
// they have not changed since.
func (x *redisExport) collectAccounts(ctx context.Context) error {
	for range catchUpRounds {
		at, err := x.readAccounts(ctx)
		if err != nil {
			return err
		}
		if err := x.catchUp(ctx); err != nil || x.moved <= at {
			return err
		}
	}
	return errRestless
}

// readAccounts reads the accounts and tokens, and of which version they are.
func (x *redisExport) readAccounts(ctx context.Context) (version uint64, err error) {
	pipe := x.s.conn.TxPipeline()
	at := pipe.HGet(ctx, x.r.name("meta"), "version")
	accounts, tokens := pipe.HGetAll(ctx, x.r.name("accounts")), pipe.HGetAll(ctx, x.r.name("tokens"))
	if _, err := pipe.Exec(ctx); err != nil {
		return 0, err
	}
	if x.accounts, err = decodeAccounts(accounts.Val()); err != nil {
		return 0, err
	}
	x.tokens = x.tokens[:0]
	for _, text := range tokens.Val() {
		token, err := decodeTokenText(text)
		if err != nil {
			return 0, err
		}
		x.tokens = append(x.tokens, token)
	}
	slices.SortFunc(x.tokens, func(a, b keys.AccountToken) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
	return parseNumber(at.Val()), nil
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
	for range catchUpRounds {
		answer, err := x.r.readLog(ctx, x.s, x.header.Version)
		if err != nil {
			return err
		}
		for i := range answer.entries {
			e := &answer.entries[i]
			if e.before != x.header.Version {
				return errRestless
			}
			x.header.Version = e.version
			if e.id == (keys.ID{}) {
				x.moved = e.version
				continue
			}
			x.set.put(e.id, e.text)
			x.changed[e.id] = e.text
		}
		if len(answer.entries) == 0 && answer.version == x.header.Version {
			if x.set.digest != answer.digest {
				return errors.New("the records that were read have another digest than the store says: export it again")
			}
			return nil
		}
	}
	return errRestless
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
	x.header.Accounts, x.header.Tokens = len(x.accounts), len(x.tokens)
	x.header.Keys, x.header.Deleted = len(x.set.sums), len(x.tombs)
	return nil
}

// write writes the backup. It asks the server for nothing.
func (x *redisExport) write(ctx context.Context, to io.Writer) error {
	w, err := newBackupWriter(to, x.header)
	if err != nil {
		return err
	}
	if err := w.accounts(x.accounts, x.tokens); err != nil {
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
