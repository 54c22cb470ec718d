// Package host drives groups on a node: it feeds the consensus engine of each group from a mailbox, sends what the
// engine wants sent over the peer links of package bond, has committed commands applied, and answers callers.
//
// A group without work has no goroutine. See [Group] for how the loop and the applier share the work.
package host

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/bond"
	"github.com/mosaik-go/mosaik/groups/internal/core"
	"github.com/mosaik-go/mosaik/groups/logstore"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/node"
)

// Tick is the interval at which engines are told the time.
const Tick = 100 * time.Millisecond

// departGrace bounds how long the last Close of a group waits for the others to acknowledge the departure; stopGrace comes
// on top.
const departGrace = 4 * time.Second

// overloaded is why a call in line fails.
const overloaded = core.FailedOverloaded

// GroupConfig is what a group is joined with.
type GroupConfig struct {
	ID      id.ID
	Engine  core.Config // the driver fills in Self, BootNonce, Seed, Tick and Log
	Bond    bond.Local  // the driver fills in Group and Sink
	Storage logstore.Store

	// Schema is given what the log says of its commands, empty if nothing, and returns what it is to say, or why the group
	// must not be opened. Nil: nothing is said.
	Schema func(stored []byte) ([]byte, error)

	MaxCalls int // calls of this member under way
	MaxBytes int // their bytes
}

// Service is all groups of one node.
type Service struct {
	node    *node.Node
	log     *slog.Logger
	mesh    *bond.Mesh
	metrics *metrics
	start   time.Time

	strangers func() string // in words, which peers of the network are refused because of its secret

	bulk *bulkServer

	crew       crew
	ctx        context.Context // ends with the ticker
	stopTicker context.CancelFunc
	wg         sync.WaitGroup // ticker and retirements

	stores inventories

	mu      sync.Mutex // guards all following fields
	groups  map[id.ID]*membership
	closing bool
}

// membership is the node's part in one group, shared by all handles.
type membership struct {
	group *Group
	owner any           // the typed layer's shared data
	refs  int           // handles
	ready chan struct{} // closed when group is set, or err
	err   error
	gone  chan struct{} // closed when it has left the table, or late is set
	last  bool          // it is departing: new handles wait until it is gone
	late  bool          // it is over, but the program's own code still runs; it leaves the table when that ends
}

// Start opens the service of a node. It is meant for node.Attach.
func Start(n *node.Node) (*Service, error) {
	count, err := newMetrics(n.Metrics, n.Network)
	if err != nil {
		return nil, fmt.Errorf("groups: %w", err)
	}
	s := &Service{
		node:    n,
		log:     n.Logger,
		metrics: count,
		start:   time.Now().Add(-time.Second), // so that no reading is zero, which means never
		groups:  make(map[id.ID]*membership),

		strangers: n.Disc.Note,
	}
	s.mesh = bond.Start(bond.Env{
		Host:      n.Host,
		Network:   n.Network,
		Directory: directory{n.Disc},
		Logger:    n.Logger,
		Pulses:    bond.Pulses{Sent: s.metrics.pulses, Frames: s.metrics.pulseFrames},
	})
	s.bulk = startBulkServer(s)
	ctx, cancel := context.WithCancel(context.Background())
	s.ctx, s.stopTicker = ctx, cancel
	s.wg.Go(func() { s.tick(ctx) })
	return s, nil
}

// now reads the clock that engines are driven by.
func (s *Service) now() time.Duration { return time.Since(s.start) }

func (s *Service) tick(ctx context.Context) {
	ticker := time.NewTicker(Tick)
	defer ticker.Stop()
	s.tickEvery(ticker.C, ctx.Done())
}

func (s *Service) live(out []*Group) []*Group {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.groups {
		if m.group != nil {
			out = append(out, m.group)
		}
	}
	return out
}

