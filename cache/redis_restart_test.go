package cache

import (
	"testing"

	"keystile/cache/redistest"
	"keystile/keys"
)

func TestProcessesServeAgainAfterTheServerWasRestarted(t *testing.T) {
	server := redistest.Start(t, redistest.Options{AppendOnly: "always"})
	a, b := join(t, server.Addr(), nil), join(t, server.Addr(), nil)
	key := a.mustCreate(keys.DefaultAccount)
	before := a.mirror.Version()
	server.Kill()
	server.Restart()
	await(t, "both have followed the new server's first version", func() bool {
		return a.mirror.Version() >= before+1<<20 && b.mirror.Version() >= before+1<<20
	})
	a.serves()
	b.serves()
	a.mustUpdate(key.ID, switchOff)
	await(t, "the change reaches the other", func() bool { return !b.admits(key.ID) })
	look(t, server.Addr()).consistent()
	if n := a.told.read(resyncs(ResyncGap)) + a.told.read(alarms); n != 0 {
		t.Errorf("a restart without loss was taken for a loss")
	}
}
