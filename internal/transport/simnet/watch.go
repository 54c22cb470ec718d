package simnet

import (
	"slices"
	"sync"

	"github.com/mosaik-go/mosaik/internal/transport"
)

// watch hands a host's events to those who asked for them, in order, from a goroutine that exists only while there are
// events. Watchers do not block, so the queue is as long as a burst of connections at most. The fabric's mutex guards it.
type watch struct {
	stopped  bool
	running  bool
	queue    []queued
	watchers []*watcher
}

// queued is an event and those who were watching when it happened.
type queued struct {
	event    transport.Event
	watchers []*watcher
}

type watcher struct {
	mu        sync.Mutex // held during fn
	fn        func(transport.Event)
	cancelled bool
}

func (w *watcher) call(e transport.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.cancelled {
		w.fn(e)
	}
}

// Watch calls fn for each event from now on. When cancel returns, fn is not running and will not be called again.
func (h *host) Watch(fn func(transport.Event)) (cancel func()) {
	w := &watcher{fn: fn}
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	// Events in the queue keep the list that they were queued with, so it is never changed in place.
	h.watch.watchers = append(slices.Clone(h.watch.watchers), w)
	return func() {
		h.f.mu.Lock()
		rest := slices.Clone(h.watch.watchers)
		h.watch.watchers = slices.DeleteFunc(rest, func(x *watcher) bool { return x == w })
		h.f.mu.Unlock()
		w.mu.Lock()
		defer w.mu.Unlock()
		w.cancelled = true
	}
}

// emit queues an event for the watchers.
func (h *host) emit(e transport.Event) {
	w := &h.watch
	if w.stopped || len(w.watchers) == 0 {
		return
	}
	w.queue = append(w.queue, queued{e, w.watchers})
	if !w.running {
		w.running = true
		h.wg.Go(h.dispatch)
	}
}

func (h *host) dispatch() {
	for {
		h.f.mu.Lock()
		if len(h.watch.queue) == 0 {
			h.watch.running = false
			h.f.mu.Unlock()
			return
		}
		q := h.watch.queue[0]
		h.watch.queue = h.watch.queue[1:]
		h.f.mu.Unlock()
		for _, w := range q.watchers {
			w.call(q.event)
		}
	}
}

// stop drops what is queued and ignores further events.
func (w *watch) stop() {
	w.stopped = true
	w.queue = nil
}
