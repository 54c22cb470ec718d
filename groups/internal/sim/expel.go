package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/core"
	"github.com/mosaik-go/mosaik/id"
)

// expelAgain is how often a wish that a peer is taken out is said again, as the driver of a node does it.
const expelAgain = 250 * time.Millisecond

// expelLater plans the next wishes: members want others taken out that they do not see, whether these are down, cut off, or
// only out of sight of the one who asks. Now and then several want several out at once, on either side of a partition, or
// somebody wants one out whom all see.
func (s *Scenario) expelLater() {
	w := s.World
	w.After(time.Duration(100+w.Rng.IntN(2500))*time.Millisecond, func() {
		if s.stopped {
			return
		}
		wishes := 1
		switch w.Rng.IntN(8) {
		case 0, 1:
			wishes = 2 + w.Rng.IntN(3)
		case 2:
			s.part()
			wishes = 2 + w.Rng.IntN(3)
		}
		for range wishes {
			s.wish()
		}
		s.expelLater()
	})
}

// part cuts the machines into two parts, and ends the bonds between them.
func (s *Scenario) part() {
	var side []bool
	for range s.World.nodes {
		side = append(side, s.World.Rng.IntN(3) == 0)
	}
	s.World.isolate(func(i int) int {
		if side[i] {
			return 1
		}
		return 0
	}, len(side))
}

// wish has a member want another one out.
func (s *Scenario) wish() {
	w := s.World
	asker, all := w.nodes[w.Rng.IntN(len(w.nodes))], w.Rng.IntN(4) == 0
	if !asker.Alive {
		return
	}
	var whom []*Node
	for _, n := range w.nodes {
		if n != asker && (all || asker.bonds[n.Index] == nil) {
			whom = append(whom, n)
		}
	}
	if len(whom) == 0 {
		return
	}
	target := whom[w.Rng.IntN(len(whom))]
	w.tracef("%v wants n%d taken out", asker, target.Index)
	s.expel(asker, target.Peer, w.now+time.Duration(1+w.Rng.IntN(10))*time.Second)
}

// expel has a node ask until it sees that the peer is no member any more, or is connected to it, or the time is over.
func (s *Scenario) expel(asker *Node, peer id.PeerID, end time.Duration) {
	w := s.World
	is := func() bool {
		return asker.Status != nil && slices.ContainsFunc(asker.Status.Members, func(m core.Member) bool { return m.Peer == peer })
	}
	was := is()
	if was {
		asker.do(func() {
			asker.eng.Ask(asker.clock(), &core.Question{Kind: core.AskRemove, Peer: peer, Host: func(core.Answer) {}})
		})
	}
	w.After(expelAgain, func() {
		switch {
		case s.stopped || !asker.Alive || w.now >= end || asker.bonds[int(peer[0])-1] != nil:
		case was && !is():
			s.Stats.Expelled++
		default:
			s.expel(asker, peer, end)
		}
	})
}

// spared watches that no leader takes a member out that it has been connected to all the while and that wants to stay.
type spared struct {
	members map[*Node][]core.Member
	terms   map[*Node]leads
}

// leads is since when a node leads.
type leads struct {
	term  uint64
	since time.Duration
}

// sparedFor is how long leader and member must have been connected before the removal: longer than one that was proposed
// before may take to be agreed on.
const sparedFor = 3 * time.Second

func newSpared() *spared {
	return &spared{members: make(map[*Node][]core.Member), terms: make(map[*Node]leads)}
}

// look compares the members that a node shows with those that it showed last.
func (v *spared) look(n *Node) error {
	w, st := n.w, n.Status
	if st == nil {
		return nil
	}
	old := v.members[n]
	v.members[n] = st.Members
	if st.Role != core.RoleLeader {
		return nil
	}
	if v.terms[n].term != st.Term {
		v.terms[n] = leads{st.Term, w.now}
	}
	for _, m := range old {
		x := w.nodes[int(m.Peer[0])-1]
		b := n.bonds[x.Index]
		is := x.Status != nil && x.Status.Member == m.ID && x.Status.Genesis == st.Genesis
		if b == nil || !x.Alive || x.leaves || !is || w.now-b.since < sparedFor || w.now-v.terms[n].since < sparedFor {
			continue
		}
		if !slices.ContainsFunc(st.Members, func(o core.Member) bool { return o.ID == m.ID }) {
			return fmt.Errorf("%v has taken out %v, which is there and stays", n, x)
		}
	}
	return nil
}
