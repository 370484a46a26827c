package admin

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"

	"keystile/keys"
)

// The inputs repeat the members that they share: huma passes over embedded structs whose
// type is not exported.

// parseKey reads the key of a path. What is not well formed names no key; it may be a secret
// that somebody pasted, and is neither shown nor logged.
func parseKey(text string) (keys.ID, error) {
	id, err := keys.ParseKey(text)
	if err != nil {
		return id, keyNotFound.problem(err.Error())
	}
	return id, nil
}

// readEntityTags reads all fields of a header, of which huma knows the first.
func readEntityTags(ctx huma.Context, name string, tags *entityTags) []error {
	r, _ := humachi.Unwrap(ctx)
	var err error
	if *tags, err = parseEntityTags(name, r.Header.Values(name)); err != nil {
		return []error{err}
	}
	return nil
}

type listInput struct {
	Account     string `query:"account" doc:"Only the keys of this account; absent: all, or those of the account that asks."`
	IfNoneMatch string `header:"If-None-Match" doc:"Reply 304 without a body if the list still has this ETag."`
	tags        entityTags
}

// Resolve reads If-None-Match.
func (in *listInput) Resolve(ctx huma.Context) []error {
	return readEntityTags(ctx, "If-None-Match", &in.tags)
}

type listOutput struct {
	Status int
	ETag   string `header:"ETag" doc:"Changes with everything in the list, times of last use included."`
	Body   keyList
}

type keyList struct {
	Keys  []Record `json:"keys" nullable:"false" doc:"Newest last."`
	Limit int      `json:"limit" doc:"How many keys the account may have; where all are listed, one without a limit of its own."`
}

// entityTag returns a tag of all that the list shows.
func (l *keyList) entityTag() string {
	text, _ := json.Marshal(l) // cannot fail: strings and finite numbers
	return fmt.Sprintf(`"%x"`, sha256.Sum256(text))
}

func (a *Admin) listKeys(ctx context.Context, in *listInput) (*listOutput, error) {
	account, err := a.listed(ctx, in.Account)
	if err != nil {
		return nil, err
	}
	records, err := a.store.List(ctx, account.ID)
	if err != nil {
		return nil, err
	}
	list := keyList{Keys: make([]Record, 0, len(records)), Limit: a.limitOf(&account)}
	for i := range records {
		list.Keys = append(list.Keys, a.recordOf(&records[i]))
	}
	out := &listOutput{Status: http.StatusOK, ETag: list.entityTag(), Body: list}
	if in.tags.has(out.ETag) {
		out.Status = http.StatusNotModified
	}
	return out, nil
}

// listed returns the account whose keys are to be listed; the zero Account: all.
func (a *Admin) listed(ctx context.Context, asked string) (keys.Account, error) {
	switch who := callOf(ctx).principal; {
	case !who.administrator && (asked == "" || asked == who.account.ID):
		return who.account, nil
	case !who.administrator || asked != "" && !keys.ValidAccount(asked):
		return keys.Account{}, keys.ErrNoAccount
	case asked == "":
		return keys.Account{}, nil
	}
	return a.accounts.Account(ctx, asked)
}

type createInput struct {
	IdempotencyKey string `header:"Idempotency-Key" minLength:"1" maxLength:"255" pattern:"^[ -~]+$" patternDescription:"printable ASCII" doc:"Makes the call repeatable: the same value within 24 hours replies 200 with the same record, without the secret and with replayed. Chosen at random."`
	Body           *createBody
}

type createBody struct {
	_       struct{}       `additionalProperties:"false"`
	Name    member[string] `json:"name,omitempty" doc:"1 to 64 characters, unique within the account; kept in Unicode NFC and without white space around it; no control or text-direction characters. Absent: the first free \"API key N\"."`
	Account member[string] `json:"account,omitempty" doc:"The owner; absent: default, or the account that asks, which can name no other."`
	Rate    rateMember     `json:"rate,omitempty" doc:"The limit of this key alone, which administrators set; absent or null: the default of the configuration."`
}

// Resolve refuses an Idempotency-Key that is empty or sent twice, which huma cannot see.
func (in *createInput) Resolve(ctx huma.Context) []error {
	r, _ := humachi.Unwrap(ctx)
	sent := r.Header.Values("Idempotency-Key")
	if len(sent) > 1 || len(sent) == 1 && sent[0] == "" {
		return []error{badRequest.problem("Idempotency-Key must be sent once, with 1 to 255 printable ASCII characters")}
	}
	if in.Body == nil {
		in.Body = &createBody{} // no body is an empty object
	}
	return nil
}

