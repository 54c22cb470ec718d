// Package engine moves the items of streams between the nodes of a network as bytes; package streams puts types on it.
//
// On each node a [Service] keeps the producers (sinks) and consumers (sources). One goroutine, its loop, decides who is
// subscribed to whom: it looks at the catalog whenever that changes and at whatever the peers and the program asked for.
// Items never pass through it. They go from a sink's fan-out goroutine into the outlets, one for each subscription, from
// there through the writer of a trunk to the other node, whose reader puts them into the sources.
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/mosaik-go/mosaik/discovery"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/internal/node"
	"github.com/mosaik-go/mosaik/internal/transport"
	"github.com/mosaik-go/mosaik/streams/internal/wire"
)

// lookInterval is the longest time between two looks while anything is subscribed: round-trip times change without notice,
// and quiet trunks must be kept alive.
const lookInterval = time.Second

// Service is all streams of one node.
type Service struct {
	node    *node.Node
	disc    *discovery.Discovery
	host    transport.Host
	self    id.PeerID
	log     *slog.Logger
	metrics *metrics

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup // the loop, checks, dials, trunks
	kick   chan struct{}  // capacity one
	looped chan struct{}  // closed when the loop has ended

	postMu sync.Mutex
	posted []func() // for the loop to run

	checking chan struct{} // a token for each check that runs

	// The loop's.
	peers   map[id.PeerID]*upstream
	dials   int
	here    uint32     // number of the latest subscription within this node
	waiting []*request // for ticket checks
	turned  map[turnedKey]*Refusal
	round   uint64

	mu      sync.Mutex // guards all following fields
	sinks   map[id.ID]*Sink
	sources map[*Source]struct{}
	served  map[*server]struct{}
	closing bool

	freshMu sync.Mutex
	fresh   map[id.PeerID]bool // peers to which a connection has come up since the last look; guarded by freshMu
}

// Start opens the service of a node. It is meant for node.Attach.
func Start(n *node.Node) (*Service, error) {
	count, err := newMetrics(n.Metrics, n.Network)
	if err != nil {
		return nil, fmt.Errorf("streams: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Service{
		node: n, disc: n.Disc, host: n.Host, self: n.ID(), log: n.Logger,
		metrics:  count,
		ctx:      ctx,
		cancel:   cancel,
		kick:     make(chan struct{}, 1),
		looped:   make(chan struct{}),
		sinks:    make(map[id.ID]*Sink),
		sources:  make(map[*Source]struct{}),
		peers:    make(map[id.PeerID]*upstream),
		served:   make(map[*server]struct{}),
		turned:   make(map[turnedKey]*Refusal),
		checking: make(chan struct{}, 16),
		fresh:    make(map[id.PeerID]bool),
	}
	s.host.Handle(wire.Protocol, s.serve)
	go s.loop()
	return s, nil
}

// Self returns the node's identity.
func (s *Service) Self() id.PeerID { return s.self }

// nudge makes the loop look soon.
func (s *Service) nudge() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// post has the loop run fn. After the loop has ended nothing runs any more. What peers can cause to be posted is bounded: by
// the subscriptions that this node asked for, by those that it lets them ask for, and by one for each trunk.
func (s *Service) post(fn func()) {
	s.postMu.Lock()
	s.posted = append(s.posted, fn)
	s.postMu.Unlock()
	s.nudge()
}

// beside runs fn in a goroutine of its own, a bounded number at a time, and looks again when it has ended.
func (s *Service) beside(fn func(context.Context)) {
	s.wg.Go(func() {
		select {
		case s.checking <- struct{}{}:
		case <-s.ctx.Done():
			return
		}
		fn(s.ctx)
		<-s.checking
		s.nudge()
	})
}

func (s *Service) loop() {
	defer close(s.looped)
	changed, stop := s.disc.Watch()
	defer stop()
	defer s.host.Watch(s.connected)()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-s.kick:
		case <-changed:
		case <-timer.C:
		case <-s.ctx.Done():
			return
		}
		next := s.look()
		if !next.IsZero() {
			timer.Reset(max(0, time.Until(next)))
		}
	}
}

// look runs what was posted and brings everything nearer to what the catalog, the peers and the program want. It returns when to look again, zero
// for not before something happens.
func (s *Service) look() time.Time {
	s.runPosted() // what is posted meanwhile is for the next look
	s.forgive()
	catalog := s.disc.Catalog()
	s.round++
	plan := schedule{now: time.Now(), round: s.round, wanted: make(map[id.PeerID]bool)}
	sinks, sources := s.everything()
	for _, k := range sinks {
		k.update(catalog)
		s.review(k, catalog, &plan)
	}
	s.reconsider(catalog)
	for _, src := range sources {
		src.update(catalog)
		s.pursue(src, catalog, &plan)
	}
	s.tend(&plan)
	for _, k := range sinks {
		k.refresh()
	}
	for _, src := range sources {
		src.refresh()
	}
	return plan.next
}

// runPosted runs what has been posted so far, and reports whether there was anything.
func (s *Service) runPosted() bool {
	s.postMu.Lock()
	fns := s.posted
	s.posted = nil
	s.postMu.Unlock()
	for _, fn := range fns {
		fn()
	}
	return len(fns) > 0
}

// schedule is what one look collects: who is wanted, and when to look again.
type schedule struct {
	now, next time.Time
	round     uint64
	wanted    map[id.PeerID]bool
}

func (p *schedule) at(t time.Time) {
	if !t.IsZero() && (p.next.IsZero() || t.Before(p.next)) {
		p.next = t
	}
}

func (p *schedule) soon() { p.at(p.now.Add(lookInterval)) }

