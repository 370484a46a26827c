package redistest

import (
	"errors"
	"fmt"
	"time"
)

// final is an error that no waiting mends.
type final struct{ error }

// stop makes poll give up with err.
func stop(err error) error { return final{err} }

// poll asks every 10 ms until the condition holds. After the bound it returns the condition's last error.
func poll(bound time.Duration, condition func() error) error {
	deadline := time.Now().Add(bound)
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := condition()
		if err == nil {
			return nil
		}
		if given, ok := errors.AsType[final](err); ok {
			return given.error
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not after %v: %w", bound, err)
		}
		<-ticker.C
	}
}
