package p2p

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/internal/transport"
)

const (
	helloTimeout     = 3 * time.Second // for the whole hello
	duplicateTimeout = 2 * time.Second // after which one of two connections to a peer is closed
)

// conn is one connection to a peer. It becomes usable when its hello is done.
type conn struct {
	host      *host
	raw       network.Conn
	peer      id.PeerID
	transport string
	dialed    bool // by this side

	ready    chan struct{} // closed when the hello ended, well or not
	gone     chan struct{} // closed when the connection is gone
	pending  atomic.Int32  // incoming streams that wait for their header or the hello
	streams  atomic.Int32  // open streams, without the control stream
	accepted atomic.Bool   // the control stream is there, whoever opened it

	controlled chan struct{} // closed when the control stream's reader has ended, if accepted

	readyOnce sync.Once
	goneOnce  sync.Once // closes gone and takes the connection out of its peer's list

	// Written before ready is closed.
	incarnation transport.Incarnation
	err         error // of the hello

	mu      sync.Mutex       // guards all following fields
	closed  *link.CloseError // why it ended
	control network.Stream
}

// connOf returns the record of a library connection, making it on first sight.
func (h *host) connOf(raw network.Conn) *conn {
	h.mu.Lock()
	defer h.mu.Unlock()
	if c := h.conns[raw]; c != nil {
		return c
	}
	who, err := idOf(raw.RemotePeer())
	c := &conn{
		host:      h,
		raw:       raw,
		peer:      who,
		transport: "quic",
		dialed:    raw.Stat().Direction == network.DirOutbound,
		ready:     make(chan struct{}),
		gone:      make(chan struct{}),

		controlled: make(chan struct{}),
	}
	c.accepted.Store(c.dialed)
	if isTCP(raw.RemoteMultiaddr()) {
		c.transport = "tcp"
	}
	if raw.IsClosed() {
		c.closed = &link.CloseError{Code: link.CodeUnexpectedClose, Remote: true}
		c.err = c.closed
		close(c.ready)
		close(c.gone)
		return c
	}
	h.conns[raw] = c
	if err != nil || h.closing {
		h.wg.Go(func() { c.close(link.CodeShutdown) })
		return c
	}
	h.wg.Go(c.greet)
	return c
}

// connected and disconnected are called by the library.
func (h *host) connected(_ network.Network, raw network.Conn) {
	h.meter.opened.Inc()
	h.connOf(raw)
}

func (h *host) disconnected(_ network.Network, raw network.Conn) {
	h.mu.Lock()
	c := h.conns[raw]
	delete(h.conns, raw)
	h.mu.Unlock()
	if c == nil {
		return
	}
	// The control stream's reader learns the reason that the other side gave, if it gave one.
	h.wg.Go(func() {
		if c.accepted.Load() {
			<-c.controlled
		}
		c.end(&link.CloseError{Code: link.CodeUnexpectedClose, Remote: true})
	})
}

// remove takes a connection out of the list, and reports whether it was there.
func (st *peerState) remove(c *conn) bool {
	i := slices.Index(st.usable, c)
	if i >= 0 {
		st.usable = slices.Delete(slices.Clone(st.usable), i, i+1)
	}
	return i >= 0
}

// lost takes a connection that is gone out of its peer's list.
func (h *host) lost(c *conn) {
	why := c.why()
	h.meter.close(why.Code)
	h.mu.Lock()
	defer h.mu.Unlock()
	st := h.peers[c.peer]
	if st != nil && st.remove(c) && len(st.usable) == 0 {
		h.emitLocked(transport.Event{Kind: transport.Disconnected, Peer: c.peer, Incarnation: c.incarnation, Code: why.Code})
		h.log.Debug("peer disconnected", "peer", c.peer.Short(), "reason", why.Code, "remote", why.Remote)
	}
}

// greet does this side's part of the hello: the dialler's by itself, the acceptor's by making sure that it comes.
func (c *conn) greet() {
	if c.dialed {
		c.dial()
		return
	}
	timer := time.NewTimer(helloTimeout)
	defer timer.Stop()
	select {
	case <-c.ready:
	case <-c.gone:
	case <-timer.C:
		c.fail(&link.CloseError{Code: link.CodeTimeout})
	}
}

