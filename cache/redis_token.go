package cache

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"slices"

	"github.com/redis/go-redis/v9"

	"keystile/keys"
)

// CreateToken keeps a new token. See [keys.Accounts].
func (r *Redis) CreateToken(ctx context.Context, token keys.AccountToken) (none keys.AccountToken, _ keys.Receipt, _ error) {
	if err := checkToken(&token); err != nil {
		return none, keys.Receipt{}, err
	}
	token.Created = r.now()
	version, s, err := r.keepToken(ctx, "creating a token", &token)
	if err != nil {
		return none, keys.Receipt{}, err
	}
	return token, r.tokenReceipt(ctx, s, version), nil
}

// keepToken keeps a new token and returns the session that wrote.
func (r *Redis) keepToken(ctx context.Context, doing string, token *keys.AccountToken) (uint64, *session, error) {
	text, err := json.Marshal(token)
	if err != nil {
		return 0, nil, err
	}
	entry := tokenEntry(keys.TokenCreated, nil, token, r.now())
	return r.changeToken(ctx, doing, r.scripts.tokenCreate, entry, string(text))
}

// DeleteToken removes a token of an account for ever. See [keys.Accounts].
func (r *Redis) DeleteToken(ctx context.Context, account, id string) (keys.Receipt, error) {
	const doing = "deleting a token"
	if _, err := r.Account(ctx, account); err != nil {
		return keys.Receipt{}, err
	}
	token, err := r.Token(ctx, id)
	switch {
	case err != nil:
		return keys.Receipt{}, err
	case token.Account != account:
		return keys.Receipt{}, keys.ErrNoToken
	}
	version, s, err := r.changeToken(ctx, doing, r.scripts.tokenDelete, tokenEntry(keys.TokenDeleted, &token, nil, r.now()))
	if err != nil {
		return keys.Receipt{}, err
	}
	return r.tokenReceipt(ctx, s, version), nil
}

// tokenReceipt releases the session that has written. No process remembers tokens: the
// receipt speaks of replicas only.
func (r *Redis) tokenReceipt(ctx context.Context, s *session, version uint64) keys.Receipt {
	defer r.release(s, nil)
	return keys.Receipt{Version: version, Replicas: r.waitForReplicas(context.WithoutCancel(ctx), s)}
}

// changeToken runs a script that changes the token that the entry speaks of, and returns the
// session that wrote.
func (r *Redis) changeToken(
	ctx context.Context, doing string, script *redis.Script, entry keys.Entry, args ...any,
) (uint64, *session, error) {
	names := []string{r.operationName(rand.Text()), r.name("tokens"), r.tokensOf(entry.Account)}
	answer, s, err := r.change(ctx, doing, script, names, func(s *sealer) ([]any, error) {
		return s.one(entry, append([]any{entry.Account, entry.Subject}, args...)...)
	})
	if err != nil {
		return 0, nil, err
	}
	if err := r.refusal(s, doing, answer); err != nil {
		return 0, nil, err
	}
	return parseNumber(answer[1]), s, nil
}

// Token returns a token, or [keys.ErrNoToken].
func (r *Redis) Token(ctx context.Context, id string) (token keys.AccountToken, err error) {
	err = r.read(ctx, "reading a token", func(s *session) error {
		var text *redis.StringCmd
		if err := r.ask(ctx, s, func(pipe redis.Pipeliner) { text = pipe.HGet(ctx, r.name("tokens"), id) }); err != nil {
			return err
		}
		if errors.Is(text.Err(), redis.Nil) {
			return own(keys.ErrNoToken)
		}
		token, err = decodeTokenText(text.Val())
		return err
	})
	return token, err
}

func decodeTokenText(text string) (token keys.AccountToken, err error) {
	if json.Unmarshal([]byte(text), &token) != nil {
		return keys.AccountToken{}, errors.New("a token cannot be read")
	}
	return token, nil
}

// Tokens returns the tokens of an account, newest last: [keys.ErrNoAccount].
func (r *Redis) Tokens(ctx context.Context, account string) (found []keys.AccountToken, err error) {
	err = r.read(ctx, "listing tokens", func(s *session) error {
		answer, err := r.call(ctx, s, r.scripts.tokens, []string{r.name("tokens"), r.tokensOf(account)}, account)
		switch {
		case err != nil:
			return ownForeign(err)
		case answer[0] == "unowned":
			return own(keys.ErrNoAccount)
		}
		found, err = decodeTokens(answer[1:])
		return err
	})
	return found, err
}

// decodeTokens reads pairs of the version at which a token was made, and the token.
func decodeTokens(pairs []string) (found []keys.AccountToken, err error) {
	made := make(map[string]uint64)
	for pair := range slices.Chunk(pairs, 2) {
		token, err := decodeTokenText(pair[1])
		if err != nil {
			return nil, err
		}
		made[token.ID] = parseNumber(pair[0])
		found = append(found, token)
	}
	slices.SortFunc(found, func(a, b keys.AccountToken) int { return cmp.Compare(made[a.ID], made[b.ID]) })
	return found, nil
}
