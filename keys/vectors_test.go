package keys_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"testing"
	"time"

	"keystile/keys"
)

// vectors are the published test vectors. They were computed apart from this code,
// so that it cannot agree with them by sharing a mistake.
type vectors struct {
	About []string
	Valid []struct {
		Note, Key, ID, Random, Checksum, Secret string
		SHA256, HMAC                            keys.Sum
		Pepper                                  string
		PepperNumber                            uint32   `json:"pepper_number"`
		PepperCheck                             keys.Sum `json:"pepper_check"`
	}
	InvalidSecrets []struct{ Note, Secret, Message string } `json:"invalid_secrets"`
	InvalidKeys    []struct{ Note, Key, Message string }    `json:"invalid_keys"`
}

func readVectors(t testing.TB) vectors {
	t.Helper()
	file, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	decoder := json.NewDecoder(bytes.NewReader(file))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&v); err != nil {
		t.Fatal(err)
	}
	if len(v.Valid) < 7 || len(v.InvalidSecrets) < 30 || len(v.InvalidKeys) < 10 {
		t.Fatalf("vectors are missing: %d, %d, %d", len(v.Valid), len(v.InvalidSecrets), len(v.InvalidKeys))
	}
	return v
}

func TestVectorsParseToTheirParts(t *testing.T) {
	for _, v := range readVectors(t).Valid {
		t.Run(v.Note, func(t *testing.T) {
			secret, err := keys.ParseSecret(v.Secret)
			if err != nil {
				t.Fatal(err)
			}
			id, err := keys.ParseKey(v.Key)
			if err != nil {
				t.Fatal(err)
			}
			if secret.ID() != id || string(id[:]) != v.ID || id.String() != v.Key {
				t.Errorf("the secret's id is %s and the key's %s, want %s", secret.ID(), id, v.Key)
			}
			if secret.Reveal() != v.Secret {
				t.Error("Reveal does not return what was parsed")
			}
			if whole := keys.SecretPrefix + v.ID + "_" + v.Random + v.Checksum; whole != v.Secret {
				t.Errorf("the vector contradicts itself: %s", whole)
			}
		})
	}
}

func TestVectorsGiveTheirDigestsAndPepperChecks(t *testing.T) {
	for _, v := range readVectors(t).Valid {
		t.Run(v.Note, func(t *testing.T) {
			secret, err := keys.ParseSecret(v.Secret)
			if err != nil {
				t.Fatal(err)
			}
			pepper, err := hex.DecodeString(v.Pepper)
			if err != nil {
				t.Fatal(err)
			}
			peppers, err := keys.NewPeppers(pepper)
			if err != nil {
				t.Fatal(err)
			}
			if peppers.Check() != v.PepperCheck {
				t.Errorf("pepper check %x, want %x", peppers.Check(), v.PepperCheck)
			}
			plain := keys.Digest{Sum: v.SHA256, Scheme: keys.SHA256}
			if got := (*keys.Peppers)(nil).Digest(secret); got != plain {
				t.Errorf("digest without a pepper %+v, want %+v", got, plain)
			}
			peppered := keys.Digest{Sum: v.HMAC, Pepper: v.PepperNumber, Scheme: keys.HMACSHA256}
			if got := peppers.Digest(secret); got != peppered {
				t.Errorf("digest with the pepper %+v, want %+v", got, peppered)
			}
			for _, digest := range []keys.Digest{plain, peppered} {
				grant := keys.Grant{ID: secret.ID(), Digests: [2]keys.Digest{digest}}
				if got, proved := peppers.Match(&grant, secret, time.Unix(0, 0)); !proved || got != digest {
					t.Errorf("Match returned %+v, %v for %+v", got, proved, digest)
				}
			}
		})
	}
}

func TestInvalidVectorsAreRefusedWithTheirMessage(t *testing.T) {
	v := readVectors(t)
	for _, c := range v.InvalidSecrets {
		t.Run("secret/"+c.Note, func(t *testing.T) {
			secret, err := keys.ParseSecret(c.Secret)
			wantFormatError(t, err, c.Message)
			if secret != (keys.Secret{}) || secret.Reveal() != "" {
				t.Error("a secret was returned with the error")
			}
		})
	}
	for _, c := range v.InvalidKeys {
		t.Run("key/"+c.Note, func(t *testing.T) {
			id, err := keys.ParseKey(c.Key)
			wantFormatError(t, err, c.Message)
			if id != (keys.ID{}) {
				t.Error("an id was returned with the error")
			}
			if id.UnmarshalText([]byte(c.Key)) == nil || id != (keys.ID{}) {
				t.Error("UnmarshalText accepted it or changed the id")
			}
		})
	}
}

func wantFormatError(t *testing.T, err error, message string) {
	t.Helper()
	var format *keys.FormatError
	if !errors.As(err, &format) || format.Error() != message {
		t.Errorf("error %v (%T), want %q", err, err, message)
	}
}
