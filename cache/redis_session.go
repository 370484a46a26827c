package cache

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"keystile/keys"
)

const (
	// pollTimeout bounds a poll, and the making of a connection.
	pollTimeout = 250 * time.Millisecond
	// commandTimeout bounds any other command.
	commandTimeout = 500 * time.Millisecond
	// attempts is how often a change is sent when the answer is lost.
	attempts = 3
)

//go:embed lua/*.lua
var luaFiles embed.FS

// scripts are the scripts of the protocol, each with the prelude they share.
type scripts struct {
	found, create, update, delete, touch, poll, raise, bury, imported, list *redis.Script
	accountKeep, accountDelete, tokenCreate, tokenDelete, tokens            *redis.Script
}

func loadScripts() scripts {
	load := func(name string) *redis.Script {
		prelude, err := luaFiles.ReadFile("lua/prelude.lua")
		body, err2 := luaFiles.ReadFile("lua/" + name + ".lua")
		if err := errors.Join(err, err2); err != nil {
			panic(err) // the files are part of the program
		}
		return redis.NewScript(string(prelude) + "\n" + string(body))
	}
	return scripts{
		found: load("found"), create: load("create"), update: load("update"), delete: load("delete"),
		touch: load("touch"), poll: load("poll"), raise: load("raise"), bury: load("bury"),
		imported: load("import"), list: load("list"),
		accountKeep: load("account_keep"), accountDelete: load("account_delete"),
		tokenCreate: load("token_create"), tokenDelete: load("token_delete"), tokens: load("tokens"),
	}
}

// session is one connection to one server, of which it knows the run_id: scripts are
// told, so that they notice a failover, and WAIT speaks of this connection's writes.
type session struct {
	conn *redis.Conn
	run  string // "" where the server does not say
}

func (s *session) close() {
	if s != nil {
		_ = s.conn.Close()
	}
}

// connect opens a session with the server that holds our names.
func (r *Redis) connect(ctx context.Context) (*session, error) {
	var conn *redis.Conn
	switch client := r.client.(type) {
	case *redis.Client: // also with Sentinel
		conn = client.EphemeralConn()
	case *redis.ClusterClient:
		node, err := client.MasterForKey(ctx, r.name("meta"))
		if err != nil {
			return nil, err
		}
		conn = node.EphemeralConn()
	default:
		return nil, fmt.Errorf("a client of type %T", client)
	}
	info, err := conn.Info(ctx).Result()
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return &session{conn: conn, run: infoField(info, "run_id")}, nil
}

// infoField returns a field of the answer of INFO; "" if it is not there.
func infoField(info, name string) string {
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+":"); ok {
			return value
		}
	}
	return ""
}

// acquire returns an idle session or opens one.
func (r *Redis) acquire(ctx context.Context) (*session, error) {
	select {
	case s := <-r.idle:
		return s, nil
	default:
		return r.connect(ctx)
	}
}

// release keeps a session for later, unless err shows that it is of no more use.
func (r *Redis) release(s *session, err error) {
	if isNetwork(err) || moved(err) {
		s.close()
		r.dropIdle() // they lead to the same server
		if cluster, ok := r.client.(*redis.ClusterClient); ok {
			cluster.ReloadState(context.Background())
		}
		return
	}
	select {
	case r.idle <- s:
	default:
		s.close()
	}
}

func (r *Redis) dropIdle() {
	for {
		select {
		case s := <-r.idle:
			s.close()
		default:
			return
		}
	}
}

// read runs something that changes nothing, again if the connection breaks.
func (r *Redis) read(ctx context.Context, doing string, run func(*session) error) error {
	if err := r.alive(ctx); err != nil {
		return err
	}
	var err error
	for range attempts {
		var s *session
		if s, err = r.acquire(ctx); err != nil {
			continue
		}
		err = run(s)
		var ours *ownError
		if errors.As(err, &ours) {
			r.release(s, nil)
			return ours.error
		}
		r.release(s, err)
		if err == nil || ctx.Err() != nil || !isNetwork(err) && !moved(err) {
			break
		}
	}
	return unavailable(doing, err)
}

// alive returns why nothing can be done, or nil.
func (r *Redis) alive(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.gone(ctx)
}

// operation runs a script until it is answered, always with the same arguments: an
// operation id among them makes it safe to send again. The caller releases the
// session, on which WAIT speaks of this script's writes.
func (r *Redis) operation(ctx context.Context, doing string, script *redis.Script, names []string, args ...any) ([]string, *session, error) {
	if err := r.alive(ctx); err != nil {
		return nil, nil, err
	}
	var err error
	for try := range attempts {
		if try > 0 && ctx.Err() != nil {
			break
		}
		var s *session
		if s, err = r.acquire(ctx); err != nil {
			continue
		}
		var answer []string
		answer, err = r.call(ctx, s, script, names, args...)
		if err == nil {
			return answer, s, nil
		}
		r.release(s, err)
		if !isNetwork(err) && !moved(err) {
			break
		}
	}
	return nil, nil, fmt.Errorf("%w: %s: %w", keys.ErrUnavailable, doing, err)
}

// call runs a script with the names and arguments that all scripts begin with.
func (r *Redis) call(ctx context.Context, s *session, script *redis.Script, names []string, args ...any) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	all := append([]any{r.storeID(), s.run, r.name("hint")}, args...)
	answer, err := script.Run(ctx, s.conn, append(r.common(), names...), all...).StringSlice()
	if err != nil {
		return nil, err
	}
	if len(answer) == 0 {
		return nil, errors.New("a script gave no answer")
	}
	if answer[0] == "foreign" {
		return nil, r.foreign()
	}
	return answer, nil
}

// foreign is the error of a server that does not hold the store that this process has
// found, or remembers from before; if it knows of none, it has only not found it yet.
func (r *Redis) foreign() error {
	if r.storeID() == "" && r.state.get().Store == "" {
		return errNotReached
	}
	return fmt.Errorf("%w: %w", keys.ErrUnavailable, errForeign)
}

// errForeign says that the server does not hold the store that this process knows.
var errForeign = errors.New("the server does not hold the store it held before (store_rollback): " +
	"restore it, or run `keystile store accept` if it is meant to be another")

func (r *Redis) storeID() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.store
}

func processName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s/%d", strings.Join(strings.Fields(host), "-"), os.Getpid())
}
