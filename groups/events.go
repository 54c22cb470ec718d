package groups

import (
	"context"
	"iter"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/host"
)

// Event is something that happened to a group, as this member saw it.
type Event struct {
	Kind   EventKind
	At     time.Time
	Peer   PeerID // the peer it is about, zero if there is none
	Reason string // in words, empty if there is nothing to say
	Missed int    // for Lagged: how many events are lost

	// For Merged, Diverged and Forked: short names of the histories, as Status has them, and how many commands it is
	// about.
	From, Into string
	Commands   int

	Lost  []PeerID // for QuorumLost and Forked: the voters that are missing
	Lossy bool     // for Forked: commands that were acknowledged may be missing
}

// EventKind says what an [Event] is about.
type EventKind uint8

// The kinds of events.
const (
	LeaderChanged  EventKind = EventKind(host.LeaderChanged)  // Peer leads; the zero PeerID: nobody does, as far as is known
	WentOnline     EventKind = EventKind(host.WentOnline)     // the group takes commands here
	WentOffline    EventKind = EventKind(host.WentOffline)    // it does not; Reason says why
	MemberJoined   EventKind = EventKind(host.MemberJoined)   // Peer is a member
	MemberLeft     EventKind = EventKind(host.MemberLeft)     // Peer is no member any more
	MemberPromoted EventKind = EventKind(host.MemberPromoted) // Peer votes
	MemberDemoted  EventKind = EventKind(host.MemberDemoted)  // Peer does not vote any more
	BondUp         EventKind = EventKind(host.BondUp)         // there is a proven connection to Peer
	BondDown       EventKind = EventKind(host.BondDown)       // it ended, for Reason
	PeerRefused    EventKind = EventKind(host.PeerRefused)    // no bond to Peer, for Reason
	StateReset     EventKind = EventKind(host.StateReset)     // this member begins again from an empty machine, because it was removed or its history was merged
	StateFetched   EventKind = EventKind(host.StateFetched)   // the state was fetched from other members and will replace this one's; Reason tells how much
	FetchFailed    EventKind = EventKind(host.FetchFailed)    // it could not be fetched, for Reason; it will be tried again
	StateDiverged  EventKind = EventKind(host.StateDiverged)  // this member writes its state as other bytes than the leader, see [Snapshotter]
	GroupEnded     EventKind = EventKind(host.GroupEnded)     // the group is over on this node, for Reason
	// Histories of the group, see the package documentation.
	Merged         EventKind = EventKind(host.Merged)         // history From, with Commands commands, became a part of Into
	Diverged       EventKind = EventKind(host.Divergence)     // Commands commands of From were not taken over into Into as they are; see [Group.Divergences]
	Forked         EventKind = EventKind(host.Forked)         // this member goes on in history Into, since the majority of From, Lost, is lost; Reason says how that is known, Lossy whether acknowledged commands may be missing
	QuorumLost     EventKind = EventKind(host.QuorumLost)     // the voters Lost are missing, so there is no majority; Reason says more
	QuorumRegained EventKind = EventKind(host.QuorumRegained) // there is a majority again
	Lagged         EventKind = EventKind(host.Lagged)         // the iteration was too slow; Missed events are lost
)

// String returns the name of the kind, such as "leader changed".
func (k EventKind) String() string { return host.EventKind(k).String() }

func eventOf(e host.Event) Event {
	return Event{
		Kind: EventKind(e.Kind), At: e.At, Peer: e.Peer, Reason: e.Reason, Missed: e.Missed,
		From: e.From, Into: e.Into, Commands: e.Commands, Lost: e.Lost, Lossy: e.Lossy,
	}
}

// Events returns what happens to the group from the call on, until ctx ends, the handle is closed or the group is over;
// what came before the end is still delivered. Breaking off a loop loses nothing: the next loop over the same sequence
// goes on where it stopped. Only one loop may run at a time.
//
// A subscription never slows down the group. When it falls more than 256 events behind, the oldest are dropped and a
// [Lagged] event takes their place.
func (g *Group[C, Q, R]) Events(ctx context.Context) iter.Seq[Event] {
	events := g.host.Events(ctx, g.done) // subscribed to now, not when the loop begins
	return func(yield func(Event) bool) {
		for e := range events {
			if !yield(eventOf(e)) {
				return
			}
		}
	}
}
