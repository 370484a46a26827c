package admin

import (
	"context"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alexedwards/scs/v2/memstore"
)

func TestWrongTokenIsAnsweredLateAndTheRightOneAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		token, err := ParseAdminToken(testToken)
		if err != nil {
			t.Fatal(err)
		}
		a := New(Options{Store: newFakeStore(), Token: token})
		defer a.sessions.manager.Store.(*memstore.MemStore).StopCleanup()
		took := func(body, token string) time.Duration {
			r := httptest.NewRequest("POST", "http://localhost"+sessionPath, strings.NewReader(body))
			r.Header.Set("Content-Type", "application/json")
			if token != "" {
				r.Header.Set("Authorization", "Bearer "+token)
			}
			start := time.Now()
			a.ServeHTTP(httptest.NewRecorder(), r)
			return time.Since(start)
		}
		var guesses sync.WaitGroup
		for i := range 2 * brakeHolds {
			guesses.Go(func() {
				if i%2 == 0 {
					took(`{"token":"wrong"}`, "")
				} else {
					took("{}", "wrong")
				}
			})
		}
		synctest.Wait()
		if len(a.brake.holds) != brakeHolds {
			t.Errorf("%d answers are held, want %d", len(a.brake.holds), brakeHolds)
		}
		if owner := took(signInBody, ""); owner != 0 {
			t.Errorf("the owner waits %v while others guess", owner)
		}
		if beyond := took(`{"token":"wrong"}`, ""); beyond != 0 {
			t.Errorf("a guess beyond those held is held for %v too", beyond)
		}
		guesses.Wait()
		for _, guess := range []time.Duration{took(`{"token":"wrong"}`, ""), took("{}", "wrong")} {
			if guess != brakeDelay {
				t.Errorf("a wrong token is answered after %v, want %v", guess, brakeDelay)
			}
		}
		if unsigned := took("{}", ""); unsigned != 0 {
			t.Errorf("a request without a token is held for %v", unsigned)
		}
	})
}

func TestClientThatLeavesIsNotHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		b, start := newBrake(), time.Now()
		b.hold(ctx)
		if took := time.Since(start); took != 0 || len(b.holds) != 0 {
			t.Errorf("held for %v, %d are still held", took, len(b.holds))
		}
	})
}
