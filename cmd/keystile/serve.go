package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"syscall"

	"github.com/spf13/cobra"

	"keystile/admin"
)

// flagOption is a flag of serve that stands for an option of the configuration.
type flagOption struct{ flag, option, usage string }

func serveFlags() []flagOption {
	return []flagOption{
		{"proxy-listen", "proxy.listen", "address of the proxy listener"},
		{"admin-listen", "admin.listen", "address of the admin listener"},
		{"upstream", "proxy.upstream.url", "where requests go"},
		{"log-level", "log.level", "least level of log lines: debug, info, warn, error"},
	}
}

func serveCommand(std stdio) *cobra.Command {
	cmd := &cobra.Command{
		Use: "serve", Short: "Serve the proxy and the admin listener (what happens without a command)", Args: noArguments,
	}
	file := cmd.Flags().String("config", "", "configuration file (default ./config.yaml, else /etc/keystile/config.yaml)")
	for _, f := range serveFlags() {
		cmd.Flags().String(f.flag, "", f.usage)
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return serve(cmd.Context(), std, *file, changedFlags(cmd))
	}
	return cmd
}

// changedFlags are the flags that were given, as overrides.
func changedFlags(cmd *cobra.Command) (given []override) {
	for _, f := range serveFlags() {
		if flag := cmd.Flags().Lookup(f.flag); flag != nil && flag.Changed {
			given = append(given, override{flag: "--" + f.flag, option: f.option, text: flag.Value.String()})
		}
	}
	return given
}

// serve runs a turnstile until ctx is done.
func serve(ctx context.Context, std stdio, file string, flags []override) error {
	name, data, err := readConfigFile(file, std.env)
	if err != nil {
		return err
	}
	c, warnings, err := parseConfig(name, data, std.env, flags...)
	if err != nil {
		return err
	}
	log := newLog(c.Log, std.err)
	takeStandardLog(log)
	for _, warning := range warnings {
		log.Warn(warning)
	}
	token, err := adminToken(c, std, log)
	if err != nil {
		return err
	}
	t, err := openTurnstile(c, token, std.env, log)
	if err != nil {
		return err
	}
	log.Info("keystile is serving", "version", version(), "config", cmp.Or(name, noConfigFile), "proxy", t.proxyURL(), "admin", t.adminURL(),
		"upstream", c.Proxy.Upstream.URL, "keys", t.mirror.Len())
	return t.run(ctx)
}

// adminToken takes KEYSTILE_ADMIN_TOKEN, else admin.token_file, which the first
// start makes.
func adminToken(c config, std stdio, log *slog.Logger) (admin.Token, error) {
	if text := lookup(std.env, tokenVariable); text != "" {
		token, err := admin.ParseAdminToken(text)
		if err != nil {
			return token, fmt.Errorf("%s: %w", tokenVariable, err)
		}
		return token, nil
	}
	token, created, err := admin.LoadToken(c.Admin.TokenFile)
	if errors.Is(err, syscall.ENOTDIR) {
		return token, fmt.Errorf("admin.token_file: a part of %s is a file, not a directory: choose another place", c.Admin.TokenFile)
	} else if err != nil {
		return token, fmt.Errorf("admin.token_file: %w", err)
	}
	if created {
		log.Info("made an administrator token", "file", c.Admin.TokenFile)
	}
	return token, nil
}
