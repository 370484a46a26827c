package admin

import (
	"encoding/json"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"keystile/keys"
)

// timeLayout is RFC 3339 in UTC with milliseconds.
const timeLayout = "2006-01-02T15:04:05.000Z"

func timestamp(t time.Time) string { return t.UTC().Format(timeLayout) }

// Record is a key as the API shows it. It never holds the secret.
type Record struct {
	Key            string `json:"key" doc:"The public half of the credential." example:"kst_4hJ2mXw9QbT6cVn0ZrLkPd"`
	Account        string `json:"account" doc:"The owner." example:"default"`
	Name           string `json:"name" example:"Build server"`
	Active         bool   `json:"active" doc:"The key's own switch: requests with an inactive key are refused."`
	Suspended      bool   `json:"suspended,omitempty" doc:"The account is inactive, so requests are refused whatever active says; absent: it is active."`
	Created        string `json:"created" format:"date-time"`
	Updated        string `json:"updated" format:"date-time"`
	LastUsed       string `json:"last_used,omitempty" format:"date-time" doc:"When a request was last admitted; absent: never. It changes neither version nor ETag."`
	LastUsedSecret string `json:"last_used_secret,omitempty" enum:"present,previous" doc:"Which of its two secrets the last use proved. Only while previous_valid_until is there; absent: not known."`
	Version        uint64 `json:"version" doc:"Rises with every change. In quotes it is the ETag."`
	Rate           *Rate  `json:"rate,omitempty" doc:"The limit of this key alone; absent: the default of the configuration."`

	PreviousValidUntil string `json:"previous_valid_until,omitempty" format:"date-time" doc:"Until when the secret before the present one works; absent: it does not. That it has ended changes neither version nor ETag."`
}

// Rate is a limit on the requests of a key: a bucket that holds Burst requests and gains
// PerSecond each second.
type Rate struct {
	PerSecond float64 `json:"per_second" exclusiveMinimum:"0"`
	Burst     int     `json:"burst" minimum:"1" maximum:"2147483647"`
}

func (a *Admin) recordOf(r *keys.Record) Record {
	shown := Record{
		Key: r.ID.String(), Account: r.Account, Name: r.Name, Active: r.Active, Suspended: r.Suspended,
		Created: timestamp(r.Created), Updated: timestamp(r.Updated), Version: r.Version,
	}
	if !r.LastUsed.At.IsZero() {
		shown.LastUsed = timestamp(r.LastUsed.At)
	}
	if r.Rate != (keys.Rate{}) {
		shown.Rate = &Rate{r.Rate.PerSecond, r.Rate.Burst}
	}
	if end := r.OverlapEnd(a.now()); !end.IsZero() {
		shown.PreviousValidUntil, shown.LastUsedSecret = timestamp(end), r.LastSecret()
	}
	return shown
}

// Receipt says how far a change has reached: Effective is set, or what is missing.
type Receipt struct {
	Effective string    `json:"effective,omitempty" enum:"everywhere" doc:"No proxy starts another request under the old record."`
	Pending   []Pending `json:"pending,omitempty" nullable:"false" doc:"The proxies that have not confirmed the change."`
	Replicas  *Replicas `json:"replicas,omitempty" doc:"Present when fewer replicas of the store's server than are wanted have confirmed the change: should that server fail now, the change may be lost."`
}

// Replicas counts replicas of the store's server.
type Replicas struct {
	Want int `json:"want" doc:"How many are to have a change before it counts as effective everywhere."`
	Have int `json:"have" doc:"How many have confirmed this one."`
}

// Pending is a proxy that has not confirmed a change.
type Pending struct {
	Proxy       string `json:"proxy"`
	EffectiveBy string `json:"effective_by,omitempty" format:"date-time" doc:"When it refuses requests at the latest, by itself. Absent: nobody can say."`
}

// ReceiptOf returns how far a change has reached, as replies show it.
func ReceiptOf(r keys.Receipt) Receipt {
	if r.Everywhere() {
		return Receipt{Effective: "everywhere"}
	}
	var receipt Receipt
	if r.Replicas.Have < r.Replicas.Want {
		receipt.Replicas = &Replicas{r.Replicas.Want, r.Replicas.Have}
	}
	for _, p := range r.Pending {
		pending := Pending{Proxy: p.Proxy}
		if !p.EffectiveBy.IsZero() { // rounded up, because the time is a promise
			pending.EffectiveBy = timestamp(p.EffectiveBy.Add(time.Millisecond - time.Nanosecond))
		}
		receipt.Pending = append(receipt.Pending, pending)
	}
	return receipt
}

// member is a member of a JSON object that may be absent. encoding/json alone cannot tell
// absent from null.
type member[T any] struct {
	value T
	sent  bool
	null  bool
}

// UnmarshalJSON is called only for a member that was sent.
func (m *member[T]) UnmarshalJSON(text []byte) error {
	m.sent, m.null = true, string(text) == "null"
	return json.Unmarshal(text, &m.value)
}

// Schema returns the schema of the value.
func (member[T]) Schema(r huma.Registry) *huma.Schema {
	return r.Schema(reflect.TypeFor[T](), true, "")
}

// refuseNull returns a fault when the member was null.
func (m *member[T]) refuseNull(name string) []error {
	if m.null {
		return []error{&huma.ErrorDetail{Location: "body." + name, Message: "null is not allowed: leave it out"}}
	}
	return nil
}

// rateMember is the member "rate", for which null means the default.
type rateMember struct{ member[Rate] }

// Schema returns the schema of a rate or null.
func (rateMember) Schema(r huma.Registry) *huma.Schema {
	schema := *r.Schema(reflect.TypeFor[Rate](), false, "")
	schema.Nullable = true
	schema.AdditionalProperties = false
	return &schema
}

// refuse returns a fault for a rate that is none: where null may stand for an object, huma takes
// null for its members, too.
func (m *rateMember) refuse() []error {
	if m.sent && !m.null && (m.rate() == keys.Rate{} || !m.rate().Valid()) {
		return []error{&huma.ErrorDetail{Location: "body.rate", Message: "needs a per_second above 0 and a burst of at least 1"}}
	}
	return nil
}

// rate returns the rate to keep; null is the zero Rate.
func (m *rateMember) rate() keys.Rate {
	return keys.Rate{PerSecond: m.value.PerSecond, Burst: m.value.Burst}
}

// nullMember is a member of which only null has a meaning.
type nullMember struct{ member[any] }

// Schema returns the schema of null.
func (nullMember) Schema(huma.Registry) *huma.Schema { return &huma.Schema{Type: "null"} }

// refuseValue returns a fault when the member was anything else.
func (m *nullMember) refuseValue(name string) []error {
	if m.sent && !m.null {
		return []error{&huma.ErrorDetail{Location: "body." + name, Message: "only null is allowed"}}
	}
	return nil
}
