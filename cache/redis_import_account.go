package cache

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"

	"keystile/keys"
)

func (l *redisLedger) storeID(ctx context.Context) (id string, err error) {
	err = l.r.read(ctx, importing, func(s *session) error {
		id, err = s.conn.HGet(ctx, l.r.name("meta"), "store").Result()
		if errors.Is(err, redis.Nil) {
			return nil
		}
		return err
	})
	return id, err
}

// accounts reads some accounts at once. What is to be kept of one is decided again by what
// the script that writes must find.
func (l *redisLedger) accounts(
	ctx context.Context, some []keys.Account, decide func(e, have *keys.Account) *keys.Account,
) error {
	texts, err := l.texts(ctx, "accounts", len(some), func(i int) string { return some[i].ID })
	if err != nil {
		return err
	}
	for i := range some {
		have, err := accountIfAny(some[i].ID, texts[i])
		if err != nil {
			return unavailable(importing, err)
		}
		if decide(&some[i], have) == nil {
			continue
		}
		if err := l.account(ctx, &some[i], decide); err != nil {
			return err
		}
	}
	return nil
}

func (l *redisLedger) account(
	ctx context.Context, e *keys.Account, decide func(e, have *keys.Account) *keys.Account,
) error {
	kept, s, err := l.r.amendAccount(ctx, importing, e.ID, func(have *keys.Account) (keys.Account, error) {
		if next := decide(e, have); next != nil {
			return *next, nil
		}
		return keys.Account{}, errUnchanged
	})
	if errors.Is(err, errUnchanged) {
		return nil
	} else if err != nil {
		return err
	}
	l.wrote(s, kept.Version)
	return nil
}

func (l *redisLedger) tokens(
	ctx context.Context, some []keys.AccountToken, lacking func(e *keys.AccountToken) bool,
) error {
	texts, err := l.texts(ctx, "tokens", len(some), func(i int) string { return some[i].ID })
	if err != nil {
		return err
	}
	for i := range some {
		if texts[i] != "" || !lacking(&some[i]) {
			continue
		}
		version, s, err := l.r.keepToken(ctx, importing, &some[i])
		if err != nil {
			return err
		}
		l.wrote(s, version)
	}
	return nil
}

// texts reads n fields of a hash; "": there is none.
func (l *redisLedger) texts(ctx context.Context, hash string, n int, field func(int) string) ([]string, error) {
	fields, texts := make([]string, n), make([]string, n)
	for i := range fields {
		fields[i] = field(i)
	}
	err := l.r.read(ctx, importing, func(s *session) error {
		values, err := s.conn.HMGet(ctx, l.r.name(hash), fields...).Result()
		for i := range values {
			texts[i], _ = values[i].(string)
		}
		return err
	})
	return texts, err
}
