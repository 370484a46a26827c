//go:build torture

package cache

import "testing"

func TestTortureLostRepliesNeverMeanADoubleEffect(t *testing.T) { loseReplies(t, 1000) }
