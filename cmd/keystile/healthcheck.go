package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"
)

// healthTimeout bounds the whole check.
const healthTimeout = 3 * time.Second

func healthcheckCommand(std stdio) *cobra.Command {
	cmd := &cobra.Command{
		Use: "healthcheck", Short: "Ask the admin listener of this machine whether Keystile is ready", Args: noArguments,
	}
	file := cmd.Flags().String("config", "", "configuration file, for admin.listen and admin.tls")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, _, err := loadConfig(*file, std.env)
		if err != nil {
			return err
		}
		trust, err := trustingItself(c.Admin.TLS)
		if err != nil {
			return err
		}
		return healthcheck(cmd.Context(), listenerURL(c.Admin.TLS, c.Admin.Listen)+"/readyz", trust, std.out)
	}
	return cmd
}

// healthcheck writes "ready", or returns why it is not.
func healthcheck(ctx context.Context, address string, trust *tls.Config, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	client := http.Client{Transport: &http.Transport{Proxy: nil, DisableKeepAlives: true, TLSClientConfig: trust}}
	response, err := client.Do(request)
	if distrust := withoutTrust(address, "admin.listen", err); distrust != nil {
		return distrust
	} else if err != nil {
		return fmt.Errorf("nothing answers at %s (%w): see whether keystile runs, and with the same admin.listen", address, reason(err))
	}
	defer response.Body.Close()
	var state struct{ Status, Reason string }
	if err := json.NewDecoder(io.LimitReader(response.Body, 4096)).Decode(&state); err != nil {
		return fmt.Errorf("what answers at %s is not keystile (status %d): set admin.listen to the address that keystile has", address, response.StatusCode)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", state.Status, state.Reason)
	}
	_, err = fmt.Fprintln(out, state.Status)
	return err
}

// reason is err without the method and URL that net/http puts before it.
func reason(err error) error {
	if request := (*url.Error)(nil); errors.As(err, &request) {
		return request.Err
	}
	return err
}
