package admin

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"

	"keystile/keys"
)

// everyKind is the table of refusals as api clients know it.
var everyKind = []struct {
	kind   kind
	code   string
	status int
}{
	{badRequest, "bad_request", 400},
	{unauthorized, "unauthorized", 401},
	{forbidden, "forbidden", 403},
	{accountInactive, "account_inactive", 403},
	{rateLimited, "rate_limited", 429},
	{keyNotFound, "key_not_found", 404},
	{accountNotFound, "account_not_found", 404},
	{tokenNotFound, "token_not_found", 404},
	{pathNotFound, "not_found", 404},
	{wrongMethod, "method_not_allowed", 405},
	{accountExists, "account_exists", 409},
	{accountHasKeys, "account_has_keys", 409},
	{defaultAccount, "default_account", 409},
	{keyLimitReached, "key_limit_reached", 409},
	{nameTaken, "name_taken", 409},
	{overlapRunning, "overlap_running", 409},
	{versionMismatch, "version_mismatch", 412},
	{bodyTooLarge, "body_too_large", 413},
	{wrongMediaType, "unsupported_media_type", 415},
	{unknownHost, "unknown_host", 421},
	{invalidBody, "invalid_body", 422},
	{invalidName, "invalid_name", 422},
	{invalidAccount, "invalid_account", 422},
	{operationReused, "idempotency_key_reused", 422},
	{internalError, "internal_error", 500},
	{storeDown, "store_unreachable", 503},
}

func TestCodesAndStatusesStayAsPublished(t *testing.T) {
	for _, row := range everyKind {
		p := row.kind.problem("")
		if p.Code != row.code || p.Status != row.status || p.Title == "" || p.Detail == "" {
			t.Errorf("%s %d is now %+v", row.code, row.status, p)
		}
	}
}

func TestStoreErrorsHaveTheirCodes(t *testing.T) {
	for _, row := range []struct {
		err  error
		code string
	}{
		{keys.ErrNotFound, "key_not_found"},
		{keys.ErrNameTaken, "name_taken"},
		{keys.ErrNoAccount, "account_not_found"},
		{keys.ErrNoToken, "token_not_found"},
		{keys.ErrAccountExists, "account_exists"},
		{keys.ErrAccountHasKeys, "account_has_keys"},
		{keys.ErrDefaultAccount, "default_account"},
		{keys.ErrOperationReused, "idempotency_key_reused"},
		{keys.ErrOverlap, "overlap_running"},
		{keys.ErrUnavailable, "store_unreachable"},
		{&keys.LimitError{Limit: 3}, "key_limit_reached"},
		{errVersionMismatch, "version_mismatch"},
		{errors.New("anything else"), "internal_error"},
	} {
		if got := problemOf(fmt.Errorf("wrapped: %w", row.err)); got.Code != row.code || strings.Contains(got.Detail, "wrapped") {
			t.Errorf("%v became %+v", row.err, got)
		}
	}
}

func TestRefusalsOfHumaKeepTheClientsValuesBack(t *testing.T) {
	for _, row := range []struct {
		status int
		errs   []error
		code   string
	}{
		{422, []error{&huma.ErrorDetail{Location: "body.name", Message: "expected string", Value: "private"}}, "invalid_body"},
		{422, []error{&huma.ErrorDetail{Location: "query.x", Message: "unknown", Value: "private"}}, "bad_request"},
		{400, []error{&huma.ErrorDetail{Location: "body", Message: "broken", Value: "private"}}, "bad_request"},
		{413, nil, "body_too_large"},
		{415, []error{errors.New("private")}, "unsupported_media_type"},
		{406, []error{errors.New("private")}, "internal_error"},
		{500, []error{errors.New("private")}, "internal_error"},
	} {
		p, ok := problemFromHuma(row.status, "validation failed", row.errs...).(*problem)
		if !ok || p.Code != row.code || strings.Contains(fmt.Sprintf("%+v", p), "private") {
			t.Errorf("%d %v became %+v", row.status, row.errs, p)
		}
	}
}

func TestShownTextIsShortAndHoldsNoSecret(t *testing.T) {
	for text, want := range map[string]string{
		"name":                             "name",
		"body.kss_x":                       redacted,
		"my kat_x":                         redacted,
		"my kac_x":                         redacted,
		strings.Repeat("x", maxShown):      strings.Repeat("x", maxShown),
		strings.Repeat("x", maxShown+1):    strings.Repeat("x", maxShown) + "...",
		strings.Repeat("x", 79) + "é" + "": strings.Repeat("x", 79) + "...",
		"a\xffb":                           "ab",
	} {
		if got := shown(text); got != want {
			t.Errorf("%q is shown as %q, want %q", text, got, want)
		}
	}
}
