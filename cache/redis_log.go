package cache

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/redis/go-redis/v9"

	"keystile/keys"
)

// TakeClientLog sends what the client of Redis says to l, at level debug: whatever
// matters of it is logged by [Redis] too. The client has one log for the whole
// process, so commands call this, and nothing below them.
func TakeClientLog(l *slog.Logger) { redis.SetLogger(clientLog{l}) }

type clientLog struct{ log *slog.Logger }

// Printf logs one message.
func (l clientLog) Printf(ctx context.Context, format string, v ...any) {
	l.log.DebugContext(ctx, "redis client", "message", keys.Redact(fmt.Sprintf(format, v...)))
}