// up makes the connection usable, unless the hello came too late or from a life that is over. It returns the reason
// if not.
func (c *conn) up(in transport.Incarnation, rtt time.Duration) *link.CloseError {
	h := c.host
	h.mu.Lock()
	if h.closing {
		h.mu.Unlock()
		return &link.CloseError{Code: link.CodeShutdown}
	}
	if c.raw.IsClosed() || c.why() != nil {
		h.mu.Unlock()
		return &link.CloseError{Code: link.CodeUnexpectedClose}
	}
	st := h.peerLocked(c.peer)
	if in < st.newest {
		h.mu.Unlock()
		return &link.CloseError{Code: link.CodeSupplanted}
	}
	old := h.supersedeLocked(c.peer, in)
	c.incarnation = in
	for _, o := range old {
		st.remove(o)
	}
	if len(old) > 0 && len(st.usable) == 0 {
		h.emitLocked(transport.Event{Kind: transport.Disconnected, Peer: c.peer, Incarnation: old[0].incarnation, Code: link.CodeSupplanted})
	}
	st.usable = append(st.usable, c)
	st.rtt = rtt
	if len(st.usable) == 1 {
		h.emitLocked(transport.Event{Kind: transport.Connected, Peer: c.peer, Incarnation: in})
	} else {
		h.wg.Go(func() { h.resolveDuplicates(c.peer) })
	}
	c.readyOnce.Do(func() { close(c.ready) })
	h.mu.Unlock()
	for _, o := range old {
		o.close(link.CodeSupplanted)
	}
	h.log.Debug("peer connected", "peer", c.peer.Short(), "transport", c.transport, "dialed", c.dialed)
	return nil
}

// resolveDuplicates leaves one of several connections to a peer, once both sides have had time to see them all: the one
// that the smaller identity dialled. The others are closed when they carry no stream any more.
func (h *host) resolveDuplicates(p id.PeerID) {
	tick := time.NewTicker(duplicateTimeout)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-h.ctx.Done():
			return
		}
		var idle []*conn
		h.mu.Lock()
		st := h.peers[p]
		keep := h.bestLocked(p)
		more := 0
		for _, c := range st.usable {
			if c == keep {
				continue
			}
			if c.streams.Load() == 0 {
				idle = append(idle, c)
			} else {
				more++
			}
		}
		h.mu.Unlock()
		for _, c := range idle {
			c.close(link.CodeSuccess)
		}
		if more == 0 {
			return
		}
	}
}

// preferred reports whether this connection stays when there are several: the smaller identity dialled it.
func (c *conn) preferred() bool {
	return c.dialed == (c.host.self.Compare(c.peer) < 0)
}

// admit counts an incoming stream that is being set up; it reports false when there are too many already.
func (c *conn) admit() bool {
	if c.pending.Add(1) > maxTransientPerPeer {
		c.pending.Add(-1)
		return false
	}
	return true
}

func (c *conn) admitted() { c.pending.Add(-1) }

// fail ends the hello with an error and closes the connection.
func (c *conn) fail(why *link.CloseError) {
	c.readyOnce.Do(func() {
		c.err = why
		close(c.ready)
		h := c.host
		if why.Code != link.CodeShutdown && why.Code != link.CodeUnexpectedClose {
			h.meter.refuse(why.Code.String())
			h.mu.Lock()
			h.emitLocked(transport.Event{Kind: transport.Refused, Peer: c.peer, Code: why.Code})
			h.mu.Unlock()
			h.log.Info("peer refused in the hello", "peer", c.peer.Short(), "reason", why.Code, "remote", why.Remote)
		}
	})
	c.close(why.Code)
}

// close closes the connection, which the other side learns with the code.
func (c *conn) close(code link.Code) {
	c.end(&link.CloseError{Code: code})
	c.raw.CloseWithError(network.ConnErrorCode(code))
}

// end notes why the connection ended; the first reason stands.
func (c *conn) end(why *link.CloseError) {
	c.mu.Lock()
	if c.closed == nil {
		c.closed = why
	}
	why = c.closed
	c.mu.Unlock()
	c.readyOnce.Do(func() {
		c.err = why
		close(c.ready)
	})
	c.goneOnce.Do(func() {
		close(c.gone)
		c.host.lost(c)
	})
}

// why returns why the connection ended, nil while it lives.
func (c *conn) why() *link.CloseError {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// told notes that the other side closed the connection with a reason. A peer that knows a newer life of this node's
// identity means that somebody else uses its key.
func (c *conn) told(why *link.CloseError) {
	c.end(why)
	if why.Remote && why.Code == link.CodeSupplanted {
		h := c.host
		h.mu.Lock()
		h.emitLocked(transport.Event{Kind: transport.DuplicateIdentity, Peer: h.self, Code: why.Code})
		h.mu.Unlock()
		h.log.Error("another node uses this node's identity", "peer", c.peer.Short())
	}
}
