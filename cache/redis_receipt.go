package cache

import (
	"context"
	"errors"
	"time"

	"keystile/keys"
)

const (
	// receiptInterval is how often the table of proxies is read for a receipt.
	receiptInterval = 10 * time.Millisecond
	// replicaTimeout bounds the wait for replicas.
	replicaTimeout = 400 * time.Millisecond
)

// receipt waits for the replicas, then for all proxies, and releases the session. Its
// change is kept, so it never fails: what it could not learn is pending.
func (r *Redis) receipt(ctx context.Context, s *session, version uint64) keys.Receipt {
	r.poke()
	deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.o.ReceiptDeadline)
	defer cancel()
	receipt := keys.Receipt{Version: version}
	receipt.Replicas = r.waitForReplicas(deadline, s)
	tick := time.NewTicker(receiptInterval)
	defer tick.Stop()
	for {
		var done bool
		var err error
		if receipt.Pending, done, err = r.reached(deadline, s, version); err != nil {
			if s = r.replace(deadline, s, err); s == nil {
				return receipt
			}
		}
		if done || deadline.Err() != nil {
			break
		}
		select {
		case <-tick.C:
			continue
		case <-deadline.Done():
			continue // to read once more
		case <-ctx.Done(): // nobody waits for the reply
		}
		break
	}
	r.release(s, nil)
	return receipt
}

// reached reads which proxies have not applied the version, and whether waiting for
// them is done with.
func (r *Redis) reached(ctx context.Context, s *session, version uint64) (pending []keys.Pending, done bool, err error) {
	fence, err := r.readRows(ctx, s)
	if err != nil {
		return r.everybodyUnknown(), false, err
	}
	behind := r.table.pending(version, fence)
	pending = append(behind, r.fenced(fence)...)
	// A fence that outlasts us is not worth waiting for.
	return pending, len(pending) == 0 || len(behind) == 0 && time.Until(fence) > r.o.ReceiptDeadline, nil
}

// replace returns another session to the server of one that broke, for as long as there
// is time; nil: there is none. Another server may lack the change although the numbers
// of its versions are higher.
func (r *Redis) replace(ctx context.Context, s *session, broken error) *session {
	r.release(s, broken)
	tick := time.NewTicker(receiptInterval)
	defer tick.Stop()
	for ; ; <-tick.C {
		attempt, cancel := context.WithTimeout(ctx, pollTimeout)
		next, err := r.connect(attempt)
		cancel()
		switch {
		case err == nil && next.run == s.run && s.run != "":
			return next
		case err == nil:
			next.close()
			return nil
		case ctx.Err() != nil || !isNetwork(err) && !moved(err):
			return nil
		}
	}
}

// waitForReplicas waits until as many replicas as are wanted have what this session
// wrote.
func (r *Redis) waitForReplicas(ctx context.Context, s *session) keys.Replicas {
	want := r.o.WaitReplicas
	if want == 0 {
		return keys.Replicas{}
	}
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	have, err := s.conn.Wait(ctx, want, replicaTimeout).Result()
	if err != nil {
		have = 0
	}
	return keys.Replicas{Want: want, Have: int(have)}
}

// readRows reads the table of proxies and returns until when the fence stands.
func (r *Redis) readRows(ctx context.Context, s *session) (fence time.Time, err error) {
	// A little beyond the deadline, so that the last reading is one.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commandTimeout)
	defer cancel()
	pipe := s.conn.TxPipeline()
	meta := pipe.HMGet(ctx, r.name("meta"), "store", "run", "run_at")
	table := pipe.HGetAll(ctx, r.name("proxies"))
	clock := pipe.Time(ctx)
	if _, err := pipe.Exec(ctx); err != nil {
		return fence, err
	}
	values := meta.Val()
	if store, _ := values[0].(string); store != r.storeID() {
		return fence, errForeign
	}
	run, _ := values[1].(string)
	if run != s.run {
		return fence, errTakenOver
	}
	r.table.look(run, table.Val())
	return r.table.fence(runAge(values[2], clock.Val()), r.o.FenceLag), nil
}

// errTakenOver says that a session leads to what is not the primary any more.
var errTakenOver = errors.New("another server took over")

// runAge returns how long ago the present server took over, by its own clock;
// negative: it is the first.
func runAge(runAt any, now time.Time) time.Duration {
	text, _ := runAt.(string)
	if millis := parseNumber(text); millis != 0 {
		return max(0, now.Sub(time.UnixMilli(int64(millis))))
	}
	return -1
}

// fenced returns what is pending although every known proxy has applied the change.
func (r *Redis) fenced(fence time.Time) (pending []keys.Pending) {
	if !fence.IsZero() {
		pending = append(pending, keys.Pending{Proxy: "unknown (the server changed)", EffectiveBy: fence})
	}
	r.mu.Lock()
	unfenced, evicts := r.unfenced, r.evicts
	r.mu.Unlock()
	if unfenced { // a second primary could vouch for old records for ever
		pending = append(pending, keys.Pending{Proxy: "unknown (the primary is not fenced)"})
	}
	if evicts {
		pending = append(pending, keys.Pending{Proxy: "unknown (the server may have evicted the table of proxies)", EffectiveBy: r.latest()})
	}
	return pending
}

// everybodyUnknown is what is pending when the table cannot be read.
func (r *Redis) everybodyUnknown() []keys.Pending {
	return []keys.Pending{{
		Proxy:       "unknown (the table of proxies cannot be read)",
		EffectiveBy: r.latest(),
	}}
}

// latest is when a process that is not known refuses by itself at the latest, if it
// has the max_staleness that this one has.
func (r *Redis) latest() time.Time {
	return roundUp(r.clock().Add(r.o.MaxStaleness + r.o.MaxStaleness/100 + r.o.FenceLag))
}

// Proxies returns the processes that share the store and have not lapsed.
func (r *Redis) Proxies() []Proxy { return r.table.alive() }
