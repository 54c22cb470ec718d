package bond

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/wire"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/handshake"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/tickets"
)

// Local is a group that this node takes part in, as the mesh sees it.
type Local struct {
	Group  id.ID
	Secret id.ID // what members prove to know
	Sink   Sink

	// What the members must agree on to understand each other's commands.
	Codec       string
	Fingerprint id.ID

	// Authorize judges the tickets of a peer. Nil admits every peer that knows the secret.
	Authorize func(context.Context, Listing) (tickets.Expiration, error)

	Traffic Traffic
}

// Traffic counts the messages of a group. Pings and handshakes are not counted.
type Traffic struct {
	Sent, SentBytes         Counter
	Received, ReceivedBytes Counter
}

// Counter is what prometheus' and simpler counters have in common.
type Counter interface {
	Inc()
	Add(float64)
}

// Sink is told about the bonds of one group. Up, Down, Listed, Refused and Judged are called in order and must return at once
// without calling the mesh. Receive is called by the goroutine that reads the link and may block to slow it down; it may
// be late: a message of a bond that is down already must be dropped.
type Sink interface {
	Up(b *Bond)
	Down(b *Bond, closed bool) // closed: seen to close, rather than fallen silent
	Receive(b *Bond, messages []wire.Message, bytes int)
	Pulse(b *Bond, m wire.Pulse) (answer bool) // like Receive; it says whether to answer with the term
	Pulsed(b *Bond, m wire.Pulsed)             // like Receive
	Listed(peers []id.PeerID)
	Refused(peer id.PeerID, r Refusal)

	// Judged says why the group's validators refuse this node's own entry, or, with an empty text, that they do not any
	// more. Members with these validators make no bond with a node that they refuse.
	Judged(refusal string)
}

// Bond is the proven connection of one group to one peer: a numbered channel in the trunk to that peer.
type Bond struct {
	mesh  *Mesh
	local *local
	trunk *trunk
	nonce handshake.Nonce
	in    uint32 // channel number of frames that arrive

	isUp atomic.Bool

	// Guarded by the mesh's mutex, and constant once isUp.
	greeted   bool // the peer's hello is here
	peerNonce handshake.Nonce
	out       uint32    // channel number of frames sent
	since     time.Time // it was begun, or came up
	reason    string    // why it ended
}

// Peer returns the identity of the other side.
func (b *Bond) Peer() id.PeerID { return b.trunk.peer }

// Transport returns what the bond's connection uses: "tcp", "quic" or "sim".
func (b *Bond) Transport() string { return b.trunk.stream.Transport() }

// Since returns when the bond came up.
func (b *Bond) Since() time.Time { return b.since }

// Reason returns why the bond ended, in words.
func (b *Bond) Reason() string {
	b.mesh.mu.Lock()
	defer b.mesh.mu.Unlock()
	return b.reason
}

// Send queues a message on the trunk without ever waiting. It reports false if the message is lost because the bond is
// down or the trunk has too much to send already.
func (b *Bond) Send(m wire.Message) bool {
	if !b.isUp.Load() {
		return false
	}
	n, ok := b.trunk.sendData(b.out, m)
	if ok {
		b.local.Traffic.Sent.Inc()
		b.local.Traffic.SentBytes.Add(float64(n))
	}
	return ok
}

// Reject ends the bond because the two sides cannot work together, and keeps the peer away for a while.
func (b *Bond) Reject(code link.Code, reason string) {
	m := b.mesh
	m.mu.Lock()
	defer m.mu.Unlock()
	if b.trunk.bonds[b.local.Group] == b {
		m.refuseLocked(b.local, b.trunk, code, reason)
	}
}
