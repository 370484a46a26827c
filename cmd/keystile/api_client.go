package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"keystile/admin"
	"keystile/keys"
)

const (
	keysPath = "/api/v1/keys"

	apiDialTimeout = 5 * time.Second
	apiTimeout     = time.Minute // of a call; waiting for a receipt may take half of it

	maxList = size(256 << 20) // a million keys
)

// keyPath is where a key is.
func keyPath(key string) string { return keysPath + "/" + key }

// apiClient calls the admin API of a Keystile that serves. Its errors tell people what to
// do, and no secret.
type apiClient struct {
	url, urlFrom string // without a slash at its end; where it was set
	token        hidden
	tokenFrom    string
	http         http.Client
}

// newAPIClient returns a client that follows no redirect and uses no HTTP proxy: either
// would see the token. A nil trust means plain HTTP, or the system's authorities.
func newAPIClient(address setting, trust *tls.Config) (*apiClient, error) {
	url, err := apiURL(address, trust)
	return &apiClient{url: url, urlFrom: address.from, http: http.Client{
		Timeout: apiTimeout,
		Transport: &http.Transport{
			Proxy: nil, DisableKeepAlives: true, DialContext: (&net.Dialer{Timeout: apiDialTimeout}).DialContext,
			TLSClientConfig: trust,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, err
}

// keyList is the reply to a listing.
type keyList struct {
	Keys  []admin.Record `json:"keys"`
	Limit int            `json:"limit"`
}

// list returns the keys of an account; "": all that the token may see.
func (c *apiClient) list(ctx context.Context, account string) (keyList, error) {
	var list keyList
	err := c.call(ctx, apiCall{method: http.MethodGet, path: keysOf(account), limit: maxList}, &list, func() bool {
		return list.Keys != nil && !slices.ContainsFunc(list.Keys, func(r admin.Record) bool {
			_, err := keys.ParseKey(r.Key)
			return err != nil
		})
	})
	return list, err
}

func (c *apiClient) get(ctx context.Context, key string) (admin.Record, error) {
	var record admin.Record
	err := c.call(ctx, apiCall{method: http.MethodGet, path: keyPath(key)}, &record, func() bool { return record.Key == key })
	return record, err
}

// find returns the key that is meant by a key or by a name, of an account; "": of any that
// the token may see.
func (c *apiClient) find(ctx context.Context, account, keyOrName string) (none admin.Record, err error) {
	if strings.Contains(keyOrName, keys.SecretPrefix) {
		return none, usageError{errors.New(`this is a secret: its key is "kst_" and the 22 characters after "kss_"`)}
	}
	if _, err := keys.ParseKey(keyOrName); err == nil {
		record, err := c.get(ctx, keyOrName)
		if err == nil && account != "" && record.Account != account {
			return none, fmt.Errorf("the key is not of account %s, but of %s: leave out --account, or name another key", printable(account), printable(record.Account))
		}
		return record, err
	}
	list, err := c.list(ctx, account)
	if err != nil {
		return none, err
	}
	name, err := keys.NormalizeName(keyOrName)
	named := slices.DeleteFunc(list.Keys, func(r admin.Record) bool { return err != nil || r.Name != name })
	switch len(named) {
	case 0:
		return none, errors.New(`no key has this name: "keystile keys list" shows the keys there are`)
	case 1:
		return named[0], nil
	}
	var which []string
	for _, r := range named {
		which = append(which, fmt.Sprintf("%s of account %q", r.Key, r.Account))
	}
	return none, fmt.Errorf("%d keys have this name: say whose by --account, or give the key instead, %s", len(named), strings.Join(which, " or "))
}

// keyBody is what a call says of a key; nil: nothing.
type keyBody struct {
	Account  string          `json:"account,omitempty"`
	Name     *string         `json:"name,omitempty"`
	Active   *bool           `json:"active,omitempty"`
	Previous json.RawMessage `json:"previous_secret,omitempty"`
}

// create makes a key. A call whose reply was lost is made again under its Idempotency-Key,
// which makes one key at most.
func (c *apiClient) create(ctx context.Context, body keyBody) (admin.Created, error) {
	call := apiCall{method: http.MethodPost, path: keysPath, body: body, header: http.Header{"Idempotency-Key": {rand.Text()}}}
	var made admin.Created
	valid := func() bool { return validCreated(made) }
	err := c.call(ctx, call, &made, valid)
	if errors.As(err, new(lostReply)) {
		if err = c.call(ctx, call, &made, valid); err != nil {
			err = fmt.Errorf(`%w; the first try may have made the key: "keystile keys list" shows it`, err)
		}
	}
	if err == nil && made.Replayed {
		err = fmt.Errorf("the key %s was made, but the reply with its secret was lost, and no secret is shown twice: "+
			"make another with \"keystile keys rotate %s\"", made.Key, made.Key)
	}
	return made, err
}

// validCreated reports whether the reply has a key and its own secret: they may be pasted
// into a shell. A repetition has no secret.
func validCreated(made admin.Created) bool {
	_, err := keys.ParseKey(made.Key)
	return err == nil && (made.Replayed || isSecretOf(made.Key, made.Secret))
}

func isSecretOf(key, secret string) bool {
	parsed, err := keys.ParseSecret(secret)
	return err == nil && parsed.ID().String() == key
}

// rotate makes a new secret of a key, unless the key has changed since it was read: a
// repetition, whoever makes it, takes no secret from anybody.
func (c *apiClient) rotate(ctx context.Context, r admin.Record, overlap time.Duration) (admin.Rotated, error) {
	call := apiCall{
		method: http.MethodPost, path: keyPath(r.Key) + "/rotate", header: unchanged(r),
		body:   map[string]string{"overlap": overlap.String()},
		unsure: "a secret may be in force that nobody has; the same command again makes another, or says what to do",
	}
	var made admin.Rotated
	err := c.call(ctx, call, &made, func() bool { return made.Key == r.Key && isSecretOf(made.Key, made.Secret) })
	return made, err
}

// update changes a key, under the condition of a header; nil: whatever has become of it.
func (c *apiClient) update(ctx context.Context, key string, change keyBody, condition http.Header) (admin.Updated, error) {
	var changed admin.Updated
	err := c.call(ctx, apiCall{method: http.MethodPatch, path: keyPath(key), body: change, header: condition}, &changed,
		func() bool { return changed.Key == key })
	return changed, err
}

func (c *apiClient) delete(ctx context.Context, key string, condition http.Header) (admin.Deleted, error) {
	var gone admin.Deleted
	err := c.call(ctx, apiCall{method: http.MethodDelete, path: keyPath(key), header: condition}, &gone,
		func() bool { return gone.Key == key })
	return gone, err
}

// unchanged is the condition that nobody has changed the key since it was read.
func unchanged(r admin.Record) http.Header { return ifVersion(r.Version) }

// ifVersion is the condition that something still has a version.
func ifVersion(version uint64) http.Header {
	return http.Header{"If-Match": {strconv.Quote(strconv.FormatUint(version, 10))}}
}
