// Package catalog decides what a node believes of its peers. It is a pure state machine: it takes updates and the
// time and returns what changed, and has no clock, goroutine, lock or socket.
//
// What is known of one peer only ever moves up in this order, whatever the order in which updates arrive:
//
//	incarnation  ▸  alive < departed  ▸  version  ▸  bytes of the entry
//
// so nodes that have seen the same updates believe the same. Time enters only at the edges: what is older than the purge
// age is forgotten, what is from the future is refused, and an origin that changes too often is slowed down.
package catalog

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/mosaik-go/mosaik/discovery/internal/wire"
	"github.com/mosaik-go/mosaik/id"
)

// Config is what a [Core] is made with. Times are in milliseconds.
type Config struct {
	Self       id.PeerID
	Network    id.ID
	PurgeAfter int64
	MaxDrift   int64
	MaxPeers   int // bounds records and unsigned entries; records and tombstones together are at most twice as many
	Burst      int // content changes that an origin may make at once
	Refill     int64
}

// BeatGap is the least time between two beats of one origin that count, in milliseconds.
const BeatGap = 200

// Record is what is known of a live peer. It is immutable.
type Record struct {
	Entry  *wire.Entry
	Signed *wire.Signed // nil: unsigned, nothing vouches for it
	Beat   *wire.Beat   // latest, of the same incarnation; nil: none
	Seen   int64        // of an unsigned entry: when it was inserted
}

// Alive returns the time of the latest sign of life.
func (r *Record) Alive() int64 {
	switch {
	case r.Signed == nil:
		return r.Seen
	case r.Beat != nil:
		return max(r.Entry.Update, r.Beat.At)
	default:
		return r.Entry.Update
	}
}

// Update returns the record as it is told to others.
func (r *Record) Update() wire.Update { return wire.Update{Entry: r.Signed, Beat: r.Beat} }

// LateNews is how long after this node lost a peer signs of life that are older than the loss may still arrive, by other
// ways, in milliseconds.
const LateNews = 1000

// maxHeld bounds how many origins may have something held. What finds no room comes again with a comparison.
const maxHeld = 1024

// tombstone is a departed peer.
type tombstone struct {
	*wire.Depart
	until int64
}

// origin is everything about one other peer. It has a record, or a tombstone, or only something held.
type origin struct {
	rec    *Record
	tomb   *tombstone
	tokens bucket
	held   *wire.Update // newest content that came too soon
	lost   int64        // since when this node cannot reach the peer; zero: it can, or has not tried
}

// Core is the state of a catalog.
type Core struct {
	cfg     Config
	local   *Record
	origins map[id.PeerID]*origin
	graves  int                   // origins with a tombstone
	losses  int                   // origins that are lost
	held    map[id.PeerID]*origin // origins with something held
	order   []*Record             // the records of origins, by peer id
	shared  bool                  // order was handed out: copy before writing
	extra   map[id.PeerID]*Record // unsigned

	expiry int64 // nothing expires before this
}

// New returns an empty core.
func New(cfg Config) *Core {
	return &Core{
		cfg:     cfg,
		origins: make(map[id.PeerID]*origin),
		held:    make(map[id.PeerID]*origin),
		extra:   make(map[id.PeerID]*Record),
		expiry:  never,
	}
}

// never is a time that does not come.
const never = 1 << 62

// SetLocal sets the node's own record.
func (c *Core) SetLocal(r *Record) { c.local = r }

// Local returns the node's own record.
func (c *Core) Local() *Record { return c.local }

// Len returns the number of signed peers, this node not counted.
func (c *Core) Len() int { return len(c.order) }

// Departures returns the number of tombstones.
func (c *Core) Departures() int { return c.graves }

// Get returns the signed record of another peer, or nil.
func (c *Core) Get(p id.PeerID) *Record {
	if o := c.origins[p]; o != nil {
		return o.rec
	}
	return nil
}

// Lookup returns what to tell others about a peer, this node included: its record or its departure.
func (c *Core) Lookup(p id.PeerID) (wire.Update, bool) {
	if p == c.cfg.Self {
		if c.local == nil {
			return wire.Update{}, false
		}
		return c.local.Update(), true
	}
	switch o := c.origins[p]; {
	case o == nil:
	case o.rec != nil:
		return o.rec.Update(), true
	case o.tomb != nil:
		return wire.Update{Depart: o.tomb.Depart}, true
	}
	return wire.Update{}, false
}

// Signed returns the signed records of other peers by peer id. The slice is never written again.
func (c *Core) Signed() []*Record {
	c.shared = true
	return c.order
}

// Unsigned returns the unsigned records by peer id.
func (c *Core) Unsigned() []*Record {
	if len(c.extra) == 0 {
		return nil
	}
	out := make([]*Record, 0, len(c.extra))
	for _, r := range c.extra {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b *Record) int { return a.Entry.Peer.Compare(b.Entry.Peer) })
	return out
}

// Each calls fn for everything that is told to others and not too old for it, this node included.
func (c *Core) Each(now int64, fn func(wire.Update)) {
	oldest := now - c.cfg.PurgeAfter
	if c.local != nil {
		fn(c.local.Update())
	}
	for _, o := range c.origins {
		switch {
		case o.rec != nil && o.rec.Alive() >= oldest:
			fn(o.rec.Update())
		case o.tomb != nil && o.tomb.At >= oldest:
			fn(wire.Update{Depart: o.tomb.Depart})
		}
	}
}

// compare orders two entries of one peer.
func compare(a, b *wire.Signed) int {
	return cmp.Or(
		cmp.Compare(a.Start, b.Start),
		cmp.Compare(a.Entry.Update, b.Entry.Update),
		bytes.Compare(a.Body, b.Body),
	)
}

// put makes r the record of its peer.
func (c *Core) put(o *origin, r *Record) {
	at, found := slices.BinarySearchFunc(c.order, r.Entry.Peer, comparePeer)
	c.own()
	if found {
		c.order[at] = r
	} else {
		c.order = slices.Insert(c.order, at, r)
	}
	if o.tomb != nil { // of an earlier incarnation
		o.tomb = nil
		c.graves--
	}
	o.rec = r
	c.expireAfter(r.Alive() + c.cfg.PurgeAfter)
}

// take removes the record of a peer.
func (c *Core) take(o *origin) {
	if o.rec == nil {
		return
	}
	if at, found := slices.BinarySearchFunc(c.order, o.rec.Entry.Peer, comparePeer); found {
		c.own()
		c.order = slices.Delete(c.order, at, at+1)
	}
	o.rec = nil
	c.find(o)
}

func (c *Core) own() {
	if c.shared {
		c.order = slices.Clone(c.order)
		c.shared = false
	}
}

func comparePeer(r *Record, p id.PeerID) int { return r.Entry.Peer.Compare(p) }

// expireAfter makes sure that Expire looks once the time t has passed.
func (c *Core) expireAfter(t int64) { c.expiry = min(c.expiry, t+1) }
