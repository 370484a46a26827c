package cache

import (
	"testing"

	"github.com/alicebob/miniredis/v2"

	"keystile/cache/redistest"
	"keystile/keys/keystest"
)

// redisHarness opens stores in the server that start starts for each folder.
func redisHarness(start func(t testing.TB, dir string) (address string)) keystest.Harness {
	return keystest.Harness{
		Open: func(t testing.TB, dir string, o keystest.Options) keystest.Store {
			r, err := OpenRedis(t.Context(), RedisOptions{
				Server: RedisServer{Addresses: []string{start(t, dir)}}, Mirror: NewMirror(),
				PerAccount: o.PerAccount, AuditKeep: o.AuditKeep, Now: o.Now, ReceiptDeadline: patience,
			})
			if err != nil {
				t.Fatal(err)
			}
			await(t, "the store is served", func() bool { return r.o.Mirror.Fresh() == nil })
			return r
		},
		Immediate: true,
	}
}

func TestRedisMeetsTheContractOnMiniredis(t *testing.T) {
	keystest.Run(t, redisHarness(perFolder(func(t testing.TB) string { return miniredis.RunT(t).Addr() })))
}

func TestRedisMeetsTheContractOnARealServer(t *testing.T) {
	keystest.Run(t, redisHarness(perFolder(func(t testing.TB) string { return redistest.Start(t, redistest.Options{}).Addr() })))
}
