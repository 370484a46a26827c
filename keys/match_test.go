package keys_test

import (
	"bytes"
	"testing"
	"time"

	"keystile/keys"
)

// now has a fraction of a millisecond, which must not move the end of a digest.
var now = time.UnixMilli(1_800_000_000_123).Add(456 * time.Microsecond)

func peppersOf(t testing.TB, fills ...byte) *keys.Peppers {
	t.Helper()
	var secrets [][]byte
	for _, fill := range fills {
		secrets = append(secrets, bytes.Repeat([]byte{fill}, keys.MinPepperLength))
	}
	peppers, err := keys.NewPeppers(secrets...)
	if err != nil {
		t.Fatal(err)
	}
	return peppers
}

// eachPeppers runs test without a pepper, with one and with two.
func eachPeppers(t *testing.T, test func(t *testing.T, peppers *keys.Peppers)) {
	t.Helper()
	for name, peppers := range map[string]*keys.Peppers{
		"nil": nil, "zero": {}, "one": peppersOf(t, 1), "two": peppersOf(t, 1, 2),
	} {
		t.Run(name, func(t *testing.T) { test(t, peppers) })
	}
}

func TestBothDigestsMatchTheirOwnSecretOnly(t *testing.T) {
	eachPeppers(t, func(t *testing.T, peppers *keys.Peppers) {
		id := keys.NewID()
		present, former, wrong := keys.NewSecret(id), keys.NewSecret(id), keys.NewSecret(id)
		grant := keys.Grant{ID: id, Digests: [2]keys.Digest{peppers.Digest(present), peppers.Digest(former)}}
		for i, secret := range []keys.Secret{present, former} {
			if digest, proved := peppers.Match(&grant, secret, now); !proved || digest != grant.Digests[i] {
				t.Errorf("secret %d: Match returned %+v, %v", i, digest, proved)
			}
		}
		if digest, proved := peppers.Match(&grant, wrong, now); proved || digest != (keys.Digest{}) {
			t.Errorf("a wrong secret: Match returned %+v, %v", digest, proved)
		}
	})
}

func TestDigestMatchesUntilItsEndExactly(t *testing.T) {
	eachPeppers(t, func(t *testing.T, peppers *keys.Peppers) {
		id := keys.NewID()
		secret := keys.NewSecret(id)
		digest := peppers.Digest(secret)
		digest.Until = now.UnixMilli()
		end := time.UnixMilli(digest.Until)
		for _, grant := range []keys.Grant{
			{ID: id, Active: true, Digests: [2]keys.Digest{digest}},
			{ID: id, Active: true, Digests: [2]keys.Digest{peppers.Digest(keys.NewSecret(id)), digest}},
		} {
			for _, c := range []struct {
				at   time.Time
				want bool
			}{
				{time.Unix(0, 0), true},
				{end.Add(-time.Hour), true},
				{end.Add(-1), true},
				{end, false},
				{end.Add(1), false},
				{end.Add(time.Hour), false},
			} {
				if _, proved := peppers.Match(&grant, secret, c.at); proved != c.want {
					t.Errorf("%v after the end: Match returned %v", c.at.Sub(end), proved)
				}
				if admits := grant.Admits(digest, c.at); admits != c.want {
					t.Errorf("%v after the end: Admits returned %v", c.at.Sub(end), admits)
				}
			}
		}
	})
}

func TestZeroGrantNeverMatches(t *testing.T) {
	eachPeppers(t, func(t *testing.T, peppers *keys.Peppers) {
		for name, secret := range map[string]keys.Secret{
			"a secret": keys.NewSecret(keys.NewID()), "of the zero id": keys.NewSecret(keys.ID{}), "zero": {},
		} {
			if digest, proved := peppers.Match(&keys.Grant{}, secret, now); proved || digest != (keys.Digest{}) {
				t.Errorf("%s: the zero grant returned %+v, %v", name, digest, proved)
			}
		}
	})
}

func TestEmptyDigestNeverMatches(t *testing.T) {
	eachPeppers(t, func(t *testing.T, peppers *keys.Peppers) {
		secret := keys.NewSecret(keys.NewID())
		digest := peppers.Digest(secret)
		digest.Scheme = 0
		for name, digests := range map[string][2]keys.Digest{
			"none": {}, "emptied, first": {digest}, "emptied, second": {{}, digest},
		} {
			grant := keys.Grant{ID: secret.ID(), Active: true, Digests: digests}
			if _, proved := peppers.Match(&grant, secret, now); proved {
				t.Errorf("%s: an empty digest matched", name)
			}
		}
	})
}

func TestGrantOfAnotherKeyNeverMatches(t *testing.T) {
	eachPeppers(t, func(t *testing.T, peppers *keys.Peppers) {
		secret := keys.NewSecret(keys.NewID())
		digest := peppers.Digest(secret)
		for _, id := range []keys.ID{keys.NewID(), {}} {
			grant := keys.Grant{ID: id, Digests: [2]keys.Digest{digest, digest}}
			if _, proved := peppers.Match(&grant, secret, now); proved {
				t.Errorf("the secret of %s proved key %q", secret.ID(), id)
			}
		}
	})
}

func TestZeroSecretProvesNothing(t *testing.T) {
	eachPeppers(t, func(t *testing.T, peppers *keys.Peppers) {
		grant := keys.Grant{Active: true, Digests: [2]keys.Digest{{Scheme: keys.SHA256}, {Scheme: keys.HMACSHA256}}}
		if _, proved := peppers.Match(&grant, keys.Secret{}, now); proved {
			t.Error("the zero Secret proved a key")
		}
	})
}

// The random part of one key's secret under another key's id is another secret:
// the digest covers the id.
func TestDigestCoversTheID(t *testing.T) {
	eachPeppers(t, func(t *testing.T, peppers *keys.Peppers) {
		secret := keys.NewSecret(keys.NewID())
		other := keys.NewID()
		moved := mustParse(t, seal(string(other[:]), secret.Reveal()[27:70]))
		grant := keys.Grant{ID: other, Digests: [2]keys.Digest{peppers.Digest(secret)}}
		if _, proved := peppers.Match(&grant, moved, now); proved {
			t.Error("a secret moved to another id matched the digest of the first")
		}
	})
}

func TestInactiveKeyStillProvesItsSecret(t *testing.T) {
	secret := keys.NewSecret(keys.NewID())
	var peppers *keys.Peppers
	grant := keys.Grant{ID: secret.ID(), Digests: [2]keys.Digest{peppers.Digest(secret)}}
	digest, proved := peppers.Match(&grant, secret, now)
	if !proved || grant.Admits(digest, now) {
		t.Errorf("Match returned %v and Admits %v, want true and false", proved, grant.Admits(digest, now))
	}
}
