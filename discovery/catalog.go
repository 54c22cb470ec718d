package discovery

import (
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/mosaik-go/mosaik/discovery/internal/catalog"
	"github.com/mosaik-go/mosaik/id"
)

// Catalog is an immutable snapshot of what a node knows of its peers. It is cheap to copy and safe for concurrent use.
//
// It shows the peers that gave a sign of life within PurgeAfter, and of those not the ones that are lost, see [Catalog.Lost],
// nor the ones whose round-trip time is known to exceed MaxRTT. That one rule holds for every method; Local, Lost,
// InGroup and WithStream say how they differ. Entries that were inserted by hand, unsigned, come after the signed ones. The
// zero value is empty.
type Catalog struct{ s *snapshot }

// snapshot is the content of a Catalog. Peers are ordered by id, signed ones first.
type snapshot struct {
	local    PeerInfo
	network  id.ID
	signed   []*catalog.Record
	unsigned []*catalog.Record
	lost     []*catalog.Record
	since    map[id.PeerID]int64 // when a lost peer was lost
	rtt      map[id.PeerID]time.Duration
	index    func() index
}

// index finds peers by group and stream. It is made when first asked for.
type index struct{ groups, streams map[id.ID][]*catalog.Record }

var noPeers = &snapshot{index: func() index { return index{} }}

func (s *snapshot) makeIndex() index {
	x := index{make(map[id.ID][]*catalog.Record), make(map[id.ID][]*catalog.Record)}
	for _, list := range [][]*catalog.Record{s.signed, s.unsigned, s.lost} {
		for _, r := range list {
			for _, g := range r.Entry.Groups {
				x.groups[g] = append(x.groups[g], r)
			}
			for _, g := range r.Entry.Streams {
				x.streams[g] = append(x.streams[g], r)
			}
		}
	}
	return x
}

func newSnapshot(c *catalog.Core, rtt map[id.PeerID]time.Duration, maxRTT time.Duration) *snapshot {
	local := c.Local()
	s := &snapshot{network: local.Entry.Network, signed: c.Signed(), unsigned: c.Unsigned(), rtt: rtt}
	if c.Losses() > 0 {
		s.separate(c)
	}
	if maxRTT > 0 {
		signed, unsigned := s.signed, s.unsigned
		hidden := func(r *catalog.Record) bool { return rtt[r.Entry.Peer] > maxRTT }
		if slices.ContainsFunc(signed, hidden) {
			s.signed = slices.DeleteFunc(slices.Clone(signed), hidden)
		}
		s.unsigned = slices.DeleteFunc(slices.Clone(unsigned), hidden)
	}
	s.local = s.info(local)
	s.index = sync.OnceValue(s.makeIndex)
	return s
}

// separate takes the lost peers out of the signed ones.
func (s *snapshot) separate(c *catalog.Core) {
	s.since = make(map[id.PeerID]int64, c.Losses())
	reached := make([]*catalog.Record, 0, len(s.signed))
	for _, r := range s.signed {
		if at := c.LostSince(r.Entry.Peer); at != 0 {
			s.lost = append(s.lost, r)
			s.since[r.Entry.Peer] = at
		} else {
			reached = append(reached, r)
		}
	}
	s.signed = reached
}

func (s *snapshot) info(r *catalog.Record) PeerInfo {
	p := r.Entry.Peer
	rtt, ok := s.rtt[p]
	return PeerInfo{PeerEntry: PeerEntry{r.Entry}, rtt: rtt, measured: ok, signed: r.Signed, alive: r.Alive(), lost: s.since[p]}
}

func (c Catalog) snap() *snapshot {
	if c.s == nil {
		return noPeers
	}
	return c.s
}

// Peers returns the other peers, signed ones first, each part in the order of ids.
func (c Catalog) Peers() iter.Seq[PeerInfo] { return c.seq(c.snap().signed, c.snap().unsigned) }

// Signed returns the other peers whose entries are signed.
func (c Catalog) Signed() iter.Seq[PeerInfo] { return c.seq(c.snap().signed) }

// Unsigned returns the other peers that are only known from entries inserted by hand.
func (c Catalog) Unsigned() iter.Seq[PeerInfo] { return c.seq(c.snap().unsigned) }

// All returns this node and then the other peers.
func (c Catalog) All() iter.Seq[PeerInfo] {
	return func(yield func(PeerInfo) bool) {
		if c.s != nil && !yield(c.s.local) {
			return
		}
		c.Peers()(yield)
	}
}

// Lost returns the peers that this node cannot reach at the moment: a connection to them broke, and could not be made
// again. That is known within seconds, long before PurgeAfter. Whether such a peer has crashed or only the way to it is
// broken, this node cannot tell; so the peer is remembered until it is silent for PurgeAfter, and this node goes on
// trying to reach it. It comes back, with an event [Discovered], when it is reached or when somebody else passes on a sign
// of life from after the loss.
func (c Catalog) Lost() iter.Seq[PeerInfo] { return c.seq(c.snap().lost) }

// InGroup returns the other peers that say to be members of the group. It includes lost peers, at the end: a group waits
// for its members.
func (c Catalog) InGroup(group id.ID) iter.Seq[PeerInfo] {
	return c.seq(c.snap().index().groups[group])
}

// WithStream returns the other peers that say to produce the stream. It includes lost peers, at the end.
func (c Catalog) WithStream(stream id.ID) iter.Seq[PeerInfo] {
	return c.seq(c.snap().index().streams[stream])
}

// Tagged returns the other peers that have the tag of this name.
func (c Catalog) Tagged(name string) iter.Seq[PeerInfo] {
	tag := id.Of(name)
	return func(yield func(PeerInfo) bool) {
		for p := range c.Peers() {
			if p.HasTagID(tag) && !yield(p) {
				return
			}
		}
	}
}

func (c Catalog) seq(lists ...[]*catalog.Record) iter.Seq[PeerInfo] {
	return func(yield func(PeerInfo) bool) {
		for _, list := range lists {
			for _, r := range list {
				if !yield(c.s.info(r)) {
					return
				}
			}
		}
	}
}

// Get returns what is known of a peer. It also knows this node.
func (c Catalog) Get(p PeerID) (PeerInfo, bool) {
	s := c.snap()
	if c.s != nil && p == s.local.ID() {
		return s.local, true
	}
	for _, list := range [][]*catalog.Record{s.signed, s.unsigned} {
		at, found := slices.BinarySearchFunc(list, p, func(r *catalog.Record, p PeerID) int { return r.Entry.Peer.Compare(p) })
		if found {
			return s.info(list[at]), true
		}
	}
	return PeerInfo{}, false
}

// Len returns the number of other peers.
func (c Catalog) Len() int { return len(c.snap().signed) + len(c.snap().unsigned) }

// Local returns this node's own entry.
func (c Catalog) Local() PeerInfo { return c.snap().local }

// NetworkID returns the network.
func (c Catalog) NetworkID() id.ID { return c.snap().network }
