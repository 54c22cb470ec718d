// Package overlay decides which peers a node keeps as neighbours, to whom it gossips. Each node dials a few random peers
// of its catalog and accepts links from others up to a bound; so the neighbourhood relation is a random graph, which is
// connected with high probability from three dialled links on, and every node has about twice as many links as it dials.
//
// Neighbours change slowly even when nothing fails: now and then a new random peer takes the place of the oldest dialled
// one. (Compare the random partial views of Jelasity et al., "Gossip-based peer sampling", 2007, and HyParView's rule
// that a node without neighbours is never turned away: Leitão et al., 2007.)
//
// The core has no clock, goroutine or lock; randomness comes from the given source.
package overlay

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/mosaik-go/mosaik/id"
)

// Config is what a [Core] is made with.
type Config struct {
	Self   id.PeerID
	Dial   int           // links to keep dialled
	Accept int           // links to accept at most
	Swap   time.Duration // between replacements of a neighbour
}

// Link describes a link that is up.
type Link struct {
	Dialled bool // by this node
	Since   time.Time
	Leaving bool // it is being ended in order, and counts no more
}

// Core is the state of a node's neighbourhood.
type Core struct {
	cfg      Config
	rng      *rand.Rand
	links    map[id.PeerID]Link
	dialling map[id.PeerID]bool
	retries  map[id.PeerID]Retry
	nextSwap time.Time
	alone    time.Time // since when there is no link; zero while there is one
}

// New returns a core without links at the time now.
func New(cfg Config, rng *rand.Rand, now time.Time) *Core {
	return &Core{
		cfg:      cfg,
		rng:      rng,
		links:    make(map[id.PeerID]Link),
		dialling: make(map[id.PeerID]bool),
		retries:  make(map[id.PeerID]Retry),
		nextSwap: now.Add(cfg.Swap),
		alone:    now,
	}
}

// Plan is what to do now.
type Plan struct {
	Dial []id.PeerID
	Drop []id.PeerID
	Next time.Time // when to ask again, if nothing else happens; zero: no need
}

