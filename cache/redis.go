package cache

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"keystile/keys"
)

// RedisOptions says how a Redis store works. Server.Addresses is required.
// A zero duration means the default in its comment.
type RedisOptions struct {
	Server RedisServer
	// Prefix begins the name of everything in the server, and has a hash tag, so that
	// all of it is on one node of a cluster; "": {keystile}.
	Prefix string
	// StateFile remembers the store's id, its highest version and this process's row
	// between starts. Only one process at a time can use it. "": nothing is remembered.
	StateFile string
	// Name is how people recognise this process in receipts and tables; "": host and
	// process id.
	Name string

	Mirror     *Mirror       // filled and kept fresh; nil: one of its own
	PerAccount int           // keys that an account may have that has no limit of its own; 0: DefaultPerAccount
	AuditKeep  int           // entries of the audit trail that are kept; 0: keys.DefaultAuditKeep
	Peppers    *keys.Peppers // nil: none

	MaxStaleness    time.Duration // the records are used for this long after they were proved fresh; 30 s
	ReceiptDeadline time.Duration // a change waits this long for all proxies; 2 s
	WaitReplicas    int           // replicas that must have a change before it is effective everywhere
	FenceLag        time.Duration // a deposed primary may accept writes for this long; 10 s
	AllowUnfenced   bool          // start although a replicated primary has no min-replicas-to-write

	Events RedisEvents
	Log    *slog.Logger     // nil: nobody is told
	Now    func() time.Time // the time that records carry; nil: time.Now
}

// RedisServer says where the server is: one address, or several of a Cluster, or those
// of the Sentinels with the name of the primary they watch.
type RedisServer struct {
	Addresses        []string
	Cluster          bool
	SentinelPrimary  string // "": the addresses are not Sentinels
	SentinelUser     string
	SentinelPassword string
	User, Password   string
	Database         int
	TLS              *tls.Config // nil: plain TCP
}

// RedisEvents are called, if not nil, when something happens that is worth counting.
// They must not block.
type RedisEvents struct {
	// Applied is told how long after its commit a revocation was applied here: of a key, or
	// of one of its secrets.
	Applied func(lag time.Duration)
	// Polled is told how long a poll took, and whether it failed. [ErrSettings] and
	// [ErrPepperMismatch] do not pass by themselves.
	Polled func(took time.Duration, err error)
	// Resynced is told why the whole set was read again.
	Resynced func(cause ResyncCause)
	// Reasserted is told of a revocation that the store had lost.
	Reasserted func()
	// Lost is told how many keys the store had lost.
	Lost func(keys int)
	// RolledBack is told when the store is not the one remembered, or went back.
	RolledBack func()
}

// Redis is a [keys.Store], with its accounts and its audit trail, that several processes
// share. What it promises, and how, is in protocol.md. Open one with [OpenRedis].
type Redis struct {
	o       RedisOptions
	clock   func() time.Time // for what has to do with other processes: time.Now
	client  redis.UniversalClient
	scripts scripts
	state   *stateFile
	row     string // this process's row
	table   *rows  // what this process has seen of all rows

	idle  chan *session // for changes
	turns *turns        // for changes of which the trail has an entry

	mu       sync.Mutex // makes applying an entry, and telling the watchers, one step
	set      replica
	watchers []*watcher
	store    string // id of the store, once found
	dead     error  // why nothing can be done any more: closed
	unfenced bool   // see RedisOptions.AllowUnfenced
	evicts   bool   // the server may evict keys, and with them the table of proxies
	warned   string // what was last warned of

	serving chan struct{} // closed when the Mirror was proved fresh for the first time
	wake    chan struct{} // a reason to poll at once
	stop    context.CancelFunc
	stopped sync.WaitGroup
}

var (
	_ keys.Store    = (*Redis)(nil)
	_ keys.Accounts = (*Redis)(nil)
	_ keys.Trail    = (*Redis)(nil)
)

