package admin

import (
	"context"
	"time"
)

const (
	brakeDelay = 500 * time.Millisecond
	brakeHolds = 16 // of the listener's connections
)

// brake slows down whoever guesses tokens, one after the other: the answer to a wrong one
// is held back. The right token never waits, however many wrong ones do, so nobody can keep
// its owner out. What makes guessing hopeless is the length of the token, not the brake:
// beyond so many held answers the next is given at once, because each costs a connection.
type brake struct {
	delay time.Duration
	holds chan struct{}
}

func newBrake() *brake { return &brake{brakeDelay, make(chan struct{}, brakeHolds)} }

// hold returns after the delay, or when the client has gone, or at once when too much is held.
func (b *brake) hold(ctx context.Context) {
	select {
	case b.holds <- struct{}{}:
		defer func() { <-b.holds }()
	default:
		return
	}
	delay := time.NewTimer(b.delay)
	defer delay.Stop()
	select {
	case <-delay.C:
	case <-ctx.Done():
	}
}
