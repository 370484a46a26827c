package admin

import (
	"context"
	"crypto/sha256"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"keystile/keys"
)

var (
	listTokensOperation = description{
		id: "list-tokens", summary: "List an account's tokens", text: "The tokens of an account, newest last, without their text.",
		errors: []kind{accountNotFound},
	}
	createTokenOperation = description{
		id: "create-token", summary: "Make a token",
		text:   "Makes a token by which the account's owner sees and changes its keys. Its text is in this reply and nowhere else. No body is the same as {}.",
		errors: []kind{accountNotFound, bodyTooLarge, invalidBody, invalidName},
	}
	deleteTokenOperation = description{
		id: "delete-token", summary: "Revoke a token", text: "Ends a token, and the sessions that began with it, at once and for ever.",
		errors: []kind{accountNotFound, tokenNotFound},
	}
)

// AccountToken is a token of an account as the API shows it.
type AccountToken struct {
	ID      string `json:"id" doc:"The public part of the token." example:"GEZDGNBVGY3TQ"`
	Name    string `json:"name,omitempty" doc:"For people; absent: none." example:"Build server"`
	Created string `json:"created" format:"date-time"`
}

func accountTokenOf(t *keys.AccountToken) AccountToken {
	return AccountToken{t.ID, t.Name, timestamp(t.Created)}
}

// TokenList is the reply that lists tokens.
type TokenList struct {
	Tokens []AccountToken `json:"tokens" nullable:"false" doc:"Newest last."`
}

func (a *Admin) listTokens(w http.ResponseWriter, r *http.Request) error {
	account := pathValue(r, "account")
	if err := parseAccount(account); err != nil {
		return err
	}
	tokens, err := a.accounts.Tokens(r.Context(), account)
	if err != nil {
		return err
	}
	list := TokenList{make([]AccountToken, 0, len(tokens))}
	for i := range tokens {
		list.Tokens = append(list.Tokens, accountTokenOf(&tokens[i]))
	}
	return answer(w, list)
}

type createTokenInput struct {
	Account string `path:"account" doc:"The account's id." example:"acme"`
	Body    *createTokenBody
}

type createTokenBody struct {
	_    struct{}       `additionalProperties:"false"`
	Name member[string] `json:"name,omitempty" doc:"For people: as the name of a key, but need not be unique."`
}

// Resolve refuses an Idempotency-Key: no store keeps the text of a token to send it again.
func (in *createTokenInput) Resolve(ctx huma.Context) []error {
	if in.Body == nil {
		in.Body = &createTokenBody{} // no body is an empty object
	}
	return refuseIdempotencyKey(ctx, "when a reply was lost, list the tokens, revoke the one that nobody has, and make another")
}

// Resolve refuses what the schema lets pass.
func (b *createTokenBody) Resolve(huma.Context) []error { return b.Name.refuseNull("name") }

// CreatedToken is the reply to the creation of a token.
type CreatedToken struct {
	AccountToken
	Token string `json:"token" doc:"The token, shown this once."`
	Receipt
}

type createTokenOutput struct{ Body CreatedToken }

func (a *Admin) createToken(ctx context.Context, in *createTokenInput) (*createTokenOutput, error) {
	if err := parseAccount(in.Account); err != nil {
		return nil, err
	}
	name, err := nameOf(in.Body.Name)
	if err != nil {
		return nil, err
	}
	id, text := newAccountToken()
	token, receipt, err := a.accounts.CreateToken(ctx, keys.AccountToken{ID: id, Account: in.Account, Name: name, Sum: sha256.Sum256([]byte(text))})
	if err != nil {
		return nil, err
	}
	return &createTokenOutput{CreatedToken{accountTokenOf(&token), text, ReceiptOf(receipt)}}, nil
}

var tokenParam = pathParam("id", "The token's id.", "GEZDGNBVGY3TQ")

// DeletedToken is the reply to a revocation.
type DeletedToken struct {
	ID string `json:"id" example:"GEZDGNBVGY3TQ"`
	Receipt
}

func (a *Admin) deleteToken(w http.ResponseWriter, r *http.Request) error {
	account, id := pathValue(r, "account"), pathValue(r, "id")
	if err := parseAccount(account); err != nil {
		return err
	}
	if !accountTokenID.MatchString(id) { // it may be a whole token that somebody pasted
		return keys.ErrNoToken
	}
	receipt, err := a.accounts.DeleteToken(r.Context(), account, id)
	if err != nil {
		return err
	}
	return answer(w, DeletedToken{id, ReceiptOf(receipt)})
}
