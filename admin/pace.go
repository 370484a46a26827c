package admin

import (
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	changesPerSecond = 1   // that an account may make of its keys in the long run
	changesAtOnce    = 100 // and after a pause
	pacesKept        = 10_000
)

// paces bound how fast accounts change their keys. Each change is kept for long: in the
// audit trail, from which it pushes out others', and for ever when it deletes. Refused calls
// change nothing and cost nothing here.
type paces struct {
	mu sync.Mutex
	of map[string]*rate.Limiter // by account; absent: it has all of changesAtOnce
}

func newPaces() *paces { return &paces{of: map[string]*rate.Limiter{}} }

// wait returns how long an account has to wait before its next change; 0: not at all.
func (p *paces) wait(account string, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	pace := p.of[account]
	if pace == nil || pace.TokensAt(now) >= 1 {
		return 0
	}
	return time.Duration((1 - pace.TokensAt(now)) / changesPerSecond * float64(time.Second))
}

// made notes a change.
func (p *paces) made(account string, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pace := p.of[account]
	if pace == nil {
		p.forget(now)
		pace = rate.NewLimiter(changesPerSecond, changesAtOnce)
		p.of[account] = pace
	}
	pace.AllowN(now, 1)
}

// forget keeps the number of paces down: those that have all again say nothing.
func (p *paces) forget(now time.Time) {
	if len(p.of) < pacesKept {
		return
	}
	for account, pace := range p.of {
		if pace.TokensAt(now) >= changesAtOnce {
			delete(p.of, account)
		}
	}
}

// tooFast returns what the client reads who has to wait.
func tooFast(wait time.Duration) *problem {
	p := rateLimited.problem("")
	p.header = http.Header{"Retry-After": {strconv.Itoa(int(math.Ceil(wait.Seconds())))}}
	return p
}
