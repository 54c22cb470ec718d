package engine

import (
	"bytes"
	"context"
	"slices"
	"sync"
)

// Undelivered is a reader of the items that went into no consumer's queue. It holds as many as a consumer's queue; of more
// the oldest are dropped.
type Undelivered struct {
	sink *Sink
	wake chan struct{} // capacity one

	mu     sync.Mutex // guards all following fields
	queue  [][]byte
	missed uint64
	closed bool
}

// Undelivered adds a reader of what is sent from now on.
func (s *Sink) Undelivered() *Undelivered {
	u := &Undelivered{sink: s, wake: make(chan struct{}, 1)}
	s.fan.Lock()
	defer s.fan.Unlock()
	if s.shut {
		u.closed = true
	} else {
		s.readers = append(s.readers, u)
	}
	return u
}

func (u *Undelivered) push(framed []byte) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return
	}
	if len(u.queue) >= u.sink.cfg.Queue.Items {
		u.queue[0] = nil
		u.queue = u.queue[1:]
		u.missed++
	}
	u.queue = append(u.queue, bytes.Clone(framed))
	select {
	case u.wake <- struct{}{}:
	default:
	}
}

// Next waits for an item, as it is on the wire. It reports false at the end.
func (u *Undelivered) Next(ctx context.Context) ([]byte, bool) {
	for ctx.Err() == nil {
		u.mu.Lock()
		if len(u.queue) > 0 {
			item := u.queue[0]
			u.queue[0] = nil
			u.queue = u.queue[1:]
			u.mu.Unlock()
			return item, true
		}
		closed := u.closed
		u.mu.Unlock()
		if closed {
			return nil, false
		}
		select {
		case <-u.wake:
		case <-ctx.Done():
		}
	}
	return nil, false
}

// Close ends the reader.
func (u *Undelivered) Close() {
	u.sink.fan.Lock()
	u.sink.readers = slices.DeleteFunc(u.sink.readers, func(o *Undelivered) bool { return o == u })
	u.sink.fan.Unlock()
	u.end()
}

func (u *Undelivered) end() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closed = true
	select {
	case u.wake <- struct{}{}:
	default:
	}
}

func (s *Sink) endReaders() {
	s.fan.Lock()
	readers := s.readers
	s.readers = nil
	s.fan.Unlock()
	for _, u := range readers {
		u.end()
	}
}
