package cache

import (
	"errors"
	"strings"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// dialFailures is how many failures to connect the library counts before it connects only
// once a second, which would delay the end of an outage. The follower fails five times a
// second, so this lasts for hours. The library calls it the size of its pool.
const dialFailures = 1 << 15

// newClient returns a client that never waits long: a server that is dead must not
// make anybody wait. Commands are not sent twice: that is for those who know whether
// they may be.
func newClient(s RedisServer) redis.UniversalClient {
	return redis.NewUniversalClient(&redis.UniversalOptions{
		Addrs: s.Addresses, IsClusterMode: s.Cluster, MasterName: s.SentinelPrimary,
		SentinelUsername: s.SentinelUser, SentinelPassword: s.SentinelPassword,
		Username: s.User, Password: s.Password, DB: s.Database, TLSConfig: s.TLS,
		DialTimeout: pollTimeout, ReadTimeout: commandTimeout, WriteTimeout: commandTimeout,
		PoolSize: dialFailures, PoolTimeout: commandTimeout, ContextTimeoutEnabled: true, MaxRetries: -1, DialerRetries: 1,
		DisableIdentity: true, MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}

// isNetwork reports whether err leaves it open what the server did: everything but an
// answer of the server.
func isNetwork(err error) bool {
	var answered redis.Error
	return err != nil && !errors.As(err, &answered)
}

// moved reports whether the server says that it is not the one to ask (any more).
func moved(err error) bool {
	var answered redis.Error
	if !errors.As(err, &answered) {
		return false
	}
	for _, prefix := range []string{"MOVED ", "ASK ", "READONLY ", "LOADING ", "MASTERDOWN ", "CLUSTERDOWN ", "TRYAGAIN ", "NOREPLICAS "} {
		if strings.HasPrefix(err.Error(), prefix) {
			return true
		}
	}
	return false
}
