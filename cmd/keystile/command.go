package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// stdio is what a command has of the world: where to read and write, and the environment.
type stdio struct {
	in       io.Reader
	out, err io.Writer
	env      []string
}

// usageError is the error of a command that was used wrongly: exit code 2.
type usageError struct{ error }

// Unwrap returns what was wrong.
func (e usageError) Unwrap() error { return e.error }

// exitCode is 0 for done, 1 for refused or failed, 2 for used wrongly, which a wrong
// configuration is.
func exitCode(err error) int {
	var usage usageError
	var mistakes configMistakes
	switch {
	case err == nil:
		return 0
	case errors.As(err, &usage) || errors.As(err, &mistakes):
		return 2
	}
	return 1
}

// run runs one command line.
func run(ctx context.Context, args []string, std stdio) error {
	root := rootCommand(std)
	root.SetArgs(args)
	root.SetOut(std.out)
	root.SetErr(std.err)
	addCompletion(root)
	return root.ExecuteContext(ctx)
}

func rootCommand(std stdio) *cobra.Command {
	serve := serveCommand(std)
	root := &cobra.Command{
		Use:           "keystile",
		Short:         "An authenticating reverse proxy for generation APIs",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noArguments,
		RunE:          serve.RunE, // serve is what happens without a command
	}
	root.Flags().AddFlagSet(serve.Flags())
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; run %q for the flags", err, cmd.CommandPath()+" --help")}
	})
	root.AddCommand(serve, demoCommand(std), keysCommand(std), accountsCommand(std), auditCommand(std), configCommand(std), storeCommand(std), healthcheckCommand(std), versionCommand(std))
	return root
}

// addCompletion adds "keystile completion", which takes the output that root has now, and
// ends as other commands do when it is used wrongly.
func addCompletion(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	completion, _, err := root.Find([]string{"completion"})
	if err != nil {
		return
	}
	completion.Args, completion.RunE = noArguments, needsCommand("bash, zsh, fish or powershell")
	for _, shell := range completion.Commands() {
		shell.Args = noArguments
	}
}

// noArguments refuses arguments: what stands there may be a command misspelt.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	help := cmd.CommandPath() + " --help"
	if !cmd.HasAvailableSubCommands() {
		return usageError{fmt.Errorf("%q takes no arguments, but here is %q; run %q for its flags", cmd.CommandPath(), args[0], help)}
	}
	cmd.SuggestionsMinimumDistance = 2
	for _, near := range cmd.SuggestionsFor(args[0]) {
		return usageError{fmt.Errorf("unknown command %q, did you mean %q? Run %q for the list", args[0], near, help)}
	}
	return usageError{fmt.Errorf("unknown command %q; run %q for the list", args[0], help)}
}

// argumentsBetween refuses fewer or more arguments than the command takes.
func argumentsBetween(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if least <= len(args) && len(args) <= most {
			return nil
		}
		return usageError{fmt.Errorf("expected %q; run %q for more", strings.TrimSuffix(cmd.UseLine(), " [flags]"), cmd.CommandPath()+" --help")}
	}
}

// needsCommand is what a command does that only holds others.
func needsCommand(which string) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, _ []string) error {
		return usageError{fmt.Errorf("%q needs to know what to do: %s; run %q for more", cmd.CommandPath(), which, cmd.CommandPath()+" --help")}
	}
}

// wrongOutput refuses what was given for --output.
func wrongOutput(output string) error {
	return usageError{fmt.Errorf("--output: expected text or json, got %q", output)}
}

func versionCommand(std stdio) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: noArguments,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintf(std.out, "keystile %s %s %s/%s\n", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}

// version is the version of the module, as the build knows it.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}

func configCommand(std stdio) *cobra.Command {
	config := &cobra.Command{
		Use: "config", Short: "Check, print or describe the configuration",
		Args: noArguments, RunE: needsCommand("check, print or schema"),
	}
	file := config.PersistentFlags().String("config", "", "configuration file")
	config.AddCommand(
		&cobra.Command{
			Use: "check", Short: "Report every mistake in the configuration", Args: noArguments,
			RunE: func(*cobra.Command, []string) error { return checkConfig(std, *file) },
		},
		&cobra.Command{
			Use: "print", Short: "Print the configuration in effect, without secrets", Args: noArguments,
			RunE: func(*cobra.Command, []string) error {
				c, err := loadWithWarnings(std, *file)
				if err != nil {
					return err
				}
				return printConfig(std.out, c)
			},
		},
		&cobra.Command{
			Use: "schema", Short: "Print the JSON Schema of the configuration", Args: noArguments,
			RunE: func(*cobra.Command, []string) error { return writeSchema(std.out) },
		},
	)
	return config
}

// noConfigFile is said in the place of a file's name.
const noConfigFile = "no configuration file, every option at its default"

// checkConfig says ok or returns every mistake.
func checkConfig(std stdio, file string) error {
	name, data, err := readConfigFile(file, std.env)
	if err != nil {
		return err
	}
	_, warnings, err := parseConfig(name, data, std.env)
	printWarnings(std, warnings)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(std.out, "%s: ok\n", cmp.Or(name, noConfigFile))
	return err
}

// loadWithWarnings loads the configuration and prints its warnings.
func loadWithWarnings(std stdio, file string) (config, error) {
	c, warnings, err := loadConfig(file, std.env)
	printWarnings(std, warnings)
	return c, err
}

func printWarnings(std stdio, warnings []string) {
	for _, warning := range warnings {
		fmt.Fprintln(std.err, "warning:", warning)
	}
}
