package discovery

import (
	"time"

	"github.com/mosaik-go/mosaik/discovery/internal/catalog"
	"github.com/mosaik-go/mosaik/discovery/internal/wire"
	"github.com/mosaik-go/mosaik/internal/transport"
)

// relay bounds how much of what one exchange brought is passed on piece by piece. Beyond that the neighbours compare
// digests instead, which costs little if they know it already.
type relay struct{ left int }

const relayMax = 64

// take takes in an update that came from a peer, or, with the zero id, from the program. The error is that of a bad
// signature, for which the sender is to blame. What is no news is not verified.
func (d *Discovery) take(u wire.Update, from PeerID, r *relay) (catalog.Outcome, error) {
	out := d.judge(&u)
	if !out.Verdict.Changed() && out.Verdict != catalog.Conflict {
		if out.Verdict.Refused() {
			d.refuse(u, out, from)
		}
		return out, nil
	}
	if err := u.Verify(d.env.Network); err != nil {
		d.store.refuse("signature")
		return catalog.Outcome{}, err
	}
	d.store.change(func(c *catalog.Core, now int64) noise {
		out = c.Apply(u, now)
		return d.store.outcomeLocked(out)
	})
	switch {
	case out.Verdict == catalog.Held:
		d.store.refuse("held")
		d.log.Debug("update held back", "peer", u.Peer().Short(), "reason", "changes too often")
	case out.Verdict.Refused():
		d.refuse(u, out, from)
	}
	d.after(out, from, r)
	return out, nil
}

// judge says what an update would do, and takes off it what need not be verified.
func (d *Discovery) judge(u *wire.Update) catalog.Outcome {
	d.store.mu.Lock()
	defer d.store.mu.Unlock()
	out := d.store.core.Examine(*u, now())
	if out.Verdict == catalog.Refreshed {
		u.Entry = nil
	}
	return out
}

func (d *Discovery) refuse(u wire.Update, out catalog.Outcome, from PeerID) {
	if out.Verdict == catalog.Conflict {
		d.duplicateReported(u.Start())
	}
	d.store.refuse(out.Verdict.String())
	d.log.Debug("update refused", "peer", u.Peer().Short(), "from", from.Short(), "reason", out.Verdict.String(),
		"off", time.Duration(out.Age)*time.Millisecond)
}

// after does what follows from a change outside the catalog: tell the host, pass it on, look for neighbours.
func (d *Discovery) after(out catalog.Outcome, from PeerID, r *relay) {
	if !out.Verdict.Changed() {
		return
	}
	if a := out.After; a != nil && out.Verdict != catalog.Refreshed {
		p := a.Entry.Peer
		if b := out.Before; b == nil || b.Signed == nil || b.Entry.Start < a.Entry.Start {
			d.host.Supersede(p, transport.Incarnation(a.Entry.Start))
		}
		d.host.Learn(PeerEntry{a.Entry}.Addr())
		d.hood.hurry(p)
	}
	if out.Verdict == catalog.Refreshed {
		d.hood.tellBeat(out.Tell.Beat, from)
		return
	}
	if r != nil {
		if r.left--; r.left < 0 {
			d.hood.compareAll(from)
			return
		}
	}
	d.hood.tell(out.Tell, from)
}

// FeedResult says what [Discovery.Feed] did with an entry.
type FeedResult uint8

const (
	// FeedAdded: the peer was not in the catalog.
	FeedAdded FeedResult = iota + 1
	// FeedUpdated: the entry is newer than the one in the catalog.
	FeedUpdated
	// FeedKnown: the catalog has this entry or a newer one.
	FeedKnown
	// FeedHeld: the peer changes its entry too often; this version will be applied later if none follows.
	FeedHeld
	// FeedDeparted: the peer has left the network in this incarnation or a later one.
	FeedDeparted
	// FeedOutdated: there was no sign of life within PurgeAfter.
	FeedOutdated
	// FeedFuture: the entry is from the future, beyond MaxClockDrift.
	FeedFuture
	// FeedForeign: the entry is of another network.
	FeedForeign
	// FeedFull: the catalog holds MaxPeers peers.
	FeedFull
	// FeedSelf: the entry is this node's.
	FeedSelf
	// FeedInvalid: the value holds no entry, or discovery is closed.
	FeedInvalid
)

