package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/spf13/pflag"

	"keystile/admin"
)

const (
	addressVariable = "KEYSTILE_ADMIN_ADDRESS"
	tokenVariable   = "KEYSTILE_ADMIN_TOKEN"
)

// apiFlags say where the admin API is and what opens it. The environment, then the
// configuration, has what they leave out.
type apiFlags struct{ address, caFile, tokenFile, config string }

func (f *apiFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.address, "address", "", "admin listener, as host:port or URL (default $"+addressVariable+", else admin.listen)")
	flags.StringVar(&f.caFile, "ca-file", "", "PEM file of the authorities that sign the certificate of that address (default $"+caVariable+", else the system's)")
	flags.StringVar(&f.tokenFile, "token-file", "", "file with the token of the administrator or of an account (default $"+tokenVariable+", else admin.token_file)")
	flags.StringVar(&f.config, "config", "", "configuration file, for what neither flag nor environment says")
}

// setting is a text and where it was set.
type setting struct{ text, from string }

// client returns a client, and the URL of the proxy listener beside the API; "": it is not
// known. The configuration is read only where it is needed: it may be of another machine,
// or not for this user to read.
func (f apiFlags) client(env []string) (api *apiClient, proxy string, err error) {
	address := setting{f.address, "--address"}
	if address.text == "" {
		address = setting{lookup(env, addressVariable), addressVariable}
	}
	ca := setting{f.caFile, "--ca-file"}
	if ca.text == "" {
		ca = setting{lookup(env, caVariable), caVariable}
	}
	trust, err := trusting(ca)
	if err != nil {
		return nil, "", err
	}
	file, token := setting{f.tokenFile, "--token-file"}, lookup(env, tokenVariable)
	if f.config != "" || address.text == "" || file.text == "" && token == "" {
		c, _, err := loadConfig(f.config, env)
		if err != nil {
			return nil, "", err
		}
		if address.text == "" {
			address = setting{listenerURL(c.Admin.TLS, c.Admin.Listen), "admin.listen"}
			if trust, err = trustingItself(c.Admin.TLS); err != nil {
				return nil, "", err
			}
			proxy = listenerURL(c.Proxy.TLS, c.Proxy.Listen)
		}
		if file.text == "" && token == "" {
			file = setting{c.Admin.TokenFile, "admin.token_file"}
		}
	}
	if api, err = newAPIClient(address, trust); err != nil {
		return nil, "", err
	}
	api.token, api.tokenFrom, err = apiToken(file, token)
	return api, proxy, err
}

// apiToken is the token in a file or, where none is named, of the environment.
func apiToken(file setting, token string) (_ hidden, from string, err error) {
	if file.text == "" {
		if _, err := admin.ParseAdminToken(token); err != nil {
			return hidden{}, "", fmt.Errorf("%s: %w", tokenVariable, err)
		}
		return hidden{token}, tokenVariable, nil
	}
	text, err := admin.ReadToken(file.text)
	if errors.Is(err, fs.ErrNotExist) {
		return hidden{}, "", fmt.Errorf("%s: there is no file %s with a token: keystile serve makes that of the administrator at its first start; "+
			"name another by --token-file, or set %s", file.from, file.text, tokenVariable)
	} else if err != nil {
		return hidden{}, "", fmt.Errorf("%s: %w", file.from, err)
	}
	return hidden{text}, fmt.Sprintf("%s (%s)", file.text, file.from), nil
}

// apiURL is the URL of an address, without a slash at its end. Without a scheme it is https
// where authorities are named.
func apiURL(address setting, trust *tls.Config) (string, error) {
	url := address.text
	switch {
	case strings.Contains(url, "://"):
	case trust != nil:
		url = "https://" + url
	default:
		url = "http://" + url
	}
	if err := checkWebURL(url, "the token is read from a file or the environment"); err != nil {
		return "", usageError{fmt.Errorf("%s: %w", address.from, err)}
	}
	return strings.TrimSuffix(url, "/"), nil
}
