package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"keystile/keys"
)

// interloper is a hook of a connection that changes the store once accounts have been read.
type interloper struct{ meddle func() }

func (i *interloper) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (i *interloper) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (i *interloper) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, commands []redis.Cmder) error {
		err := next(ctx, commands)
		if meddle := i.meddle; meddle != nil && slices.ContainsFunc(commands, func(c redis.Cmder) bool { return c.Name() == "hgetall" }) {
			i.meddle = nil
			meddle()
		}
		return err
	}
}

// What belongs together changes together, after the one half of it has been read.
func TestBackupFromRedisReadsAccountsAgainThatChangeMeanwhile(t *testing.T) {
	for _, kind := range kindsOfStore()[1:] {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			r := kind.open(t, storeOptions{}).(*Redis)
			mustMake(t, r, "acme", "key", nil)
			s, spooled := spooling(t, r)
			s.conn.AddHook(&interloper{func() {
				mustChange(t, r, "acme", func(a *keys.Account) { a.Active = false })
				mustMake(t, r, "new", "key", nil)
			}})
			x := newRedisExport(r, s, spooled)
			var out bytes.Buffer
			if err := errors.Join(x.collect(t.Context()), x.settle(t.Context()), x.write(t.Context(), &out)); err != nil {
				t.Fatal(err)
			}
			c, err := verifyBackup(t.Context(), bytes.NewReader(out.Bytes()))
			if err != nil || c.held["new"] != 1 || c.accounts[0].Active {
				t.Errorf("%v:\n%s", err, out.Bytes())
			}
		})
	}
}

// The account gets a number as its name, then the key gets it; then the account is stopped
// and started; then a token is made, and the one before it is revoked.
type accountChanges struct {
	s     backedUp
	key   keys.ID
	token keys.AccountToken
	n     int
}

func (c *accountChanges) step(t testing.TB) {
	c.n++
	number := fmt.Sprint("number ", c.n)
	_, _, err := c.s.UpdateAccount(t.Context(), "acme", func(a *keys.Account) error { a.Name = number; return nil })
	_, _, err2 := c.s.Update(t.Context(), c.key, func(r *keys.Record) error { r.Name = number; return nil })
	_, _, err3 := c.s.UpdateAccount(t.Context(), "acme", func(a *keys.Account) error { a.Active = !a.Active; return nil })
	before := c.token
	token, _, err4 := c.s.CreateToken(t.Context(), keys.AccountToken{ID: number, Account: "acme", Name: number, Sum: keys.Sum{1}})
	_, err5 := c.s.DeleteToken(t.Context(), "acme", before.ID)
	c.token = token
	if err := errors.Join(err, err2, err3, err4, err5); err != nil {
		t.Error(err)
	}
}

// consistent fails the test unless a backup is of one moment between such changes.
func (c *accountChanges) consistent(t *testing.T, file []byte) {
	t.Helper()
	r, err := newBackupReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	account, tokens := new(keys.Account), 0
	numberOf := func(name string) (n int) {
		if _, err := fmt.Sscanf(name, "number %d", &n); err != nil {
			t.Fatalf("%q: %v", name, err)
		}
		return n
	}
	for {
		e, err := r.next()
		switch {
		case errors.Is(err, io.EOF):
			if tokens != 1 && tokens != 2 {
				t.Errorf("%d tokens", tokens)
			}
			return
		case err != nil:
			t.Fatal(err)
		case e.account != nil && e.account.ID == "acme":
			account = e.account
		case e.token != nil:
			tokens++
			if behind := numberOf(account.Name) - numberOf(e.token.Name); behind < 0 || behind > 1 {
				t.Errorf("account %q, token %q", account.Name, e.token.Name)
			}
		case e.ID == c.key:
			if behind := numberOf(account.Name) - numberOf(e.Name); behind < 0 || behind > 1 || e.Suspended == account.Active {
				t.Errorf("account %q, active %v; key %q, suspended %v", account.Name, account.Active, e.Name, e.Suspended)
			}
		}
	}
}

func TestBackupIsOfOneMomentOfAccountsToo(t *testing.T) {
	onEveryStore(t, func(t *testing.T, s backedUp) {
		changes := &accountChanges{s: s, key: mustMake(t, s, "acme", "number 0", nil).ID}
		mustChange(t, s, "acme", func(a *keys.Account) { a.Name = "number 0" })
		changes.token = mustMakeToken(t, s, "acme", "number 0")
		var changing sync.WaitGroup
		stop, changed := make(chan struct{}), make(chan struct{})
		changing.Go(func() {
			for {
				changes.step(t)
				select {
				case <-stop:
					return
				case changed <- struct{}{}: // an export waits for it
				default:
				}
			}
		})
		defer changing.Wait()
		defer close(stop)
		for range 20 {
			<-changed // it is at work
			var out bytes.Buffer
			if err := s.Export(t.Context(), &out); err != nil {
				t.Fatalf("Export: %v", err)
			}
			changes.consistent(t, out.Bytes())
		}
	})
}
