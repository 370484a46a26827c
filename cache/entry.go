package cache

import (
	"time"

	"keystile/keys"
)

// keyEntry returns what the audit trail says of a change of a key, but for who made it;
// before or after is nil where there was none, or is none.
func keyEntry(action keys.Action, before, after *keys.Record, now time.Time) keys.Entry {
	e := keys.Entry{Time: now, Action: action}
	if before != nil {
		e.Account, e.Subject, e.Before = before.Account, before.ID.String(), keys.KeyState(before, now)
	}
	if after != nil {
		e.Account, e.Subject, e.After = after.Account, after.ID.String(), keys.KeyState(after, now)
	}
	return e
}

// accountEntry is keyEntry for an account.
func accountEntry(action keys.Action, before, after *keys.Account, now time.Time) keys.Entry {
	e := keys.Entry{Time: now, Action: action}
	if before != nil {
		e.Account, e.Before = before.ID, keys.AccountState(before)
	}
	if after != nil {
		e.Account, e.After = after.ID, keys.AccountState(after)
	}
	return e
}

// tokenEntry is keyEntry for a token.
func tokenEntry(action keys.Action, before, after *keys.AccountToken, now time.Time) keys.Entry {
	e := keys.Entry{Time: now, Action: action}
	if before != nil {
		e.Account, e.Subject, e.Before = before.Account, before.ID, keys.TokenState(before)
	}
	if after != nil {
		e.Account, e.Subject, e.After = after.Account, after.ID, keys.TokenState(after)
	}
	return e
}

// madeBy returns the entry with who made the change.
func madeBy(actor keys.Actor, e keys.Entry) keys.Entry {
	e.Principal, e.Token, e.Peer, e.RequestID = actor.Principal, actor.Token, actor.Peer, actor.RequestID
	return e
}
