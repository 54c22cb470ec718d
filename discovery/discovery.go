package discovery

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mosaik-go/mosaik/discovery/internal/overlay"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/internal/transport"
)

// ErrClosed reports that discovery is closed.
var ErrClosed = errors.New("discovery: closed")

// Env is what discovery runs on. Package mosaik fills it in.
type Env struct {
	Host      transport.Host        // ended by whoever opened it, after discovery
	Key       ed25519.PrivateKey    // of the host's identity
	Network   id.ID                 // as the host's
	Bootstrap []PeerAddr            // peers to contact first
	Tags      []string              // of the first entry
	Registry  bool                  // use the same-host registry
	Logger    *slog.Logger          // nil: log nowhere
	Metrics   prometheus.Registerer // nil: metrics are kept but not exported
}

// Discovery is a node's part in finding the others. All methods are safe for concurrent use.
type Discovery struct {
	env   Env
	cfg   Config
	host  transport.Host
	self  PeerID
	log   *slog.Logger
	count *metrics
	bell  *bell

	own       *ownEntry
	store     *store
	hood      *hood
	conduct   *conduct
	syncs     *syncs
	conns     *conns
	estranged *strangers
	shelf     *shelf // of the registry; nil: not used

	loopCtx   context.Context // of the loops and what they start; ends first
	stopLoops context.CancelFunc
	loops     sync.WaitGroup

	mu      sync.Mutex
	ending  bool // Close or Kill was called
	closing bool // no more streams
	streams map[transport.Stream]struct{}
	perPeer map[PeerID]int // streams of one peer
	tasks   sync.WaitGroup // what handles streams; added to only under mu while not closing

	ended    chan struct{} // closed when Close or Kill is done
	closeErr error         // of later calls; written before ended is closed
}

// Start publishes the node's entry and begins to look for others. It waits for nobody. The entry's incarnation is that of
// the host.
func Start(env Env, cfg Config) (*Discovery, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if env.Logger == nil {
		env.Logger = slog.New(slog.DiscardHandler)
	}
	d := &Discovery{
		env:       env,
		cfg:       cfg,
		host:      env.Host,
		self:      env.Host.ID(),
		log:       env.Logger,
		bell:      newBell(),
		conns:     newConns(),
		estranged: newStrangers(),
		streams:   make(map[transport.Stream]struct{}),
		perPeer:   make(map[PeerID]int),
		ended:     make(chan struct{}),
	}
	first, err := d.firstEntry()
	if err != nil {
		return nil, fmt.Errorf("discovery: own entry: %w", err)
	}
	if env.Registry {
		if d.shelf, err = d.openShelf(); err != nil {
			return nil, err
		}
	}
	if d.count, err = newMetrics(env.Metrics, env.Network); err != nil {
		d.shelf.release()
		return nil, fmt.Errorf("discovery: %w", err)
	}
	rng := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	d.own = newOwnEntry()
	d.store = newStore(d, first)
	d.hood = newHood(d, rng)
	d.conduct = newConduct()
	d.syncs = newSyncs()
	for _, a := range env.Bootstrap {
		d.hood.addContact(a, overlay.Bootstrap)
	}
	d.loopCtx, d.stopLoops = context.WithCancel(context.Background())
	d.host.Handle(protocolGossip, d.serveGossip)
	d.host.Handle(protocolSync, d.serveSync)
	d.loops.Go(d.runStore)
	d.loops.Go(d.runHood)
	d.loops.Go(d.runAnnounce)
	d.loops.Go(d.runProbes)
	d.loops.Go(d.runConns)
	if d.shelf != nil {
		d.loops.Go(d.runShelf)
	}
	return d, nil
}

// firstEntry returns the own entry as it is at the start.
func (d *Discovery) firstEntry() (SignedPeerEntry, error) {
	e := newEntry(d.env.Network, d.ownAddr(), int64(d.host.Incarnation()))
	e, err := e.WithTags(d.env.Tags...)
	if err != nil {
		return SignedPeerEntry{}, err
	}
	return e.Sign(d.env.Key)
}

// maxStreamsPerPeer bounds the streams of discovery with one peer, in both directions together. A correct peer has a few.
const maxStreamsPerPeer = 64

// enter registers what handles a stream, so that Close can end and wait for it. It reports false when discovery is
// closing or the peer has too many streams; the stream is aborted then.
func (d *Discovery) enter(s transport.Stream) bool {
	code := d.register(s)
	switch code {
	case 0:
		return true
	case link.CodeOverloaded:
		d.store.refuse("overloaded")
	}
	s.Abort(code)
	return false
}

func (d *Discovery) register(s transport.Stream) link.Code {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.closing:
		return link.CodeShutdown
	case d.perPeer[s.Peer()] >= maxStreamsPerPeer:
		return link.CodeOverloaded
	}
	d.streams[s] = struct{}{}
	d.perPeer[s.Peer()]++
	d.tasks.Add(1)
	return 0
}

func (d *Discovery) leave(s transport.Stream) {
	d.mu.Lock()
	delete(d.streams, s)
	if d.perPeer[s.Peer()]--; d.perPeer[s.Peer()] == 0 {
		delete(d.perPeer, s.Peer())
	}
	d.mu.Unlock()
	d.tasks.Done()
}

// closed reports whether Close or Kill has begun.
func (d *Discovery) closed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ending
}

// begin reports whether the caller is the first to end discovery. Others wait until it has ended.
func (d *Discovery) begin() bool {
	d.mu.Lock()
	first := !d.ending
	d.ending = true
	d.mu.Unlock()
	if !first {
		<-d.ended
	}
	return first
}

// Close tells the neighbours that this node departs, waits until they have heard it, but no longer than DepartureWindow
// and ctx, and ends everything. It is idempotent; every call waits for the one close.
func (d *Discovery) Close(ctx context.Context) error {
	if !d.begin() {
		return d.closeErr
	}
	defer close(d.ended)
	d.stopBeginning()
	ctx, cancel := context.WithTimeout(ctx, d.cfg.DepartureWindow)
	defer cancel()
	d.sayGoodbye(ctx)
	d.end()
	return nil
}

// Kill ends everything without telling anybody, as if the process had died. The registry keeps what it has.
func (d *Discovery) Kill() {
	if !d.begin() {
		return
	}
	defer close(d.ended)
	d.stopBeginning()
	d.end()
	d.closeErr = ErrClosed
}

// stopBeginning ends all loops and refuses new streams, as those of a node that goes. Those that run go on.
func (d *Discovery) stopBeginning() {
	d.host.Handle(protocolGossip, transport.Refuse)
	d.host.Handle(protocolSync, transport.Refuse)
	d.stopLoops()
	d.loops.Wait()
}

// end aborts what is left, waits for it and tells subscribers.
func (d *Discovery) end() {
	d.mu.Lock()
	d.closing = true
	for s := range d.streams {
		s.Abort(link.CodeShutdown)
	}
	d.mu.Unlock()
	d.tasks.Wait()
	d.shelf.release()
	d.store.flush()
	d.bell.close()
	d.count.withdraw()
}

// now is the node's clock in the unit of versions.
func now() int64 { return time.Now().UnixMilli() }

// background runs fn beside the handler of a stream, and Close waits for it. When discovery is closing already, fn does
// not run: the stream is about to be aborted.
func (d *Discovery) background(s transport.Stream, fn func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.closing {
		d.tasks.Go(fn)
	}
}
