// Package p2p is the transport over real sockets: TCP with TLS 1.3, and QUIC, through libp2p's swarm. It is the only
// package that imports libp2p.
package p2p

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/handshake"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/internal/transport"
)

const (
	openTimeout   = 10 * time.Second // of Open without a deadline
	addrTTL       = 30 * time.Minute // learned addresses are kept this long
	addrsMax      = 32               // addresses used of one peer
	addrPollEvery = 10 * time.Second // interface addresses are looked at
	goodbyeWait   = 300 * time.Millisecond
)

// host implements [transport.Host].
type host struct {
	cfg         transport.Config
	self        id.PeerID
	incarnation transport.Incarnation
	key         handshake.Key // of the network secret
	private     bool          // there is a secret
	log         *slog.Logger
	stack       *stack
	meter       *meter

	addrsChanged chan struct{}
	ctx          context.Context // ends with the host
	cancel       context.CancelFunc
	wg           sync.WaitGroup // handlers, control streams, events

	mu       sync.Mutex // guards all following fields
	closing  bool
	handlers map[string]func(transport.Stream)
	conns    map[network.Conn]*conn
	peers    map[id.PeerID]*peerState
	bans     map[id.PeerID]time.Time // until
	events   events
}

// peerState is what is known of one peer.
type peerState struct {
	usable []*conn               // hello done, oldest first
	newest transport.Incarnation // ever seen or told
	rtt    time.Duration         // latest measured
}

// New opens a host. It returns once it listens.
func New(cfg transport.Config) (transport.Host, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	routeLibraryLogs()
	h := &host{
		cfg:          cfg,
		self:         id.PeerIDOf(cfg.Key),
		incarnation:  transport.Incarnation(time.Now().UnixMilli()),
		private:      cfg.Secret != "",
		log:          cfg.Logger.With("subsystem", "transport"),
		meter:        newMeter(cfg.Metrics, cfg.Network),
		addrsChanged: make(chan struct{}, 1),
		handlers:     make(map[string]func(transport.Stream)),
		conns:        make(map[network.Conn]*conn),
		peers:        make(map[id.PeerID]*peerState),
		bans:         make(map[id.PeerID]time.Time),
	}
	if h.private {
		h.key = handshake.KeyOf(cfg.Secret, cfg.Network)
	}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	var err error
	if h.stack, err = newStack(cfg, (*gater)(h)); err != nil {
		h.cancel()
		return nil, fmt.Errorf("p2p: %w", err)
	}
	h.stack.swarm.SetStreamHandler(h.incoming)
	h.stack.swarm.Notify(&network.NotifyBundle{ConnectedF: h.connected, DisconnectedF: h.disconnected})
	if cfg.Reach != transport.ReachHost {
		h.wg.Go(h.pollAddrs)
	}
	return h, nil
}

func (h *host) ID() id.PeerID                      { return h.self }
func (h *host) Incarnation() transport.Incarnation { return h.incarnation }
func (h *host) AddrsChanged() <-chan struct{}      { return h.addrsChanged }

func (h *host) Addr() id.PeerAddr {
	a := id.PeerAddr{ID: h.self}
	addrs, err := h.stack.swarm.InterfaceListenAddresses()
	if err != nil {
		addrs = h.stack.swarm.ListenAddresses()
	}
	for _, m := range addrs {
		a.Addrs = append(a.Addrs, m.String())
	}
	return a
}

// pollAddrs notices that interfaces came or went.
func (h *host) pollAddrs() {
	tick := time.NewTicker(addrPollEvery)
	defer tick.Stop()
	last := h.Addr().Addrs
	for {
		select {
		case <-tick.C:
		case <-h.ctx.Done():
			return
		}
		if now := h.Addr().Addrs; !slices.Equal(now, last) {
			last = now
			select {
			case h.addrsChanged <- struct{}{}:
			default:
			}
		}
	}
}

func (h *host) Handle(protocol string, handler func(transport.Stream)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if handler == nil {
		delete(h.handlers, protocol)
		return
	}
	h.handlers[protocol] = handler
}

func (h *host) Learn(addr id.PeerAddr) {
	p, err := peerOf(addr.ID)
	if err != nil || addr.ID == h.self {
		return
	}
	var addrs []ma.Multiaddr
	for _, text := range addr.Addrs {
		if a, err := ma.NewMultiaddr(text); err == nil && len(addrs) < addrsMax {
			addrs = append(addrs, a)
		}
	}
	h.stack.swarm.Peerstore().AddAddrs(p, addrs, addrTTL)
}

func (h *host) Connect(ctx context.Context, addr id.PeerAddr) error {
	_, err := h.connect(ctx, addr)
	return err
}

