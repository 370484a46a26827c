package admin

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/http"
	"regexp"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"

	"keystile/keys"
)

// administrator is the word for an administrator, in logs, in the audit trail and in sessions.
const administrator = "administrator"

// principal is who sent a request. The zero principal is nobody known.
type principal struct {
	administrator bool
	token         string       // id of an account's token
	account       keys.Account // whose token it is, as the request found it
}

func (p principal) known() bool { return p.administrator || p.token != "" }

// String returns "administrator", "account:" and an account's id, or nothing.
func (p principal) String() string {
	switch {
	case p.administrator:
		return administrator
	case p.known():
		return "account:" + p.account.ID
	}
	return ""
}

// scope is whose Idempotency-Keys are the same: of an account that was deleted and made again
// under its id, those of before mean nothing.
func (p principal) scope() string {
	if p.administrator {
		return p.String()
	}
	return p.String() + " " + p.account.Created.UTC().Format(time.RFC3339Nano)
}

// owns returns keys.ErrNotFound unless the principal may know of an account's keys. It is
// asked inside the store's own reading, before anything else of the record is looked at, so
// that a foreign key is answered like one that does not exist.
func (p principal) owns(account string) error {
	if p.administrator || p.known() && p.account.ID == account {
		return nil
	}
	return keys.ErrNotFound
}

// setsRate returns why a principal may not send a rate, or nil: the default protects the
// upstream, so an account must not lift it for itself.
func (p principal) setsRate(m *rateMember) error {
	if m.sent && !p.administrator {
		return forbidden.problem("the rate of a key is set by administrators: leave it out")
	}
	return nil
}

var (
	accountTokenID    = regexp.MustCompile(`^[A-Z2-7]{13}$`)
	accountTokenShape = regexp.MustCompile(`^` + keys.AccountTokenPrefix + `([A-Z2-7]{13})_[A-Z2-7]{52}$`)
)

// newAccountToken returns the id of a new token, 65 bits from crypto/rand, and its text,
// which has 260 more.
func newAccountToken() (id, text string) {
	id = rand.Text()[:13]
	return id, keys.AccountTokenPrefix + id + "_" + rand.Text() + rand.Text()
}

// recognize returns whose token a text is, or nobody. An error says that the store could
// not tell. A token whose id is unknown is compared all the same, with zeros.
func (a *Admin) recognize(ctx context.Context, text string) (principal, error) {
	if a.token.Is(text) {
		return principal{administrator: true}, nil
	}
	parts := accountTokenShape.FindStringSubmatch(text)
	if parts == nil {
		return principal{}, nil
	}
	token, err := a.accounts.Token(ctx, parts[1])
	unknown := errors.Is(err, keys.ErrNoToken)
	if err != nil && !unknown {
		return principal{}, err
	}
	sum := sha256.Sum256([]byte(text))
	if subtle.ConstantTimeCompare(token.Sum[:], sum[:]) != 1 || unknown {
		return principal{}, nil
	}
	return a.holder(ctx, token)
}

// holder returns the principal of a token, or nobody when its account is gone.
func (a *Admin) holder(ctx context.Context, token keys.AccountToken) (principal, error) {
	account, err := a.accounts.Account(ctx, token.Account)
	switch {
	case errors.Is(err, keys.ErrNoAccount):
		return principal{}, nil
	case err != nil:
		return principal{}, err
	}
	return principal{token: token.ID, account: account}, nil
}

// signedIn returns who a session belongs to: sessions keep the word for an administrator,
// or the id of an account's token, which is looked up each time.
func (a *Admin) signedIn(ctx context.Context, kept string) (principal, error) {
	switch kept {
	case "":
		return principal{}, nil
	case administrator:
		return principal{administrator: true}, nil
	}
	token, err := a.accounts.Token(ctx, kept)
	switch {
	case errors.Is(err, keys.ErrNoToken):
		return principal{}, nil
	case err != nil:
		return principal{}, err
	}
	return a.holder(ctx, token)
}

// kept is what a session keeps of a principal.
func (p principal) kept() string {
	if p.administrator {
		return administrator
	}
	return p.token
}

// actor is the principal of a request in the audit trail.
func (p principal) actor(r *http.Request) keys.Actor {
	return keys.Actor{Principal: p.String(), Token: p.token, Peer: r.RemoteAddr, RequestID: callOf(r.Context()).id}
}

// admit is a huma middleware: the one place that says who may call which operation, and how
// often.
func (a *Admin) admit(ctx huma.Context, next func(huma.Context)) {
	operation, who := ctx.Operation(), callOf(ctx.Context()).principal
	rule, _ := operation.Metadata[accessRule].(access)
	refused := who.refused(rule, operation.Method)
	paced := rule == accountsToo && !who.administrator && !safeMethod(operation.Method)
	if refused == nil && paced {
		if wait := a.paces.wait(who.account.ID, a.now()); wait > 0 {
			refused = tooFast(wait)
		}
	}
	if refused != nil {
		r, w := humachi.Unwrap(ctx)
		writeProblem(w, r, refused)
		return
	}
	next(ctx)
	if paced && ctx.Status() < http.StatusMultipleChoices {
		a.paces.made(who.account.ID, a.now())
	}
}

// refused returns why a principal may not call an operation, or nil.
func (p principal) refused(rule access, method string) *problem {
	switch {
	case rule == everybody || p.administrator:
		return nil
	case rule != accountsToo || !p.known():
		return forbidden.problem("this call is for administrators: an account's token calls /keys and /session")
	case !p.account.Active && !safeMethod(method):
		return accountInactive.problem("")
	}
	return nil
}
