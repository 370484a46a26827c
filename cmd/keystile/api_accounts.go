package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"keystile/admin"
	"keystile/keys"
)

const accountsPath = "/api/v1/accounts"

// keysOf is where the keys of an account are listed; "": all that the token may see.
func keysOf(account string) string {
	if account == "" {
		return keysPath
	}
	return keysPath + "?account=" + url.QueryEscape(account)
}

// isOfAccount reports whether the token is one of an account, which sees only that.
func (c *apiClient) isOfAccount() bool {
	return strings.HasPrefix(c.token.reveal(), keys.AccountTokenPrefix)
}

// accountList is the reply to a listing.
type accountList struct {
	Accounts []admin.Account `json:"accounts"`
}

// accountBody is what a call says of an account; nil: nothing.
type accountBody struct {
	ID     *string `json:"account,omitempty"`
	Name   *string `json:"name,omitempty"`
	Active *bool   `json:"active,omitempty"`
	Limit  any     `json:"limit,omitempty"` // an int, or json.RawMessage("null") for the default
}

// accountCall is a call about an account or, with something behind its path, its tokens.
func accountCall(method, id, behind string, body any) apiCall {
	path := accountsPath
	if id != "" {
		path += "/" + id
	}
	return apiCall{method: method, path: path + behind, body: body, what: "account", list: "keystile accounts list"}
}

// checkAccount refuses what cannot be the id of an account, and would be another path.
func checkAccount(id string) error {
	if keys.ValidAccount(id) {
		return nil
	}
	return usageError{fmt.Errorf("no account is called %s: 1 to 64 ASCII letters, digits and ._@+- can be, with a letter or digit first", shown(keys.Redact(id)))}
}

func (c *apiClient) accounts(ctx context.Context) (accountList, error) {
	var list accountList
	call := accountCall(http.MethodGet, "", "", nil)
	call.limit = maxList
	err := c.call(ctx, call, &list, func() bool {
		return list.Accounts != nil && !slices.ContainsFunc(list.Accounts, func(a admin.Account) bool { return !keys.ValidAccount(a.Account) })
	})
	return list, err
}

func (c *apiClient) account(ctx context.Context, id string) (admin.Account, error) {
	var found admin.Account
	if err := checkAccount(id); err != nil {
		return found, err
	}
	err := c.call(ctx, accountCall(http.MethodGet, id, "", nil), &found, func() bool { return found.Account == id })
	return found, err
}

func (c *apiClient) createAccount(ctx context.Context, body accountBody) (admin.ChangedAccount, error) {
	var made admin.ChangedAccount
	err := c.call(ctx, accountCall(http.MethodPost, "", "", body), &made, func() bool { return made.Account.Account == *body.ID })
	return made, err
}

// updateAccount changes an account, under the condition of a header; nil: whatever has become of it.
func (c *apiClient) updateAccount(ctx context.Context, id string, change accountBody, condition http.Header) (admin.ChangedAccount, error) {
	var changed admin.ChangedAccount
	if err := checkAccount(id); err != nil {
		return changed, err
	}
	call := accountCall(http.MethodPatch, id, "", change)
	call.header = condition
	err := c.call(ctx, call, &changed, func() bool { return changed.Account.Account == id })
	return changed, err
}

func (c *apiClient) deleteAccount(ctx context.Context, a admin.Account, withKeys bool) (admin.DeletedAccount, error) {
	behind := ""
	if withKeys {
		behind = "?with_keys=true"
	}
	call := accountCall(http.MethodDelete, a.Account, behind, nil)
	call.header = ifVersion(a.Version)
	var gone admin.DeletedAccount
	err := c.call(ctx, call, &gone, func() bool { return gone.Account == a.Account })
	return gone, err
}

// tokenList is the reply to a listing.
type tokenList struct {
	Tokens []admin.AccountToken `json:"tokens"`
}

var (
	tokenID   = regexp.MustCompile(`^[A-Z2-7]{13}$`)
	tokenText = regexp.MustCompile(`^` + keys.AccountTokenPrefix + `([A-Z2-7]{13})_[A-Z2-7]{52}$`)
)

func (c *apiClient) tokens(ctx context.Context, account string) (tokenList, error) {
	var list tokenList
	if err := checkAccount(account); err != nil {
		return list, err
	}
	call := accountCall(http.MethodGet, account, "/tokens", nil)
	call.limit = maxList
	err := c.call(ctx, call, &list, func() bool {
		return list.Tokens != nil && !slices.ContainsFunc(list.Tokens, func(t admin.AccountToken) bool { return !tokenID.MatchString(t.ID) })
	})
	return list, err
}

// createToken makes a token; name "": none.
func (c *apiClient) createToken(ctx context.Context, account, name string) (admin.CreatedToken, error) {
	var made admin.CreatedToken
	if err := checkAccount(account); err != nil {
		return made, err
	}
	body := struct {
		Name string `json:"name,omitempty"`
	}{name}
	call := accountCall(http.MethodPost, account, "/tokens", body)
	call.unsure = fmt.Sprintf("a token may have been made that nobody has: %q shows it by its time; revoke that one and create another", "keystile accounts tokens list "+account)
	err := c.call(ctx, call, &made, func() bool {
		found := tokenText.FindStringSubmatch(made.Token)
		return found != nil && found[1] == made.ID
	})
	return made, err
}

func (c *apiClient) revokeToken(ctx context.Context, account, id string) (admin.DeletedToken, error) {
	var gone admin.DeletedToken
	if err := checkAccount(account); err != nil {
		return gone, err
	}
	if !tokenID.MatchString(id) {
		return gone, usageError{errors.New(`expected the id of a token, 13 letters and digits: "keystile accounts tokens list ` + account + `" shows those there are`)}
	}
	call := accountCall(http.MethodDelete, account, "/tokens/"+id, nil)
	call.what, call.list = "token", "keystile accounts tokens list "+account
	err := c.call(ctx, call, &gone, func() bool { return gone.ID == id })
	return gone, err
}
