package cache

import (
	"context"
	"slices"

	"keystile/keys"
)

// Watch waits until the set is there, calls apply for every key, then for each change
// as it is applied, until ctx is done. See [keys.Store].
func (r *Redis) Watch(ctx context.Context, apply func(keys.Change)) error {
	if err := r.alive(ctx); err != nil {
		return err
	}
	select {
	case <-r.serving:
	case <-ctx.Done():
		return unavailable("watching keys", ctx.Err())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.gone(ctx); err != nil {
		return err
	}
	for n := range r.o.Mirror.table.Load().all() {
		apply(keys.Change{Version: n.grant.Version, ID: n.grant.ID, Grant: n.grant})
	}
	w := &watcher{ctx: ctx, apply: apply}
	w.stop = context.AfterFunc(ctx, func() { r.forget(w) })
	r.watchers = append(r.watchers, w)
	return nil
}

func (r *Redis) forget(w *watcher) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.watchers = slices.DeleteFunc(r.watchers, func(have *watcher) bool { return have == w })
}

func (r *Redis) tell(change keys.Change) {
	for _, w := range r.watchers {
		if w.ctx.Err() == nil {
			w.apply(change)
		}
	}
}
