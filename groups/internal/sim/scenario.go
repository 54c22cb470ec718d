package sim

import (
	"fmt"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/core"
)

// Scenario is a run with clients and faults, all drawn from a seed.
type Scenario struct {
	Seed    uint64
	Faults  Faults
	Length  time.Duration // of the part with faults
	World   *World
	History []*Op
	Nodes   int

	clients int
	names   []string
	applied map[core.Index]string // what stands at each index, on whatever replica
	leaders map[string]string     // by history and term
	broken  error
	stopped bool
	crashed int
}

// Run plays a scenario to its end and returns the first violation of an invariant. The caller checks the history.
func (s *Scenario) Run() error {
	w := New(s.Seed, Network{})
	s.World = w
	w.faults = s.Faults
	s.Nodes = 3 + w.Rng.IntN(3)
	w.Net = Network{Delay: time.Millisecond, Jitter: time.Duration(1+w.Rng.IntN(20)) * time.Millisecond}
	s.applied = make(map[core.Index]string)
	s.leaders = make(map[string]string)
	s.names = []string{"x", "y", "z"}[:1+w.Rng.IntN(3)]
	for i := range s.Nodes {
		pref := core.Normal
		if i > 2 && w.Rng.IntN(4) == 0 {
			pref = core.Observer
		} else if w.Rng.IntN(8) == 0 {
			pref = core.Reluctant
		}
		w.Start(i, pref, s.Nodes/2+1)
	}
	if !w.Until(40*time.Second, s.settled) {
		return fmt.Errorf("the group did not form: %v", s.describe())
	}
	s.clients = 2 + w.Rng.IntN(4)
	for c := range s.clients {
		s.client(c)
	}
	if w.Rng.IntN(2) == 0 {
		w.Net.Loss = float64(w.Rng.IntN(5)) / 100
		w.Net.Duplicate = float64(w.Rng.IntN(5)) / 100
	}
	s.faultLater()
	s.watch()
	w.Run(s.Length)

	// After the faults everything must work again.
	s.stopped = true
	w.Net.Loss, w.Net.Duplicate = 0, 0
	w.Heal()
	for _, n := range w.nodes {
		n.Slow = 0
		if !n.Alive {
			w.Start(n.Index, core.Normal, s.Nodes/2+1)
		}
	}
	if !w.Until(120*time.Second, func() bool { return s.broken != nil || s.settled() && s.quiet() }) {
		return fmt.Errorf("the group does not recover: %v", s.describe())
	}
	w.Run(2 * time.Second)
	s.check()
	return s.broken
}

// settled reports whether every machine is online in one group of all.
func (s *Scenario) settled() bool { return s.World.formed(s.Nodes)() }

// quiet reports whether no operation is under way.
func (s *Scenario) quiet() bool {
	for _, o := range s.History {
		if !o.Done {
			return false
		}
	}
	return true
}

func (s *Scenario) describe() []string {
	var out []string
	for _, n := range s.World.nodes {
		if n.Status == nil {
			out = append(out, fmt.Sprintf("n%d alive=%v without status", n.Index, n.Alive))
			continue
		}
		out = append(out, fmt.Sprintf("n%d.%d alive=%v role=%d term=%d online=%v %q members=%d/%d voters fatal=%v",
			n.Index, n.Life, n.Alive, n.Status.Role, n.Status.Term, n.Status.Online, n.Status.Reason, len(n.Status.Members), n.Status.Voters, n.Fatal))
	}
	for _, o := range s.History {
		if !o.Done {
			out = append(out, fmt.Sprintf("client %d waits since %v: %s", o.Client, o.Begin, o.Cmd))
		}
	}
	return out
}

