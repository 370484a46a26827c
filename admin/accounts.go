package admin

import (
	"context"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"keystile/keys"
)

var (
	listAccountsOperation = description{
		id: "list-accounts", summary: "List accounts", text: "All accounts by id. The account default is always there.",
	}
	createAccountOperation = description{
		id: "create-account", summary: "Create an account", text: "Makes an active account without keys and tokens.",
		errors: []kind{accountExists, bodyTooLarge, invalidBody, invalidName, invalidAccount},
	}
	getAccountOperation = description{
		id: "get-account", summary: "Read an account", text: "One account.",
		errors: []kind{accountNotFound},
	}
	patchAccountOperation = description{
		id: "update-account", summary: "Change an account",
		text:   "Renames an account, switches it on or off, sets its limit. What is absent stays; {} changes nothing. While it is inactive all its keys are refused, whatever their own active says. A limit below the number of its keys only keeps new ones out. The reply tells how far the change has reached.",
		errors: []kind{accountNotFound, versionMismatch, bodyTooLarge, invalidBody, invalidName},
	}
	deleteAccountOperation = description{
		id: "delete-account", summary: "Delete an account",
		text:   "Deletes an account and its tokens for ever; one that has keys only with these, by with_keys=true. The reply tells how far the deletion has reached.",
		errors: []kind{accountNotFound, accountHasKeys, defaultAccount, versionMismatch},
	}
)

// Account is an account as the API shows it.
type Account struct {
	Account      string `json:"account" example:"acme"`
	Name         string `json:"name,omitempty" doc:"For people; absent: none." example:"Acme Ltd"`
	Active       bool   `json:"active" doc:"The keys of an inactive account are refused, whatever their own active says."`
	Limit        int    `json:"limit" doc:"How many keys it may have."`
	DefaultLimit bool   `json:"default_limit,omitempty" doc:"The limit is that of the configuration: the account has none of its own."`
	Created      string `json:"created,omitempty" format:"date-time" doc:"Absent of a default account that was always there."`
	Updated      string `json:"updated,omitempty" format:"date-time"`
	Version      uint64 `json:"version" doc:"Rises with every change of the account. In quotes it is the ETag."`
}

func (a *Admin) accountOf(k *keys.Account) Account {
	shown := Account{
		Account: k.ID, Name: k.Name, Active: k.Active,
		Limit: a.limitOf(k), DefaultLimit: k.Limit == 0, Version: k.Version,
	}
	if !k.Created.IsZero() {
		shown.Created = timestamp(k.Created)
	}
	if !k.Updated.IsZero() {
		shown.Updated = timestamp(k.Updated)
	}
	return shown
}

// limitOf returns how many keys an account may have.
func (a *Admin) limitOf(k *keys.Account) int {
	if k.Limit == 0 {
		return a.limit
	}
	return k.Limit
}

var accountParam = pathParam("account", "The account's id.", "acme")

// parseAccount reads the account of a path. What no account can be called is not shown.
func parseAccount(id string) error {
	if !keys.ValidAccount(id) {
		return keys.ErrNoAccount
	}
	return nil
}

// limitMember is the member "limit", for which null means the default.
type limitMember struct{ member[int] }

// Schema returns the schema of a limit or null.
func (limitMember) Schema(huma.Registry) *huma.Schema {
	least, most := 1.0, float64(keys.MaxLimit)
	return &huma.Schema{Type: huma.TypeInteger, Minimum: &least, Maximum: &most, Nullable: true}
}

// AccountList is the reply that lists accounts.
type AccountList struct {
	Accounts []Account `json:"accounts" nullable:"false" doc:"By id."`
}

func (a *Admin) listAccounts(w http.ResponseWriter, r *http.Request) error {
	accounts, err := a.accounts.Accounts(r.Context())
	if err != nil {
		return err
	}
	list := AccountList{make([]Account, 0, len(accounts))}
	for i := range accounts {
		list.Accounts = append(list.Accounts, a.accountOf(&accounts[i]))
	}
	return answer(w, list)
}

type createAccountInput struct{ Body createAccountBody }

type createAccountBody struct {
	_       struct{}       `additionalProperties:"false"`
	Account string         `json:"account" doc:"The id: 1 to 64 ASCII letters, digits and ._@+-, of which the first is a letter or digit. It cannot be changed." example:"acme"`
	Name    member[string] `json:"name,omitempty" doc:"For people: as the name of a key, but need not be unique."`
	Limit   limitMember    `json:"limit,omitempty" doc:"How many keys it may have; absent or null: as many as the configuration says."`
}

// Resolve refuses an Idempotency-Key, and what the schema lets pass.
func (in *createAccountInput) Resolve(ctx huma.Context) []error {
	refused := refuseIdempotencyKey(ctx, "a repetition is answered with account_exists, and makes nothing")
	return slices.Concat(refused, in.Body.Name.refuseNull("name"))
}

// ChangedAccount is the reply to a creation or a change.
type ChangedAccount struct {
	Account
	Receipt
}

type createAccountOutput struct {
	Location string `header:"Location"`
	ETag     string `header:"ETag"`
	Body     ChangedAccount
}