// OpenRedis connects to the server, checks it, and starts to follow it. It returns an
// error for what only the operator can mend: another pepper, a server that may evict
// records or is not fenced, a state file in use. A server that cannot be reached is
// not an error: the Mirror is not fresh until it can.
func OpenRedis(ctx context.Context, o RedisOptions) (*Redis, error) {
	r := newRedis(o)
	var err error
	if r.state, err = openState(o.StateFile); err != nil {
		return nil, errors.Join(err, r.client.Close())
	}
	if err := r.begin(ctx); err != nil && !errors.Is(err, keys.ErrUnavailable) {
		return nil, errors.Join(err, r.client.Close(), r.state.close())
	}
	ctx, r.stop = context.WithCancel(context.WithoutCancel(ctx))
	r.stopped.Go(func() { r.follow(ctx) })
	r.stopped.Go(func() { r.listen(ctx) })
	return r, nil
}

func newRedis(o RedisOptions) *Redis {
	o.setDefaults()
	r := &Redis{
		o: o, clock: time.Now, client: newClient(o.Server), scripts: loadScripts(), row: rand.Text(),
		table: newRows(o.MaxStaleness, time.Now), idle: make(chan *session, 4), turns: newTurns(),
		wake: make(chan struct{}, 1), serving: make(chan struct{}),
	}
	r.set.init()
	return r
}

func (o *RedisOptions) setDefaults() {
	o.Prefix = cmp.Or(o.Prefix, "{keystile}")
	o.PerAccount = cmp.Or(o.PerAccount, DefaultPerAccount)
	o.AuditKeep = cmp.Or(o.AuditKeep, keys.DefaultAuditKeep)
	o.MaxStaleness = cmp.Or(o.MaxStaleness, 30*time.Second)
	o.ReceiptDeadline = cmp.Or(o.ReceiptDeadline, 2*time.Second)
	o.FenceLag = cmp.Or(o.FenceLag, 10*time.Second)
	o.Name = cmp.Or(o.Name, processName())
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Mirror == nil {
		o.Mirror = NewMirror()
	}
}

// Names of what the server holds. See protocol.md.
func (r *Redis) name(part string) string        { return r.o.Prefix + ":" + part }
func (r *Redis) namesOf(account string) string  { return r.name("names:" + account) }
func (r *Redis) operationName(id string) string { return r.name("op:" + id) }
func (r *Redis) tokensOf(account string) string { return r.name("tokens:" + account) }
func (r *Redis) common() []string {
	return []string{
		r.name("meta"), r.name("records"), r.name("log"), r.name("tombs"), r.name("proxies"),
		r.name("used"), r.name("accounts"), r.name("audit"),
	}
}

// Get returns the record of id, or [keys.ErrNotFound].
func (r *Redis) Get(ctx context.Context, id keys.ID) (keys.Record, error) {
	var kept stored
	err := r.read(ctx, "reading a key", func(s *session) (err error) {
		kept, err = r.readRecord(ctx, s, id)
		return err
	})
	return kept.Record, err
}

// readRecord reads a record from the store that this process knows: that another has
// none means nothing.
func (r *Redis) readRecord(ctx context.Context, s *session, id keys.ID) (stored, error) {
	var text, used *redis.StringCmd
	err := r.ask(ctx, s, func(pipe redis.Pipeliner) {
		text = pipe.HGet(ctx, r.name("records"), string(id[:]))
		used = pipe.HGet(ctx, r.name("used"), string(id[:]))
	})
	if err != nil {
		return stored{}, err
	}
	if errors.Is(text.Err(), redis.Nil) {
		return stored{}, own(keys.ErrNotFound)
	}
	kept, err := decodeText(id, text.Val())
	kept.LastUsed = parseUse(used.Val())
	return kept, err
}

// ask sends queries, at one moment of the store that this process knows. That one finds
// nothing is no error.
func (r *Redis) ask(ctx context.Context, s *session, queries func(redis.Pipeliner)) error {
	pipe := s.conn.TxPipeline()
	store := pipe.HGet(ctx, r.name("meta"), "store")
	queries(pipe)
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return err
	}
	return own(r.known(store.Val()))
}

