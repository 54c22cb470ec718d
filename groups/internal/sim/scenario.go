package sim

import (
	"errors"
	"fmt"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/mosaik-go/mosaik/groups/internal/core"
)

// Scenario is a run with clients and faults, all drawn from a seed.
type Scenario struct {
	Seed   uint64
	Bugs   Bugs
	Length time.Duration // of the part with faults, in virtual time
	Check  time.Duration // limit for checking the history, in real time
	Disks  Disks
	Expels bool // members want others taken out that they do not see

	World   *World
	History []*Op
	Stats   Stats

	eyes    *observer
	most    int // nodes at a time
	calls   int
	clients int
	names   []string
	lull    time.Duration // clients do nothing before
	ambush  bool
	stopped bool
}

// Stats counts what happened in a scenario.
type Stats struct {
	Done, Unknown, Refused, Crashes, Leaves, Joins, Leaders, Lost, Installed int
	Forks                                                                    int // the group saved itself from the loss of most voters
	Wiped, Blackouts, Closes                                                 int // with disks
	Witnessed                                                                int // histories that were too hard for porcupine
	Rested                                                                   int // ticks of engines at rest
	Expelled                                                                 int // members were taken out because somebody wanted it
}

// Add sums up.
func (s *Stats) Add(o Stats) {
	s.Done += o.Done
	s.Unknown += o.Unknown
	s.Refused += o.Refused
	s.Crashes += o.Crashes
	s.Leaves += o.Leaves
	s.Joins += o.Joins
	s.Leaders += o.Leaders
	s.Lost += o.Lost
	s.Installed += o.Installed
	s.Forks += o.Forks
	s.Wiped += o.Wiped
	s.Witnessed += o.Witnessed
	s.Blackouts += o.Blackouts
	s.Closes += o.Closes
	s.Rested += o.Rested
	s.Expelled += o.Expelled
}

// Run plays a scenario to its end and returns the first violation of what a group promises.
func (s *Scenario) Run() error {
	w := s.World
	if w == nil {
		w = New(s.Seed, Network{})
		s.World = w
	}
	w.Bugs = s.Bugs
	s.eyes = newObserver()
	w.Notice, w.Ended = s.eyes.notice, s.ended
	n := 3 + w.Rng.IntN(3)
	s.most = n + w.Rng.IntN(3)
	w.Net = Network{Delay: time.Millisecond, Jitter: time.Duration(1+w.Rng.IntN(20)) * time.Millisecond}
	s.names = []string{"x", "y", "z"}[:1+w.Rng.IntN(3)]
	s.tune()
	expect := 1 + w.Rng.IntN(n)
	for i := range n {
		pref := core.Normal
		if i > 2 && w.Rng.IntN(4) == 0 {
			pref = core.Observer
		} else if w.Rng.IntN(8) == 0 {
			pref = core.Reluctant
		}
		s.equip(i)
		w.Start(i, pref, expect)
	}
	if !w.Until(40*time.Second, s.settled) {
		return fmt.Errorf("the group did not form: %v", s.describe())
	}
	history := w.nodes[0].Status.Genesis
	s.clients = 2 + w.Rng.IntN(4)
	for c := range s.clients {
		s.client(c)
	}
	if w.Rng.IntN(2) == 0 {
		w.Net.Loss = float64(w.Rng.IntN(5)) / 100
		w.Net.Duplicate = float64(w.Rng.IntN(5)) / 100
	}
	s.faultLater()
	if s.Expels {
		s.expelLater()
		v := newSpared()
		w.Notice = func(n *Node) {
			s.eyes.notice(n)
			if err := v.look(n); err != nil {
				s.eyes.fail("%w", err)
			}
		}
	}
	if s.Seed%3 == 0 {
		s.lulls()
	}
	s.watch()
	w.Until(s.Length, func() bool { return s.eyes.broken != nil })

	// After the faults everything must work again.
	s.stopped = true
	w.Net.Loss, w.Net.Duplicate = 0, 0
	w.Heal()
	for _, n := range w.nodes {
		n.Slow = 0
		n.resume()
		s.replace(n)
	}
	well := func() bool { return s.eyes.broken != nil || s.settled() && s.quiet() }
	recovered := w.Until(120*time.Second, well)
	for range 3 { // somebody may just be leaving
		if recovered && s.eyes.broken == nil {
			w.Run(2 * time.Second)
			recovered = w.Until(60*time.Second, well)
		}
	}
	s.count()
	s.eyes.compare(w.nodes)
	switch {
	case s.eyes.broken != nil:
		return s.eyes.broken
	case !recovered && s.majorityLost():
		s.Stats.Lost++
	case !recovered:
		return fmt.Errorf("the group does not recover: %v", s.describe())
	default:
		forked := w.nodes[0].Status.Genesis != history
		if forked {
			s.Stats.Forks++
		}
		switch err := outcomes(s.History, w.nodes); {
		case err != nil && forked:
			s.Stats.Lost++
		case err != nil:
			return err
		}
		var differ error
		w.Until(10*time.Second, func() bool { differ = sameMembers(w.nodes); return differ == nil }) // a promotion may be on its way
		if differ != nil {
			return differ
		}
	}
	verdict := Linearizable(s.History, s.Check)
	if verdict != porcupine.Illegal && recovered && s.Stats.Lost == 0 {
		if err := witness(s.History, w.nodes[0].Log); err != nil {
			return err
		}
		if verdict == porcupine.Unknown {
			s.Stats.Witnessed++
		}
		verdict = porcupine.Ok
	}
	switch verdict {
	case porcupine.Ok:
		if s.Stats.Lost > 0 {
			return fmt.Errorf("%w: %v", errMajorityLost, s.describe())
		}
		return nil
	case porcupine.Illegal:
		return fmt.Errorf("the history of %d operations is not linearizable", len(s.History))
	default:
		return fmt.Errorf("%w: %d operations", errUnchecked, len(s.History))
	}
}

