package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"keystile/cache"
)

// reviveWords are what an operator types to have revoked keys brought back.
const reviveWords = "yes, bring back deleted and disabled keys"

// backedUp is a store with which backups can be made and read.
type backedUp interface {
	Export(ctx context.Context, w io.Writer) error
	Import(ctx context.Context, file io.ReadSeeker, o cache.ImportOptions) (cache.ImportReport, error)
	Close() error
}

func storeCommand(std stdio) *cobra.Command {
	store := &cobra.Command{
		Use: "store", Short: "Back the key store up, bring a backup into it, accept another one",
		Args: noArguments, RunE: needsCommand("export, import or accept"),
	}
	config := store.PersistentFlags().String("config", "", "configuration file")
	store.AddCommand(exportCommand(std, config), importCommand(std, config), acceptCommand(std, config))
	return store
}

func exportCommand(std stdio, config *string) *cobra.Command {
	return &cobra.Command{
		Use:   "export [FILE]",
		Short: "Write a backup to a file, or to the standard output",
		Long: `Write a backup of the key store, with accounts and their tokens, but without the audit trail: one JSON object a line,
digests and never secrets, with a checksum at the end. A store in Redis is exported while others use it. One in a file must
not be in use; while Keystile serves it, GET /api/v1/store/export of the admin listener answers with a backup.`,
		Args: argumentsBetween(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := loadWithWarnings(std, *config)
			if err != nil {
				return err
			}
			return exportStore(cmd.Context(), std, c, append(args, "")[0])
		},
	}
}

// exportStore writes a backup to a file; "": to the standard output.
func exportStore(ctx context.Context, std stdio, c config, path string) error {
	if c.Store.Driver == "bolt" {
		if _, err := os.Stat(c.Store.Bolt.Path); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("there is no key store %s, so nothing was exported: have store.bolt.path name the one that keystile serves; a relative path counts from the working directory", c.Store.Bolt.Path)
		}
	}
	store, err := openForBackup(ctx, std, c)
	if errors.Is(err, cache.ErrInUse) {
		return fmt.Errorf("%w; or ask it for a backup: GET /api/v1/store/export", err)
	} else if err != nil {
		return err
	}
	defer store.Close()
	if path == "" {
		return store.Export(ctx, std.out)
	}
	var made cache.Backup
	err = replaceFile(path, func(file *os.File) error {
		if err := store.Export(ctx, file); err != nil {
			return err
		}
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			return err
		}
		made, err = cache.ReadBackup(ctx, file)
		return err
	})
	if err != nil {
		return fmt.Errorf("exporting to %s: %w", path, err)
	}
	_, err = fmt.Fprintf(std.out, "%s: store %s at version %d, %d accounts, %d tokens, %d keys, %d deletions\n",
		path, made.Store, made.Version, made.Accounts, made.Tokens, made.Keys, made.Deleted)
	return err
}

// openForBackup opens the store that the configuration names, without serving it.
func openForBackup(ctx context.Context, std stdio, c config) (backedUp, error) {
	log := newLog(c.Log, std.err)
	takeStandardLog(log)
	peppers, err := loadPeppers(c.Keys.PepperFile)
	if err != nil {
		return nil, err
	}
	if c.Store.Driver == "bolt" {
		store, err := openBolt(c, nil, peppers, log)
		if err != nil {
			return nil, err // not the nil *Bolt
		}
		return store, nil
	}
	options, err := redisOptions(c, nil, peppers, log)
	if err != nil {
		return nil, err
	}
	store, err := cache.DialRedis(ctx, options)
	if err != nil {
		return nil, withPepperAdvice(atServer(options, err), c.Keys.PepperFile)
	}
	return store, nil
}

// replaceFile has write fill a file that only its owner can read, puts it on the disk,
// and then in the place of path: at no time is there a part of it.
func replaceFile(path string, write func(*os.File) error) (err error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return errors.New("it is not a regular file: name a file, or none for the standard output")
	}
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no folder %s: make it first", filepath.Dir(path))
	} else if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(file.Name())
		}
	}()
	if err := errors.Join(write(file), file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// syncFolder puts the names in a folder on the disk.
func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

func importCommand(std stdio, config *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Bring a backup into the key store",
		Long: `Bring a backup into the key store. A file that is damaged is refused as a whole. Keys that the store does not have are
made. Of those that it has, the newer version wins; but no key that the store knows to be deleted or switched off comes back,
however old or new the backup is, unless you say so with --revive. What was skipped is listed. A store in a file must not be
in use; one in Redis may be.`,
		Args: argumentsBetween(1, 1),
	}
	dryRun := cmd.Flags().Bool("dry-run", false, "only report what would be done")
	revive := cmd.Flags().String("revive", "", fmt.Sprintf("%q: do so", reviveWords))
	output := cmd.Flags().StringP("output", "o", "text", "text, or json: the report as one object")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		print, known := map[string]func(io.Writer, importResult) error{"text": printImport, "json": writeImport}[*output]
		switch {
		case !known:
			return wrongOutput(*output)
		case *revive != "" && *revive != reviveWords:
			return usageError{fmt.Errorf("--revive: to have revoked keys admitted again, type --revive %q", reviveWords)}
		}
		c, err := loadWithWarnings(std, *config)
		if err != nil {
			return err
		}
		result, err := importStore(cmd.Context(), std, c, args[0], cache.ImportOptions{Revive: *revive != "", DryRun: *dryRun})
		if err != nil {
			return err
		}
		return print(std.out, result)
	}
	return cmd
}

