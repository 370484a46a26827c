//go:build torture

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"keystile/cache"
	"keystile/keys"
)

// useConsole runs a test of console.mjs at both sizes and in both colour schemes, each with
// a process of its own that has the keys which prepare leaves in its store. With
// CONSOLE_SHOTS=folder the states of the page are kept there as pictures.
func useConsole(t *testing.T, test string, prepare func(t *testing.T, store keys.Store)) {
	t.Parallel()
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatalf("%v: run make torture, or tools/install-needs.sh torture", err)
	}
	upstream := newSample(t)
	for _, size := range []string{"1280x800", "390x844"} {
		for _, scheme := range []string{"light", "dark"} {
			t.Run(size+" "+scheme, func(t *testing.T) {
				c := command{folder: t.TempDir()}
				if prepare != nil {
					prepareStore(t, c.folder, prepare)
				}
				p := startServe(t, upstream.URL, c)
				runNode(t, consoleFolder, []string{
					"HOME=" + t.TempDir(), "CHROMIUM=" + chromium, "ADMIN=" + p.admin, "TOKEN=" + p.token,
					"SIZE=" + size, "SCHEME=" + scheme, "SHOTS=" + os.Getenv("CONSOLE_SHOTS"),
				}, "console.mjs", test)
			})
		}
	}
}

func prepareStore(t *testing.T, folder string, prepare func(*testing.T, keys.Store)) {
	t.Helper()
	data := filepath.Join(folder, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	store, err := cache.OpenBolt(filepath.Join(data, "keystile.db"), cache.BoltOptions{PerAccount: 1000})
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

func TestTortureConsoleNeedsOnlyAKeyboard(t *testing.T) {
	useConsole(t, "keyboardAloneIsEnough", nil)
}

func TestTortureConsoleShowsProxiesWithTheirVersions(t *testing.T) {
	useConsole(t, "proxiesAreShownWithTheirVersions", nil)
}

func TestTortureConsoleIsThereWithin6RequestsAnd60KB(t *testing.T) {
	useConsole(t, "firstPaintTakes6RequestsAnd60KB", nil)
}

// hostileNames are attempts to leave the text, each of which would set "hostile" or show a dialog.
var hostileNames = []string{
	`<img src=x onerror=alert(1)>`, `<script>hostile=1</script>`, `"><svg onload=alert(1)>`, `' onfocus=hostile=1 autofocus x='`,
	`<iframe srcdoc="<script>parent.hostile=1</script>">`, `javascript:hostile=1`, `<a href=javascript:alert(1)>x</a>`, `</bdi></h2></li><h1>`,
	`${hostile=1}`, `{{constructor.constructor('hostile=1')()}}`, "\u202egnp.yek", "a\u0000b", "\u2066\u2067\u2068", "line\nbreak", `<style>*{display:none}</style>`,
	`&lt;b&gt;`, "\ufeff", `<!--`, strings.Repeat("W", 2000), "z\u0336\u0489\u0315\u0334",
}

func TestTortureConsoleShows200HostileNamesAsText(t *testing.T) {
	useConsole(t, "hostileNamesAreText", func(t *testing.T, store keys.Store) {
		for i := range 200 {
			id := keys.NewID()
			name := fmt.Sprintf("%s %d", hostileNames[i%len(hostileNames)], i)
			_, err := store.Create(t.Context(), keys.Draft{
				ID: id, Account: keys.DefaultAccount, Name: name, Digest: (*keys.Peppers)(nil).Digest(keys.NewSecret(id)),
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	})
}
