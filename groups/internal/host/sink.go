package host

import (
	"github.com/mosaik-go/mosaik/groups/internal/bond"
	"github.com/mosaik-go/mosaik/groups/internal/wire"
	"github.com/mosaik-go/mosaik/id"
)

// Group is a bond.Sink: the mesh reports through these methods.
var _ bond.Sink = (*Group)(nil)

// Up reports a bond that is ready to carry messages.
func (g *Group) Up(b *bond.Bond) { g.post(peerEvent{kind: peerUp, bond: b}) }

// Down reports the end of a bond.
func (g *Group) Down(b *bond.Bond, closed bool) {
	g.post(peerEvent{kind: peerDown, bond: b, closed: closed})
}

func (g *Group) post(ev peerEvent) {
	g.mu.Lock()
	if !g.dead && !g.halted {
		g.box.peers = append(g.box.peers, ev)
		g.kickLocked()
	}
	g.mu.Unlock()
}

// Receive hands in messages that came over a bond, size bytes in all. When too much from that peer is unread it waits:
// the reader of the link stops reading, which slows down that peer for all groups it shares with this node, and nobody
// else.
func (g *Group) Receive(b *bond.Bond, msgs []wire.Message, size int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.unread[b] >= unreadMax && !g.dead && !g.halted {
		g.waiting++
		g.room.Wait()
		g.waiting--
	}
	if g.dead || g.halted {
		return
	}
	g.unread[b] += size
	for _, m := range msgs {
		g.box.peers = append(g.box.peers, peerEvent{kind: peerMessage, bond: b, msg: m})
	}
	g.kickLocked()
}

// Listed reports which peers the catalog lists as members.
func (g *Group) Listed(peers []id.PeerID) {
	g.mu.Lock()
	if !g.dead && !g.halted {
		g.box.listed, g.box.relist = peers, true
		g.kickLocked()
	}
	g.mu.Unlock()
}

// Refused reports that a bond could not be made, or had to be given up.
func (g *Group) Refused(peer id.PeerID, r bond.Refusal) {
	g.meter.refused(r.Code.Label())
	g.events.emit(Event{Kind: PeerRefused, Peer: peer, Reason: r.String()})
	g.log.Warn("no bond", "peer", peer.Short(), "reason", r.String())
}

// Judged implements bond.Sink.
func (g *Group) Judged(refusal string) {
	g.state.change(func(s *State) {
		s.Refused = refusal
		g.meter.unwelcome.Set(oneIf(refusal != ""))
	})
	if refusal == "" {
		g.log.Info("the group's validators accept this node's own ticket")
		return
	}
	g.log.Warn("the group's validators refuse this node's own ticket: no member will bond with it", "reason", refusal)
}
