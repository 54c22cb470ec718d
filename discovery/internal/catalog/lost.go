package catalog

import (
	"github.com/mosaik-go/mosaik/id"
)

// Lose takes note that this node cannot reach a peer, and returns its record; nil if there is none or that is known.
//
// Being lost is this node's own finding and is told to nobody: others may reach the peer. The record stays, and is
// compared with others' as before. The peer is found again when this node reaches it, or when a sign of life arrives
// that is younger than the loss.
func (c *Core) Lose(p id.PeerID, now int64) *Record {
	o := c.origins[p]
	if o == nil || o.rec == nil || o.lost != 0 {
		return nil
	}
	o.lost = now
	c.losses++
	return o.rec
}

// Find takes note that this node reaches a peer, and returns its record if it was lost.
func (c *Core) Find(p id.PeerID) *Record {
	o := c.origins[p]
	if o == nil || o.lost == 0 {
		return nil
	}
	c.find(o)
	return o.rec
}

func (c *Core) find(o *origin) {
	if o.lost != 0 {
		o.lost = 0
		c.losses--
	}
}

// proves reports whether an update proves that a lost peer lives: another incarnation does, or a sign of life that cannot
// have been on its way when the peer was lost. Times are compared across two clocks. If the peer's is behind, it
// takes so much longer to be found in this way; if it is ahead, a late message can bring it back wrongly.
func (c *Core) proves(o *origin, out Outcome) bool {
	return out.After.Entry.Start > out.Before.Entry.Start || out.After.Alive() >= o.lost+LateNews
}

// Losses returns how many signed peers are lost.
func (c *Core) Losses() int { return c.losses }

// LostSince returns since when a signed peer is lost; zero if it is not.
func (c *Core) LostSince(p id.PeerID) int64 {
	if o := c.origins[p]; o != nil {
		return o.lost
	}
	return 0
}