// known returns an error unless a store is the one that this process has found.
func (r *Redis) known(store string) error {
	if store == "" || store != r.storeID() {
		return r.foreign()
	}
	return nil
}

// List returns the records of account in the order they were created; all for "". Those
// of an account are of one moment.
func (r *Redis) List(ctx context.Context, account string) ([]keys.Record, error) {
	var found []stored
	err := r.read(ctx, "listing keys", func(s *session) (err error) {
		if account == "" {
			found, err = r.allRecords(ctx, s)
		} else {
			found, err = r.recordsOf(ctx, s, account)
		}
		return ownForeign(err)
	})
	if err != nil {
		return nil, err
	}
	return inOrder(found), nil
}

// ownForeign marks the errors of a server that does not hold the store that this process
// knows: no other connection would change that.
func ownForeign(err error) error {
	if errors.Is(err, errForeign) || errors.Is(err, errNotReached) {
		return own(err)
	}
	return err
}

func (r *Redis) recordsOf(ctx context.Context, s *session, account string) ([]stored, error) {
	seen, err := r.readHoldings(ctx, s, account)
	return seen.keys, err
}

func (r *Redis) allRecords(ctx context.Context, s *session) ([]stored, error) {
	byID := make(map[keys.ID]stored)
	err := r.scan(ctx, s, func(id keys.ID, text string) (err error) {
		byID[id], err = decodeText(id, text)
		return err
	})
	if err != nil {
		return nil, err
	}
	found := slices.Collect(maps.Values(byID))
	if err := r.readUsed(ctx, s, found); err != nil {
		return nil, err
	}
	store, err := s.conn.HGet(ctx, r.name("meta"), "store").Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, err
	}
	return found, r.known(store) // at last: it was there all the time
}

// scan visits every record. While others change them, a record may be visited twice,
// or in a state that is newer than where the scan began.
func (r *Redis) scan(ctx context.Context, s *session, visit func(id keys.ID, text string) error) error {
	for cursor := uint64(0); ; {
		pairs, next, err := s.conn.HScan(ctx, r.name("records"), cursor, "", 1000).Result()
		if err != nil {
			return err
		}
		for i := 0; i+1 < len(pairs); i += 2 {
			id, err := idOf(pairs[i])
			if err == nil {
				err = visit(id, pairs[i+1])
			}
			if err != nil {
				return err
			}
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// readUsed fills in when the records were last used.
func (r *Redis) readUsed(ctx context.Context, s *session, found []stored) error {
	if len(found) == 0 {
		return nil
	}
	ids := make([]string, len(found))
	for i := range found {
		ids[i] = string(found[i].ID[:])
	}
	uses, err := s.conn.HMGet(ctx, r.name("used"), ids...).Result()
	if err != nil {
		return err
	}
	for i, use := range uses {
		if use, ok := use.(string); ok {
			found[i].LastUsed = parseUse(use)
		}
	}
	return nil
}

// gone returns why nothing can be done, or nil. r.mu is held.
func (r *Redis) gone(ctx context.Context) error {
	if r.dead != nil {
		return r.dead
	}
	return unavailable("asking the store", ctx.Err())
}

// Close stops following the store and takes this process out of its table. Call it
// when no more requests are admitted. The Mirror keeps its records but is not fresh.
func (r *Redis) Close() error {
	r.mu.Lock()
	if r.dead != nil {
		r.mu.Unlock()
		return r.dead
	}
	r.dead = errClosed
	for _, w := range r.watchers {
		w.stop()
	}
	r.watchers = nil
	r.mu.Unlock()

	r.stop()
	r.stopped.Wait()
	r.o.Mirror.fresh.set(proof{why: errClosed})
	r.leave()
	r.dropIdle()
	return unavailable("closing the store", errors.Join(r.client.Close(), r.state.close()))
}

// leave removes this process's row, so that no receipt waits for it.
func (r *Redis) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	if err := r.client.HDel(ctx, r.name("proxies"), r.row).Err(); err != nil {
		r.o.Log.Warn("this process is still in the table of proxies; receipts wait for it until it lapses", "error", err)
	}
}
