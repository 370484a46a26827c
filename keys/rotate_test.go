package keys_test

import (
	"errors"
	"testing"
	"time"

	"keystile/keys"
)

// lives returns which of the secrets prove the record's key.
func lives(r *keys.Record, at time.Time, secrets ...keys.Secret) (proved []bool) {
	grant := r.Grant()
	for _, secret := range secrets {
		_, ok := (*keys.Peppers)(nil).Match(&grant, secret, at)
		proved = append(proved, ok)
	}
	return proved
}

func TestRotationSaysWhichSecretsLive(t *testing.T) {
	const hour = time.Hour
	type step struct {
		after   time.Duration // since the step before
		overlap time.Duration // of a rotation; negative: none, the overlap is ended
		err     error
	}
	for name, c := range map[string]struct {
		steps []step
		after time.Duration
		lives []bool // the first secret, then that of each rotation
	}{
		"without an overlap the old secret ends at once":                  {[]step{{0, 0, nil}}, 0, []bool{false, true}},
		"during an overlap both live":                                     {[]step{{0, hour, nil}}, hour - 1, []bool{true, true}},
		"when it ends the old one does":                                   {[]step{{0, hour, nil}}, hour, []bool{false, true}},
		"a second overlap is refused while one runs, and nothing changes": {[]step{{0, hour, nil}, {hour - 1, hour, keys.ErrOverlap}}, 0, []bool{true, true, false}},
		"a second overlap when the first has ended":                       {[]step{{0, hour, nil}, {hour, hour, nil}}, hour - 1, []bool{false, true, true}},
		"without one, the previous secret keeps its end":                  {[]step{{0, hour, nil}, {hour - 2, 0, nil}}, 1, []bool{true, false, true}},
		"and ends there":                                 {[]step{{0, hour, nil}, {hour - 2, 0, nil}}, 2, []bool{false, false, true}},
		"an overlap ended early":                         {[]step{{0, hour, nil}, {0, -1, nil}}, 0, []bool{false, true}},
		"a second overlap when the first is ended early": {[]step{{0, hour, nil}, {0, -1, nil}, {0, hour, nil}}, 0, []bool{false, true, true}},
	} {
		t.Run(name, func(t *testing.T) {
			at := time.UnixMilli(1_800_000_000_000)
			id := keys.NewID()
			secrets := []keys.Secret{keys.NewSecret(id)}
			r := keys.Record{ID: id, Active: true, Digests: [2]keys.Digest{(*keys.Peppers)(nil).Digest(secrets[0])}}
			for _, s := range c.steps {
				at = at.Add(s.after)
				if s.overlap < 0 {
					r.EndOverlap()
					continue
				}
				secret := keys.NewSecret(id)
				secrets = append(secrets, secret)
				if err := r.Rotate((*keys.Peppers)(nil).Digest(secret), s.overlap, at); !errors.Is(err, s.err) {
					t.Fatalf("Rotate returned %v, want %v", err, s.err)
				}
			}
			for i, lives := range lives(&r, at.Add(c.after), secrets...) {
				if lives != c.lives[i] {
					t.Errorf("secret %d works: %v", i, lives)
				}
			}
		})
	}
}

// What ends sooner, because a store lost it or a backup says so, is not given more time.
func TestRotationNeverMovesTheEndOfASecretBack(t *testing.T) {
	for name, until := range map[string]int64{"sooner": now.Add(time.Minute).UnixMilli(), "ended": now.Add(-time.Minute).UnixMilli()} {
		id := keys.NewID()
		old := keys.NewSecret(id)
		r := keys.Record{ID: id, Digests: [2]keys.Digest{(*keys.Peppers)(nil).Digest(old)}}
		r.Digests[0].EndBy(until)
		if err := r.Rotate(keys.Digest{Sum: keys.Sum{1}, Scheme: keys.SHA256}, time.Hour, now); err != nil {
			t.Fatal(err)
		}
		if r.Digests[1].Until != until || lives(&r, time.UnixMilli(until), old)[0] {
			t.Errorf("%s: the old secret ends at %d, want %d", name, r.Digests[1].Until, until)
		}
	}
}

func TestOverlapEndIsThatOfAnOverlapThatRuns(t *testing.T) {
	end := time.UnixMilli(1_800_000_000_123)
	previous := keys.Digest{Sum: keys.Sum{1}, Scheme: keys.SHA256, Until: end.UnixMilli()}
	endless := previous
	endless.Until = 0
	for name, c := range map[string]struct {
		digest keys.Digest
		at     time.Time
		want   time.Time
	}{
		"it runs":        {previous, end.Add(-1), end},
		"it has ended":   {previous, end, time.Time{}},
		"none":           {keys.Digest{}, end, time.Time{}},
		"without an end": {endless, end, time.Time{}},
	} {
		r := keys.Record{Digests: [2]keys.Digest{{}, c.digest}}
		if got := r.OverlapEnd(c.at); !got.Equal(c.want) {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestDigestEndsAtTheSoonerOfTwoEnds(t *testing.T) {
	for _, c := range []struct{ have, by, want int64 }{{0, 0, 0}, {0, 5, 5}, {5, 0, 5}, {5, 7, 5}, {7, 5, 5}} {
		d := keys.Digest{Until: c.have}
		if d.EndBy(c.by); d.Until != c.want {
			t.Errorf("%d by %d is %d", c.have, c.by, d.Until)
		}
	}
}

// TestRotationOfAKeyWithoutASecretLeavesNoPrevious: what was known to be ended can have
// been taken from a record.
func TestRotationOfAKeyWithoutASecretLeavesNoPrevious(t *testing.T) {
	r := keys.Record{ID: keys.NewID(), Active: true}
	next := keys.Digest{Sum: keys.Sum{1}, Scheme: keys.SHA256}
	if err := r.Rotate(next, time.Hour, time.Now()); err != nil || r.Digests != [2]keys.Digest{next} {
		t.Errorf("%+v, %v", r.Digests, err)
	}
}