func (a *Admin) createAccount(ctx context.Context, in *createAccountInput) (*createAccountOutput, error) {
	account := keys.Account{ID: in.Body.Account, Limit: in.Body.Limit.value}
	if !keys.ValidAccount(account.ID) {
		return nil, invalidAccount.problem("")
	}
	if mayHoldSecret(account.ID) {
		return nil, invalidAccount.problem("the account's id looks like a secret or a token")
	}
	var err error
	if account.Name, err = nameOf(in.Body.Name); err != nil {
		return nil, err
	}
	account, receipt, err := a.accounts.CreateAccount(ctx, account)
	if err != nil {
		return nil, err
	}
	return &createAccountOutput{
		apiBase + "/accounts/" + account.ID, entityTag(account.Version),
		ChangedAccount{a.accountOf(&account), ReceiptOf(receipt)},
	}, nil
}

type getAccountInput struct {
	Account     string `path:"account" doc:"The account's id." example:"acme"`
	IfNoneMatch string `header:"If-None-Match" doc:"Reply 304 without a body if the account still has this ETag."`
	tags        entityTags
}

// Resolve reads If-None-Match.
func (in *getAccountInput) Resolve(ctx huma.Context) []error {
	return readEntityTags(ctx, "If-None-Match", &in.tags)
}

type getAccountOutput struct {
	Status int
	ETag   string `header:"ETag"`
	Body   Account
}

func (a *Admin) getAccount(ctx context.Context, in *getAccountInput) (*getAccountOutput, error) {
	if err := parseAccount(in.Account); err != nil {
		return nil, err
	}
	account, err := a.accounts.Account(ctx, in.Account)
	if err != nil {
		return nil, err
	}
	out := &getAccountOutput{http.StatusOK, entityTag(account.Version), a.accountOf(&account)}
	if in.tags.has(out.ETag) {
		out.Status = http.StatusNotModified
	}
	return out, nil
}

type patchAccountInput struct {
	Account string `path:"account" doc:"The account's id." example:"acme"`
	IfMatch string `header:"If-Match" doc:"Change the account only if it still has this ETag."`
	tags    entityTags
	Body    patchAccountBody
}

type patchAccountBody struct {
	_      struct{}       `additionalProperties:"false"`
	Name   member[string] `json:"name,omitempty" doc:"The new name."`
	Active member[bool]   `json:"active,omitempty" doc:"false: requests with its keys are refused from the reply on; true: admitted again."`
	Limit  limitMember    `json:"limit,omitempty" doc:"How many keys it may have; null: as many as the configuration says."`
}

// Resolve reads If-Match, and refuses what the schema lets pass.
func (in *patchAccountInput) Resolve(ctx huma.Context) []error {
	return slices.Concat(readEntityTags(ctx, "If-Match", &in.tags), in.Body.Name.refuseNull("name"), in.Body.Active.refuseNull("active"))
}

// apply makes the changes that were sent.
func (b *patchAccountBody) apply(k *keys.Account, name string) {
	if b.Name.sent {
		k.Name = name
	}
	if b.Active.sent {
		k.Active = b.Active.value
	}
	if b.Limit.sent {
		k.Limit = b.Limit.value
	}
}

type patchAccountOutput struct {
	ETag string `header:"ETag"`
	Body ChangedAccount
}

func (a *Admin) patchAccount(ctx context.Context, in *patchAccountInput) (*patchAccountOutput, error) {
	if err := parseAccount(in.Account); err != nil {
		return nil, err
	}
	name, err := nameOf(in.Body.Name)
	if err != nil {
		return nil, err
	}
	account, receipt, err := a.accounts.UpdateAccount(ctx, in.Account, func(k *keys.Account) error {
		if err := in.tags.check(k.Version); err != nil {
			return err
		}
		in.Body.apply(k, name)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &patchAccountOutput{entityTag(account.Version), ChangedAccount{a.accountOf(&account), ReceiptOf(receipt)}}, nil
}

type deleteAccountInput struct {
	Account  string `path:"account" doc:"The account's id." example:"acme"`
	WithKeys bool   `query:"with_keys" doc:"true: delete its keys, too."`
	IfMatch  string `header:"If-Match" doc:"Delete the account only if it still has this ETag."`
	tags     entityTags
}

// Resolve reads If-Match.
func (in *deleteAccountInput) Resolve(ctx huma.Context) []error {
	return readEntityTags(ctx, "If-Match", &in.tags)
}

// DeletedAccount is the reply to a deletion.
type DeletedAccount struct {
	Account string `json:"account" example:"acme"`
	Version uint64 `json:"version" doc:"The version of the store after the deletion."`
	Receipt
}

type deleteAccountOutput struct{ Body DeletedAccount }

func (a *Admin) deleteAccount(ctx context.Context, in *deleteAccountInput) (*deleteAccountOutput, error) {
	if err := parseAccount(in.Account); err != nil {
		return nil, err
	}
	check := func(k keys.Account) error { return in.tags.check(k.Version) }
	receipt, err := a.accounts.DeleteAccount(ctx, in.Account, in.WithKeys, check)
	if err != nil {
		return nil, err
	}
	return &deleteAccountOutput{DeletedAccount{in.Account, receipt.Version, ReceiptOf(receipt)}}, nil
}