// connect returns a usable connection to the peer, dialling if there is none.
func (h *host) connect(ctx context.Context, addr id.PeerAddr) (*conn, error) {
	if addr.ID == h.self {
		return nil, transport.ErrSelf
	}
	h.mu.Lock()
	switch {
	case h.closing:
		h.mu.Unlock()
		return nil, transport.ErrClosed
	case h.bannedLocked(addr.ID):
		h.mu.Unlock()
		return nil, fmt.Errorf("p2p: connect to %s: %w", addr.ID.Short(), &link.CloseError{Code: link.CodeBanned})
	}
	c := h.bestLocked(addr.ID)
	h.mu.Unlock()
	if c != nil {
		return c, nil
	}
	h.Learn(addr)
	p, err := peerOf(addr.ID)
	if err != nil {
		return nil, fmt.Errorf("p2p: connect to %s: %w", addr.ID.Short(), err)
	}
	if len(h.stack.swarm.Peerstore().Addrs(p)) == 0 && len(h.stack.swarm.ConnsToPeer(p)) == 0 {
		return nil, fmt.Errorf("p2p: connect to %s: %w", addr.ID.Short(), transport.ErrNoAddress)
	}
	h.stack.swarm.Backoff().Clear(p)
	raw, err := h.stack.swarm.DialPeer(ctx, p)
	if err != nil {
		switch {
		case ctx.Err() != nil:
			return nil, fmt.Errorf("p2p: connect to %s: %w", addr.ID.Short(), context.Cause(ctx))
		case h.ctx.Err() != nil:
			return nil, transport.ErrClosed
		}
		return nil, fmt.Errorf("p2p: connect to %s: %w: %w", addr.ID.Short(), transport.ErrUnreachable, err)
	}
	c = h.connOf(raw)
	select {
	case <-c.ready:
	case <-ctx.Done():
		return nil, fmt.Errorf("p2p: connect to %s: %w", addr.ID.Short(), context.Cause(ctx))
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if best := h.bestLocked(addr.ID); best != nil {
		return best, nil // this one, or one that the peer dialled meanwhile
	}
	if c.err != nil {
		return nil, fmt.Errorf("p2p: connect to %s: %w", addr.ID.Short(), c.err)
	}
	return nil, fmt.Errorf("p2p: connect to %s: %w", addr.ID.Short(), &link.CloseError{Code: link.CodeUnexpectedClose})
}

func (h *host) Open(ctx context.Context, p id.PeerID, protocol string) (transport.Stream, error) {
	if _, has := ctx.Deadline(); !has {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, openTimeout)
		defer cancel()
	}
	for try := 1; ; try++ {
		c, err := h.connect(ctx, id.PeerAddr{ID: p})
		if err != nil {
			return nil, err
		}
		s, err := c.open(ctx, protocol)
		if err == nil {
			return s, nil
		}
		if try == 2 || ctx.Err() != nil {
			return nil, fmt.Errorf("p2p: open %s to %s: %w", protocol, p.Short(), closeError(err))
		}
		c.close(link.CodeUnexpectedClose)
	}
}

func (h *host) Connected(p id.PeerID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.bestLocked(p) != nil
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

func (h *host) RTT(p id.PeerID) (time.Duration, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	st := h.peers[p]
	if st == nil || len(st.usable) == 0 || st.rtt == 0 {
		return 0, false
	}
	return st.rtt, true
}

func (h *host) Disconnect(p id.PeerID, code link.Code) {
	for _, c := range h.connsTo(p) {
		c.close(code)
	}
}

func (h *host) Supersede(p id.PeerID, newest transport.Incarnation) {
	h.mu.Lock()
	old := h.supersedeLocked(p, newest)
	h.mu.Unlock()
	for _, c := range old {
		c.close(link.CodeSupplanted)
	}
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
	now := time.Now()
	for q, until := range h.bans {
		if now.After(until) {
			delete(h.bans, q)
		}
	}
	h.bans[p] = now.Add(d)
	h.mu.Unlock()
	h.log.Warn("peer banned", "peer", p.Short(), "for", d)
	h.Disconnect(p, link.CodeBanned)
}

func (h *host) bannedLocked(p id.PeerID) bool {
	until, ok := h.bans[p]
	return ok && time.Now().Before(until)
}

// Protect and Unprotect have nothing to do: this host refuses connections beyond its limits rather than trimming others.
func (h *host) Protect(id.PeerID, string)   {}
func (h *host) Unprotect(id.PeerID, string) {}

func (h *host) Close() error {
	conns, first := h.stop()
	if !first {
		h.wg.Wait()
		return nil
	}
	var wait sync.WaitGroup
	for _, c := range conns {
		wait.Go(func() { c.goodbye(goodbyeWait) })
	}
	wait.Wait()
	return h.finish()
}

func (h *host) Kill() {
	if _, first := h.stop(); first {
		h.finish()
	}
	h.wg.Wait()
}

// stop refuses everything new and returns the connections there are. first is false if the host was stopped before.
func (h *host) stop() (conns []*conn, first bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closing {
		return nil, false
	}
	h.closing = true
	for _, c := range h.conns {
		conns = append(conns, c)
	}
	return conns, true
}

// finish closes the sockets, which fails all streams, and waits for everything.
func (h *host) finish() error {
	h.cancel()
	err := h.stack.close()
	h.mu.Lock()
	h.events.stop()
	h.mu.Unlock()
	h.wg.Wait()
	if err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("p2p: close: %w", err)
	}
	return nil
}

// peerLocked returns the record of a peer, making one if there is none.
func (h *host) peerLocked(p id.PeerID) *peerState {
	st := h.peers[p]
	if st == nil {
		st = new(peerState)
		h.peers[p] = st
	}
	return st
}

// bestLocked returns the connection to use for the peer: of several, the one dialled by the smaller identity, so that
// both sides choose the same; nil when there is none.
func (h *host) bestLocked(p id.PeerID) *conn {
	st := h.peers[p]
	if st == nil {
		return nil
	}
	for _, c := range st.usable {
		if c.preferred() {
			return c
		}
	}
	if len(st.usable) > 0 {
		return st.usable[0]
	}
	return nil
}

func (h *host) connsTo(p id.PeerID) []*conn {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []*conn
	for _, c := range h.conns {
		if c.peer == p {
			out = append(out, c)
		}
	}
	return out
}