var feedNames = [...]string{
	FeedAdded: "added", FeedUpdated: "updated", FeedKnown: "known", FeedHeld: "held", FeedDeparted: "departed",
	FeedOutdated: "outdated", FeedFuture: "future", FeedForeign: "foreign", FeedFull: "full", FeedSelf: "self",
	FeedInvalid: "invalid",
}

// String returns the name of the result.
func (r FeedResult) String() string {
	if r > 0 && int(r) < len(feedNames) {
		return feedNames[r]
	}
	return "unknown"
}

// Changed reports whether the catalog changed.
func (r FeedResult) Changed() bool { return r == FeedAdded || r == FeedUpdated }

var feedResults = map[catalog.Verdict]FeedResult{
	catalog.Added: FeedAdded, catalog.Updated: FeedUpdated, catalog.Refreshed: FeedKnown, catalog.Held: FeedHeld,
	catalog.Known: FeedKnown, catalog.Gone: FeedDeparted, catalog.Outdated: FeedOutdated, catalog.Future: FeedFuture,
	catalog.Foreign: FeedForeign, catalog.Full: FeedFull,
}

// Feed takes in a signed entry that reached the program in some other way, under the same rules as entries from the
// network: it is passed on to neighbours, and events tell of it. The catalog shows it when Feed returns.
func (d *Discovery) Feed(e SignedPeerEntry) FeedResult {
	if e.s == nil || d.closed() {
		return FeedInvalid
	}
	if e.ID() == d.self && e.s.Network == d.env.Network {
		return FeedSelf
	}
	out, err := d.take(wire.Update{Entry: e.s}, PeerID{}, nil)
	if err != nil {
		return FeedInvalid
	}
	d.store.flush()
	return feedResults[out.Verdict]
}

// Insert adds an entry that nobody signed, for a peer that is not in the catalog yet. It tells this node where the peer is
// and what to expect of it; it is not passed on, and no link is made because of it. It reports false for this node, for
// another network, for a peer with a signed entry, and when there are MaxPeers unsigned entries. A signed entry replaces
// it; without one it is dropped after PurgeAfter.
func (d *Discovery) Insert(e PeerEntry) bool {
	if check(e.entry()) != nil || d.closed() {
		return false
	}
	ok := false
	d.store.change(func(c *catalog.Core, now int64) noise {
		before := c.GetUnsigned(e.ID())
		if _, ok = c.Insert(e.entry(), now); !ok {
			return silent
		}
		kind := Discovered
		if before != nil {
			kind = Updated
		}
		d.store.events = append(d.store.events, Event{Kind: kind, Peer: e.ID(), Entry: e})
		return urgent
	})
	if ok {
		d.host.Learn(e.Addr())
	}
	return ok
}

// InsertAddr is Insert of an entry that says nothing but the address.
func (d *Discovery) InsertAddr(a PeerAddr) bool { return d.Insert(NewEntry(d.env.Network, a)) }

// Remove removes an unsigned entry. It reports whether there was one.
func (d *Discovery) Remove(p PeerID) bool {
	if d.closed() {
		return false
	}
	removed := false
	d.store.change(func(c *catalog.Core, now int64) noise {
		r := c.Remove(p)
		if removed = r != nil; !removed {
			return silent
		}
		d.store.departedLocked(r, Removed)
		return urgent
	})
	return removed
}

// ClearUnsigned removes all unsigned entries. It reports whether there were any.
func (d *Discovery) ClearUnsigned() bool {
	if d.closed() {
		return false
	}
	removed := false
	d.store.change(func(c *catalog.Core, now int64) noise {
		for _, r := range c.Unsigned() {
			c.Remove(r.Entry.Peer)
			d.store.departedLocked(r, Removed)
			removed = true
		}
		if !removed {
			return silent
		}
		return urgent
	})
	return removed
}