// Step plans. candidates returns the peers that could be neighbours; it is called only when one is needed.
func (c *Core) Step(now time.Time, candidates func() []id.PeerID) Plan {
	var plan Plan
	dialled, _ := c.count()
	target := c.cfg.Dial
	if !now.Before(c.nextSwap) {
		c.nextSwap = now.Add(c.cfg.Swap)
		if dialled >= target {
			target++ // the newcomer pushes out the oldest
		}
	}
	plan.Next = c.nextSwap
	if dialled > c.cfg.Dial {
		plan.Drop = append(plan.Drop, c.oldestDialled())
	}
	need := target - dialled - len(c.dialling)
	if need <= 0 {
		return plan
	}
	all := candidates()
	known := make(map[id.PeerID]bool, len(all))
	var ready []id.PeerID
	for _, p := range all {
		known[p] = true
		if _, linked := c.links[p]; linked || c.dialling[p] || p == c.cfg.Self {
			continue
		}
		if r, ok := c.retries[p]; ok && now.Before(r.At) {
			plan.Next = earlier(plan.Next, r.At)
			continue
		}
		ready = append(ready, p)
	}
	maps.DeleteFunc(c.retries, func(p id.PeerID, _ Retry) bool { return !known[p] })
	for need > 0 && len(ready) > 0 {
		i := c.rng.IntN(len(ready))
		plan.Dial = append(plan.Dial, ready[i])
		c.dialling[ready[i]] = true
		ready[i] = ready[len(ready)-1]
		ready = ready[:len(ready)-1]
		need--
	}
	return plan
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// Failed takes note that a dial came to nothing.
func (c *Core) Failed(p id.PeerID, now time.Time) {
	delete(c.dialling, p)
	c.retries[p] = c.retries[p].Next(now, c.rng)
}

// Unneeded takes note that a dial was called off because there already is a link.
func (c *Core) Unneeded(p id.PeerID, now time.Time) {
	delete(c.dialling, p)
	c.retries[p] = Retry{At: now.Add(retryMin)}
}

// Answer is what to do with a link that a peer opens.
type Answer uint8

// The answers.
const (
	Accept    Answer = iota + 1
	Duplicate        // the link that exists stays
	Crowded          // there are enough
)

// Incoming decides about a link that a peer opens, without changing anything. With Accept it may name a neighbour to drop
// in exchange: a peer that says to be without neighbours is let in even when there are enough.
func (c *Core) Incoming(p id.PeerID, lonely bool) (answer Answer, drop id.PeerID) {
	if _, ok := c.links[p]; ok {
		if c.Replaces(p, false) {
			return Accept, id.PeerID{}
		}
		return Duplicate, id.PeerID{}
	}
	_, accepted := c.count()
	if accepted < c.cfg.Accept {
		return Accept, id.PeerID{}
	}
	if !lonely {
		return Crowded, id.PeerID{}
	}
	return Accept, c.randomAccepted()
}

// Replaces reports whether a new link to a peer takes the place of the one that exists: of two that crossed, the one
// that the smaller identity dialled stays, and of two that one side dialled, the newer. Both sides decide alike.
func (c *Core) Replaces(p id.PeerID, dialled bool) bool {
	old, ok := c.links[p]
	if !ok || old.Leaving || old.Dialled == dialled {
		return true
	}
	return dialled == (c.cfg.Self.Compare(p) < 0)
}

// Up takes note of a link, which replaces an earlier one to the peer.
func (c *Core) Up(p id.PeerID, dialled bool, now time.Time) {
	c.links[p] = Link{Dialled: dialled, Since: now}
	if dialled {
		delete(c.dialling, p)
	}
	delete(c.retries, p)
	c.alone = time.Time{}
}

// Leave takes note that this node is ending the link to a peer in order. Down follows.
func (c *Core) Leave(p id.PeerID) {
	if l, ok := c.links[p]; ok {
		l.Leaving = true
		c.links[p] = l
	}
}

// Down takes note that the link to a peer is gone. One that failed is not dialled again at once.
func (c *Core) Down(p id.PeerID, failed bool, now time.Time) {
	delete(c.links, p)
	if failed {
		c.retries[p] = c.retries[p].Next(now, c.rng)
	} else {
		c.retries[p] = Retry{At: now.Add(retryMin)}
	}
	if len(c.links) == 0 && c.alone.IsZero() {
		c.alone = now
	}
}

// Len returns the number of links.
func (c *Core) Len() int { return len(c.links) }

// Alone returns since when there is no link, and false when there is one.
func (c *Core) Alone() (time.Time, bool) { return c.alone, !c.alone.IsZero() }

// Get returns the link to a peer.
func (c *Core) Get(p id.PeerID) (Link, bool) {
	l, ok := c.links[p]
	return l, ok
}

// Random returns a random neighbour whose link is not being ended.
func (c *Core) Random() (id.PeerID, bool) {
	return c.pick(func(l Link) bool { return !l.Leaving })
}

func (c *Core) count() (dialled, accepted int) {
	for _, l := range c.links {
		switch {
		case l.Leaving:
		case l.Dialled:
			dialled++
		default:
			accepted++
		}
	}
	return dialled, accepted
}

func (c *Core) randomAccepted() id.PeerID {
	p, _ := c.pick(func(l Link) bool { return !l.Dialled && !l.Leaving })
	return p
}

func (c *Core) pick(which func(Link) bool) (id.PeerID, bool) {
	var out []id.PeerID
	for p, l := range c.links {
		if which(l) {
			out = append(out, p)
		}
	}
	if len(out) == 0 {
		return id.PeerID{}, false
	}
	slices.SortFunc(out, id.PeerID.Compare) // so that a seeded source gives the same choice
	return out[c.rng.IntN(len(out))], true
}

func (c *Core) oldestDialled() id.PeerID {
	var oldest id.PeerID
	var since time.Time
	for p, l := range c.links {
		if l.Dialled && !l.Leaving && (since.IsZero() || cmp.Or(l.Since.Compare(since), p.Compare(oldest)) < 0) {
			oldest, since = p, l.Since
		}
	}
	return oldest
}
