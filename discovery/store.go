package discovery

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/mosaik-go/mosaik/discovery/internal/antientropy"
	"github.com/mosaik-go/mosaik/discovery/internal/catalog"
	"github.com/mosaik-go/mosaik/discovery/internal/rtt"
	"github.com/mosaik-go/mosaik/discovery/internal/wire"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/transport"
)

// How long changes may wait before they show in the snapshot. Making one costs time in proportion to the number of peers,
// so with many peers it is not done for each change; with few it is done at once.
const (
	flushPerPeer = 10 * time.Microsecond
	flushMax     = 50 * time.Millisecond
	flushQuiet   = time.Second // what nobody waits for: signs of life, better estimates
	eventsMax    = 4096        // of events that wait for the snapshot
)

// Changes of content that an origin may make at once, and then one for each refill.
const (
	contentBurst  = 10
	contentRefill = 1000 // ms
)

// store owns the catalog: the pure core, the snapshot that readers see, and the order in which snapshot and events become
// visible.
type store struct {
	maxRTT  time.Duration
	bell    *bell
	count   *metrics
	current atomic.Pointer[snapshot]
	kick    chan struct{} // capacity one: something is due earlier than before

	mu       sync.Mutex // guards all following fields
	core     *catalog.Core
	rtt      rtt.Table
	events   []Event // happened, not yet shown
	dirty    bool    // the snapshot lacks something
	loud     bool    // something that watchers are told of
	flushed  time.Time
	flushDue time.Time // zero: not due

	// What Status tells.
	refused        map[string]uint64
	refusedByPeers map[string]uint64
	drift          *DriftStatus
	duplicate      *DuplicateStatus
	told           map[string]time.Time // when the log was last warned, by kind
}

func newStore(d *Discovery, first SignedPeerEntry) *store {
	s := &store{
		maxRTT: d.cfg.MaxRTT,
		bell:   d.bell,
		count:  d.count,
		kick:   make(chan struct{}, 1),
		core: catalog.New(catalog.Config{
			Self:       d.self,
			Network:    d.env.Network,
			PurgeAfter: d.cfg.PurgeAfter.Milliseconds(),
			MaxDrift:   d.cfg.MaxClockDrift.Milliseconds(),
			MaxPeers:   d.cfg.MaxPeers,
			Burst:      contentBurst,
			Refill:     contentRefill,
		}),
		rtt:            make(rtt.Table),
		refused:        make(map[string]uint64),
		refusedByPeers: make(map[string]uint64),
		told:           make(map[string]time.Time),
	}
	s.core.SetLocal(&catalog.Record{Entry: first.s.Entry, Signed: first.s})
	s.flushLocked()
	return s
}

// Catalog returns a snapshot of what this node knows now. It never blocks. Changes that this node makes to its own entry
// show at once, those of others within 50 ms.
func (d *Discovery) Catalog() Catalog { return Catalog{d.store.current.Load()} }

// change runs fn on the core, and shows what it changed as soon as that is due. fn says how much it changed.
func (s *store) change(fn func(c *catalog.Core, now int64) noise) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.core.Next()
	s.note(fn(s.core, now()))
	if s.core.Next() < before {
		s.wakeLocked()
	}
}

// noise says how soon a change must show.
type noise uint8

const (
	silent noise = iota // nothing changed
	quiet               // within a second
	loud                // soon, and watchers are told
	urgent              // before the call returns
)

func (s *store) note(n noise) {
	if n == silent {
		return
	}
	s.dirty = true
	s.loud = s.loud || n >= loud
	at := time.Now()
	due := at.Add(flushQuiet)
	if n >= loud {
		due = s.flushed.Add(min(flushMax, time.Duration(s.core.Len())*flushPerPeer))
	}
	if n == urgent || !due.After(at) || len(s.events) >= eventsMax {
		s.flushLocked()
	} else if s.flushDue.IsZero() || due.Before(s.flushDue) {
		s.flushDue = due
		s.wakeLocked()
	}
}

func (s *store) wakeLocked() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// flush shows everything that has changed.
func (s *store) flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dirty {
		s.flushLocked()
	}
}

// flushLocked makes the snapshot, then delivers the events that it shows, then the tokens of watchers.
func (s *store) flushLocked() {
	estimates := make(map[id.PeerID]time.Duration, len(s.rtt))
	for p, e := range s.rtt {
		estimates[p] = e.Smoothed
	}
	snap := newSnapshot(s.core, estimates, s.maxRTT)
	s.current.Store(snap)
	s.count.catalogSize.set(len(snap.signed) + len(snap.unsigned))
	s.count.lost.set(len(snap.lost))
	s.bell.ring(s.events, s.loud)
	clear(s.events)
	s.events = s.events[:0]
	s.dirty, s.loud = false, false
	s.flushed, s.flushDue = time.Now(), time.Time{}
}

// runStore shows changes and forgets peers when it is time.
func (d *Discovery) runStore() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-d.loopCtx.Done():
			return
		case <-d.store.kick:
		case <-timer.C:
		}
		d.expire()
		timer.Reset(d.store.untilDue())
	}
}

