package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"keystile/keys"
)

var auditOperation = description{
	id: "read-audit", summary: "Read the audit trail",
	text: "Who changed what, when and from where, oldest first: one entry for each change, kept in its transaction. To read on, ask for what comes after the last number; the newest is head's. Entries up to the anchor were trimmed. The hash of an entry is SHA-256 over the hash of the one before it, in hexadecimal (64 zeros before the first), a line feed, and the text of the entry exactly as it stands here: whoever keeps a hash elsewhere can prove what came before it.",
}

// AuditPage is a part of the audit trail, of one moment.
type AuditPage struct {
	Anchor  AuditLink     `json:"anchor" doc:"The last entry that was trimmed; number 0: none was."`
	Head    AuditLink     `json:"head" doc:"The newest entry; number 0: there is none yet."`
	Entries []SealedEntry `json:"entries" nullable:"false"`
}

// AuditLink is where a trail has got to.
type AuditLink struct {
	Number uint64 `json:"number"`
	Hash   string `json:"hash" pattern:"^[0-9a-f]{64}$"`
}

// SealedEntry is an entry with its hash.
type SealedEntry struct {
	Hash  string    `json:"hash" pattern:"^[0-9a-f]{64}$"`
	Entry keptEntry `json:"entry" doc:"The text as it is kept. A string instead of an object: it was changed, and is no JSON any more."`
}

// keptEntry is the text of an AuditEntry, or what is left of it.
type keptEntry struct{}

// Schema returns the schema of an entry or a string.
func (keptEntry) Schema(r huma.Registry) *huma.Schema {
	return &huma.Schema{AnyOf: []*huma.Schema{r.Schema(reflect.TypeFor[AuditEntry](), true, ""), {Type: huma.TypeString}}}
}

// AuditEntry describes the JSON text of a keys.Entry.
type AuditEntry struct {
	Number    uint64      `json:"number" doc:"Counts the entries from 1."`
	Time      string      `json:"time" format:"date-time"`
	Action    string      `json:"action" doc:"Such as key.create, key.update, key.rotate, key.delete, account.create, account.update, account.delete, token.create, token.delete." example:"key.update"`
	Principal string      `json:"principal" doc:"administrator, account: and the account's id, or keystile." example:"account:acme"`
	Token     string      `json:"token,omitempty" doc:"Id of the account's token."`
	Peer      string      `json:"peer,omitempty" doc:"Where the request came from." example:"127.0.0.1:50412"`
	RequestID string      `json:"request_id,omitempty"`
	Account   string      `json:"account" doc:"The account that was changed, or the owner of what was." example:"acme"`
	Subject   string      `json:"subject,omitempty" doc:"The key or the token's id; absent: the account."`
	Version   uint64      `json:"version" doc:"The version of the store after the change."`
	Before    *AuditState `json:"before,omitempty"`
	After     *AuditState `json:"after,omitempty"`
	Keys      []string    `json:"keys,omitempty" nullable:"false" doc:"The keys that were deleted with their account."`
}

// AuditState describes the JSON text of a keys.State.
type AuditState struct {
	Name   string `json:"name,omitempty"`
	Active bool   `json:"active"`
	Rate   *Rate  `json:"rate,omitempty"`
	Limit  int    `json:"limit,omitempty" doc:"Of an account; absent: that of the configuration."`

	PreviousValidUntil string `json:"previous_valid_until,omitempty" format:"date-time"`
}

const (
	auditLimit    = 100 // entries of a reply where the query does not say it
	maxAuditLimit = 1000
)

var auditParams = []*huma.Param{
	queryNumber("after", "Only entries with a higher number; absent: from the first.", 0, 0),
	queryNumber("limit", "How many at most; absent: 100.", 1, maxAuditLimit),
}

// queryNumber describes a number in a query from least to most; 0: without an upper limit.
func queryNumber(name, doc string, least, most float64) *huma.Param {
	schema := &huma.Schema{Type: huma.TypeInteger, Minimum: &least}
	if most > 0 {
		schema.Maximum = &most
	}
	return &huma.Param{Name: name, In: "query", Description: doc, Schema: schema}
}

// readAudit does not make its reply of the types above: the text of an entry passes as it
// is, or its hash would not fit.
func (a *Admin) readAudit(w http.ResponseWriter, r *http.Request) error {
	after, limit, query := uint64(0), uint64(auditLimit), r.URL.Query()
	var err error
	if query.Has("after") {
		if after, err = strconv.ParseUint(query.Get("after"), 10, 64); err != nil {
			return badRequest.problem("query.after: needs the number of an entry, from 0")
		}
	}
	if query.Has("limit") {
		if limit, err = strconv.ParseUint(query.Get("limit"), 10, 64); err != nil || limit < 1 || limit > maxAuditLimit {
			return badRequest.problem(fmt.Sprintf("query.limit: needs a number from 1 to %d", maxAuditLimit))
		}
	}
	page, err := a.trail.Audit(r.Context(), after, int(limit))
	if err != nil {
		return err
	}
	answerText(w, "application/json", auditText(page))
	return nil
}

// auditText writes a page. encoding/json would rewrite the texts of the entries.
func auditText(page keys.TrailPage) []byte {
	var text bytes.Buffer
	fmt.Fprintf(&text, `{"anchor":%s,"head":%s,"entries":[`, linkText(page.Anchor), linkText(page.Head))
	for i, sealed := range page.Entries {
		if i > 0 {
			text.WriteByte(',')
		}
		entry := sealed.Text
		if !json.Valid([]byte(entry)) { // somebody changed it: the rest must stay readable
			quoted, _ := json.Marshal(entry) // cannot fail: a string
			entry = string(quoted)
		}
		fmt.Fprintf(&text, `{"hash":"%x","entry":%s}`, sealed.Hash[:], entry)
	}
	text.WriteString("]}\n")
	return text.Bytes()
}

func linkText(l keys.Link) string {
	return fmt.Sprintf(`{"number":%d,"hash":"%x"}`, l.Number, l.Hash[:])
}
