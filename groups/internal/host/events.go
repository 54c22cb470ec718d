package host

import (
	"context"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/core"
	"github.com/mosaik-go/mosaik/id"
)

// EventKind tells events apart.
type EventKind uint8

// The kinds of events. Package groups documents them.
const (
	LeaderChanged EventKind = iota + 1
	WentOnline
	WentOffline
	MemberJoined
	MemberLeft
	MemberPromoted
	MemberDemoted
	BondUp
	BondDown
	PeerRefused
	StateReset
	StateFetched
	FetchFailed
	StateDiverged
	GroupEnded
	Lagged
	Merged
	Divergence
	Forked
	QuorumLost
	QuorumRegained
)

var eventNames = [...]string{
	LeaderChanged:  "leader changed",
	WentOnline:     "went online",
	WentOffline:    "went offline",
	MemberJoined:   "member joined",
	MemberLeft:     "member left",
	MemberPromoted: "member promoted",
	MemberDemoted:  "member demoted",
	BondUp:         "bond up",
	BondDown:       "bond down",
	PeerRefused:    "peer refused",
	StateReset:     "state reset",
	StateFetched:   "state fetched",
	FetchFailed:    "state not fetched",
	StateDiverged:  "state diverged",
	GroupEnded:     "group ended",
	Lagged:         "lagged",
	Merged:         "merged",
	Divergence:     "divergence",
	Forked:         "forked",
	QuorumLost:     "quorum lost",
	QuorumRegained: "quorum regained",
}

// String returns the name of the kind.
func (k EventKind) String() string {
	if int(k) < len(eventNames) && eventNames[k] != "" {
		return eventNames[k]
	}
	return "unknown event"
}

// Event is something that happened to a group.
type Event struct {
	Kind   EventKind
	At     time.Time
	Peer   id.PeerID // the peer it is about, zero when there is none
	Reason string
	Missed int // for Lagged

	// For Merged, Divergence and Forked: short names of the histories, as Status has them, and how many commands it is
	// about.
	From, Into string
	Commands   int

	Lost  []id.PeerID // for QuorumLost and Forked: the voters that are missing
	Lossy bool        // for Forked: commands that were acknowledged may be missing
}

// eventHub hands events to subscribers, each through a bounded queue. A subscriber that falls behind loses the oldest
// events and is told how many.
type eventHub struct {
	mu     sync.Mutex // guards all following fields
	subs   map[*subscriber]struct{}
	closed bool
}

type subscriber struct {
	queue  []Event
	missed int
	ready  chan struct{} // capacity one
}

func (h *eventHub) emit(ev Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed {
		h.emitLocked(ev)
	}
}

func (h *eventHub) emitLocked(ev Event) {
	if len(h.subs) == 0 {
		return
	}
	ev.At = time.Now()
	for s := range h.subs {
		if len(s.queue) >= eventsBuffer {
			s.queue = slices.Delete(s.queue, 0, 1)
			s.missed++
		}
		s.queue = append(s.queue, ev)
		s.wake()
	}
}

func (s *subscriber) wake() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// end emits the last events. Subscribers read what is queued and then end.
func (h *eventHub) end(last ...Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, ev := range last {
		h.emitLocked(ev)
	}
	h.closed = true
	for s := range h.subs {
		s.wake()
	}
}

// take returns the next event that is queued, or a report of what was missed before it.
func (h *eventHub) take(s *subscriber) (ev Event, ok, closed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.missed > 0 {
		ev = Event{Kind: Lagged, At: time.Now(), Missed: s.missed}
		s.missed = 0
		return ev, true, h.closed
	}
	if len(s.queue) == 0 {
		return Event{}, false, h.closed
	}
	ev = s.queue[0]
	s.queue = slices.Delete(s.queue, 0, 1)
	return ev, true, h.closed
}

// Events returns what happens from now on, until ctx ends, done is closed or the group is over; what came before the end
// is still delivered. Breaking off a loop loses nothing, the next one goes on where it stopped. Only one loop may run at
// a time. A subscription that is not read takes bounded memory until ctx ends or the group is over.
func (g *Group) Events(ctx context.Context, done <-chan struct{}) iter.Seq[Event] {
	h := &g.events
	s := &subscriber{ready: make(chan struct{}, 1)}
	h.mu.Lock()
	if h.subs == nil {
		h.subs = make(map[*subscriber]struct{})
	}
	h.subs[s] = struct{}{}
	h.mu.Unlock()
	context.AfterFunc(ctx, func() {
		h.mu.Lock()
		delete(h.subs, s)
		h.mu.Unlock()
	})
	return func(yield func(Event) bool) {
		for {
			ev, ok, closed := h.take(s)
			if ok {
				if !yield(ev) {
					return
				}
				continue
			}
			if closed {
				return
			}
			select {
			case <-s.ready:
			case <-done:
				return
			case <-ctx.Done():
				return
			}
		}
	}
}

// report tells what changed between two states.
func (g *Group) report(before, after *State) {
	if text := g.unheeded(after); text != "" && g.unheeded(before) == "" {
		g.log.Warn(text)
	}
	if before.Leader != after.Leader {
		g.events.emit(Event{Kind: LeaderChanged, Peer: after.Leader})
		if after.Leader.IsZero() {
			g.log.Info("no leader", "term", after.Term)
		} else {
			g.log.Info("leader elected", "leader", after.Leader.Short(), "term", after.Term)
		}
	}
	if before.Online != after.Online {
		kind := WentOffline
		if after.Online {
			kind = WentOnline
		}
		g.events.emit(Event{Kind: kind, Reason: after.Reason})
		if after.Online {
			g.log.Info(kind.String(), "index", after.Committed)
		} else {
			g.log.Info(kind.String(), "index", after.Committed, "reason", after.Reason)
		}
	}
	old := make(map[core.MemberID]core.Member, len(before.Members))
	for _, m := range before.Members {
		old[m.ID] = m
	}
	for _, m := range after.Members {
		was, known := old[m.ID]
		delete(old, m.ID)
		switch {
		case !known:
			g.events.emit(Event{Kind: MemberJoined, Peer: m.Peer})
			g.log.Info("member joined", "peer", m.Peer.Short(), "voter", m.Voter)
		case m.Voter && !was.Voter:
			g.events.emit(Event{Kind: MemberPromoted, Peer: m.Peer})
			g.log.Info("member promoted", "peer", m.Peer.Short())
		case !m.Voter && was.Voter:
			g.events.emit(Event{Kind: MemberDemoted, Peer: m.Peer})
			g.log.Info("member demoted", "peer", m.Peer.Short())
		}
	}
	for _, m := range before.Members {
		if _, gone := old[m.ID]; gone {
			g.events.emit(Event{Kind: MemberLeft, Peer: m.Peer})
			g.log.Info("member left", "peer", m.Peer.Short())
		}
	}
}