// importStore brings the backup in a file into the store.
func importStore(ctx context.Context, std stdio, c config, path string, o cache.ImportOptions) (none importResult, err error) {
	file, err := os.Open(path)
	if err != nil {
		return none, fmt.Errorf("importing: %w%s", err, openAdvice(path, err))
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() { // it is read twice
		return none, fmt.Errorf("importing: %s is not a regular file: name one", path)
	}
	_, missing := os.Stat(c.Store.Bolt.Path)
	if o.DryRun && c.Store.Driver == "bolt" && errors.Is(missing, fs.ErrNotExist) {
		folder, err := os.MkdirTemp("", "keystile-dry-run-")
		if err != nil {
			return none, err
		}
		defer func() { _ = os.RemoveAll(folder) }()
		c.Store.Bolt.Path = filepath.Join(folder, "keystile.db") // a dry run makes no store
	}
	store, err := openForBackup(ctx, std, c)
	if err != nil {
		return none, err
	}
	defer store.Close()
	report, err := store.Import(ctx, file, o)
	switch {
	case errors.Is(err, cache.ErrBackup):
		return none, fmt.Errorf("%s: %w: nothing was imported", path, err)
	case errors.Is(err, cache.ErrBackupPepper):
		return none, fmt.Errorf("%s: %w: nothing was imported; have keys.pepper_file name a file with that one, too", path, err)
	case err != nil:
		return none, fmt.Errorf("importing %s: %w; what was imported until then stays (%d accounts, %d keys and %d tokens made, %d keys updated, %d deleted): import it again for the rest",
			path, err, report.AccountsMade, report.Created, report.TokensMade, report.Updated, report.Deleted)
	}
	return importResult{report: report, dryRun: o.DryRun}, nil
}

func acceptCommand(std stdio, config *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "accept",
		Short: "Take the store in Redis as it is, although this process remembers another",
		Long: `After an alarm store_rollback: the server has another store than the one this process remembers, or an older state of it.
Restore the server from its own backup if you can. If you cannot, accept what is there, on each machine while Keystile is
stopped there, and import a backup. Keys that were revoked meanwhile may be valid again: look at them.`,
		Args: noArguments,
	}
	yes := cmd.Flags().Bool("yes", false, "accept the store that is shown without it")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := loadWithWarnings(std, *config)
		if err != nil {
			return err
		}
		return acceptStore(cmd.Context(), std, c, *yes)
	}
	return cmd
}

// acceptStore shows what the server has and, if told to, forgets what is remembered.
func acceptStore(ctx context.Context, std stdio, c config, yes bool) error {
	if c.Store.Driver != "redis" {
		return errors.New("with store.driver bolt there is nothing to accept: the store is the file itself")
	}
	takeStandardLog(newLog(c.Log, std.err))
	options, err := redisOptions(c, nil, nil, nil)
	if err != nil {
		return err
	}
	found, err := cache.InspectRedis(ctx, options)
	if err != nil {
		return atServer(options, err)
	}
	what := "no store: the next start makes one, empty"
	if found.Store != "" {
		what = fmt.Sprintf("store %s at version %d, %d keys", found.Store, found.Version, found.Keys)
	}
	if _, err := fmt.Fprintf(std.out, "prefix %s: %s\n", options.Prefix, what); err != nil {
		return err
	}
	if !yes {
		return fmt.Errorf("nothing was changed: if this is what the process with %s is to work with from now on, run this again with --yes", options.StateFile)
	}
	if err := cache.Accept(options.StateFile); err != nil {
		return fmt.Errorf("accepting the store: %w", err)
	}
	_, err = fmt.Fprintf(std.out, "%s: accepted, the next start takes what is there\n", options.StateFile)
	return err
}
