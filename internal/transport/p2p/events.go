package p2p

import (
	"slices"
	"sync"

	"github.com/mosaik-go/mosaik/internal/transport"
)

// eventsMax bounds the events that wait. Beyond it those that tell of refusals and duplicates are dropped, of which strangers
// can make any number; the others are as many as connections come and go while a watcher is slow.
const eventsMax = 4096

// events hands out a host's events in order, from a goroutine that exists only while there are any. Watchers do not
// block, so the queue is no longer than a burst of connections. The host's mutex guards it.
type events struct {
	stopped  bool
	running  bool
	queue    []queuedEvent
	watchers []*watcher // replaced, never changed in place
}

type queuedEvent struct {
	event transport.Event
	to    []*watcher
}

type watcher struct {
	mu        sync.Mutex // held while fn runs
	fn        func(transport.Event)
	cancelled bool
}

func (h *host) Watch(fn func(transport.Event)) (cancel func()) {
	w := &watcher{fn: fn}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events.watchers = append(slices.Clone(h.events.watchers), w)
	return func() {
		h.mu.Lock()
		h.events.watchers = slices.DeleteFunc(slices.Clone(h.events.watchers), func(o *watcher) bool { return o == w })
		h.mu.Unlock()
		w.mu.Lock()
		defer w.mu.Unlock()
		w.cancelled = true
	}
}

func (h *host) emitLocked(e transport.Event) {
	ev := &h.events
	if ev.stopped || len(ev.watchers) == 0 {
		return
	}
	if len(ev.queue) >= eventsMax && e.Kind != transport.Connected && e.Kind != transport.Disconnected {
		return
	}
	ev.queue = append(ev.queue, queuedEvent{e, ev.watchers})
	if !ev.running {
		ev.running = h.startLocked(h.dispatch)
	}
}

func (h *host) dispatch() {
	for {
		h.mu.Lock()
		if len(h.events.queue) == 0 {
			h.events.running = false
			h.events.queue = nil
			h.mu.Unlock()
			return
		}
		q := h.events.queue[0]
		h.events.queue = h.events.queue[1:]
		h.mu.Unlock()
		for _, w := range q.to {
			w.mu.Lock()
			if !w.cancelled {
				w.fn(q.event)
			}
			w.mu.Unlock()
		}
	}
}

func (e *events) stop() {
	e.stopped = true
	e.queue = nil
}
