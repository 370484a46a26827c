package cache

import "keystile/keys"

// accountless is why Redis does not meet the clauses about accounts.
const accountless = "the accounts and the audit trail of Redis come next"

type accountsAndTrail interface {
	keys.Accounts
	keys.Trail
}

// withoutAccounts is a Redis whose accounts nobody may ask for.
type withoutAccounts struct {
	*Redis
	accountsAndTrail
}