// tune draws limits of the engine, small ones too, so that they matter.
func (s *Scenario) tune() {
	rng := s.World.Rng
	inflight, voters, entry := 1+rng.IntN(4), 3+2*rng.IntN(2), 1<<20
	if rng.IntN(3) == 0 {
		entry = 48
	}
	keep := 5 + rng.IntN(20)
	most := keep * (1 + rng.IntN(3))
	snapshots := rng.IntN(3) > 0
	s.World.Tune = func(c *core.Config) {
		c.MaxInflight, c.MaxVoters, c.MaxEntryBytes = inflight, voters, entry
		c.Snapshots, c.ChunkBytes, c.KeepEntries, c.MostEntries, c.MostBytes = snapshots, 1<<10, keep, most, 1<<20
	}
}

// errMajorityLost reports that the scenario destroyed the group: it took a node's memory away at a moment when that node
// looked dispensable, and a change of voters that was under way then came to be agreed on all the same. Groups without
// disks cannot survive that. It must be rare.
var errMajorityLost = errors.New("most of the voters lost their memory")

// errUnchecked reports a history that the checker did not get through in time.
var errUnchecked = errors.New("the history was not checked within the limit")

// majorityLost reports whether most of the voters that were agreed on last do not exist any more.
func (s *Scenario) majorityLost() bool {
	var last *core.Status
	for _, n := range s.World.nodes {
		if st := n.Status; st != nil && (last == nil || st.RaftIndex > last.RaftIndex) {
			last = st
		}
	}
	voters, lost := 0, 0
	for _, m := range last.Members {
		if !m.Voter {
			continue
		}
		voters++
		if st := s.World.nodes[int(m.Peer[0])-1].Status; st == nil || st.Member != m.ID {
			lost++
		}
	}
	return voters > 0 && lost > (voters-1)/2
}

// settled reports whether every machine is online in one group of all.
func (s *Scenario) settled() bool { return s.World.Whole() }

// Whole reports whether all nodes live and are online in one group of all.
func (w *World) Whole() bool {
	for _, n := range w.nodes {
		if !n.Alive || n.Left || n.Status == nil || !n.Status.Online || len(n.Status.Members) != len(w.nodes) ||
			n.Status.Genesis != w.nodes[0].Status.Genesis {
			return false
		}
	}
	return true
}

// quiet reports whether no operation is under way and all replicas have applied the same.
func (s *Scenario) quiet() bool {
	for _, o := range s.History {
		if !o.Done {
			return false
		}
	}
	for _, n := range s.World.nodes {
		if len(n.Log) != len(s.World.nodes[0].Log) {
			return false
		}
	}
	return true
}

