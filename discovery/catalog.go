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
// It shows the peers that gave a sign of life within PurgeAfter, and of those not the ones whose round-trip time is known
// to exceed MaxRTT. That one rule holds for every method; only Local is exempt. Entries that were inserted by hand,
// unsigned, come after the signed ones. The zero value is empty.
type Catalog struct{ s *snapshot }

// snapshot is the content of a Catalog. Peers are ordered by id, signed ones first.
type snapshot struct {
	local    PeerInfo
	network  id.ID
	signed   []*catalog.Record
	unsigned []*catalog.Record
	rtt      map[id.PeerID]time.Duration
	index    func() index
}

// index finds peers by group and stream. It is made when first asked for.
type index struct{ groups, streams map[id.ID][]*catalog.Record }

var noPeers = &snapshot{index: func() index { return index{} }}

func (s *snapshot) makeIndex() index {
	x := index{make(map[id.ID][]*catalog.Record), make(map[id.ID][]*catalog.Record)}
	for _, list := range [][]*catalog.Record{s.signed, s.unsigned} {
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

func newSnapshot(local *catalog.Record, signed, unsigned []*catalog.Record, rtt map[id.PeerID]time.Duration, maxRTT time.Duration) *snapshot {
	s := &snapshot{network: local.Entry.Network, signed: signed, unsigned: unsigned, rtt: rtt}
	if maxRTT > 0 {
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

func (s *snapshot) info(r *catalog.Record) PeerInfo {
	rtt, ok := s.rtt[r.Entry.Peer]
	return PeerInfo{PeerEntry: PeerEntry{r.Entry}, rtt: rtt, measured: ok, signed: r.Signed, alive: r.Alive()}
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

// InGroup returns the other peers that say to be members of the group.
func (c Catalog) InGroup(group id.ID) iter.Seq[PeerInfo] {
	return c.seq(c.snap().index().groups[group])
}

// WithStream returns the other peers that say to produce the stream.
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
