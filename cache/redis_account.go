package cache

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"keystile/keys"
)

// accountRest is what the scripts do not look at of an account.
type accountRest struct {
	Name    string    `json:"name,omitempty"`
	Created time.Time `json:"created"`
	Updated time.Time `json:"updated"`
}

// decodeAccountText reads an account's text: version, active, limit, rest, one a line.
func decodeAccountText(id, text string) (keys.Account, error) {
	parts := strings.SplitN(text, "\n", 4)
	if len(parts) != 4 {
		return keys.Account{}, fmt.Errorf("the account %q cannot be read", id)
	}
	var tail accountRest
	if err := json.Unmarshal([]byte(parts[3]), &tail); err != nil {
		return keys.Account{}, fmt.Errorf("the account %q cannot be read", id)
	}
	return keys.Account{
		ID: id, Version: parseNumber(parts[0]), Active: parts[1] == "1", Limit: int(parseNumber(parts[2])),
		Name: tail.Name, Created: tail.Created, Updated: tail.Updated,
	}, nil
}

// accountOf reads the text that a server has of an account; "": none.
func accountOf(id, text string) (keys.Account, error) {
	account, err := accountIfAny(id, text)
	if account == nil {
		return keys.Account{}, cmp.Or(err, own(keys.ErrNoAccount))
	}
	return *account, nil
}

// accountIfAny is accountOf that returns nil for an account that does not exist.
func accountIfAny(id, text string) (*keys.Account, error) {
	if text == "" && id != keys.DefaultAccount {
		return nil, nil
	}
	account := keys.Account{ID: id, Active: true}
	if text != "" {
		var err error
		if account, err = decodeAccountText(id, text); err != nil {
			return nil, err
		}
	}
	return &account, nil
}

// Account returns an account, or [keys.ErrNoAccount].
func (r *Redis) Account(ctx context.Context, id string) (account keys.Account, err error) {
	err = r.read(ctx, "reading an account", func(s *session) (err error) {
		var text *redis.StringCmd
		if err := r.ask(ctx, s, func(pipe redis.Pipeliner) { text = pipe.HGet(ctx, r.name("accounts"), id) }); err != nil {
			return err
		}
		account, err = accountOf(id, text.Val())
		return err
	})
	return account, err
}

// Accounts returns all accounts by id.
func (r *Redis) Accounts(ctx context.Context) (all []keys.Account, err error) {
	err = r.read(ctx, "listing accounts", func(s *session) (err error) {
		var texts *redis.MapStringStringCmd
		if err := r.ask(ctx, s, func(pipe redis.Pipeliner) { texts = pipe.HGetAll(ctx, r.name("accounts")) }); err != nil {
			return err
		}
		all, err = decodeAccounts(texts.Val())
		return err
	})
	return all, err
}

func decodeAccounts(texts map[string]string) (all []keys.Account, err error) {
	if texts[keys.DefaultAccount] == "" {
		all = append(all, keys.Account{ID: keys.DefaultAccount, Active: true})
	}
	for id, text := range texts {
		account, err := decodeAccountText(id, text)
		if err != nil {
			return nil, err
		}
		all = append(all, account)
	}
	slices.SortFunc(all, func(a, b keys.Account) int { return cmp.Compare(a.ID, b.ID) })
	return all, nil
}

// CreateAccount keeps a new, active account. See [keys.Accounts].
func (r *Redis) CreateAccount(ctx context.Context, account keys.Account) (keys.Account, keys.Receipt, error) {
	if err := checkAccount(&account); err != nil {
		return keys.Account{}, keys.Receipt{}, err
	}
	now := r.now()
	made := keys.Account{ID: account.ID, Name: account.Name, Active: true, Limit: account.Limit, Created: now, Updated: now}
	made, s, err := r.keepAccount(ctx, "creating an account", &made, "1", func(*sealer) (keys.Entry, error) {
		return accountEntry(keys.AccountCreated, nil, &made, now), nil
	})
	if err != nil {
		return keys.Account{}, keys.Receipt{}, err
	}
	return made, r.receipt(ctx, s, made.Version), nil
}

// keepAccount has a script keep the account, as it is once plan has returned the entry.
// It returns the session that wrote.
func (r *Redis) keepAccount(
	ctx context.Context, doing string, account *keys.Account, made string, plan func(*sealer) (keys.Entry, error),
) (none keys.Account, _ *session, _ error) {
	answer, s, err := r.change(ctx, doing, r.scripts.accountKeep,
		[]string{r.namesOf(account.ID), r.operationName(rand.Text())},
		func(s *sealer) ([]any, error) {
			entry, err := plan(s)
			if err != nil {
				return nil, err
			}
			tail, err := json.Marshal(accountRest{account.Name, account.Created, account.Updated})
			if err != nil {
				return nil, err
			}
			now := s.now.Format(time.RFC3339Nano) // as encoding/json has it
			return s.one(entry, account.ID, made, digit(account.Active), account.Limit, string(tail), now)
		})
	if err != nil {
		return none, nil, err
	}
	if err := r.refusal(s, doing, answer); err != nil {
		return none, nil, err
	}
	account.Version = parseNumber(answer[1])
	return *account, s, nil
}

// errUnchanged says that a change of an account changes nothing.
var errUnchanged = errors.New("nothing changes")

