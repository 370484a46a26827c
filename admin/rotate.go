package admin

import (
	"context"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"

	"keystile/keys"
)

// MaxOverlap is how long the replaced secret may go on at most.
const MaxOverlap = 30 * 24 * time.Hour

type rotateInput struct {
	Key     string `path:"key" doc:"The key: kst_ and 22 characters." example:"kst_4hJ2mXw9QbT6cVn0ZrLkPd"`
	IfMatch string `header:"If-Match" doc:"Rotate only if the key still has this ETag. A repetition is then refused."`
	tags    entityTags
	Body    *rotateBody
	overlap time.Duration
}

type rotateBody struct {
	_       struct{}       `additionalProperties:"false"`
	Overlap member[string] `json:"overlap,omitempty" example:"24h" doc:"How long the present secret goes on: from 0 to 720h, such as 90s, 15m or 24h. Absent or 0: it ends at once."`
}

// Resolve reads If-Match and the overlap. An Idempotency-Key is refused: no store remembers
// one for a change, and a client that trusts in it would make another secret by repeating.
func (in *rotateInput) Resolve(ctx huma.Context) []error {
	if refused := refuseIdempotencyKey(ctx, "send If-Match, and a repetition is refused"); refused != nil {
		return refused
	}
	if in.Body != nil && in.Body.Overlap.sent {
		var err error
		in.overlap, err = time.ParseDuration(in.Body.Overlap.value)
		if err != nil || in.overlap < 0 || in.overlap > MaxOverlap {
			return []error{&huma.ErrorDetail{Location: "body.overlap", Message: "needs a duration from 0 to 720h, such as 24h"}}
		}
	}
	return readEntityTags(ctx, "If-Match", &in.tags)
}

// refuseIdempotencyKey refuses the header where no store would remember it.
func refuseIdempotencyKey(ctx huma.Context, instead string) []error {
	r, _ := humachi.Unwrap(ctx)
	if len(r.Header.Values("Idempotency-Key")) > 0 {
		return []error{badRequest.problem("this call takes no Idempotency-Key: " + instead)}
	}
	return nil
}

// Rotated is the reply to a rotation.
type Rotated struct {
	Record
	Secret string `json:"secret" doc:"The new secret, shown this once."`
	Receipt
}

type rotateOutput struct {
	ETag string `header:"ETag"`
	Body Rotated
}

func (a *Admin) rotateKey(ctx context.Context, in *rotateInput) (*rotateOutput, error) {
	id, err := parseKey(in.Key)
	if err != nil {
		return nil, err
	}
	who := callOf(ctx).principal
	secret, now := keys.NewSecret(id), a.now()
	record, receipt, err := a.store.Update(ctx, id, func(r *keys.Record) error {
		if err := who.owns(r.Account); err != nil {
			return err
		}
		if err := in.tags.check(r.Version); err != nil {
			return err
		}
		return r.Rotate(a.peppers.Digest(secret), in.overlap, now)
	})
	if err != nil {
		return nil, err
	}
	return &rotateOutput{entityTag(record.Version), Rotated{a.recordOf(&record), secret.Reveal(), ReceiptOf(receipt)}}, nil
}
