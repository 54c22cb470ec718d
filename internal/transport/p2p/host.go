// Package p2p is the transport over real sockets: TCP with TLS 1.3, and QUIC, through libp2p's swarm. It is the only
// package that imports libp2p.
package p2p

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"golang.org/x/time/rate"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/handshake"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/internal/transport"
)

// host implements [transport.Host].
type host struct {
	cfg         transport.Config
	tuning      tuning
	pingEvery   time.Duration
	deadAfter   time.Duration // without a sign of life
	self        id.PeerID
	incarnation transport.Incarnation
	key         handshake.Key // of the network secret
	private     bool          // there is a secret
	log         *slog.Logger
	loud        *rate.Limiter // of what strangers can make this host log
	stack       *stack
	meter       *meter

	addrsChanged chan struct{}
	ctx          context.Context // ends with the host
	cancel       context.CancelFunc
	wg           sync.WaitGroup // of all goroutines; added to under mu, or from a goroutine that it counts
	done         chan struct{}  // closed when Close or Kill is over

	mu       sync.Mutex // guards all following fields
	closing  bool       // nothing new is served
	finished bool       // no goroutine may start any more
	handlers map[string]func(transport.Stream)
	conns    map[network.Conn]*conn // those that the library has, with or without hello
	peers    map[id.PeerID]*peerState
	bans     map[id.PeerID]time.Time // until
	dials    uint64                  // connections that this side dialled, for their order
	events   events
	told     map[grudge]time.Time // when a refusal was last logged
	warned   time.Time            // when a duplicate of this identity was last logged
}

// grudge is a refusal that was logged.
type grudge struct {
	peer id.PeerID
	code link.Code
}

// Limits of what is logged of refusals.
const (
	toldMax   = 256
	tellAgain = 10 * time.Minute // of one peer for one cause
)

// New opens a host. It returns once it listens.
func New(cfg transport.Config) (transport.Host, error) { return open(cfg, defaultTuning) }

func open(cfg transport.Config, t tuning) (*host, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	routeLibraryLogs()
	every, dead, err := cfg.Beats()
	if err != nil {
		return nil, fmt.Errorf("p2p: %w", err)
	}
	h := &host{
		cfg:          cfg,
		tuning:       t,
		pingEvery:    every,
		deadAfter:    dead,
		self:         id.PeerIDOf(cfg.Key),
		incarnation:  transport.Incarnation(time.Now().UnixMilli()),
		private:      cfg.Secret != "",
		log:          cfg.Logger.With("subsystem", "transport"),
		loud:         rate.NewLimiter(1, 20),
		addrsChanged: make(chan struct{}, 1),
		done:         make(chan struct{}),
		handlers:     make(map[string]func(transport.Stream)),
		conns:        make(map[network.Conn]*conn),
		peers:        make(map[id.PeerID]*peerState),
		bans:         make(map[id.PeerID]time.Time),
		told:         make(map[grudge]time.Time),
	}
	if h.meter, err = newMeter(cfg.Metrics, cfg.Network); err != nil {
		return nil, fmt.Errorf("p2p: %w", err)
	}
	if h.private {
		h.key = handshake.KeyOf(cfg.Secret, cfg.Network)
	}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	if h.stack, err = newStack(cfg, (*gater)(h)); err != nil {
		h.cancel()
		return nil, fmt.Errorf("p2p: %w", err)
	}
	h.stack.swarm.SetStreamHandler(h.incoming)
	h.stack.swarm.Notify(&network.NotifyBundle{ConnectedF: h.connected, DisconnectedF: h.disconnected})
	h.wg.Go(h.tend)
	return h, nil
}

func (h *host) ID() id.PeerID                      { return h.self }
func (h *host) Incarnation() transport.Incarnation { return h.incarnation }
func (h *host) AddrsChanged() <-chan struct{}      { return h.addrsChanged }

func (h *host) Handle(protocol string, handler func(transport.Stream)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if handler == nil {
		delete(h.handlers, protocol)
		return
	}
	h.handlers[protocol] = handler
}

// start runs fn in a goroutine that Close waits for. It reports false, and does nothing, when the host is gone.
func (h *host) start(fn func()) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.startLocked(fn)
}

func (h *host) startLocked(fn func()) bool {
	if h.finished {
		return false
	}
	h.wg.Go(fn)
	return true
}

func (h *host) Close() error {
	conns, first := h.stop()
	if !first {
		<-h.done
		return nil
	}
	var wait sync.WaitGroup
	for _, c := range conns {
		wait.Go(func() { c.close(link.CodeShutdown) })
	}
	wait.Wait()
	return h.finish()
}

// Kill leaves it to the library to close the connections, without a code. Over TCP peers see what they see when a process
// dies. Over QUIC they learn at once, since the packet that says so cannot be held back; of a real death they learn by
// the missing heartbeat.
func (h *host) Kill() {
	if _, first := h.stop(); first {
		h.finish()
	}
	<-h.done
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
	defer close(h.done)
	h.cancel()
	err := h.stack.close()
	h.mu.Lock()
	h.finished = true
	h.events.stop()
	h.mu.Unlock()
	h.wg.Wait()
	if err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("p2p: close: %w", err)
	}
	return nil
}

func (h *host) Disconnect(p id.PeerID, code link.Code) {
	h.mu.Lock()
	var to []*conn
	for _, c := range h.conns {
		if c.peer == p {
			to = append(to, c)
		}
	}
	h.mu.Unlock()
	h.drop(to, code)
}
