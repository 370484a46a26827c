package keys

import (
	"context"
	"errors"
	"regexp"
	"time"
)

// MaxLimit is the greatest number of keys that an account may be allowed.
const MaxLimit = 1000

var (
	// ErrNoAccount is returned for an account that does not exist.
	ErrNoAccount = errors.New("no such account")
	// ErrAccountExists is returned by CreateAccount for an id that is in use.
	ErrAccountExists = errors.New("the account exists already")
	// ErrAccountHasKeys is returned by DeleteAccount while the account has keys.
	ErrAccountHasKeys = errors.New("the account still has keys")
	// ErrDefaultAccount is returned by DeleteAccount for DefaultAccount.
	ErrDefaultAccount = errors.New("the default account cannot be deleted")
	// ErrNoToken is returned for a token that does not exist.
	ErrNoToken = errors.New("no such token")
)

var accountShape = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$`)

// ValidAccount reports whether an account may have this id: 1 to 64 ASCII letters, digits
// and ._@+- of which the first is a letter or digit, so that it stands in a path as it is.
// Ids are compared exactly.
func ValidAccount(id string) bool { return accountShape.MatchString(id) }

// Account owns keys. Its limit and the uniqueness of names are its own.
type Account struct {
	ID string `json:"account"`
	// Name is for people, normalized; empty: none.
	Name string `json:"name,omitempty"`
	// Active false has all its keys refused, whatever their own Active says.
	Active bool `json:"active"`
	// Limit is how many keys it may have; 0: the store's PerAccount.
	Limit   int       `json:"limit,omitempty"`
	Created time.Time `json:"created"`
	Updated time.Time `json:"updated"`
	// Version is the store's global version at the account's last change; 0 for a
	// DefaultAccount that nobody has changed.
	Version uint64 `json:"version"`
}

// AccountToken is what a store keeps of a token by which an account calls the admin API.
type AccountToken struct {
	// ID is public and safe to log.
	ID      string    `json:"id"`
	Account string    `json:"account"`
	Name    string    `json:"name,omitempty"` // for people, normalized; empty: none
	Created time.Time `json:"created"`
	// Sum is the SHA-256 of the token's text, which is random.
	Sum Sum `json:"sum"`
}

// Accounts keeps accounts and their tokens, with the durability, the concurrency and the
// errors of [Store]. DefaultAccount is always there. Each change gets one new version, each
// key that it touches another.
type Accounts interface {
	// Account returns an account, or [ErrNoAccount].
	Account(ctx context.Context, id string) (Account, error)
	// Accounts returns all accounts by id.
	Accounts(ctx context.Context) ([]Account, error)
	// CreateAccount keeps a new, active account of the ID, Name and Limit given:
	// [ErrAccountExists].
	CreateAccount(ctx context.Context, account Account) (Account, Receipt, error)
	// UpdateAccount passes the account to change, as Update does a record. Only Name, Active
	// and Limit may change. Where Active does, all its keys change first, in the same
	// transaction, so that the receipt speaks of them too. A limit below the number of keys
	// only keeps new ones out. [ErrNoAccount].
	UpdateAccount(ctx context.Context, id string, change func(*Account) error) (Account, Receipt, error)
	// DeleteAccount removes an account with its tokens, and withKeys with its keys, unless
	// check (nil: none) returns an error, which is returned as it is. [ErrNoAccount],
	// [ErrAccountHasKeys], [ErrDefaultAccount].
	DeleteAccount(ctx context.Context, id string, withKeys bool, check func(Account) error) (Receipt, error)

	// CreateToken keeps a new token with the ID, Account, Name and Sum given: [ErrNoAccount].
	CreateToken(ctx context.Context, token AccountToken) (AccountToken, Receipt, error)
	// Token returns a token, or [ErrNoToken].
	Token(ctx context.Context, id string) (AccountToken, error)
	// Tokens returns the tokens of an account, newest last: [ErrNoAccount].
	Tokens(ctx context.Context, account string) ([]AccountToken, error)
	// DeleteToken removes a token of an account for ever: [ErrNoAccount], [ErrNoToken]. No
	// process remembers tokens, so the receipt has nothing pending but replicas.
	DeleteToken(ctx context.Context, account, id string) (Receipt, error)
}
