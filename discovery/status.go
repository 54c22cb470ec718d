package discovery

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Status explains the state of discovery on a node.
type Status struct {
	Self       PeerAddr          // with the addresses at which others can reach this node now
	Version    Version           // of this node's entry
	Peers      int               // in the catalog, without this node
	Lost       int               // known peers that this node cannot reach, see [Catalog.Lost]
	Tombstones int               // departed peers that are remembered
	Neighbours []NeighbourStatus // by peer id
	// Connections are this node's own, by peer id: to its neighbours, and to peers that anything else needs.
	Connections []ConnectionStatus
	AloneSince  time.Time       // zero while there is a neighbour
	Contacts    []ContactStatus // peers this node was told of, in that order
	LastSync    SyncStatus      // the latest comparison that this node began; At is zero before the first
	Announce    time.Duration   // mean pause between signs of life at the present size of the network
	// Refused counts what this node turned down, by reason: gone, outdated, future, foreign, full, held, conflict,
	// signature, violation, banned, overloaded.
	Refused map[string]uint64
	// RefusedBy counts what peers turned this node down for, by their close code's name.
	RefusedBy map[string]uint64
	// Strangers are the peers that show the id of this network and are refused, or refuse this node, because of another
	// network secret: the first 64 of those seen within the last minutes, in that order.
	Strangers []StrangerStatus
	Drift     *DriftStatus     // the latest peer whose clock differs too much; nil: none
	Duplicate *DuplicateStatus // another node with this identity; nil: none was noticed
	Registry  RegistryStatus   // the same-host registry
}

// NeighbourStatus is a link to a neighbour.
type NeighbourStatus struct {
	Peer    PeerID
	Dialled bool      // by this node
	Since   time.Time // when the link came up
	Waiting int       // bytes that are queued for the neighbour
}

// ConnectionStatus is the connection in use to a peer.
type ConnectionStatus struct {
	Peer      PeerID
	Transport string // "tcp" or "quic"; "sim" on a simulated network
	Dialled   bool   // by this node
	Since     time.Time
}

// ContactStatus is a peer that this node was told of.
type ContactStatus struct {
	Addr   PeerAddr  // the addresses that this node was told
	Origin string    // bootstrap, dialled or found
	Known  bool      // it is in the catalog
	Fails  int       // attempts in a row that came to nothing
	Next   time.Time // no attempt before this; later when there are neighbours; zero: as soon as it is needed
	Err    error     // of the last attempt
}

// SyncStatus is a comparison of catalogs.
type SyncStatus struct {
	Peer           PeerID
	At             time.Time // when it began
	Took           time.Duration
	Sent, Received int   // updates
	Err            error // nil: both catalogs show what the other had
}

// StrangerStatus is a peer of this network with another network secret.
type StrangerStatus struct {
	Peer        PeerID
	Since, Last time.Time // of the first refusal and the latest
	Times       int
}

// DriftStatus is a peer's clock that differs from this node's by more than is allowed. One of the two is wrong.
type DriftStatus struct {
	Peer  PeerID
	Off   time.Duration // by how much; of a clock that is behind, the age of the peer's latest sign of life
	Ahead bool          // the peer's clock is ahead of this node's
	At    time.Time     // when it was noticed
}

// DuplicateStatus is another node that uses this node's identity.
type DuplicateStatus struct {
	Start time.Time // when that node was opened, by its clock; zero if that is not known
	At    time.Time // when it was last noticed
	Times int       // how often
}

// RegistryStatus is the same-host registry as this node uses it.
type RegistryStatus struct {
	Dirs []string // empty: this node was told not to use it
	Err  error    // why none of them can be used
}