// Resolve refuses what the schema lets pass.
func (b *createBody) Resolve(huma.Context) []error {
	return slices.Concat(b.Name.refuseNull("name"), b.Account.refuseNull("account"), b.Rate.refuse())
}

// Created is the reply to a creation.
type Created struct {
	Record
	Secret   string `json:"secret,omitempty" doc:"The secret, shown this once. Absent when replayed."`
	Replayed bool   `json:"replayed,omitempty" doc:"An earlier call with this Idempotency-Key made the key."`
	Receipt
}

type createOutput struct {
	Status   int
	Location string `header:"Location"`
	ETag     string `header:"ETag"`
	Body     Created
}

func (a *Admin) createKey(ctx context.Context, in *createInput) (*createOutput, error) {
	draft, err := in.draft(callOf(ctx).principal)
	if err != nil {
		return nil, err
	}
	secret := keys.NewSecret(draft.ID)
	draft.Digest = a.peppers.Digest(secret)
	made, err := a.store.Create(ctx, draft)
	if errors.Is(err, keys.ErrNotFound) {
		return nil, keyNotFound.problem("the key that this Idempotency-Key made has been deleted")
	} else if err != nil {
		return nil, err
	}
	callOf(ctx).key = made.Record.ID.String()
	out := &createOutput{
		Status:   http.StatusCreated,
		Location: apiBase + "/keys/" + made.Record.ID.String(),
		ETag:     entityTag(made.Record.Version),
		Body:     Created{Record: a.recordOf(&made.Record), Receipt: ReceiptOf(made.Receipt), Replayed: made.Replayed},
	}
	if made.Replayed {
		out.Status = http.StatusOK
	} else {
		out.Body.Secret = secret.Reveal()
	}
	return out, nil
}

// draft returns the key that who asks for, without its digest.
func (in *createInput) draft(who principal) (keys.Draft, error) {
	draft := keys.Draft{ID: keys.NewID(), Account: keys.DefaultAccount, Rate: in.Body.Rate.rate()}
	if !who.administrator {
		draft.Account = who.account.ID
	}
	if asked := in.Body.Account; asked.sent && asked.value != draft.Account {
		if !who.administrator || !keys.ValidAccount(asked.value) {
			return draft, keys.ErrNoAccount
		}
		draft.Account = asked.value
	}
	err := who.setsRate(&in.Body.Rate)
	if err != nil {
		return draft, err
	}
	if draft.Name, err = nameOf(in.Body.Name); err != nil {
		return draft, err
	}
	if in.IdempotencyKey != "" {
		draft.Operation = operationOf(who, in.IdempotencyKey, draft)
	}
	return draft, nil
}

// operationOf makes the creation of draft repeatable under the principal's key.
func operationOf(who principal, key string, draft keys.Draft) keys.Operation {
	request, _ := json.Marshal([]any{draft.Account, draft.Name, draft.Rate}) // cannot fail: strings and finite numbers
	return keys.Operation{Key: who.scope() + "\x00" + key, Request: sha256.Sum256(request)}
}

// nameOf returns the name in a member, or none when it was not sent.
func nameOf(m member[string]) (string, error) {
	if !m.sent {
		return "", nil
	}
	return acceptName(m.value)
}

// acceptName normalizes a name. A name that is a secret would be shown to everybody.
func acceptName(name string) (string, error) {
	if mayHoldSecret(name) {
		return "", invalidName.problem("the name looks like a secret or a token")
	}
	return keys.NormalizeName(name)
}

type getInput struct {
	Key         string `path:"key" doc:"The key: kst_ and 22 characters." example:"kst_4hJ2mXw9QbT6cVn0ZrLkPd"`
	IfNoneMatch string `header:"If-None-Match" doc:"Reply 304 without a body if the key still has this ETag."`
	tags        entityTags
}

// Resolve reads If-None-Match.
func (in *getInput) Resolve(ctx huma.Context) []error {
	return readEntityTags(ctx, "If-None-Match", &in.tags)
}

type getOutput struct {
	Status int
	ETag   string `header:"ETag"`
	Body   Record
}

