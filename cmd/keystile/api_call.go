package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strings"

	"keystile/keys"
)

// maxReply is the limit of a reply that is no list.
const maxReply = size(1 << 20)

// apiCall is one request to the admin API.
type apiCall struct {
	method, path string
	header       http.Header
	body         any  // nil: none
	limit        size // of the reply; 0: maxReply

	what   string // that the call is about: key, account or token; "": key
	list   string // the command that lists such things; "": of keys
	unsure string // what to do when nobody knows whether the change was made; "": look into the list
}

// ifUnsure says what to do when nobody knows whether the change was made.
func (call apiCall) ifUnsure() string {
	return cmp.Or(call.unsure, fmt.Sprintf("%q shows whether the change was made", call.listing()))
}

func (call apiCall) listing() string { return cmp.Or(call.list, "keystile keys list") }

// call reads the reply into a value. fits says whether that is what was asked for.
func (c *apiClient) call(ctx context.Context, call apiCall, into any, fits func() bool) error {
	request, err := c.request(ctx, call)
	if err != nil {
		return err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return c.noReply(call, reason(err))
	}
	defer response.Body.Close()
	limit := cmp.Or(call.limit, maxReply)
	body, err := io.ReadAll(io.LimitReader(response.Body, int64(limit)+1))
	kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	switch {
	case err != nil:
		return c.noReply(call, err)
	case len(body) > int(limit):
		return c.notKeystile("more than " + limit.String())
	case response.StatusCode == http.StatusBadRequest && bytes.HasPrefix(body, []byte(httpToTLS)):
		return fmt.Errorf("%s, the address from %s, wants TLS: have the address begin with https://", c.url, c.urlFrom)
	case kind == "application/problem+json":
		return c.refused(call, body)
	case response.StatusCode/100 != 2 || kind != "application/json":
		return c.notKeystile(fmt.Sprintf("status %d, %s", response.StatusCode, cmp.Or(kind, "no media type")))
	case json.Unmarshal(body, into) != nil || !fits():
		return c.notKeystile("JSON of another kind")
	}
	return nil
}

func (c *apiClient) request(ctx context.Context, call apiCall) (*http.Request, error) {
	var body bytes.Buffer
	if call.body != nil {
		if err := json.NewEncoder(&body).Encode(call.body); err != nil {
			return nil, err
		}
	}
	request, err := http.NewRequestWithContext(ctx, call.method, c.url+call.path, &body)
	if err != nil {
		return nil, err
	}
	for name, values := range call.header {
		request.Header[name] = values
	}
	if call.body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	request.Header.Set("Authorization", "Bearer "+c.token.reveal())
	return request, nil
}

// lostReply is the error of a change of which nobody knows whether it was made.
type lostReply struct{ error }

// noReply explains why there is no reply.
func (c *apiClient) noReply(call apiCall, err error) error {
	if distrust := withoutTrust(c.url, c.urlFrom, err); distrust != nil {
		return distrust
	}
	if dial := (*net.OpError)(nil); errors.As(err, &dial) && dial.Op == "dial" {
		return fmt.Errorf(`nothing answers at %s, the address from %s (%w): see whether "keystile serve" is running there, or name another by --address`,
			c.url, c.urlFrom, err)
	}
	err = fmt.Errorf("no whole reply from %s, the address from %s (%w)", c.url, c.urlFrom, err)
	if call.method == http.MethodGet {
		return err
	}
	return lostReply{fmt.Errorf("%w: %s", err, call.ifUnsure())}
}

// notKeystile is the error of a reply that Keystile would not give.
func (c *apiClient) notKeystile(reply string) error {
	return fmt.Errorf("what answers at %s, the address from %s, is not the admin API of keystile (%s): name another by --address",
		c.url, c.urlFrom, printable(reply))
}

// refused explains a problem document (RFC 9457).
func (c *apiClient) refused(call apiCall, document []byte) error {
	var p struct {
		Code, Detail string
		Limit        int
		RequestID    string `json:"request_id"`
	}
	if json.Unmarshal(document, &p) != nil || p.Code == "" {
		return c.notKeystile("a problem of another kind")
	}
	switch p.Code {
	case "unauthorized":
		return fmt.Errorf("%s refuses the token from %s: give that of its administrator, or a valid one of an account, by --token-file or %s", c.url, c.tokenFrom, tokenVariable)
	case "forbidden":
		return fmt.Errorf("this is for administrators, and the token from %s is not theirs: give that of the administrator by --token-file or %s", c.tokenFrom, tokenVariable)
	case "key_limit_reached":
		return fmt.Errorf("the account has all the %d keys it may have: delete one first, or have an administrator raise its limit by \"keystile accounts limit\"", p.Limit)
	case "version_mismatch":
		return fmt.Errorf("nothing was done, for somebody has just changed the %s: look at it with %q and try again", cmp.Or(call.what, "key"), call.listing())
	case "store_unreachable":
		return fmt.Errorf("the key store cannot be reached, or did not confirm the change: try again later; %s", call.ifUnsure())
	}
	if advice, known := refusals()[p.Code]; known {
		return errors.New(advice)
	}
	return fmt.Errorf("%s (%s, request id %s)", c.sanitize(p.Detail), c.sanitize(p.Code), c.sanitize(p.RequestID))
}

// refusals say what to do about problems of which their code says all.
func refusals() map[string]string {
	return map[string]string{
		"key_not_found":     `there is no such key: "keystile keys list" shows the keys there are`,
		"name_taken":        `another key has this name: choose another; "keystile keys list" shows those that are taken`,
		"overlap_running":   `nothing was done, for an earlier secret still works, and a key has two at most: wait until the time that "keystile keys list" shows, or end it with "keystile keys end-previous"; if the present secret is lost or has leaked, rotate without --overlap, which ends it at once`,
		"account_not_found": `there is no such account, or none that this token may use: "keystile accounts list" shows an administrator the accounts there are`,
		"account_exists":    `there is an account of this name already: choose another; "keystile accounts list" shows those that are taken`,
		"account_has_keys":  `nothing was deleted, for the account has keys: delete them first, or add --with-keys, which deletes them with it`,
		"default_account":   `the account "default" cannot be deleted: "keystile accounts disable default" has all its keys refused`,
		"account_inactive":  `the account is inactive, so its token can only read: an administrator can change that with "keystile accounts enable"`,
		"token_not_found":   `the account has no such token: "keystile accounts tokens list" shows those it has`,
	}
}

// sanitize makes a text of a server fit for a terminal or a log, without secrets that it sent back.
func (c *apiClient) sanitize(text string) string {
	return printable(keys.Redact(strings.ReplaceAll(text, c.token.reveal(), redacted)))
}
