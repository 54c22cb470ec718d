package discovery

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"weak"
)

// Event is a change of the catalog, or something an operator should know.
type Event struct {
	Kind EventKind
	// Peer is whom the event is about; this node for DuplicateIdentity, zero for Lagged.
	Peer PeerID
	// Entry is what the catalog says of the peer: for Discovered and Updated from now on, for Departed before.
	Entry PeerEntry
	// Reason says why a peer departed.
	Reason DepartReason
	// Missed is the number of events that Lagged stands for.
	Missed int
}

// EventKind tells events apart.
type EventKind uint8

const (
	// Discovered: a peer is in the catalog that was not there, or one that was lost is reached again.
	Discovered EventKind = iota + 1
	// Updated: the entry of a peer changed.
	Updated
	// Departed: a peer is no longer in the catalog. Reason says why.
	Departed
	// Lagged: the subscriber was too slow, and Missed events before this one were dropped.
	Lagged
	// DuplicateIdentity: another node uses this node's private key.
	DuplicateIdentity
)

var eventNames = [...]string{
	Discovered: "discovered", Updated: "updated", Departed: "departed", Lagged: "lagged",
	DuplicateIdentity: "duplicate identity",
}

// String returns the name of the kind.
func (k EventKind) String() string {
	if k > 0 && int(k) < len(eventNames) {
		return eventNames[k]
	}
	return fmt.Sprintf("event %d", uint8(k))
}

// DepartReason says why a peer departed.
type DepartReason uint8

const (
	// Left: the peer closed in order and said so.
	Left DepartReason = iota + 1
	// Silent: there was no sign of life for PurgeAfter.
	Silent
	// Lost: a connection to the peer broke and could not be made again, see [Catalog.Lost]. It may come back.
	Lost
	// Removed: an unsigned entry was removed by hand.
	Removed
)

// String returns the name of the reason.
func (r DepartReason) String() string {
	switch r {
	case Left:
		return "left"
	case Silent:
		return "silent"
	case Lost:
		return "lost"
	case Removed:
		return "removed"
	default:
		return ""
	}
}

// String returns a short form for logs.
func (e Event) String() string {
	switch e.Kind {
	case Departed:
		return fmt.Sprintf("departed %s (%v)", e.Peer.Short(), e.Reason)
	case Lagged:
		return fmt.Sprintf("lagged, %d events missed", e.Missed)
	default:
		return fmt.Sprintf("%v %s", e.Kind, e.Peer.Short())
	}
}

// Events subscribes to what happens from this call on. The sequence waits for the next event and ends when ctx does or
// the node closes; events that came before the end are still delivered. Breaking off a loop loses nothing: the next loop
// over the same sequence goes on where it stopped. Only one loop may run at a time.
//
// A catalog taken after an event was received shows at least what the event says. When more than EventBacklog events wait,
// the oldest are dropped and one of kind [Lagged] takes their place. A subscription takes memory until ctx ends or
// the sequence is garbage.
func (d *Discovery) Events(ctx context.Context) iter.Seq[Event] {
	s := d.bell.subscribe(ctx, d.cfg.EventBacklog)
	return func(yield func(Event) bool) {
		for {
			e, ok := s.next()
			if !ok || !yield(e) {
				return
			}
		}
	}
}

// Watch returns a channel that holds a token after the catalog changed, and a function that ends that. Tokens do not add
// up: take one, then look at the catalog. Signs of life alone are no change.
func (d *Discovery) Watch() (changed <-chan struct{}, cancel func()) { return d.bell.watch() }

// bell tells subscribers and watchers.
type bell struct {
	mu       sync.Mutex
	closed   chan struct{}
	subs     map[weak.Pointer[subscription]]struct{}
	watchers map[chan struct{}]struct{}
}

func newBell() *bell {
	return &bell{
		closed:   make(chan struct{}),
		subs:     make(map[weak.Pointer[subscription]]struct{}),
		watchers: make(map[chan struct{}]struct{}),
	}
}

// subscription is a bounded queue of events.
type subscription struct {
	ctx    context.Context
	limit  int
	closed <-chan struct{}
	wake   chan struct{} // capacity one

	mu     sync.Mutex
	queue  []Event
	missed int
}

func (b *bell) subscribe(ctx context.Context, limit int) *subscription {
	s := &subscription{ctx: ctx, limit: limit, closed: b.closed, wake: make(chan struct{}, 1)}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.subs[weak.Make(s)] = struct{}{}
	return s
}

// ring delivers events and, if the catalog changed, tokens.
func (b *bell) ring(events []Event, changed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(events) > 0 {
		for w := range b.subs {
			s := w.Value()
			if s == nil || s.ctx.Err() != nil {
				delete(b.subs, w)
				continue
			}
			s.push(events)
		}
	}
	if changed {
		for w := range b.watchers {
			select {
			case w <- struct{}{}:
			default:
			}
		}
	}
}

// close ends all subscriptions.
func (b *bell) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.subs)
	close(b.closed)
}

func (b *bell) watch() (<-chan struct{}, func()) {
	w := make(chan struct{}, 1)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.watchers[w] = struct{}{}
	return w, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.watchers, w)
	}
}

func (s *subscription) push(events []Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue = append(s.queue, events...)
	if extra := len(s.queue) - s.limit; extra > 0 {
		s.missed += extra
		s.queue = append(s.queue[:0], s.queue[extra:]...)
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *subscription) pop() (Event, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.missed > 0 {
		e := Event{Kind: Lagged, Missed: s.missed}
		s.missed = 0
		return e, true
	}
	if len(s.queue) == 0 {
		return Event{}, false
	}
	e := s.queue[0]
	s.queue = s.queue[1:]
	return e, true
}

// next waits for an event. It prefers events over the end.
func (s *subscription) next() (Event, bool) {
	for {
		if e, ok := s.pop(); ok {
			return e, true
		}
		select {
		case <-s.wake:
		case <-s.ctx.Done():
			return s.pop()
		case <-s.closed:
			return s.pop()
		}
	}
}