func (a *Admin) getKey(ctx context.Context, in *getInput) (*getOutput, error) {
	id, err := parseKey(in.Key)
	if err != nil {
		return nil, err
	}
	record, err := a.store.Get(ctx, id)
	if err == nil {
		err = callOf(ctx).principal.owns(record.Account)
	}
	if err != nil {
		return nil, err
	}
	out := &getOutput{Status: http.StatusOK, ETag: entityTag(record.Version), Body: a.recordOf(&record)}
	if in.tags.has(out.ETag) {
		out.Status = http.StatusNotModified
	}
	return out, nil
}

type patchInput struct {
	Key     string `path:"key" doc:"The key: kst_ and 22 characters." example:"kst_4hJ2mXw9QbT6cVn0ZrLkPd"`
	IfMatch string `header:"If-Match" doc:"Change the key only if it still has this ETag."`
	tags    entityTags
	Body    patchBody
}

// Resolve reads If-Match.
func (in *patchInput) Resolve(ctx huma.Context) []error {
	return readEntityTags(ctx, "If-Match", &in.tags)
}

type patchBody struct {
	_      struct{}       `additionalProperties:"false"`
	Name   member[string] `json:"name,omitempty" doc:"The new name, as for a new key."`
	Active member[bool]   `json:"active,omitempty" doc:"false: requests are refused from the reply on; true: admitted again."`
	Rate   rateMember     `json:"rate,omitempty" doc:"The limit of this key alone, which administrators set; null: the default of the configuration."`

	PreviousSecret nullMember `json:"previous_secret,omitempty" doc:"null: the secret before the present one ends now, and not only at previous_valid_until."`
}

// Resolve refuses what the schema lets pass.
func (b *patchBody) Resolve(huma.Context) []error {
	return slices.Concat(b.Name.refuseNull("name"), b.Active.refuseNull("active"), b.Rate.refuse(), b.PreviousSecret.refuseValue("previous_secret"))
}

// apply makes the changes that were sent.
func (b *patchBody) apply(r *keys.Record, name string) {
	if b.Name.sent {
		r.Name = name
	}
	if b.Active.sent {
		r.Active = b.Active.value
	}
	if b.Rate.sent {
		r.Rate = b.Rate.rate()
	}
	if b.PreviousSecret.sent {
		r.EndOverlap()
	}
}

// Updated is the reply to a change.
type Updated struct {
	Record
	Receipt
}

type patchOutput struct {
	ETag string `header:"ETag"`
	Body Updated
}

func (a *Admin) patchKey(ctx context.Context, in *patchInput) (*patchOutput, error) {
	id, err := parseKey(in.Key)
	if err != nil {
		return nil, err
	}
	name, err := nameOf(in.Body.Name)
	if err != nil {
		return nil, err
	}
	who := callOf(ctx).principal
	record, receipt, err := a.store.Update(ctx, id, func(r *keys.Record) error {
		if err := who.owns(r.Account); err != nil {
			return err
		}
		if err := who.setsRate(&in.Body.Rate); err != nil {
			return err
		}
		if err := in.tags.check(r.Version); err != nil {
			return err
		}
		in.Body.apply(r, name)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &patchOutput{entityTag(record.Version), Updated{a.recordOf(&record), ReceiptOf(receipt)}}, nil
}

type deleteInput struct {
	Key     string `path:"key" doc:"The key: kst_ and 22 characters." example:"kst_4hJ2mXw9QbT6cVn0ZrLkPd"`
	IfMatch string `header:"If-Match" doc:"Change the key only if it still has this ETag."`
	tags    entityTags
}

// Resolve reads If-Match.
func (in *deleteInput) Resolve(ctx huma.Context) []error {
	return readEntityTags(ctx, "If-Match", &in.tags)
}

// Deleted is the reply to a deletion.
type Deleted struct {
	Key     string `json:"key" example:"kst_4hJ2mXw9QbT6cVn0ZrLkPd"`
	Version uint64 `json:"version" doc:"The version of the store after the deletion."`
	Receipt
}

type deleteOutput struct{ Body Deleted }

func (a *Admin) deleteKey(ctx context.Context, in *deleteInput) (*deleteOutput, error) {
	id, err := parseKey(in.Key)
	if err != nil {
		return nil, err
	}
	who := callOf(ctx).principal
	receipt, err := a.store.Delete(ctx, id, func(r keys.Record) error {
		if err := who.owns(r.Account); err != nil {
			return err
		}
		return in.tags.check(r.Version)
	})
	if err != nil {
		return nil, err
	}
	return &deleteOutput{Deleted{id.String(), receipt.Version, ReceiptOf(receipt)}}, nil
}
