package keys_test

import (
	"fmt"
	"regexp"
	"time"

	"keystile/keys"
)

func ExampleNewSecret() {
	secret := keys.NewSecret(keys.NewID())
	fmt.Println(secret)
	fmt.Println(regexp.MustCompile(keys.SecretPattern).MatchString(secret.Reveal()))
	// Output:
	// [redacted]
	// true
}

func ExampleParseSecret() {
	const sent = "kss_0123456789ABCDEFGHIJKL_JKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz43mqwN"
	secret, err := keys.ParseSecret(sent)
	fmt.Println(secret.ID(), err)

	_, err = keys.ParseSecret(sent[:70])
	fmt.Println(err)
	// Output:
	// kst_0123456789ABCDEFGHIJKL <nil>
	// the secret is truncated: it has fewer than 76 characters
}

func ExamplePeppers_Match() {
	peppers, err := keys.NewPeppers([]byte("an example: keep 32 random bytes"))
	if err != nil {
		fmt.Println(err)
		return
	}
	secret := keys.NewSecret(keys.NewID())
	record := keys.Record{ID: secret.ID(), Active: true, Digests: [2]keys.Digest{peppers.Digest(secret)}}

	grant := record.Grant()
	_, proved := peppers.Match(&grant, secret, time.Now())
	fmt.Println("its secret:", proved)
	_, proved = peppers.Match(&grant, keys.NewSecret(record.ID), time.Now())
	fmt.Println("another secret:", proved)
	_, proved = peppers.Match(&keys.Grant{}, secret, time.Now())
	fmt.Println("an unknown key:", proved)
	// Output:
	// its secret: true
	// another secret: false
	// an unknown key: false
}

func ExampleRedact() {
	const secret = "kss_0123456789ABCDEFGHIJKL_JKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz43mqwN"
	fmt.Println(keys.Redact("/v1/images/" + secret + "/first"))
	// Output: /v1/images/[redacted]/first
}
