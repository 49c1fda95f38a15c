package app

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestGivenUpRunEnds: what is stuck may never end, so a run that was given up ends
// without it, but not before it had the time for an orderly stop.
func TestGivenUpRunEnds(t *testing.T) {
	t.Parallel()
	for _, orderly := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w := &watch{gaveUp: make(chan error, 1)}
			done := make(chan struct{})
			ended := w.ended(done)
			time.Sleep(time.Hour)
			w.gaveUp <- errors.New("a partition makes no progress")
			began := time.Now()
			if orderly {
				time.Sleep(stopWithin / 2)
				close(done)
				synctest.Wait()
				select {
				case err := <-ended:
					t.Errorf("after an orderly stop: %v", err)
				default:
				}
				return
			}
			err := <-ended
			if took := time.Since(began); took != stopWithin || !strings.Contains(err.Error(), "a partition makes no progress") {
				t.Errorf("after %v: %v", took, err)
			}
		})
	}
}
