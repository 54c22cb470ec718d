package groups

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
)

// Readers get their turn although the writer asks for the lock again at once, none is in with the writer, and those that
// give up leave nothing behind.
func TestMachineLock(t *testing.T) {
	t.Parallel()
	var l machineLock
	var writing atomic.Bool
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			l.lock()
			writing.Store(true)
			writing.Store(false)
			l.unlock()
		}
	})
	var readers sync.WaitGroup
	for i := range 8 {
		readers.Go(func() {
			for n := range 500 {
				ctx, cancel := context.WithCancel(t.Context())
				if (n+i)%3 == 0 {
					cancel()
				}
				err := l.rlock(ctx, nil)
				if err == nil {
					if writing.Load() {
						t.Error("a reader is in with the writer")
					}
					l.runlock()
				} else if ctx.Err() == nil || !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
				cancel()
			}
		})
	}
	readers.Wait()
	close(stop)
	wg.Wait()
	if len(l.queue) > 0 || !l.rw.TryLock() {
		t.Error("somebody still has the lock, or waits for it")
	}
}
