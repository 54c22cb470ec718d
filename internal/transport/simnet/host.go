package simnet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/internal/transport"
)

// openTimeout bounds Open when its context has no deadline.
const openTimeout = 10 * time.Second

// maxLearned is how many addresses a host remembers of one peer; the oldest go first.
const maxLearned = 16

// host is a transport.Host on a fabric.
type host struct {
	f           *Fabric
	cfg         transport.Config
	id          id.PeerID
	incarnation transport.Incarnation
	log         *slog.Logger
	heartbeat   time.Duration
	deadAfter   time.Duration
	moved       chan struct{} // AddrsChanged

	wg sync.WaitGroup // handlers and the dispatch of events

	// Guarded by the fabric's mutex.
	addr     string
	closed   bool
	resumed  chan struct{} // closed by Fabric.Resume, then replaced
	handlers map[string]func(transport.Stream)
	book     map[id.PeerID][]string
	conns    map[id.PeerID][]*end // the usable ones; no empty slices
	dials    map[id.PeerID]*dial
	newest   map[id.PeerID]transport.Incarnation
	banned   map[id.PeerID]time.Time
	tags     map[id.PeerID]map[string]bool
	watch    watch
}

var _ transport.Host = (*host)(nil)

// NewHost opens a host on the fabric. It fits node.Config.NewHost. Listen may name one address of the form
// /memory/<number>; without it the host gets the next free one. Reach and Metrics have no effect, and a heartbeat that the
// configuration does not set is the fabric's.
func (f *Fabric) NewHost(cfg transport.Config) (transport.Host, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	heartbeat, deadAfter := f.opts.Heartbeat, f.opts.DeadAfter
	if cfg.Heartbeat != 0 || cfg.DeadAfter != 0 {
		var err error
		if heartbeat, deadAfter, err = cfg.Beats(); err != nil {
			return nil, fmt.Errorf("simnet: open host: %w", err)
		}
	}
	h := &host{
		f:   f,
		cfg: cfg,
		id:  id.PeerIDOf(cfg.Key),
		log: cfg.Logger,

		heartbeat: heartbeat,
		deadAfter: deadAfter,

		moved:    make(chan struct{}, 1),
		resumed:  make(chan struct{}),
		handlers: make(map[string]func(transport.Stream)),
		book:     make(map[id.PeerID][]string),
		conns:    make(map[id.PeerID][]*end),
		dials:    make(map[id.PeerID]*dial),
		newest:   make(map[id.PeerID]transport.Incarnation),
		banned:   make(map[id.PeerID]time.Time),
		tags:     make(map[id.PeerID]map[string]bool),
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.place(h, cfg.Listen); err != nil {
		return nil, fmt.Errorf("simnet: open host: %w", err)
	}
	// Unlike real clocks, virtual ones stand still between two openings.
	h.incarnation = max(transport.Incarnation(time.Now().UnixMilli()), f.born[h.id]+1)
	f.born[h.id] = h.incarnation
	return h, nil
}

// place gives the host an address.
func (f *Fabric) place(h *host, listen []string) error {
	if len(listen) > 1 {
		return errors.New("a simulated host has one address")
	}
	for len(listen) == 0 {
		f.ports++
		if addr := "/memory/" + strconv.FormatUint(f.ports, 10); f.places[addr] == nil {
			listen = []string{addr}
		}
	}
	addr := listen[0]
	number, ok := strings.CutPrefix(addr, "/memory/")
	if _, err := strconv.ParseUint(number, 10, 64); !ok || err != nil {
		return fmt.Errorf("listen on %q: want /memory/<number>", addr)
	}
	if p := f.places[addr]; p != nil && p.host != nil {
		return fmt.Errorf("listen on %s: address in use", addr)
	}
	f.places[addr] = &place{peer: h.id, host: h}
	h.addr = addr
	return nil
}

// Readdress moves a live peer to a new address, as when a laptop changes networks. Its connections stay; dials to the
// old address are refused.
func (f *Fabric) Readdress(p id.PeerID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, pl := range f.places {
		if pl.peer != p || pl.host == nil {
			continue
		}
		h := pl.host
		pl.host = nil
		if err := f.place(h, nil); err != nil {
			panic("simnet: no free address: " + err.Error()) // there are 2^64
		}
		select {
		case h.moved <- struct{}{}:
		default:
		}
		return
	}
}

func (h *host) ID() id.PeerID                      { return h.id }
func (h *host) Incarnation() transport.Incarnation { return h.incarnation }
func (h *host) AddrsChanged() <-chan struct{}      { return h.moved }

func (h *host) Addr() id.PeerAddr {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	return id.PeerAddr{ID: h.id, Addrs: []string{h.addr}}
}

func (h *host) Handle(protocol string, handler func(transport.Stream)) {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	if handler == nil {
		delete(h.handlers, protocol)
	} else {
		h.handlers[protocol] = handler
	}
}

func (h *host) Learn(addr id.PeerAddr) {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	known := h.book[addr.ID]
	for _, a := range addr.Addrs {
		if !slices.Contains(known, a) {
			known = append(known, a)
		}
	}
	if extra := len(known) - maxLearned; extra > 0 {
		known = slices.Clone(known[extra:])
	}
	h.book[addr.ID] = known
}

func (h *host) Open(ctx context.Context, peer id.PeerID, protocol string) (transport.Stream, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, openTimeout)
		defer cancel()
	}
	// The connection can break between Connect and here, so this is tried twice.
	for range 2 {
		if err := h.Connect(ctx, id.PeerAddr{ID: peer}); err != nil {
			return nil, err
		}
		if s := h.newStream(peer, protocol); s != nil {
			return s, nil
		}
	}
	return nil, fmt.Errorf("simnet: open %s to %s: %w", protocol, peer.Short(), transport.ErrUnreachable)
}

