package sim

import (
	"slices"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/core"
)

// faultLater plans the next fault.
func (s *Scenario) faultLater() {
	w := s.World
	w.After(time.Duration(200+w.Rng.IntN(4000))*time.Millisecond, func() {
		if s.stopped {
			return
		}
		s.fault()
		s.faultLater()
	})
}

// victim draws a node, the leader more often than others.
func (s *Scenario) victim() *Node {
	w := s.World
	n := w.nodes[w.Rng.IntN(len(w.nodes))]
	if w.Rng.IntN(3) > 0 {
		return n
	}
	for _, o := range w.nodes {
		if o.Alive && o.Status != nil && o.Status.Role == core.RoleLeader {
			return o
		}
	}
	return n
}

func (s *Scenario) fault() {
	w := s.World
	x := s.victim()
	a, b := x.Index, w.Rng.IntN(len(w.nodes))
	switch w.Rng.IntN(19) {
	case 0, 1: // one against the rest
		s.isolate(x)
	case 2: // two halves
		for i := range w.nodes {
			for j := range w.nodes {
				if i != j && (i <= a) != (j <= a) {
					w.Cut(i, j)
				}
			}
		}
	case 3: // one pair
		if a != b {
			w.Cut(a, b)
			w.Cut(b, a)
		}
	case 4: // one direction
		if a != b {
			w.Cut(a, b)
		}
	case 5:
		if a != b {
			w.breakBond(x, w.nodes[b], w.Rng.IntN(2) == 0)
		}
	case 6, 7:
		if x.disk != nil {
			s.crashWithDisk(x)
		} else if s.mayCrash(x) {
			s.Stats.Crashes++
			w.Crash(x, w.Rng.IntN(3) == 0)
			w.After(time.Duration(500+w.Rng.IntN(20000))*time.Millisecond, func() { s.replace(x) })
		}
	case 8:
		x.Slow = time.Duration(w.Rng.IntN(300)) * time.Millisecond
	case 9:
		x.SetRate(0.8 + 0.4*w.Rng.Float64())
	case 10:
		x.Jump(time.Duration(w.Rng.IntN(4000)) * time.Millisecond)
	case 11:
		x.Pause(time.Duration(50+w.Rng.IntN(9000)) * time.Millisecond)
	case 12:
		if x.Alive && !x.Left && x.disk != nil && w.Rng.IntN(2) == 0 {
			s.close(x)
		} else if x.Alive && !x.Left {
			s.Stats.Leaves++
			w.tracef("%v leaves", x)
			x.leaves = true
			x.do(func() { x.eng.Leave(x.clock()) })
			s.retire(x)
		}
	case 13:
		if len(w.nodes) < s.most {
			s.Stats.Joins++
			s.equip(len(w.nodes))
			w.Start(len(w.nodes), core.Normal, joinOnly)
		}
	case 14:
		s.ambush = true
	default:
		w.Heal()
	}
}

// isolate cuts a node off from all others.
func (s *Scenario) isolate(n *Node) {
	for i := range s.World.nodes {
		if i != n.Index {
			s.World.Cut(n.Index, i)
			s.World.Cut(i, n.Index)
		}
	}
}

// ended is told of operations. In an ambush the leader is cut off at the worst moment: it has just told a caller that
// something is done, and nobody else knows.
func (s *Scenario) ended(o *Op) {
	if s.ambush && !s.stopped && o.OK && o.Call != "" && o.Node.Status.Role == core.RoleLeader {
		s.ambush = false
		s.World.tracef("ambush")
		s.isolate(o.Node)
	}
}

// replace starts a node again that is down, unless that has happened.
func (s *Scenario) replace(n *Node) {
	if w := s.World; w.nodes[n.Index] == n && !n.Alive {
		w.Start(n.Index, core.Normal, joinOnly)
	}
}

// joinOnly is an expectation that is never met. A node that comes later never founds: cut off from the others it would
// begin a second history, as it should, and this scenario is about one.
const joinOnly = 100

// retire stops a node that leaves once it may go: the group has taken it out, or can spare it.
func (s *Scenario) retire(n *Node) {
	w := s.World
	w.After(200*time.Millisecond, func() {
		if !n.Alive {
			return
		}
		if !n.Left || !s.released(n) && !s.mayCrash(n) {
			s.retire(n)
			return
		}
		if n.disk != nil {
			n.wipe() // it forgets the log of a group that it has left
		}
		w.Crash(n, false)
		back := time.Duration(500+w.Rng.IntN(10000)) * time.Millisecond
		if s.stopped {
			back = 0
		}
		w.After(back, func() { s.replace(n) })
	})
}

// released reports whether the node knows that it is out, or some leader no longer counts on it.
func (s *Scenario) released(n *Node) bool {
	if st := n.Status; st != nil && !slices.ContainsFunc(st.Members, func(m core.Member) bool { return m.ID == st.Member }) {
		return true
	}
	for _, o := range s.World.nodes {
		if o == n || !o.Alive || o.Status == nil || o.Status.Role != core.RoleLeader || !o.Status.Online || n.Status == nil ||
			o.Status.Genesis != n.Status.Genesis || o.Status.Term < n.Status.Term {
			continue
		}
		is := false
		for _, m := range o.Status.Members {
			is = is || m.ID == n.Status.Member
		}
		if !is {
			return true
		}
	}
	return false
}

// mayCrash reports whether the group survives the loss of the node's memory: what is committed is on a majority of the
// voters, so fewer than a majority may be lost, as any member sees it, until the group has replaced them.
func (s *Scenario) mayCrash(n *Node) bool {
	if !n.Alive {
		return false
	}
	for _, o := range s.World.nodes {
		if !o.Alive || o.Status == nil {
			continue
		}
		voters, lost := 0, 0
		for _, m := range o.Status.Members {
			if !m.Voter {
				continue
			}
			voters++
			x := s.World.nodes[int(m.Peer[0])-1]
			if !x.Alive && x.disk == nil || x == n || x.Status == nil || x.Status.Member != m.ID {
				lost++
			}
		}
		if voters > 0 && lost > (voters-1)/2 {
			return false
		}
	}
	return true
}
