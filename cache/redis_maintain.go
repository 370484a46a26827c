package cache

import (
	"context"
	"errors"
	"fmt"

	"keystile/keys"
)

// RedisContents says what a server has under a prefix.
type RedisContents struct {
	Store   string // id of the store; "": there is none
	Version uint64
	Keys    int
}

// InspectRedis says what is there, and changes nothing.
func InspectRedis(ctx context.Context, o RedisOptions) (found RedisContents, err error) {
	r := newRedis(o)
	defer func() { err = errors.Join(err, r.client.Close()) }()
	s, err := r.connect(ctx)
	if err != nil {
		return found, r.firstError(err)
	}
	defer s.close()
	pipe := s.conn.TxPipeline()
	meta := pipe.HMGet(ctx, r.name("meta"), "store", "version")
	records := pipe.HLen(ctx, r.name("records"))
	if _, err := pipe.Exec(ctx); err != nil {
		return found, r.firstError(err)
	}
	found.Store, _ = meta.Val()[0].(string)
	version, _ := meta.Val()[1].(string)
	found.Version, found.Keys = parseNumber(version), int(records.Val())
	return found, nil
}

// DialRedis opens a store for maintenance, beside the processes that serve: it does not
// follow the store, so that receipts never wait for it; its Mirror is never fresh, and
// Watch does not begin. StateFile is not used. The server must answer and pass its
// checks, and the peppers must be those of the store; where there is no store yet, it
// is made by the first Import. Calls that change keys work as with [OpenRedis], where
// there is a store.
func DialRedis(ctx context.Context, o RedisOptions) (*Redis, error) {
	o.StateFile = ""
	r := newRedis(o)
	r.stop = func() {}
	if err := r.dial(ctx); err != nil {
		return nil, errors.Join(r.firstError(err), r.client.Close())
	}
	return r, nil
}

func (r *Redis) dial(ctx context.Context) error {
	s, err := r.connect(ctx)
	if err != nil {
		return err
	}
	if err = r.check(ctx, s); err == nil {
		err = r.recognize(ctx, s)
	}
	r.release(s, err)
	return err
}

// recognize is find for those who must not change anything.
func (r *Redis) recognize(ctx context.Context, s *session) error {
	meta, err := s.conn.HMGet(ctx, r.name("meta"), "store", "schema", "pepper").Result()
	if err != nil {
		return err
	}
	word := func(i int) string { s, _ := meta[i].(string); return s }
	if word(0) == "" {
		return nil
	}
	if word(1) != redisSchema {
		return &settingError{errors.New("another version of Keystile wrote this store: use that version")}
	}
	var pepper keys.Sum
	if text := word(2); text != "" {
		if err := pepper.UnmarshalText([]byte(text)); err != nil {
			return &settingError{fmt.Errorf("the pepper check of this store cannot be read: %w", err)}
		}
	}
	if !r.o.Peppers.Knows(pepper) {
		return ErrPepperMismatch
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.store = word(0)
	return nil
}

// redisSchema is the layout that the scripts know: see found.lua.
const redisSchema = "1"