// untilDue returns how long nothing is due.
func (s *store) untilDue() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.flushDue.IsZero() && !s.flushDue.After(time.Now()) {
		s.flushLocked()
	}
	wait := time.Hour
	if next := s.core.Next() - now(); next < wait.Milliseconds() {
		wait = time.Duration(next) * time.Millisecond
	}
	if !s.flushDue.IsZero() {
		wait = min(wait, time.Until(s.flushDue))
	}
	return max(wait, time.Millisecond)
}

// expire forgets the peers that have been silent too long, and applies updates that were held back.
func (d *Discovery) expire() {
	var released []catalog.Outcome
	d.store.change(func(c *catalog.Core, now int64) noise {
		n := silent
		for _, x := range c.Expire(now) {
			if x.WasLost {
				d.store.rtt.Remove(x.Entry.Peer) // that it departed was said when it was lost
			} else {
				d.store.departedLocked(x.Record, Silent)
			}
			n = loud
		}
		released = c.Release(now)
		for _, out := range released {
			n = max(n, d.store.outcomeLocked(out))
		}
		return n
	})
	for _, out := range released {
		d.after(out, PeerID{}, nil)
	}
}

// outcomeLocked takes note of what an update did, and says how soon that must show.
func (s *store) outcomeLocked(out catalog.Outcome) noise {
	switch out.Verdict {
	case catalog.Added:
		s.discoveredLocked(out.After)
		if out.Before != nil { // it was known from an unsigned entry
			s.events[len(s.events)-1].Kind = Updated
		}
		return loud
	case catalog.Updated, catalog.Refreshed:
		switch {
		case out.Lost:
			return quiet // nobody sees it
		case out.WasLost:
			s.discoveredLocked(out.After)
			return loud
		case out.Verdict == catalog.Refreshed:
			return quiet
		}
		s.events = append(s.events, Event{Kind: Updated, Peer: out.After.Entry.Peer, Entry: PeerEntry{out.After.Entry}})
		s.count.updated.Inc()
		return loud
	case catalog.Departed:
		switch {
		case out.Before == nil:
			return silent
		case out.WasLost:
			s.rtt.Remove(out.Before.Entry.Peer)
			return loud
		}
		s.departedLocked(out.Before, Left)
		return loud
	}
	return silent
}

func (s *store) discoveredLocked(r *catalog.Record) {
	s.events = append(s.events, Event{Kind: Discovered, Peer: r.Entry.Peer, Entry: PeerEntry{r.Entry}})
	s.count.discovered.Inc()
}

func (s *store) departedLocked(r *catalog.Record, why DepartReason) {
	p := r.Entry.Peer
	s.rtt.Remove(p)
	s.events = append(s.events, Event{Kind: Departed, Peer: p, Entry: PeerEntry{r.Entry}, Reason: why})
	if why != Removed {
		s.count.departed.Inc()
	}
}

// items lists everything that is told to others, for comparison.
func (s *store) items() []antientropy.Item {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]antientropy.Item, 0, s.core.Len()+s.core.Departures()+1)
	s.core.Each(now(), func(u wire.Update) { out = append(out, antientropy.ItemOf(u)) })
	return out
}

// lookup returns what to tell others about a peer.
func (s *store) lookup(p PeerID) (wire.Update, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.core.Lookup(p)
}

// local returns what to tell others about this node.
func (s *store) local() wire.Update {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.core.Local().Update()
}

// candidates returns the peers that could be neighbours. Lost ones are among them: somebody has to find them again.
func (s *store) candidates() []PeerID {
	s.mu.Lock()
	records := s.core.Signed()
	s.mu.Unlock()
	out := make([]PeerID, len(records))
	for i, r := range records {
		out[i] = r.Entry.Peer
	}
	return out
}

// known reports whether a signed entry of the peer is in the catalog and the peer is not lost.
func (s *store) known(p PeerID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.core.Get(p) != nil && s.core.LostSince(p) == 0
}

// silence returns how long ago the latest sign of life of a peer was; zero for peers that are not in the catalog.
func (s *store) silence(p PeerID) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.core.Get(p)
	if r == nil {
		return 0
	}
	return time.Since(time.UnixMilli(r.Alive()))
}

// lose takes note that a peer cannot be reached, unless a later life of it is known than the one that was meant. Zero means
// the one that is known.
func (s *store) lose(p PeerID, meant transport.Incarnation) (lost bool) {
	s.change(func(c *catalog.Core, now int64) noise {
		if r := c.Get(p); r != nil && meant != 0 && r.Entry.Start > int64(meant) {
			return silent
		}
		r := c.Lose(p, now)
		if lost = r != nil; !lost {
			return silent
		}
		s.events = append(s.events, Event{Kind: Departed, Peer: p, Entry: PeerEntry{r.Entry}, Reason: Lost})
		s.count.departed.Inc()
		return loud
	})
	return lost
}

// find takes note that a peer is reached.
func (s *store) find(p PeerID) (found bool) {
	s.change(func(c *catalog.Core, now int64) noise {
		r := c.Find(p)
		if found = r != nil; !found {
			return silent
		}
		s.discoveredLocked(r)
		return loud
	})
	return found
}

// size returns the number of signed peers.
func (s *store) size() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.core.Len()
}
