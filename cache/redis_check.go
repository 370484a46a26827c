package cache

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"keystile/keys"
)

// checkInterval is how often the server's settings are looked at.
const checkInterval = 10 * time.Second

// deposedMargin is for what a primary that was replaced does late: it counts its
// replicas once a second.
const deposedMargin = 2 * time.Second

// ErrSettings is matched by errors that do not pass by themselves: the operator has to
// change the server, or run another version of Keystile. Their own text says which.
var ErrSettings = errors.New("the store cannot be used as it is")

// settingError matches ErrSettings and keeps its own text.
type settingError struct{ error }

func (*settingError) Is(target error) bool { return target == ErrSettings }

// begin looks at the server for the first time. An error that is ErrUnavailable may go
// away by itself; another does not.
func (r *Redis) begin(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 4*commandTimeout)
	defer cancel()
	s, err := r.connect(ctx)
	if err != nil {
		return r.firstError(err)
	}
	if err = r.check(ctx, s); err == nil {
		err = r.find(ctx, s)
	}
	r.release(s, err)
	return r.firstError(err)
}

// firstError tells what can be mended by waiting from what cannot.
func (r *Redis) firstError(err error) error {
	if err == nil || errors.Is(err, ErrSettings) || errors.Is(err, ErrPepperMismatch) || errors.Is(err, keys.ErrUnavailable) {
		return err
	}
	var answered redis.Error
	if errors.As(err, &answered) && !moved(err) && !full(err) {
		return fmt.Errorf("the server refuses us: %w: check store.redis and the rights of its user", err)
	}
	return fmt.Errorf("%w: %w", keys.ErrUnavailable, err)
}

// full reports whether the server says that it has no room, in memory or on disk.
func full(err error) bool {
	return strings.HasPrefix(err.Error(), "OOM ") || strings.HasPrefix(err.Error(), "MISCONF ")
}

// find makes the store if this process may, and compares it with what is remembered.
func (r *Redis) find(ctx context.Context, s *session) error {
	remembered := r.state.get()
	have, err := s.conn.HGet(ctx, r.name("meta"), "store").Result()
	switch {
	case err != nil && !errors.Is(err, redis.Nil):
		return err
	case remembered.Store != "" && have != remembered.Store:
		return fmt.Errorf("%w: %w", keys.ErrUnavailable, errForeign)
	}
	args := []any{cmp.Or(have, rand.Text()), "", "", checkText(r.o.Peppers.Check()), remembered.Version}
	for _, check := range r.o.Peppers.Checks() {
		args = append(args, checkText(check))
	}
	answer, err := r.scripts.found.Run(ctx, s.conn, r.common(), args...).StringSlice()
	if err != nil {
		return err
	}
	switch answer[0] {
	case "pepper":
		return ErrPepperMismatch
	case "schema":
		return &settingError{errors.New("another version of Keystile wrote this store: use that version")}
	case "behind":
		return fmt.Errorf("%w: version %d of the store is remembered, which it lacks; it is at %s: %w",
			keys.ErrUnavailable, remembered.Version, answer[2], errForeign)
	}
	r.mu.Lock()
	r.store = answer[1]
	r.mu.Unlock()
	return r.retire(ctx, s, remembered.Row)
}

// retire removes the row of the process that had our state file before: it is dead,
// since we hold the lock.
func (r *Redis) retire(ctx context.Context, s *session, row string) error {
	if row != "" && row != r.row {
		if err := s.conn.HDel(ctx, r.name("proxies"), row).Err(); err != nil {
			return err
		}
	}
	return r.state.begin(r.storeID(), r.row)
}

func checkText(check keys.Sum) string {
	if check == (keys.Sum{}) {
		return ""
	}
	text, _ := check.MarshalText()
	return string(text)
}

// check looks at the settings of the server that the promise rests on.
func (r *Redis) check(ctx context.Context, s *session) error {
	info, err := s.conn.Info(ctx).Result()
	if err != nil {
		return err
	}
	r.warn(info)
	policy := infoField(info, "maxmemory_policy")
	evicts := policy != "" && policy != "noeviction" && infoField(info, "maxmemory") != "0"
	r.mu.Lock()
	r.evicts = evicts
	r.mu.Unlock()
	if evicts {
		return &settingError{fmt.Errorf("the server may evict keys (maxmemory-policy %s): set maxmemory-policy noeviction", policy)}
	}
	if infoField(info, "role") == "slave" {
		return &settingError{errors.New("the server is a replica, which cannot be written: name the primary, or Sentinels")}
	}
	return r.checkFence(info)
}

// checkFence sees to it that a primary cut off from its replicas stops writing.
func (r *Redis) checkFence(info string) error {
	replicas, _ := strconv.Atoi(infoField(info, "connected_slaves"))
	fenced := infoField(info, "min_slaves_good_slaves") != "" // there only with min-replicas-to-write
	replicated := replicas > 0 || r.o.Server.SentinelPrimary != ""
	unfenced := replicated && !fenced
	r.mu.Lock()
	r.unfenced = unfenced // also if it became so while we serve, which is no reason to stop
	r.mu.Unlock()
	if replicated || fenced || r.o.Server.Cluster { // and stays so, for a primary that was replaced has lost its replicas
		r.table.replicated(r.o.FenceLag + r.o.ReceiptDeadline + deposedMargin)
	}
	if unfenced && !r.o.AllowUnfenced {
		return &settingError{errors.New("the server has replicas but no min-replicas-to-write: cut off from them it would go on as a second primary; " +
			"set min-replicas-to-write to half of all servers, rounded down, or store.redis.allow_unfenced (then no change is ever effective everywhere)")}
	}
	return nil
}

// warn says, once, what the server may lose.
func (r *Redis) warn(info string) {
	aof, saved := infoField(info, "aof_enabled"), infoField(info, "rdb_last_bgsave_status")
	var text string
	switch {
	case aof == "" && saved == "":
		text = "the server does not say whether it keeps anything on disk"
	case aof == "0":
		text = "the server has no append-only file: what it acknowledged is lost when it stops; set appendonly yes"
	case infoField(info, "maxmemory_policy") == "":
		text = "the server does not say whether it may evict keys"
	}
	r.mu.Lock()
	news := text != r.warned
	r.warned = text
	r.mu.Unlock()
	if news && text != "" {
		r.o.Log.Warn(text)
	}
}
