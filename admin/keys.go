package admin

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

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
	Account     string `query:"account" doc:"Only the keys of this account; absent: all."`
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
	Limit int      `json:"limit" doc:"How many keys an account may have."`
}

// entityTag returns a tag of all that the list shows.
func (l *keyList) entityTag() string {
	text, _ := json.Marshal(l) // cannot fail: strings and finite numbers
	return fmt.Sprintf(`"%x"`, sha256.Sum256(text))
}

func (a *Admin) listKeys(ctx context.Context, in *listInput) (*listOutput, error) {
	if in.Account != "" && in.Account != keys.DefaultAccount {
		return nil, accountNotFound.problem("")
	}
	records, err := a.store.List(ctx, in.Account)
	if err != nil {
		return nil, err
	}
	list := keyList{Keys: make([]Record, 0, len(records)), Limit: a.limit}
	for i := range records {
		list.Keys = append(list.Keys, a.recordOf(&records[i]))
	}
	out := &listOutput{Status: http.StatusOK, ETag: list.entityTag(), Body: list}
	if in.tags.has(out.ETag) {
		out.Status = http.StatusNotModified
	}
	return out, nil
}

type createInput struct {
	IdempotencyKey string `header:"Idempotency-Key" minLength:"1" maxLength:"255" pattern:"^[ -~]+$" patternDescription:"printable ASCII" doc:"Makes the call repeatable: the same value within 24 hours replies 200 with the same record, without the secret and with replayed. Chosen at random."`
	Body           *createBody
}

type createBody struct {
	_       struct{}       `additionalProperties:"false"`
	Name    member[string] `json:"name,omitempty" doc:"1 to 64 characters, unique within the account; kept in Unicode NFC and without white space around it; no control or text-direction characters. Absent: the first free \"API key N\"."`
	Account member[string] `json:"account,omitempty" doc:"The owner; absent: default."`
	Rate    rateMember     `json:"rate,omitempty" doc:"The limit of this key alone; absent or null: the default of the configuration."`
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
	draft, err := in.draft()
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

// draft returns the key that is asked for, without its digest.
func (in *createInput) draft() (keys.Draft, error) {
	draft := keys.Draft{ID: keys.NewID(), Account: keys.DefaultAccount, Rate: in.Body.Rate.rate()}
	if in.Body.Account.sent && in.Body.Account.value != draft.Account {
		return draft, accountNotFound.problem("")
	}
	if in.Body.Name.sent {
		name, err := acceptName(in.Body.Name.value)
		if err != nil {
			return draft, err
		}
		draft.Name = name
	}
	if in.IdempotencyKey != "" {
		draft.Operation = operationOf(in.IdempotencyKey, draft)
	}
	return draft, nil
}

// operationOf makes the creation of draft repeatable under the administrator's key.
func operationOf(key string, draft keys.Draft) keys.Operation {
	request, _ := json.Marshal([]any{draft.Account, draft.Name, draft.Rate}) // cannot fail: strings and finite numbers
	return keys.Operation{Key: administrator + "\x00" + key, Request: sha256.Sum256(request)}
}

// acceptName normalizes a name. A name that is a secret would be shown to everybody.
func acceptName(name string) (string, error) {
	if strings.Contains(name, keys.SecretPrefix) || strings.Contains(name, tokenPrefix) {
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
	Rate   rateMember     `json:"rate,omitempty" doc:"The limit of this key alone; null: the default of the configuration."`

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
	name := ""
	if in.Body.Name.sent {
		if name, err = acceptName(in.Body.Name.value); err != nil {
			return nil, err
		}
	}
	record, receipt, err := a.store.Update(ctx, id, func(r *keys.Record) error {
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
	receipt, err := a.store.Delete(ctx, id, func(r keys.Record) error { return in.tags.check(r.Version) })
	if err != nil {
		return nil, err
	}
	return &deleteOutput{Deleted{id.String(), receipt.Version, ReceiptOf(receipt)}}, nil
}