func (h *host) newStream(peer id.PeerID, protocol string) transport.Stream {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	if len(h.conns[peer]) == 0 {
		return nil
	}
	e := h.conns[peer][0]
	e.opened++
	number := e.opened << 1
	if e == &e.conn.dialler {
		number |= 1
	}
	s := newStream(e, number, protocol)
	e.streams[number] = s
	return s
}

func (h *host) Connected(peer id.PeerID) bool {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	return len(h.conns[peer]) > 0
}

func (h *host) Peers() []id.PeerID {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	return slices.SortedFunc(maps.Keys(h.conns), id.PeerID.Compare)
}

func (h *host) Connections() (out []transport.Connection) {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	for _, p := range slices.SortedFunc(maps.Keys(h.conns), id.PeerID.Compare) {
		e := h.conns[p][0]
		out = append(out, transport.Connection{Peer: p, Transport: "sim", Dialled: e.dial != nil, Since: e.since})
	}
	return out
}

func (h *host) RTT(peer id.PeerID) (time.Duration, bool) {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	if len(h.conns[peer]) == 0 {
		return 0, false
	}
	return h.conns[peer][0].rtt, true
}

func (h *host) Disconnect(peer id.PeerID, code link.Code) {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	h.disconnect(peer, code)
}

func (h *host) disconnect(peer id.PeerID, code link.Code) {
	for _, e := range slices.Clone(h.conns[peer]) {
		e.close(code)
	}
}

func (h *host) Supersede(peer id.PeerID, newest transport.Incarnation) {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	h.supersede(peer, newest)
}

func (h *host) supersede(peer id.PeerID, newest transport.Incarnation) {
	if newest <= h.newest[peer] {
		return
	}
	h.newest[peer] = newest
	for _, e := range slices.Clone(h.conns[peer]) {
		if e.incarnation < newest {
			e.close(link.CodeSupplanted)
		}
	}
}

func (h *host) Ban(peer id.PeerID, d time.Duration) {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	h.banned[peer] = time.Now().Add(d)
	h.disconnect(peer, link.CodeBanned)
}

func (h *host) isBanned(peer id.PeerID) bool { return time.Now().Before(h.banned[peer]) }

// Protect records the tag. Nothing is ever trimmed on a fabric.
func (h *host) Protect(peer id.PeerID, tag string) {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	if h.tags[peer] == nil {
		h.tags[peer] = make(map[string]bool)
	}
	h.tags[peer][tag] = true
}

func (h *host) Unprotect(peer id.PeerID, tag string) {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	delete(h.tags[peer], tag)
	if len(h.tags[peer]) == 0 {
		delete(h.tags, peer)
	}
}

// lost is called when a usable connection of the host is gone.
func (h *host) lost(e *end, why *link.CloseError) {
	rest := slices.DeleteFunc(h.conns[e.peer], func(x *end) bool { return x == e })
	if len(rest) > 0 {
		h.conns[e.peer] = rest
	} else {
		delete(h.conns, e.peer)
		h.emit(transport.Event{Kind: transport.Disconnected, Peer: e.peer, Incarnation: e.incarnation, Code: why.Code})
	}
	h.heardClose(why)
}

// heardClose looks whether a close says that this identity lives elsewhere.
func (h *host) heardClose(why *link.CloseError) {
	if why.Remote && why.Code == link.CodeSupplanted {
		h.log.Warn("another node uses this identity", "reason", why.Code.String())
		h.emit(transport.Event{Kind: transport.DuplicateIdentity, Peer: h.id})
	}
}

func (h *host) Close() error {
	h.shut(link.CodeShutdown)
	return nil
}

func (h *host) Kill() { h.shut(link.CodeUnexpectedClose) }

// shut ends the host with a code that peers see, and waits for its goroutines.
func (h *host) shut(code link.Code) {
	h.f.mu.Lock()
	if !h.closed {
		h.closed = true
		h.watch.stop()
		h.f.resume(h.id)
		h.f.places[h.addr].host = nil
		for _, d := range h.dials {
			d.finish(transport.ErrClosed)
		}
		for _, e := range h.f.ends() {
			if e.host == h {
				e.close(code)
			}
		}
	}
	h.f.mu.Unlock()
	h.wg.Wait()
}
