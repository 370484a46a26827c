package cache

import (
	"path/filepath"
	"testing"

	"keystile/keys/keystest"
)

func boltHarness() keystest.Harness {
	return keystest.Harness{
		Immediate: true,
		OneHandle: "one process owns the file of a Bolt",
		Open: func(t testing.TB, dir string, o keystest.Options) keystest.Store {
			b, err := OpenBolt(filepath.Join(dir, "keys.db"),
				BoltOptions{Mirror: NewMirror(), PerAccount: o.PerAccount, AuditKeep: o.AuditKeep, Now: o.Now})
			if err != nil {
				t.Fatal(err)
			}
			return b
		},
	}
}

func TestBoltMeetsTheContract(t *testing.T) { keystest.Run(t, boltHarness()) }

func BenchmarkBolt(b *testing.B) { keystest.Benchmark(b, boltHarness()) }
