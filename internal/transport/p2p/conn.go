package p2p

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/internal/transport"
)

// conn is one connection to a peer. It becomes usable when its hello is done.
type conn struct {
	host      *host
	raw       network.Conn
	peer      id.PeerID
	transport string
	dialed    bool // by this side
	born      time.Time
	ear       *ear // of a TCP connection

	ready      chan struct{} // closed when the hello ended, well or not
	gone       chan struct{} // closed when the connection is over for this host
	controlled chan struct{} // closed when the control stream is no longer read, if it ever was
	drained    chan struct{} // capacity one: a token when the last stream was closed

	streams atomic.Int32 // open ones, without the control stream
	early   atomic.Int32 // incoming ones that wait for the hello
	heard   atomic.Int64 // when something last arrived on a stream, on the clock
	used    atomic.Int64 // when a stream was last opened or closed, on the clock

	// Written before ready is closed.
	incarnation transport.Incarnation // of the peer
	order       uint64                // rises with each connection that the same side dialled

	wasUp bool // was usable at some time; guarded by the host's mutex

	hanging atomic.Bool // hangUp was called

	mu      sync.Mutex       // guards all following fields; the host's comes first
	closed  *link.CloseError // why it ended
	isReady bool             // ready is closed
	begun   bool             // there is a control stream
	greeted bool             // the hello was done
	control network.Stream   // the control stream
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
		host:       h,
		raw:        raw,
		peer:       who,
		transport:  "quic",
		dialed:     raw.Stat().Direction == network.DirOutbound,
		born:       time.Now(),
		ready:      make(chan struct{}),
		gone:       make(chan struct{}),
		controlled: make(chan struct{}),
		drained:    make(chan struct{}, 1),
	}
	if raw.As(&c.ear) {
		c.transport = "tcp"
	}
	if c.dialed {
		h.dials++
		c.order = h.dials
	}
	c.used.Store(clock())
	if raw.IsClosed() {
		c.closed = &link.CloseError{Code: link.CodeUnexpectedClose, Remote: true}
		c.isReady = true
		close(c.ready)
		close(c.gone)
		return c
	}
	h.conns[raw] = c
	switch {
	case h.closing:
		h.startLocked(func() { c.close(link.CodeShutdown) })
	case err != nil:
		h.startLocked(func() { c.close(link.CodeProtocolViolation) })
	default:
		h.startLocked(c.greet)
	}
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
	if p := raw.RemotePeer(); len(h.stack.swarm.ConnsToPeer(p)) == 0 {
		h.stack.swarm.Peerstore().RemovePeer(p) // the library would remember its key for ever
	}
	h.start(func() {
		if c.hasBegun() {
			<-c.controlled // its reader finds out why
		}
		c.end(c.cause())
	})
}

// greet does this side's part of the hello: the dialler's by itself, the acceptor's by making sure that it comes.
func (c *conn) greet() {
	if c.dialed {
		c.dial()
		return
	}
	timer := time.NewTimer(helloTimeout)
	defer timer.Stop()
	for range 2 {
		select {
		case <-c.ready:
			return
		case <-timer.C:
		}
		if !c.hasBegun() {
			break
		}
		timer.Reset(2 * farewellWait) // the control stream has the same deadline, and says goodbye
	}
	c.close(link.CodeTimeout)
}

// up makes the connection usable, unless the hello came too late or from a life that is over. It returns the reason
// if not.
func (c *conn) up(theirs hello, rtt time.Duration) *link.CloseError {
	h := c.host
	h.mu.Lock()
	if h.closing {
		h.mu.Unlock()
		return &link.CloseError{Code: link.CodeShutdown}
	}
	st := h.peerLocked(c.peer)
	if theirs.incarnation < st.newest {
		h.mu.Unlock()
		return &link.CloseError{Code: link.CodeSupplanted}
	}
	if why := c.becomeReady(theirs); why != nil {
		h.mu.Unlock()
		return why
	}
	old := h.supersedeLocked(c.peer, theirs.incarnation)
	for _, o := range old {
		st.remove(o)
	}
	if len(old) > 0 && len(st.usable) == 0 {
		h.emitLocked(transport.Event{Kind: transport.Disconnected, Peer: c.peer, Incarnation: old[0].incarnation, Code: link.CodeSupplanted})
	}
	c.wasUp = true
	st.usable = append(st.usable, c)
	st.rtt = rtt
	if st.arrival != nil {
		st.arrival.end()
		st.arrival = nil
	}
	h.meter.usable[c.transport].Inc()
	if len(st.usable) == 1 {
		h.emitLocked(transport.Event{Kind: transport.Connected, Peer: c.peer, Incarnation: theirs.incarnation})
	} else if !st.resolving {
		st.resolving = h.startLocked(func() { h.resolveDuplicates(c.peer) })
	}
	h.mu.Unlock()
	h.drop(old, link.CodeSupplanted)
	h.log.Debug("peer connected", "peer", c.peer.Short(), "transport", c.transport, "dialed", c.dialed)
	return nil
}

