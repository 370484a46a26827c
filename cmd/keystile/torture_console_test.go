//go:build torture

package main

import (
	"bytes"
	"cmp"
	"fmt"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"keystile/cache"
	"keystile/keys"
)

// useConsole runs a test of console.mjs as useScript does.
func useConsole(t *testing.T, test string, prepare func(t *testing.T, store keys.Store)) {
	t.Parallel()
	useScript(t, "console.mjs", test, prepare)
}

// useAccounts runs a test of accounts.mjs as useScript does.
func useAccounts(t *testing.T, test string) {
	t.Parallel()
	useScript(t, "accounts.mjs", test, nil)
}

// useScript runs a test of a script 20 times in a row: 5 times at each size in each colour
// scheme, each with a process of its own that has the keys which prepare leaves in its
// store. CONSOLE_RUNS=4 is enough while working on it. With CONSOLE_SHOTS=folder the states
// of the page are kept there as pictures.
func useScript(t *testing.T, script, test string, prepare func(t *testing.T, store keys.Store)) {
	t.Helper()
	runs, err := strconv.Atoi(cmp.Or(os.Getenv("CONSOLE_RUNS"), "20"))
	if err != nil {
		t.Fatalf("CONSOLE_RUNS: %v", err)
	}
	for i := range runs {
		size, scheme := []string{"1280x800", "390x844"}[i/2%2], []string{"light", "dark"}[i%2]
		t.Run(fmt.Sprintf("%s %s %d", size, scheme, i/4+1), func(t *testing.T) {
			c := command{folder: t.TempDir()}
			if prepare != nil {
				prepareStore(t, c.folder, cache.BoltOptions{PerAccount: 1000}, prepare)
			}
			runConsole(t, script, test, c, "SIZE="+size, "SCHEME="+scheme, "SHOTS="+os.Getenv("CONSOLE_SHOTS"))
		})
	}
}

// runConsole runs a test of a script once, with a process that c describes.
func runConsole(t *testing.T, script, test string, c command, env ...string) {
	t.Helper()
	runBrowser(t, c, env, script, test)
}

// runBrowser runs a script of the console's folder, with a process that c describes.
func runBrowser(t *testing.T, c command, env []string, script ...string) {
	t.Helper()
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatalf("%v: run make torture, or tools/install-needs.sh torture", err)
	}
	p := startServe(t, newSample(t).URL, c)
	env = append(env, "HOME="+t.TempDir(), "CHROMIUM="+chromium, "ADMIN="+p.admin, "TOKEN="+p.token)
	runNode(t, consoleFolder, env, script...)
}