// Join returns the group of the given id on this node and what belongs to it in the typed layer. If the node does not
// take part yet, build makes the machine and that owner, and the group is started. Each successful Join must be
// matched by one Release. If the group is just departing, Join waits until it has, for a few seconds at most.
func (s *Service) Join(cfg GroupConfig, build func() (Machine, any)) (*Group, any, error) {
	for {
		s.mu.Lock()
		if s.closing {
			s.mu.Unlock()
			return nil, nil, ErrClosed
		}
		m := s.groups[cfg.ID]
		if m == nil {
			m = &membership{refs: 1, ready: make(chan struct{}), gone: make(chan struct{})}
			s.groups[cfg.ID] = m
			s.mu.Unlock()
			return s.found(m, cfg, build)
		}
		if m.late {
			s.mu.Unlock()
			return nil, nil, fmt.Errorf("groups: join %s again: %w", cfg.ID.Short(), ErrMachineBusy)
		}
		if m.last {
			s.mu.Unlock()
			<-m.gone
			continue
		}
		m.refs++
		s.mu.Unlock()
		<-m.ready
		if m.err != nil {
			return nil, nil, m.err
		}
		if err := m.group.End(); err != nil {
			s.Release(m.group)
			return nil, nil, err
		}
		return m.group, m.owner, nil
	}
}

// found starts the group of a fresh membership.
func (s *Service) found(m *membership, cfg GroupConfig, build func() (Machine, any)) (*Group, any, error) {
	g, owner, err := s.open(cfg, build)
	s.mu.Lock()
	m.group, m.owner, m.err = g, owner, err
	if err != nil {
		delete(s.groups, cfg.ID)
		close(m.gone)
	}
	late := err == nil && s.closing
	mine := !m.last // else Close is at it
	if late {
		m.last = true
	}
	close(m.ready)
	s.mu.Unlock()
	if err != nil {
		return nil, nil, err
	}
	s.metrics.active.Inc()
	if late {
		if !mine {
			<-m.gone
			return nil, nil, ErrClosed
		}
		s.leave(context.Background(), m, g.cfg.Engine.Durable)
		return nil, nil, ErrClosed
	}
	if err := s.node.Disc.AddGroups(cfg.ID); err != nil {
		s.Release(g)
		return nil, nil, fmt.Errorf("groups: enter %s in the peer entry: %w", cfg.ID.Short(), err)
	}
	s.mesh.Add(g.cfg.Bond)
	return g, owner, nil
}

func (s *Service) open(cfg GroupConfig, build func() (Machine, any)) (g *Group, owner any, err error) {
	defer func() {
		// The machine's constructor and the storage are not ours.
		if v := recover(); v != nil {
			err = fmt.Errorf("groups: open %s: panic: %v", cfg.ID.Short(), v)
		}
	}()
	if err := cfg.Storage.Claim(s.node.ID()); err != nil {
		return nil, nil, fmt.Errorf("groups: open the log of %s: %w", cfg.ID.Short(), err)
	}
	first, fresh, others := s.stores.join(cfg.Storage, cfg.ID)
	if first {
		s.watchStore(cfg.Storage)
	}
	notify := new(relay)
	log, err := cfg.Storage.Open(cfg.ID, notify.persisted)
	if err != nil {
		return nil, nil, fmt.Errorf("groups: open the log of %s: %w", cfg.ID.Short(), err)
	}
	defer func() {
		if g == nil {
			log.Close()
		}
	}()
	schema, err := checkSchema(&cfg, log)
	if err != nil {
		return nil, nil, err
	}
	e := &cfg.Engine
	e.Group = cfg.ID
	e.Self = s.node.ID()
	e.BootNonce = random()
	e.Seed = random()
	e.Tick = Tick
	e.Durable = cfg.Storage.Durable()
	e.Log = raftLog{s.log.With("group", cfg.ID.Short())}
	images, saved, err := openSaved(log.Images(), s.log.With("group", cfg.ID.Short()))
	if err != nil {
		return nil, nil, fmt.Errorf("groups: open the images of %s: %w", cfg.ID.Short(), err)
	}
	defer func() {
		if g == nil {
			closeImages(images)
		}
	}()
	e.Saved = saved
	engine, err := core.New(*e, log)
	if err != nil {
		return nil, nil, fmt.Errorf("groups: start the engine of %s: %w", cfg.ID.Short(), err)
	}
	if err := keepSchema(log, schema); err != nil {
		return nil, nil, fmt.Errorf("groups: write the log of %s: %w", cfg.ID.Short(), err)
	}
	machine, owner := build()
	g = newGroup(s, cfg, engine, machine, log.Images())
	g.store = log
	if g.fresh = fresh; fresh && len(others) > 0 {
		g.log.Warn("the store had nothing of this group, and holds others that nobody has joined on this node: another key, machine signature or setting makes another group",
			"others", len(others), "such_as", others[0].Short())
	}
	for _, im := range images {
		g.images.add(im)
	}
	notify.to.Store(g)
	g.cfg.Bond.Group = cfg.ID
	g.cfg.Bond.Sink = g
	g.cfg.Bond.Traffic = g.meter.traffic()
	return g, owner, nil
}