// becomeReady ends the hello well, or returns why the connection is over already. The host is locked, so that nobody who
// waits for ready finds the connection missing from its peer's list.
func (c *conn) becomeReady(theirs hello) *link.CloseError {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed != nil {
		return c.closed
	}
	c.incarnation = theirs.incarnation
	if !c.dialed {
		c.order = theirs.order
	}
	now := clock()
	c.used.Store(now)
	c.heard.Store(now)
	c.isReady, c.greeted = true, true
	close(c.ready)
	return nil
}

// end notes why the connection is over for this host; the first reason stands.
func (c *conn) end(why *link.CloseError) {
	c.mu.Lock()
	if c.closed != nil {
		c.mu.Unlock()
		return
	}
	c.closed = why
	if !c.isReady {
		c.isReady = true
		close(c.ready)
	}
	c.mu.Unlock()
	close(c.gone)
	c.host.lost(c, why)
}

// lost takes a connection that is over out of its peer's list, and reports what that means.
func (h *host) lost(c *conn, why *link.CloseError) {
	h.meter.close(why.Code)
	h.mu.Lock()
	defer h.mu.Unlock()
	log := h.log.With("peer", c.peer.Short(), "reason", why.Code, "remote", why.Remote)
	st := h.peers[c.peer]
	switch {
	case c.wasUp:
		h.meter.usable[c.transport].Dec()
		if st != nil && st.remove(c) && len(st.usable) == 0 {
			h.emitLocked(transport.Event{Kind: transport.Disconnected, Peer: c.peer, Incarnation: c.incarnation, Code: why.Code})
			log.Debug("peer disconnected")
		}
	case refusal(why.Code):
		h.meter.refuse(why)
		h.emitLocked(transport.Event{Kind: transport.Refused, Peer: c.peer, Code: why.Code})
		level := slog.LevelInfo
		if !h.newsLocked(c.peer, why.Code) {
			level = slog.LevelDebug // strangers can make any number of these
		}
		log.Log(h.ctx, level, "peer refused in the hello")
	}
	if why.Remote && why.Code == link.CodeSupplanted {
		h.doubleLocked(c.peer)
	}
}

// newsLocked reports whether a refusal is worth a line in the log: that of one peer for one cause is not again soon, nor are
// many at once.
func (h *host) newsLocked(p id.PeerID, code link.Code) bool {
	key, now := grudge{p, code}, time.Now()
	if last, ok := h.told[key]; ok && now.Sub(last) < tellAgain || !h.loud.Allow() {
		return false
	}
	if len(h.told) >= toldMax {
		clear(h.told)
	}
	h.told[key] = now
	return true
}

// refusal reports whether a connection that ended with the code before its hello was done was refused, rather than broken
// or given up in passing.
func refusal(code link.Code) bool {
	switch code {
	case link.CodeSuccess, link.CodeShutdown, link.CodeUnexpectedClose, link.CodeUnneeded, link.CodeCancelled:
		return false
	default:
		return true
	}
}

// doubleLocked says that a peer knows a newer life of this node's identity, which means that somebody else uses its key.
func (h *host) doubleLocked(told id.PeerID) {
	h.emitLocked(transport.Event{Kind: transport.DuplicateIdentity, Peer: h.self, Code: link.CodeSupplanted})
	if now := time.Now(); now.Sub(h.warned) > time.Minute {
		h.warned = now
		h.log.Error("another node uses this node's identity", "peer", told.Short())
	}
}

// why returns why the connection ended, nil while it lives.
func (c *conn) why() *link.CloseError {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// ended returns why the connection ended, as an error that is never nil.
func (c *conn) ended() error {
	if why := c.why(); why != nil {
		return why
	}
	return &link.CloseError{Code: link.CodeUnexpectedClose}
}

// lastHeard returns when something last arrived, on the clock.
func (c *conn) lastHeard() int64 {
	if c.ear != nil {
		return c.ear.heard.Load()
	}
	return c.heard.Load()
}

// enter and leave count the streams.
func (c *conn) enter() {
	c.streams.Add(1)
	c.used.Store(clock())
}

func (c *conn) leave() {
	c.used.Store(clock())
	if c.streams.Add(-1) == 0 {
		select {
		case c.drained <- struct{}{}:
		default:
		}
	}
}
