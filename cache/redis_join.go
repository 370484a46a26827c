package cache

import (
	"context"
	"fmt"
	"time"

	"keystile/keys"
)

// confirmTimeout is how long a process that joins waits for a replica, each time. It
// admits nobody, so nobody waits with it.
const confirmTimeout = 300 * time.Millisecond

// errJoining is why a process that joins is not fresh while no replica has its row.
var errJoining = fmt.Errorf("%w: this process joins, and no replica has confirmed its row in the table of proxies yet", keys.ErrUnavailable)

// setLive decides whether the row of the next poll says that we may admit requests. While
// it does not, our records are not fresh, whatever the clocks say.
func (f *follower) setLive() {
	if f.live = f.mayAdmit(); f.loaded && !f.live {
		f.r.o.Mirror.fresh.expire(errJoining)
	}
}

// mayAdmit reports whether our row may say that we admit requests. Where another server
// can take over, a process that is new, or whose records have lapsed (others may have
// removed its row), first needs a replica that has the row.
func (f *follower) mayAdmit() bool {
	return f.loaded && (!f.r.joinWaits() || f.confirmedOn == f.session ||
		f.r.o.Mirror.fresh.state.Load().at(f.r.clock()) == nil)
}

// confirm asks the replicas for the row that the last poll has written, and reports
// whether one of them has it: whoever looks at that replica, should it take over, finds
// us. If none has, the next poll asks again.
func (f *follower) confirm(ctx context.Context) (confirmed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	have, err := f.session.conn.Wait(ctx, 1, confirmTimeout).Result()
	if err != nil {
		return false, err
	}
	if have == 0 {
		if !f.waits {
			f.r.o.Log.Warn("no replica of the server has confirmed the row of this process; it is not ready until one has")
		}
		f.waits = true
		return false, nil
	}
	if f.waits {
		f.r.o.Log.Info("a replica has confirmed the row of this process")
	}
	f.confirmedOn, f.waits = f.session, false
	return true, nil
}

// joinWaits reports whether a process that joins waits for a replica.
func (r *Redis) joinWaits() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.waitToJoin
}
