package p2p

import (
	"context"
	"slices"
	"time"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/internal/transport"
)

const (
	peersMax = 1 << 16 // peers of which something is remembered
	bansMax  = 1 << 14 // peers that are kept out

	duplicateGrace = 2 * time.Second // after which one of two connections to a peer is closed
)

// peerState is what is known of one peer. The host's mutex guards it.
type peerState struct {
	addrs     []string              // where to dial, the latest learned last; replaced, never changed in place
	usable    []*conn               // those whose hello is done
	newest    transport.Incarnation // ever seen or told
	rtt       time.Duration         // latest measured
	tags      map[string]bool       // of Protect
	resolving bool                  // a goroutine looks after several connections
	arrival   *arrival              // made by who waits for a connection
}

// peerLocked returns the record of a peer, making one if there is none.
func (h *host) peerLocked(p id.PeerID) *peerState {
	st := h.peers[p]
	if st == nil {
		if len(h.peers) >= peersMax {
			h.forgetLocked()
		}
		st = new(peerState)
		h.peers[p] = st
	}
	return st
}

// forgetLocked makes room by dropping a tenth of the peers, none of them connected or protected.
func (h *host) forgetLocked() {
	left := peersMax / 10
	for p, st := range h.peers {
		if left == 0 {
			return
		}
		if len(st.usable) == 0 && len(st.tags) == 0 {
			delete(h.peers, p)
			left--
		}
	}
}

// best returns the connection to use: of several the latest that the smaller identity dialled, or, if there is none, the
// latest. Both sides know the order in which one of them dialled, so both choose the same. nil when there is none.
func (st *peerState) best() *conn {
	var best *conn
	for _, c := range st.usable {
		if best == nil || c.before(best) {
			best = c
		}
	}
	return best
}

// before reports whether c is to be preferred to another connection to the same peer.
func (c *conn) before(o *conn) bool {
	if p := c.preferred(); p != o.preferred() {
		return p
	}
	return c.order > o.order
}

// preferred reports whether the smaller identity dialled.
func (c *conn) preferred() bool { return c.dialed == (c.host.self.Compare(c.peer) < 0) }

// arrival ends when a connection to a peer becomes usable.
type arrival struct {
	context.Context
	end context.CancelFunc
}

// untilUsable returns a context that also ends when a connection to the peer becomes usable, whoever dialled it.
func (h *host) untilUsable(ctx context.Context, p id.PeerID) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	h.mu.Lock()
	defer h.mu.Unlock()
	st := h.peerLocked(p)
	if len(st.usable) > 0 {
		cancel()
		return ctx, cancel
	}
	if st.arrival == nil {
		c, end := context.WithCancel(context.Background())
		st.arrival = &arrival{c, end}
	}
	stop := context.AfterFunc(st.arrival, cancel)
	return ctx, func() { stop(); cancel() }
}

// remove takes a connection out of the list, and reports whether it was there.
func (st *peerState) remove(c *conn) bool {
	i := slices.Index(st.usable, c)
	if i >= 0 {
		st.usable = slices.Delete(slices.Clone(st.usable), i, i+1)
	}
	return i >= 0
}

// resolveDuplicates leaves one of several connections to a peer, once both sides have had time to see them all. The others
// are closed when they carry no stream any more.
func (h *host) resolveDuplicates(p id.PeerID) {
	tick := time.NewTicker(duplicateGrace)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-h.ctx.Done():
			return
		}
		h.mu.Lock()
		st := h.peers[p]
		if st == nil || len(st.usable) < 2 {
			if st != nil {
				st.resolving = false
			}
			h.mu.Unlock()
			return
		}
		keep := st.best()
		var idle []*conn
		for _, c := range st.usable {
			if c != keep && c.streams.Load() == 0 {
				idle = append(idle, c)
			}
		}
		h.mu.Unlock()
		h.drop(idle, link.CodeUnneeded)
	}
}

func (h *host) Connected(p id.PeerID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	st := h.peers[p]
	return st != nil && len(st.usable) > 0
}

func (h *host) Peers() []id.PeerID {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []id.PeerID
	for p, st := range h.peers {
		if len(st.usable) > 0 {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, id.PeerID.Compare)
	return out
}

func (h *host) Connections() []transport.Connection {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []transport.Connection
	for p, st := range h.peers {
		if c := st.best(); c != nil {
			out = append(out, transport.Connection{Peer: p, Transport: c.transport, Dialled: c.dialed, Since: c.born})
		}
	}
	slices.SortFunc(out, func(a, b transport.Connection) int { return a.Peer.Compare(b.Peer) })
	return out
}

func (h *host) RTT(p id.PeerID) (time.Duration, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	st := h.peers[p]
	if st == nil || len(st.usable) == 0 || st.rtt == 0 {
		return 0, false
	}
	return st.rtt, true
}

func (h *host) Supersede(p id.PeerID, newest transport.Incarnation) {
	h.mu.Lock()
	old := h.supersedeLocked(p, newest)
	h.mu.Unlock()
	h.drop(old, link.CodeSupplanted)
}

// supersedeLocked notes the newest incarnation of a peer and returns the connections of older ones.
func (h *host) supersedeLocked(p id.PeerID, newest transport.Incarnation) (old []*conn) {
	st := h.peerLocked(p)
	if newest <= st.newest {
		return nil
	}
	st.newest = newest
	for _, c := range st.usable {
		if c.incarnation < newest {
			old = append(old, c)
		}
	}
	return old
}

func (h *host) Ban(p id.PeerID, d time.Duration) {
	h.mu.Lock()
	h.banLocked(p, time.Now().Add(d))
	h.mu.Unlock()
	h.log.Debug("peer banned", "peer", p.Short(), "for", d)
	h.Disconnect(p, link.CodeBanned)
}

// banLocked notes a ban. When there are too many, the one that ends first makes room: identities cost nothing, so there is
// no end of peers that earn one.
func (h *host) banLocked(p id.PeerID, until time.Time) {
	if _, known := h.bans[p]; !known && len(h.bans) >= bansMax {
		var first id.PeerID
		var ends time.Time
		for o, at := range h.bans {
			if ends.IsZero() || at.Before(ends) {
				first, ends = o, at
			}
		}
		delete(h.bans, first)
	}
	h.bans[p] = until
}

func (h *host) bannedLocked(p id.PeerID) bool {
	until, ok := h.bans[p]
	return ok && time.Now().Before(until)
}

func (h *host) Protect(p id.PeerID, tag string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	st := h.peerLocked(p)
	if st.tags == nil {
		st.tags = make(map[string]bool)
	}
	st.tags[tag] = true
}

func (h *host) Unprotect(p id.PeerID, tag string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if st := h.peers[p]; st != nil {
		delete(st.tags, tag)
	}
}