func (s *Scenario) describe() []string {
	var out []string
	for _, n := range s.World.nodes {
		if n.Status == nil {
			out = append(out, fmt.Sprintf("%v alive=%v without status", n, n.Alive))
			continue
		}
		out = append(out, fmt.Sprintf("%v alive=%v role=%d term=%d online=%v %q members=%d/%d voters history=%x applied=%d fatal=%v",
			n, n.Alive, n.Status.Role, n.Status.Term, n.Status.Online, n.Status.Reason, len(n.Status.Members), n.Status.Voters,
			n.Status.Genesis[:3], len(n.Log), n.Fatal))
		for _, m := range n.Status.Members {
			out = append(out, fmt.Sprintf("  %x on n%d voter=%v reachable=%v", m.ID, int(m.Peer[0])-1, m.Voter, m.Reachable))
		}
	}
	for _, o := range s.History {
		if !o.Done {
			out = append(out, fmt.Sprintf("%v waits since %v", o, o.Begin))
		}
	}
	return out
}

func (s *Scenario) count() {
	st := &s.Stats
	for _, o := range s.History {
		switch {
		case o.OK || o.Acked:
			st.Done++
		case o.Maybe || !o.Done:
			st.Unknown++
		default:
			st.Refused++
		}
	}
	st.Leaders = len(s.eyes.leaders)
	st.Installed = s.World.Installed
	st.Rested = s.World.rested
}

// client runs one operation after the other, each on any node, and now and then several at once.
func (s *Scenario) client(c int) {
	w := s.World
	if s.stopped {
		return
	}
	if w.now < s.lull {
		w.After(s.lull-w.now+time.Duration(w.Rng.IntN(200))*time.Millisecond, func() { s.client(c) })
		return
	}
	n := w.nodes[w.Rng.IntN(len(w.nodes))]
	left := 1
	if w.Rng.IntN(10) == 0 {
		left = 2 + w.Rng.IntN(3)
	}
	then := func() {
		if left--; left == 0 {
			w.After(time.Duration(1+w.Rng.IntN(200))*time.Millisecond, func() { s.client(c) })
		}
	}
	for range left {
		s.operation(c, n, then)
	}
}

// lulls has all clients do nothing for some seconds, again and again, so that groups come to rest.
func (s *Scenario) lulls() {
	w := s.World
	w.After(time.Duration(2000+w.Rng.IntN(8000))*time.Millisecond, func() {
		s.lull = w.now + time.Duration(2000+w.Rng.IntN(6000))*time.Millisecond
		w.After(s.lull-w.now, s.lulls)
	})
}

// operation begins one operation.
func (s *Scenario) operation(c int, n *Node, then func()) {
	w := s.World
	o := &Op{Client: c, Name: s.names[w.Rng.IntN(len(s.names))]}
	s.History = append(s.History, o)
	if w.Rng.IntN(4) == 0 {
		w.Read(n, o, then)
	} else {
		s.calls++
		o.ID = s.calls
		o.Call = fmt.Sprintf("%d:", o.ID)
		for i := range 1 + w.Rng.IntN(8)/6 {
			if i > 0 {
				o.Call += ";"
			}
			if w.Rng.IntN(3) == 0 {
				o.Call += fmt.Sprintf("w %s %d", o.Name, 1000*w.Rng.IntN(1000))
			} else {
				o.Call += fmt.Sprintf("a %s %d", o.Name, 1+w.Rng.IntN(9))
			}
		}
		o.Feed = w.Rng.IntN(8) == 0
		w.Submit(n, o, then)
	}
	if o.Done {
		return
	}
	w.Mourn(o)
	if w.Rng.IntN(10) == 0 { // an impatient caller
		w.After(time.Duration(w.Rng.IntN(3000))*time.Millisecond, func() { w.Cancel(o) })
	}
}

// watch compares the replicas again and again.
func (s *Scenario) watch() {
	s.World.After(500*time.Millisecond, func() {
		s.eyes.compare(s.World.nodes)
		if s.eyes.broken == nil && !s.stopped {
			s.watch()
		}
	})
}
