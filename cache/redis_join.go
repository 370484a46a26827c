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

// errJoining is why a process is not fresh that no server would know after a failover.
var errJoining = fmt.Errorf("%w: this process joins, and no replica has confirmed its row in the table of proxies yet", keys.ErrUnavailable)

// mayAdmit reports whether our row may say that we admit requests. Where another server
// can take over, a process whose records are not fresh is a stranger: it is new, or was
// away for so long that others may have buried its row. First a replica must know it.
func (f *follower) mayAdmit() bool {
	if !f.loaded || !f.r.replicasConfirm() || f.confirmed == f.session {
		return f.loaded
	}
	fresh := &f.r.o.Mirror.fresh
	proof := *fresh.state.Load()
	if proof.why == nil && proof.at(f.r.clock()) == nil {
		return true
	}
	proof.why = errJoining // whatever the clocks say next
	fresh.set(proof)
	return false
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
	f.confirmed, f.waits = f.session, false
	return true, nil
}

// replicasConfirm reports whether a process that joins waits for a replica.
func (r *Redis) replicasConfirm() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.confirms
}