// Status returns the present state.
func (d *Discovery) Status() Status {
	c := d.Catalog()
	out := Status{
		Self:     d.host.Addr(),
		Version:  c.Local().Version(),
		Peers:    c.Len(),
		Registry: d.shelf.status(),

		Strangers: d.estranged.status(time.Now()),
	}
	for _, c := range d.host.Connections() {
		out.Connections = append(out.Connections, ConnectionStatus(c))
	}
	s := d.store
	s.mu.Lock()
	out.Tombstones = s.core.Departures()
	out.Lost = s.core.Losses()
	out.Announce = d.cfg.announceEvery(s.core.Len())
	out.Refused = maps.Clone(s.refused)
	out.RefusedBy = maps.Clone(s.refusedByPeers)
	out.Drift = s.drift
	out.Duplicate = s.duplicate
	s.mu.Unlock()

	d.syncs.mu.Lock()
	out.LastSync = d.syncs.last
	d.syncs.mu.Unlock()

	h := d.hood
	h.mu.Lock()
	defer h.mu.Unlock()
	out.AloneSince, _ = h.core.Alone()
	for p, n := range h.links {
		l, _ := h.core.Get(p)
		out.Neighbours = append(out.Neighbours, NeighbourStatus{p, l.Dialled, l.Since, n.w.Waiting()})
	}
	slices.SortFunc(out.Neighbours, func(a, b NeighbourStatus) int { return a.Peer.Compare(b.Peer) })
	for _, k := range h.contacts.All() {
		out.Contacts = append(out.Contacts, ContactStatus{
			Addr: k.Addr, Origin: k.Origin.String(), Known: s.known(k.Addr.ID), Fails: k.Retry.Fails, Next: k.Retry.At, Err: k.Err,
		})
	}
	return out
}

// String explains the status in a few lines.
func (s Status) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d peers, %d neighbours\n", s.Peers, len(s.Neighbours))
	over := make(map[string]int)
	for _, c := range s.Connections {
		over[c.Transport]++
	}
	for _, transport := range slices.Sorted(maps.Keys(over)) {
		fmt.Fprintf(&b, "%d connections over %s\n", over[transport], transport)
	}
	if !s.AloneSince.IsZero() {
		fmt.Fprintf(&b, "no neighbour since %s\n", s.AloneSince.Format(time.TimeOnly))
	}
	if s.Lost > 0 {
		fmt.Fprintf(&b, "%d known peers cannot be reached\n", s.Lost)
	}
	for _, c := range s.Contacts {
		if !c.Known && c.Err != nil {
			fmt.Fprintf(&b, "%s contact %s not reached after %d attempts: %v\n", c.Origin, c.Addr.ID.Short(), c.Fails, c.Err)
		}
	}
	for _, x := range s.Strangers {
		fmt.Fprintf(&b, "peer %s of this network is refused: another network secret; %d times, last at %s\n",
			x.Peer.Short(), x.Times, x.Last.Format(time.TimeOnly))
	}
	if s.Drift != nil {
		side := "behind"
		if s.Drift.Ahead {
			side = "ahead of"
		}
		fmt.Fprintf(&b, "the clock of peer %s is %v %s this node's\n", s.Drift.Peer.Short(), s.Drift.Off.Round(time.Second), side)
	}
	if s.Duplicate != nil {
		fmt.Fprintf(&b, "another node uses this node's identity, last noticed %s\n", s.Duplicate.At.Format(time.TimeOnly))
	}
	if s.Registry.Err != nil {
		fmt.Fprintf(&b, "same-host registry not used: %v\n", s.Registry.Err)
	}
	if s.LastSync.Err != nil {
		fmt.Fprintf(&b, "last comparison failed: %v\n", s.LastSync.Err)
	}
	for _, list := range []struct {
		what   string
		counts map[string]uint64
	}{{"refused here", s.Refused}, {"refused by peers", s.RefusedBy}} {
		for _, reason := range slices.Sorted(maps.Keys(list.counts)) {
			fmt.Fprintf(&b, "%s: %s %d\n", list.what, reason, list.counts[reason])
		}
	}
	return b.String()
}
