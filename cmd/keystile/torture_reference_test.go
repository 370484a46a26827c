//go:build torture

package main

import (
	"os"
	"testing"
)

// TestTortureReferenceIsReadableAtEverySizeAndScheme looks at the API's reference as useConsole does,
// and 320 pixels wide.
func TestTortureReferenceIsReadableAtEverySizeAndScheme(t *testing.T) {
	t.Parallel()
	for _, size := range []string{"1280x800", "390x844"} {
		for _, scheme := range []string{"light", "dark"} {
			t.Run(size+" "+scheme, func(t *testing.T) {
				env := []string{"SIZE=" + size, "SCHEME=" + scheme, "SHOTS=" + os.Getenv("CONSOLE_SHOTS")}
				runBrowser(t, command{folder: t.TempDir()}, env, "reference.mjs")
			})
		}
	}
}