// watchStore has those told of that a store holds and nobody joins.
func (s *Service) watchStore(store logstore.Store) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closing {
		s.wg.Go(func() { s.tellOrphans(s.ctx, store) })
	}
}

func random() uint64 {
	var b [8]byte
	rand.Read(b[:])
	return binary.LittleEndian.Uint64(b[:])
}

// Release gives back what one Join took. The last one departs from the group, or, if its log is durable, stops in a way
// that it can come back from, and waits for that, for a few seconds at most. The only error is ErrMachineBusy.
func (s *Service) Release(g *Group) error {
	s.mu.Lock()
	m := s.groups[g.cfg.ID]
	if m == nil || m.group != g || m.last {
		s.mu.Unlock()
		if m != nil && m.group == g {
			<-m.gone
		}
		return nil
	}
	m.refs--
	m.last = m.refs == 0
	last := m.last
	s.mu.Unlock()
	if last {
		ctx, cancel := context.WithTimeout(context.Background(), departGrace)
		defer cancel()
		if err := s.leave(ctx, m, g.cfg.Engine.Durable); errors.Is(err, ErrMachineBusy) {
			return err
		}
	}
	return nil
}

// Leave departs from the group for all handles, and forgets a durable log. It returns an error if the departure was not
// acknowledged before ctx ended; the node has left all the same. A group that has failed is only closed: its log may be
// the only one that holds what was acknowledged, and nobody was told, so that stays and an error says it.
func (s *Service) Leave(ctx context.Context, g *Group) error {
	s.mu.Lock()
	m := s.groups[g.cfg.ID]
	if m == nil || m.group != g {
		s.mu.Unlock()
		return nil
	}
	mine := !m.last
	m.last = true
	s.mu.Unlock()
	if !mine {
		select {
		case <-m.gone:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return s.leave(ctx, m, false)
}

// leave takes the group out of service: departure within ctx, then engine and machine, bonds, entry, log. With keep the
// membership stays, for the node's next start. The caller has set m.last, or nobody else can reach m. If the program's
// own code does not return in time the rest is done once it does, by a goroutine that outlives the call.
func (s *Service) leave(ctx context.Context, m *membership, keep bool) error {
	g := m.group
	err := g.depart(ctx, keep)
	keep = keep || errors.Is(err, errNotLeft)
	ended := g.stop(ctx) // before the bonds end, so that the others hear that this member is gone for good
	s.withdraw(g, s.mesh.Remove)
	release := func() {
		if !keep {
			g.forgetLog()
		}
		g.closeLog()
		if !keep {
			g.forgetImages() // which the log may need as long as it is there
		}
	}
	if has(ended) {
		release()
		s.forget(m)
		return err
	}
	s.linger(m, ended, release)
	return errors.Join(err, fmt.Errorf("groups: close %s: %w", g.cfg.ID.Short(), ErrMachineBusy))
}

// linger leaves a group that is over to itself until the program's own code returns. Its log stays open until then.
func (s *Service) linger(m *membership, ended <-chan struct{}, release func()) {
	m.group.log.Warn("the group is over, but the program still applies a command, or reads or writes a state; the log is released when that returns")
	s.mu.Lock()
	m.late = true
	close(m.gone)
	s.mu.Unlock()
	s.inactive(m.group)
	go func() {
		<-ended
		release()
		s.mu.Lock()
		delete(s.groups, m.group.cfg.ID)
		s.mu.Unlock()
		s.metrics.forget(m.group.meter)
		m.group.log.Info("what the program still did for a closed group has ended")
	}()
}

// withdraw ends the bonds of a group and takes it off the peer entry.
func (s *Service) withdraw(g *Group, end func(id.ID)) {
	if err := s.node.Disc.RemoveGroups(g.cfg.ID); err != nil {
		s.log.Warn("cannot withdraw a group from the peer entry", "group", g.cfg.ID.Short(), "err", err)
	}
	end(g.cfg.ID)
}

func (s *Service) forget(m *membership) {
	s.mu.Lock()
	delete(s.groups, m.group.cfg.ID)
	close(m.gone)
	s.mu.Unlock()
	s.inactive(m.group)
	s.metrics.forget(m.group.meter)
}

// inactive counts a group no more among those that the node takes part in.
func (s *Service) inactive(g *Group) { g.inactive.Do(s.metrics.active.Dec) }

// retire withdraws a group that failed; its membership stays until its handles are closed. It does not block.
func (s *Service) retire(g *Group) {
	s.inactive(g)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return
	}
	s.wg.Go(func() { s.withdraw(g, s.mesh.Fail) })
}

// Close departs from all groups, or stops those with a durable log, within ctx and waits for everything the service
// started, except for code of the program that does not return; see ErrMachineBusy.
func (s *Service) Close(ctx context.Context) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for _, m := range s.shut() {
		wg.Go(func() {
			<-m.ready
			if m.err != nil {
				return
			}
			s.mu.Lock()
			mine := !m.last
			m.last = true
			s.mu.Unlock()
			if !mine {
				<-m.gone
				return
			}
			err := s.leave(ctx, m, m.group.cfg.Engine.Durable)
			if err != nil && (!errors.Is(err, errNotLeft) || errors.Is(err, ErrMachineBusy)) { // nobody asked to leave
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	s.bulk.close()
	s.mesh.Close()
	s.stopTicker()
	s.wg.Wait()
	s.dismiss()
	return errors.Join(errs...)
}

// Kill stops everything at once.
func (s *Service) Kill() {
	all := s.shut()
	s.stopTicker()
	s.bulk.close()
	s.mesh.Kill()
	var wg sync.WaitGroup
	for _, m := range all {
		wg.Go(func() {
			<-m.ready
			if m.err != nil {
				return
			}
			ended := m.group.kill()
			s.mu.Lock()
			mine := !m.last
			m.last = true
			s.mu.Unlock()
			switch {
			case !mine: // whoever takes it out of service closes the log
				<-m.gone
			case has(ended):
				m.group.closeLog()
				s.inactive(m.group)
				s.metrics.forget(m.group.meter)
			default:
				s.linger(m, ended, m.group.closeLog)
			}
		})
	}
	wg.Wait()
	s.wg.Wait()
	s.dismiss()
}

// dismiss ends the crew, once no group has work for it but those that the program's own code keeps.
func (s *Service) dismiss() {
	s.mu.Lock()
	linger := false
	for _, m := range s.groups {
		linger = linger || m.late
	}
	s.mu.Unlock()
	s.crew.close(!linger)
}

// shut refuses further joins and returns the memberships there are.
func (s *Service) shut() []*membership {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing = true
	all := make([]*membership, 0, len(s.groups))
	for _, m := range s.groups {
		all = append(all, m)
	}
	return all
}

// Refusals returns which peers are kept away from the group, and why, by peer id.
func (g *Group) Refusals() []bond.PeerRefusal { return g.svc.mesh.Refusals(g.cfg.ID) }

// RTT returns the round-trip time to a peer, if it is known.
func (g *Group) RTT(peer id.PeerID) (time.Duration, bool) { return g.svc.node.Host.RTT(peer) }

func sortBonds(b []BondInfo) {
	slices.SortFunc(b, func(x, y BondInfo) int { return x.Peer.Compare(y.Peer) })
}

// raftLog passes what the raft library logs on to the node's logger, one level lower: its warnings are about ordinary
// elections.
type raftLog struct{ *slog.Logger }

func (l raftLog) Debugf(string, ...any)            {}
func (l raftLog) Infof(format string, v ...any)    { l.line(slog.LevelDebug, format, v) }
func (l raftLog) Warningf(format string, v ...any) { l.line(slog.LevelInfo, format, v) }
func (l raftLog) Errorf(format string, v ...any)   { l.line(slog.LevelWarn, format, v) }
func (l raftLog) line(lv slog.Level, f string, v []any) {
	if l.Enabled(context.Background(), lv) {
		l.Log(context.Background(), lv, "raft: "+fmt.Sprintf(f, v...))
	}
}
