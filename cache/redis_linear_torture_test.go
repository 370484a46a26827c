//go:build torture

package cache

import "testing"

func TestTortureThreeAdministratorsAreLinearizable(t *testing.T) { linearizable(t, 100_000) }

func TestTortureThreeAdministratorsAreLinearizableWhileConnectionsAreCut(t *testing.T) {
	linearizableWhileCut(t, 100_000)
}