// UpdateAccount changes an account. See [keys.Accounts].
func (r *Redis) UpdateAccount(
	ctx context.Context, id string, change func(*keys.Account) error,
) (keys.Account, keys.Receipt, error) {
	updated, s, err := r.amendAccount(ctx, "updating an account", id, func(before *keys.Account) (keys.Account, error) {
		if before == nil {
			return keys.Account{}, keys.ErrNoAccount
		}
		after := *before
		if err := cmp.Or(change(&after), checkLimit(after.Limit)); err != nil {
			return keys.Account{}, err
		}
		return permittedAccount(*before, after), nil
	})
	if errors.Is(err, errUnchanged) {
		s, err = r.mark(ctx)
		err = unavailable("reading how far a change has reached", err)
	}
	if err != nil {
		return keys.Account{}, keys.Receipt{}, err
	}
	return updated, r.receipt(ctx, s, updated.Version), nil
}

// amendAccount has an account become what change returns, of what it is (nil: there is
// none), and returns the session that wrote; or [errUnchanged], with the account.
func (r *Redis) amendAccount(
	ctx context.Context, doing, id string, change func(before *keys.Account) (keys.Account, error),
) (after keys.Account, _ *session, _ error) {
	after.ID = id
	kept, s, err := r.keepAccount(ctx, doing, &after, "", func(s *sealer) (keys.Entry, error) {
		seen, err := r.holdings(ctx, id)
		if err != nil {
			return keys.Entry{}, err
		}
		before, err := accountIfAny(id, seen.text)
		if err != nil {
			return keys.Entry{}, unavailable(doing, err)
		}
		if after, err = change(before); err != nil {
			return keys.Entry{}, err
		}
		return seen.amend(s, before, &after)
	})
	if errors.Is(err, errUnchanged) {
		return after, nil, err
	}
	return kept, s, err
}

// amend returns what the trail says of an account that changes; before nil: it is made, now
// unless it says when. Or it returns [errUnchanged].
func (h *holdings) amend(s *sealer, before, after *keys.Account) (keys.Entry, error) {
	s.from, s.to = h.position, h.position
	action := keys.AccountUpdated
	switch {
	case before == nil:
		action = keys.AccountCreated
		if after.Created.IsZero() {
			after.Created, after.Updated = s.now, s.now
		}
	case *before == *after:
		return keys.Entry{}, errUnchanged
	default:
		after.Updated = s.now
	}
	entry := accountEntry(action, before, after, s.now)
	if entry.Version = h.version + 1; before != nil && before.Active != after.Active {
		entry.Version += uint64(len(h.keys))
	}
	return entry, nil
}

// holdings are an account and its keys at one moment.
type holdings struct {
	position
	text string // of the account; "": there is none
	keys []stored
}

func (h *holdings) account(id string) (keys.Account, error) { return accountOf(id, h.text) }

// readHoldings reads an account and its keys.
func (r *Redis) readHoldings(ctx context.Context, s *session, account string) (seen holdings, err error) {
	answer, err := r.call(ctx, s, r.scripts.list, []string{r.namesOf(account)}, account)
	if err != nil {
		return seen, err
	}
	if len(answer) < 4 {
		return seen, errors.New("a script does not say where the store is")
	}
	if seen.head, err = parseLink(answer[2]); err != nil {
		return seen, err
	}
	seen.version, seen.text = parseNumber(answer[1]), answer[3]
	for key := range slices.Chunk(answer[4:], 3) {
		kept, err := decodeField(key[0], key[1])
		if err != nil {
			return seen, err
		}
		kept.LastUsed = parseUse(key[2])
		seen.keys = append(seen.keys, kept)
	}
	return seen, nil
}

// holdings reads an account and its keys, from a server that has lost nothing of what this
// process knows: see least.
func (r *Redis) holdings(ctx context.Context, id string) (seen holdings, err error) {
	least := r.o.Mirror.Version()
	err = r.read(ctx, "reading an account", func(s *session) error {
		seen, err = r.readHoldings(ctx, s, id)
		return ownForeign(err)
	})
	if err == nil && seen.version < least {
		err = unavailable("reading an account", errLags)
	}
	return seen, err
}

// DeleteAccount removes an account. See [keys.Accounts].
func (r *Redis) DeleteAccount(
	ctx context.Context, id string, withKeys bool, check func(keys.Account) error,
) (none keys.Receipt, _ error) {
	const doing = "deleting an account"
	answer, s, err := r.change(ctx, doing, r.scripts.accountDelete,
		[]string{r.namesOf(id), r.operationName(rand.Text()), r.name("tokens"), r.tokensOf(id)},
		func(s *sealer) ([]any, error) {
			seen, err := r.holdings(ctx, id)
			if err != nil {
				return nil, err
			}
			before, err := seen.account(id)
			if err != nil {
				return nil, unavailable(doing, err)
			}
			if err := deletable(&before, len(seen.keys) > 0, withKeys, check); err != nil {
				return nil, err
			}
			s.from, s.to = seen.position, seen.position
			entry := accountEntry(keys.AccountDeleted, &before, nil, s.now)
			entry.Version = seen.version + 1 + uint64(len(seen.keys))
			for _, key := range inOrder(seen.keys) {
				entry.Keys = append(entry.Keys, key.ID.String())
			}
			return s.one(entry, id)
		})
	if err != nil {
		return none, err
	}
	if err := r.refusal(s, doing, answer); err != nil {
		return none, err
	}
	return r.receipt(ctx, s, parseNumber(answer[1])), nil
}
