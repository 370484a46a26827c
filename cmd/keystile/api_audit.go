package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"keystile/keys"
)

const (
	auditPath = "/api/v1/audit"

	maxAuditPage = 1000 // entries
)

// auditPage is a part of the audit trail, of one moment, oldest first.
type auditPage struct {
	Anchor  keys.Link    `json:"anchor"`
	Head    keys.Link    `json:"head"`
	Entries []auditEntry `json:"entries"`
}

// auditEntry is an entry and the hash of its link; its text is as the trail keeps it.
type auditEntry struct {
	Hash  keys.Sum        `json:"hash"`
	Entry json.RawMessage `json:"entry"`
}

func (e auditEntry) sealed() keys.SealedEntry {
	return keys.SealedEntry{Text: string(e.Entry), Hash: e.Hash}
}

// audit returns at most limit entries, up to maxAuditPage, with numbers above after.
func (c *apiClient) audit(ctx context.Context, after uint64, limit int) (auditPage, error) {
	var page auditPage
	path := fmt.Sprintf("%s?after=%d&limit=%d", auditPath, after, limit)
	err := c.call(ctx, apiCall{method: http.MethodGet, path: path, limit: maxList}, &page, func() bool { return page.Entries != nil })
	return page, err
}