func prepareStore(t *testing.T, folder string, o cache.BoltOptions, prepare func(*testing.T, keys.Store)) {
	t.Helper()
	data := filepath.Join(folder, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	store, err := cache.OpenBolt(filepath.Join(data, "keystile.db"), o)
	if err != nil {
		t.Fatal(err)
	}
	prepare(t, store)
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
}

// The headings of the guide.

func TestTortureConsoleCreatingTheFirstAPIKey(t *testing.T) {
	useConsole(t, "creatingTheFirstKey", nil)
}

func TestTortureConsoleDeletingTheAPIKey(t *testing.T) { useConsole(t, "deletingAKey", nil) }

func TestTortureConsoleRenamingTheAPIKey(t *testing.T) { useConsole(t, "renamingAKey", nil) }

// What else holds of the console.

func TestTortureConsoleOpenedByAStrangerIsNoFailedAuthentication(t *testing.T) {
	useConsole(t, "strangersPageAsksOnlyForTheSession", nil)
}

func TestTortureConsoleKeepsTheSecretUntilItIsSaved(t *testing.T) {
	useConsole(t, "secretStaysUntilItIsSaved", nil)
}

func TestTortureConsoleCopiesWithoutTLS(t *testing.T) { useConsole(t, "copyingWorksWithoutTLS", nil) }

func TestTortureConsoleAddsKeysAgainBelowTheLimit(t *testing.T) {
	useConsole(t, "addKeyComesBackBelowTheLimit", nil)
}

func TestTortureConsoleSwitchShowsItsReceiptAndGoesBackWhenItFails(t *testing.T) {
	useConsole(t, "switchShowsItsReceiptAndGoesBackWhenItFails", nil)
}

func TestTortureConsoleWindowsDoNotOverwriteEachOther(t *testing.T) {
	useConsole(t, "windowsDoNotOverwriteEachOther", nil)
}

func TestTortureConsoleMakesNoSecondKeyWhenAReplyIsLost(t *testing.T) {
	useConsole(t, "lostReplyMakesNoSecondKey", nil)
}

func TestTortureConsoleRotatesAndEndsTheOldSecret(t *testing.T) {
	useConsole(t, "rotatingTheSecret", nil)
}

func TestTortureConsoleKeepsTheOldSecretAsLongAsChosen(t *testing.T) {
	useConsole(t, "oldSecretWorksAsLongAsChosen", nil)
}

func TestTortureConsoleRotatingDuringAnOverlapEndsThePresentSecret(t *testing.T) {
	useConsole(t, "rotationDuringAnOverlapEndsThePresentSecret", nil)
}

func TestTortureConsoleRotatesAgainWhenAReplyIsLost(t *testing.T) {
	useConsole(t, "lostReplyOfARotationIsToldAndRotatingAgainIsSafe", nil)
}

func TestTortureConsoleSaysWhyARotationIsRefused(t *testing.T) {
	useConsole(t, "refusedRotationSaysWhyAndKeepsTheChoice", nil)
}

func TestTortureConsoleShowsAnOverlapNoLongerThanItRuns(t *testing.T) {
	useConsole(t, "overlapThatRunsOutIsNoLongerShown", nil)
}

func TestTortureConsoleLosesNothingWhenTheSessionEnds(t *testing.T) {
	useConsole(t, "endedSessionLosesNothing", nil)
}

func TestTortureConsoleLosesNothingWhenTheStoreIsUnreachable(t *testing.T) {
	useConsole(t, "unreachableStoreIsSaidAndNothingTypedIsLost", nil)
}

func TestTortureConsoleFollowsTheGuideByKeyboardAlone(t *testing.T) {
	useConsole(t, "guideByKeyboardAlone", nil)
}

func TestTortureConsoleShowsProxiesWithTheirVersions(t *testing.T) {
	useConsole(t, "proxiesAreShownWithTheirVersions", nil)
}

func TestTortureConsoleIsThereWithin6RequestsAnd60KB(t *testing.T) {
	useConsole(t, "firstPaintTakes6RequestsAnd60KB", nil)
}

// Accounts, and who holds one.

func TestTortureConsoleCreatesAndChangesAccounts(t *testing.T) {
	useAccounts(t, "accountsAreCreatedAndChanged")
}

func TestTortureConsoleShowsASuspendedAccountInItsKeys(t *testing.T) {
	useAccounts(t, "suspendedAccountShowsInItsKeys")
}

func TestTortureConsoleDeletesAnAccountWithItsKeys(t *testing.T) {
	useAccounts(t, "accountIsDeletedWithItsKeys")
}

func TestTortureConsoleShowsATokenOnceAndRevokesIt(t *testing.T) {
	useAccounts(t, "tokensAreShownOnceAndRevoked")
}

func TestTortureConsoleChoosesWhoseKeysAreShown(t *testing.T) {
	useAccounts(t, "administratorChoosesWhoseKeysAreShown")
}

func TestTortureConsoleShowsTheHolderItsOwnKeysAlone(t *testing.T) {
	useAccounts(t, "holderSeesItsOwnKeysAndAsksForNothingElse")
}

func TestTortureConsoleTellsTheHolderOfASuspendedAccount(t *testing.T) {
	useAccounts(t, "suspendedHolderIsToldWhy")
}

func TestTortureConsoleShowsTheAuditTrailFromTheNewest(t *testing.T) {
	useAccounts(t, "auditTrailIsReadFromTheNewest")
}

func TestTortureConsoleWindowsDoNotOverwriteAccounts(t *testing.T) {
	useAccounts(t, "windowsDoNotOverwriteAccounts")
}

func TestTortureConsoleStartsAfreshForAnotherPrincipal(t *testing.T) {
	useAccounts(t, "anotherPrincipalStartsAfresh")
}

func TestTortureConsoleTellsWhichSecretWasLastUsed(t *testing.T) {
	useAccounts(t, "lastUseTellsWhichSecretItWas")
}

func TestTortureConsoleManagesAccountsByKeyboardAlone(t *testing.T) {
	useAccounts(t, "accountsByKeyboardAlone")
}

func TestTortureConsoleFitsAWindowOf320Pixels(t *testing.T) {
	useAccounts(t, "viewsFitAWindowOf320Pixels")
}

func TestTortureConsoleSaysInEveryViewThatTheStoreIsUnreachable(t *testing.T) {
	useAccounts(t, "unreachableStoreIsSaidInEveryView")
}

// createNamed makes a key whose secret nobody knows, and returns its id.
func createNamed(t *testing.T, store keys.Store, name string) keys.ID {
	t.Helper()
	id := keys.NewID()
	_, err := store.Create(t.Context(), keys.Draft{
		ID: id, Account: keys.DefaultAccount, Name: name, Digest: (*keys.Peppers)(nil).Digest(keys.NewSecret(id)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// consolePicture is the picture of the console that the README shows.
const consolePicture = "testdata/console.png"

// TestTortureConsolePictureIsSmallAndOfItsSize looks at the README's picture. With
// CONSOLE_PICTURE=write it takes it anew.
func TestTortureConsolePictureIsSmallAndOfItsSize(t *testing.T) {
	if os.Getenv("CONSOLE_PICTURE") == "write" {
		takePicture(t)
	}
	content, err := os.ReadFile(consolePicture)
	if err != nil {
		t.Fatal(err)
	}
	shown, err := png.DecodeConfig(bytes.NewReader(content))
	if err != nil || shown.Width != 1280 || shown.Height != 800 || len(content) > 120_000 {
		t.Errorf("%s is %d x %d in %d bytes: %v", consolePicture, shown.Width, shown.Height, len(content), err)
	}
	if !strings.Contains(readReadme(t), "](cmd/keystile/"+consolePicture+")") {
		t.Error("the README does not show it")
	}
}

func takePicture(t *testing.T) {
	path, err := filepath.Abs(consolePicture)
	if err != nil {
		t.Fatal(err)
	}
	c, clock := command{folder: t.TempDir()}, time.Now()
	prepareStore(t, c.folder, cache.BoltOptions{Now: func() time.Time { return clock }}, func(t *testing.T, store keys.Store) {
		now := clock
		for _, key := range []struct {
			name              string
			created, lastUsed time.Duration // ago
			off               bool
		}{
			{"Web shop", 61 * 24 * time.Hour, 2 * time.Minute, false},
			{"Mobile app", 47 * 24 * time.Hour, 9 * time.Minute, false},
			{"Product photos, nightly", 30 * 24 * time.Hour, 14 * time.Hour, false},
			{"Voice assistant", 12 * 24 * time.Hour, time.Hour, false},
			{"Prototype", 88 * 24 * time.Hour, 26 * 24 * time.Hour, true},
		} {
			clock = now.Add(-key.created)
			id := createNamed(t, store, key.name)
			if _, _, err := store.Update(t.Context(), id, func(r *keys.Record) error { r.Active = !key.off; return nil }); err != nil {
				t.Fatal(err)
			}
			if err := store.Touch(t.Context(), map[keys.ID]keys.Use{id: {At: now.Add(-key.lastUsed)}}); err != nil {
				t.Fatal(err)
			}
		}
	})
	runConsole(t, "console.mjs", "pictureForTheReadme", c, "SIZE=1280x800", "SCHEME=light", "PICTURE="+path)
}