// client runs one operation after the other, each on any node.
func (s *Scenario) client(c int) {
	w := s.World
	if s.stopped {
		return
	}
	n := w.nodes[w.Rng.IntN(len(w.nodes))]
	name := s.names[w.Rng.IntN(len(s.names))]
	next := func() {
		w.After(time.Duration(1+w.Rng.IntN(200))*time.Millisecond, func() { s.client(c) })
	}
	var o *Op
	switch w.Rng.IntN(4) {
	case 0:
		o = w.Execute(n, c, fmt.Sprintf("w %s %d", name, 1000*w.Rng.IntN(1000)), next)
	case 1, 2:
		o = w.Execute(n, c, fmt.Sprintf("a %s %d", name, 1+w.Rng.IntN(9)), next)
	default:
		o = w.Read(n, c, name, next)
	}
	s.History = append(s.History, o)
	if o.Done {
		return
	}
	life := n
	var watch func()
	watch = func() {
		switch {
		case o.Done:
		case !life.Alive:
			o.Abandon()
		default:
			w.After(100*time.Millisecond, watch)
		}
	}
	watch()
	if w.Rng.IntN(10) == 0 { // an impatient caller
		w.After(time.Duration(w.Rng.IntN(3000))*time.Millisecond, func() {
			if !o.Done && o.call != nil && life.Alive {
				life.eng.Cancel(life.clock(), o.call)
				life.flush()
			}
		})
	}
}

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

func (s *Scenario) fault() {
	w := s.World
	a, b := w.Rng.IntN(len(w.nodes)), w.Rng.IntN(len(w.nodes))
	switch w.Rng.IntN(12) {
	case 0, 1: // one against the rest
		for i := range w.nodes {
			if i != a {
				w.Cut(a, i)
				w.Cut(i, a)
			}
		}
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
			w.breakBond(w.nodes[a], w.nodes[b], w.Rng.IntN(2) == 0)
		}
	case 6, 7:
		if n := w.nodes[a]; n.Alive && s.mayCrash(n) {
			s.crashed++
			w.Crash(n, w.Rng.IntN(3) == 0)
			w.After(time.Duration(500+w.Rng.IntN(20000))*time.Millisecond, func() {
				if w.nodes[a] == n {
					w.Start(a, core.Normal, s.Nodes/2+1)
				}
			})
		}
	case 8:
		w.nodes[a].Slow = time.Duration(w.Rng.IntN(300)) * time.Millisecond
	case 9:
		w.nodes[a].SetRate(0.8 + 0.4*w.Rng.Float64())
	default:
		w.Heal()
	}
}

// mayCrash reports whether the group survives the loss of the node's memory: what is committed is on a majority of the
// voters, so fewer than a majority may be lost, as any member sees it, until the group has replaced them.
func (s *Scenario) mayCrash(n *Node) bool {
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
			if !x.Alive || x == n || x.Status == nil || x.Status.Member != m.ID {
				lost++
			}
		}
		if voters > 0 && lost > (voters-1)/2 {
			return false
		}
	}
	return true
}

// watch checks the invariants again and again.
func (s *Scenario) watch() {
	s.World.After(500*time.Millisecond, func() {
		s.check()
		if s.broken == nil && !s.stopped {
			s.watch()
		}
	})
}

// check compares replicas with each other, and leaders.
func (s *Scenario) check() {
	if s.broken != nil {
		return
	}
	for _, n := range s.World.nodes {
		if n.Fatal != nil {
			s.broken = fmt.Errorf("n%d.%d gave up: %w", n.Index, n.Life, n.Fatal)
			return
		}
		for i, e := range n.Log {
			if e.Index != core.Index(i+1) {
				s.broken = fmt.Errorf("n%d.%d applied index %d after %d commands", n.Index, n.Life, e.Index, i)
				return
			}
			if have, ok := s.applied[e.Index]; ok && have != e.Cmd {
				s.broken = fmt.Errorf("n%d.%d applied %q at index %d, others %q", n.Index, n.Life, e.Cmd, e.Index, have)
				return
			}
			s.applied[e.Index] = e.Cmd
		}
		if st := n.Status; st != nil && st.Role == core.RoleLeader {
			key := fmt.Sprintf("%x/%d", st.Genesis, st.Term)
			who := fmt.Sprint(st.Member)
			if have, ok := s.leaders[key]; ok && have != who {
				s.broken = fmt.Errorf("two leaders in term %d: members %s and %s", st.Term, have, who)
				return
			}
			s.leaders[key] = who
		}
	}
}
