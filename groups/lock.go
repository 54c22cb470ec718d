package groups

import (
	"context"
	"slices"
	"sync"

	"github.com/mosaik-go/mosaik/groups/internal/host"
)

// machineLock keeps queries and what changes the machine apart: one goroutine at a time changes it, any number read it. It is
// a read-write lock for which a reader can wait with a context. There is one writer.
type machineLock struct {
	rw sync.RWMutex

	mu    sync.Mutex      // guards the following field
	queue []chan struct{} // readers that wait, each with room for the token that says that it has the lock
}

// lock waits for the readers that there are. Further ones wait for unlock.
func (l *machineLock) lock() { l.rw.Lock() }

// unlock lets in all readers that wait, whatever the writer does next.
func (l *machineLock) unlock() {
	l.rw.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, has := range l.queue {
		l.rw.RLock() // does not wait: the writer is here
		has <- struct{}{}
	}
	clear(l.queue)
	l.queue = l.queue[:0]
}

// rlock waits for the writer, until ctx ends or over is closed.
func (l *machineLock) rlock(ctx context.Context, over <-chan struct{}) error {
	if l.rw.TryRLock() {
		return nil
	}
	l.mu.Lock()
	if l.rw.TryRLock() {
		l.mu.Unlock()
		return nil
	}
	// The writer has the lock, or is about to have it: it comes by in unlock.
	has := make(chan struct{}, 1)
	l.queue = append(l.queue, has)
	l.mu.Unlock()
	var err error
	select {
	case <-has:
		return nil
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-over:
		err = host.ErrClosed
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.Index(l.queue, has)
	if i < 0 {
		return nil // it was let in at the same moment
	}
	l.queue = slices.Delete(l.queue, i, i+1)
	return err
}

// runlock ends a reading.
func (l *machineLock) runlock() { l.rw.RUnlock() }
