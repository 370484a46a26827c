//go:build torture

package main

import "testing"

func TestTortureKilledProcessLeavesAnEntryForEveryChangeInBolt(t *testing.T) { killedWithBolt(t, 50) }

func TestTortureKilledProcessOrServerLeavesAnEntryForEveryChangeInRedis(t *testing.T) {
	killedWithRedis(t, 50)
}