func (s *Service) everything() (sinks []*Sink, sources []*Source) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.sinks {
		sinks = append(sinks, k)
	}
	for src := range s.sources {
		sources = append(sources, src)
	}
	return sinks, sources
}

// Produce returns the producer of the stream on this node. If there is none, it is made, owner makes what belongs to it in
// the typed layer, and the stream is announced. Each successful call must be matched by one ReleaseSink. existed tells
// whether it was there.
func (s *Service) Produce(cfg SinkConfig, owner func(*Sink) any) (sink *Sink, shared any, existed bool, err error) {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return nil, nil, false, ErrClosed
	}
	if k := s.sinks[cfg.Stream]; k != nil {
		if k.refs == 0 {
			s.mu.Unlock()
			return nil, nil, false, fmt.Errorf("the producer is being closed: %w", ErrClosed)
		}
		k.refs++
		s.mu.Unlock()
		return k, k.owner, true, nil
	}
	k := newSink(s, cfg)
	k.owner, k.refs = owner(k), 1
	s.sinks[cfg.Stream] = k
	s.mu.Unlock()
	s.metrics.producers.Inc()
	if err := s.disc.AddStreams(cfg.Stream); err != nil {
		s.ReleaseSink(context.Background(), k)
		return nil, nil, false, fmt.Errorf("enter stream %s in the peer entry: %w", cfg.Stream.Short(), err)
	}
	s.nudge()
	return k, k.owner, false, nil
}

// Borrow returns the producer of the stream on this node, if there is one, without a claim on it.
func (s *Service) Borrow(stream id.ID) (*Sink, any, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.sinks[stream]
	if k == nil || k.refs == 0 {
		return nil, nil, false
	}
	return k, k.owner, true
}

// ReleaseSink gives back what one Produce took. The last one sends what is queued, until ctx ends, tells the consumers,
// and withdraws the stream.
func (s *Service) ReleaseSink(ctx context.Context, k *Sink) {
	s.mu.Lock()
	if s.sinks[k.cfg.Stream] != k || k.refs == 0 {
		s.mu.Unlock()
		return
	}
	k.refs--
	last := k.refs == 0
	s.mu.Unlock()
	if last {
		s.withdraw(ctx, k)
	}
}

func (s *Service) withdraw(ctx context.Context, k *Sink) {
	k.finish(ctx)
	if err := s.disc.RemoveStreams(k.cfg.Stream); err != nil && !errors.Is(err, discovery.ErrClosed) {
		s.log.Warn("cannot withdraw a stream from the peer entry", "stream", k.cfg.Stream.Short(), "err", err)
	}
	s.forget(k)
}

func (s *Service) forget(k *Sink) {
	s.mu.Lock()
	there := s.sinks[k.cfg.Stream] == k
	if there {
		delete(s.sinks, k.cfg.Stream)
	}
	s.mu.Unlock()
	if there { // its last Close and that of the service may meet here
		s.metrics.producers.Dec()
		s.nudge()
	}
}

// Consume adds a consumer. ReleaseSource ends it.
func (s *Service) Consume(cfg SourceConfig) (*Source, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return nil, ErrClosed
	}
	src := newSource(s, cfg)
	s.sources[src] = struct{}{}
	s.nudge()
	return src, nil
}

// ReleaseSource ends a consumer: its producers are told, and what it has not taken is lost. It waits until that is done.
func (s *Service) ReleaseSource(src *Source) {
	s.mu.Lock()
	_, there := s.sources[src]
	delete(s.sources, src)
	s.mu.Unlock()
	src.end(true)
	if !there {
		return
	}
	done := make(chan struct{})
	s.post(func() {
		s.drop(src, link.CodeSuccess)
		close(done)
	})
	select {
	case <-done:
	case <-s.looped:
	}
}

// Close ends all streams in order, within ctx, and waits for everything the service started.
func (s *Service) Close(ctx context.Context) error {
	sinks, sources := s.shut()
	ctx, cancel := context.WithTimeout(ctx, drainGrace)
	defer cancel()
	var wg sync.WaitGroup
	for _, k := range sinks {
		wg.Go(func() {
			k.finish(ctx)
			s.forget(k)
		})
	}
	wg.Wait()
	var trunks []*trunk
	done := make(chan struct{})
	s.post(func() {
		for _, src := range sources {
			s.drop(src, link.CodeShutdown)
		}
		trunks = s.trunks()
		close(done)
	})
	<-done
	for _, t := range trunks {
		wg.Go(t.finish)
	}
	wg.Wait()
	s.end(sources)
	return nil
}

// drainGrace is how long Close waits for consumers to take what is queued for them.
const drainGrace = 2 * time.Second

// Kill ends everything at once. The host is gone already, and with it all trunks.
func (s *Service) Kill() {
	sinks, sources := s.shut()
	s.cancel()
	for _, k := range sinks {
		k.kill()
		s.forget(k)
	}
	s.end(sources)
}

func (s *Service) shut() (sinks []*Sink, sources []*Source) {
	s.mu.Lock()
	s.closing = true
	s.mu.Unlock()
	return s.everything()
}

// trunks returns all that are open. Only the loop may call it.
func (s *Service) trunks() []*trunk {
	var out []*trunk
	for _, u := range s.peers {
		if u.client != nil {
			out = append(out, u.client.trunk)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for v := range s.served {
		out = append(out, v.trunk)
	}
	return out
}

func (s *Service) end(sources []*Source) {
	s.host.Handle(wire.Protocol, transport.Refuse)
	s.cancel()
	<-s.looped
	s.wg.Wait()
	for s.runPosted() {
	}
	for _, src := range sources {
		src.end(false)
	}
}
