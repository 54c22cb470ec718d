package catalog

import (
	"slices"

	"github.com/mosaik-go/mosaik/discovery/internal/wire"
	"github.com/mosaik-go/mosaik/id"
)

// Expired is a record that was dropped.
type Expired struct {
	*Record
	WasLost bool // this node could not reach the peer
}

// Expire forgets peers without a sign of life within the purge age, and departures that nothing could contradict any
// more. It returns what it dropped, the unsigned records included.
func (c *Core) Expire(now int64) []Expired {
	if now < c.expiry {
		return nil
	}
	c.expiry = never
	var dropped []Expired
	for p, o := range c.origins {
		switch {
		case o.rec != nil && now-o.rec.Alive() > c.cfg.PurgeAfter:
			dropped = append(dropped, Expired{o.rec, o.lost != 0})
			c.take(o)
		case o.rec != nil:
			c.expireAfter(o.rec.Alive() + c.cfg.PurgeAfter)
		case o.tomb != nil && now > o.tomb.until:
			o.tomb = nil
			c.graves--
		case o.tomb != nil:
			c.expireAfter(o.tomb.until)
		}
		if o.rec == nil && o.tomb == nil && o.held == nil {
			delete(c.origins, p)
		}
	}
	for p, r := range c.extra {
		if now-r.Seen > c.cfg.PurgeAfter {
			delete(c.extra, p)
			dropped = append(dropped, Expired{Record: r})
		} else {
			c.expireAfter(r.Seen + c.cfg.PurgeAfter)
		}
	}
	slices.SortFunc(dropped, func(a, b Expired) int { return a.Entry.Peer.Compare(b.Entry.Peer) })
	return dropped
}

// Insert adds an unsigned entry, which stays until it is removed, too old, or a signed entry of the peer arrives. It
// is refused for this node, for another network, beside a signed entry, and when there are too many.
func (c *Core) Insert(e *wire.Entry, now int64) (*Record, bool) {
	p := e.Peer
	if p == c.cfg.Self || p.IsZero() || e.Network != c.cfg.Network || c.Get(p) != nil {
		return nil, false
	}
	if c.extra[p] == nil && len(c.extra) >= c.cfg.MaxPeers {
		return nil, false
	}
	r := &Record{Entry: e, Seen: now}
	c.extra[p] = r
	c.expireAfter(now + c.cfg.PurgeAfter)
	return r, true
}

// GetUnsigned returns the unsigned record of a peer, or nil.
func (c *Core) GetUnsigned(p id.PeerID) *Record { return c.extra[p] }

// Remove removes an unsigned entry. It returns nil if there was none.
func (c *Core) Remove(p id.PeerID) *Record {
	r := c.extra[p]
	delete(c.extra, p)
	return r
}
