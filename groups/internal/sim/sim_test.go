package sim

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mosaik-go/mosaik/groups/internal/core"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stage is a world for tests that plan what happens.
type stage struct {
	*World
	t     *testing.T
	calls int
}

func emptyStage(t *testing.T, seed uint64) *stage {
	w := New(seed, Network{Delay: time.Millisecond})
	w.Keep()
	return &stage{World: w, t: t}
}

// newStage is a group that has formed.
func newStage(t *testing.T, seed uint64, nodes int) *stage {
	s := emptyStage(t, seed)
	for i := range nodes {
		s.Start(i, core.Normal, 1)
	}
	s.within(4*time.Second, "a group of all", s.Whole)
	// Join is not the end: those that should vote come to do so.
	s.within(3*time.Second, "voters", func() bool {
		return s.leader().Status.Voters == min(nodes-1+nodes%2, 5) || nodes == 2 && s.leader().Status.Voters == 2
	})
	return s
}

// within fails the test unless cond comes to hold in time.
func (s *stage) within(limit time.Duration, what string, cond func() bool) {
	s.t.Helper()
	begin := s.Now()
	if !s.Until(limit, cond) {
		s.t.Fatalf("no %s after %v: %v\n%s", what, s.Now()-begin, (&Scenario{World: s.World}).describe(),
			strings.Join(s.trace[max(0, len(s.trace)-80):], "\n"))
	}
}

func (s *stage) leader() (out *Node) {
	for _, n := range s.nodes {
		if n.Alive && n.Status != nil && n.Status.Role == core.RoleLeader && (out == nil || n.Status.Term > out.Status.Term) {
			out = n
		}
	}
	return out
}

func (s *stage) other(not ...*Node) *Node {
	for _, n := range s.nodes {
		is := n.Alive
		for _, x := range not {
			is = is && x != n
		}
		if is {
			return n
		}
	}
	s.t.Fatal("no other node")
	return nil
}

// add executes a command that adds one and returns the sum.
func (s *stage) add(n *Node, limit time.Duration) *Op {
	s.t.Helper()
	s.calls++
	o := &Op{ID: s.calls, Name: "x", Call: fmt.Sprintf("%d:a x 1", s.calls)}
	s.Submit(n, o, nil)
	s.within(limit, "answer", func() bool { return o.Done })
	if !o.OK {
		s.t.Fatalf("%v failed", o)
	}
	return o
}

func (s *stage) read(n *Node) string {
	s.t.Helper()
	o := &Op{Name: "x"}
	s.Read(n, o, nil)
	s.within(2*time.Second, "answer to a read", func() bool { return o.Done })
	if !o.OK {
		s.t.Fatalf("%v failed", o)
	}
	return o.Out
}

func (s *stage) leave(n *Node) {
	s.t.Helper()
	n.do(func() { n.eng.Leave(n.clock()) })
	s.within(2900*time.Millisecond, "departure with the consent of the group", func() bool { return n.Left })
	s.Crash(n, false)
}

func TestFoundJoinExecuteRead(t *testing.T) {
	t.Parallel()
	s := newStage(t, 1, 3)
	for i := range 30 {
		o := s.add(s.nodes[i%3], time.Second)
		if o.Index != core.Index(i+1) || o.Out != fmt.Sprint(i+1) {
			t.Fatalf("%v: answer %s at %d", o, o.Out, o.Index)
		}
		if got := s.read(s.nodes[(i+1)%3]); got != o.Out {
			t.Fatalf("another member reads %s after %s", got, o.Out)
		}
	}
}

// A leader that dies is replaced at once when its connection closes, and after the silence was noticed otherwise.
func TestLeaderDies(t *testing.T) {
	t.Parallel()
	for silent, limit := range map[bool]time.Duration{false: time.Second, true: 5 * time.Second} {
		t.Run(fmt.Sprintf("silent=%v", silent), func(t *testing.T) {
			t.Parallel()
			for seed := uint64(1); seed <= 20; seed++ {
				s := newStage(t, seed, 3)
				s.add(s.nodes[0], time.Second)
				old := s.leader()
				s.Crash(old, silent)
				if o := s.add(s.other(old), limit); o.Index != 2 {
					t.Fatalf("index %d", o.Index)
				}
				s.Start(old.Index, core.Normal, 1)
				s.within(20*time.Second, "whole group", s.Whole)
				if got := s.read(s.nodes[old.Index]); got != "2" {
					t.Fatalf("the one that came back reads %s", got)
				}
			}
		})
	}
}

// A leader that leaves hands over first: nobody waits for an election timeout. The last one out simply goes.
func TestLeaveOneAfterTheOther(t *testing.T) {
	t.Parallel()
	for seed := uint64(1); seed <= 20; seed++ {
		s := newStage(t, seed, 5)
		for left := 4; left >= 1; left-- {
			old := s.leader()
			s.leave(old)
			begin := s.Now()
			s.add(s.other(), time.Second)
			if took := s.Now() - begin; took > 500*time.Millisecond {
				t.Fatalf("next command %v after the leader had left", took)
			}
			s.within(3*time.Second, "smaller group", func() bool { return len(s.leader().Status.Members) == left })
		}
		s.leave(s.leader())
	}
}

// A founder that leaves while others are about to join takes them in first: what it had acknowledged is not lost. Those that
// leave as well are not waited for.
func TestLoneFounderLeaves(t *testing.T) {
	t.Parallel()
	alone := 0
	for seed := uint64(1); seed <= 40; seed++ {
		s := emptyStage(t, seed)
		for i := range 3 {
			s.Start(i, core.Normal, 1)
		}
		s.within(10*time.Second, "founder", func() bool { return s.leader() != nil && s.leader().Status.Online })
		founder := s.leader()
		if seed%4 == 0 {
			for _, n := range s.nodes {
				n.do(func() { n.eng.Leave(n.clock()) })
			}
			s.within(time.Second, "departure of all", func() bool {
				return !slices.ContainsFunc(s.nodes, func(n *Node) bool { return !n.Left })
			})
			continue
		}
		s.add(founder, time.Second)
		if len(founder.Status.Members) == 1 {
			alone++
		}
		s.leave(founder)
		if o := s.add(s.other(founder), 5*time.Second); o.Out != "2" {
			t.Fatalf("seed %d: the others have %s, want 2", seed, o.Out)
		}
	}
	if alone < 10 {
		t.Errorf("the founder was alone when it left in %d runs only", alone)
	}
}

// Two of three leave and come back, again and again, also at the same time; nothing is lost.
func TestLeaveAndReturn(t *testing.T) {
	t.Parallel()
	for seed := uint64(1); seed <= 20; seed++ {
		s := newStage(t, seed, 3)
		sum := 0
		for range 5 {
			s.add(s.other(), time.Second)
			sum++
			a := s.leader()
			b := s.other(a)
			for _, n := range []*Node{a, b} {
				n.do(func() { n.eng.Leave(n.clock()) })
			}
			s.within(2900*time.Millisecond, "departure of both", func() bool { return a.Left && b.Left })
			s.Crash(a, false)
			s.Crash(b, false)
			s.add(s.other(), 5*time.Second)
			sum++
			s.Start(a.Index, core.Normal, 1)
			s.Start(b.Index, core.Normal, 1)
			s.within(20*time.Second, "whole group", s.Whole)
			s.within(20*time.Second, "three voters", func() bool { return s.leader().Status.Voters == 3 })
		}
		for _, n := range s.nodes {
			if got := s.read(n); got != fmt.Sprint(sum) {
				t.Fatalf("%v reads %s, want %d", n, got, sum)
			}
		}
	}
}

// Members without disks are restarted one after the other, each when the one before is back, and the state lives on.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	for seed := uint64(1); seed <= 10; seed++ {
		s := newStage(t, seed, 3)
		sum := 0
		for round := range 9 {
			n := s.nodes[round%3]
			s.add(n, time.Second)
			sum++
			s.Crash(n, round%2 == 0)
			s.Run(time.Second)
			s.Start(n.Index, core.Normal, 1)
			s.within(30*time.Second, "whole group", s.Whole)
			s.within(10*time.Second, "three voters", func() bool { return s.leader().Status.Voters == 3 })
			if got := s.read(s.nodes[n.Index]); got != fmt.Sprint(sum) {
				t.Fatalf("seed %d: reads %s, want %d", seed, got, sum)
			}
		}
	}
}

// A member that is cut off is taken out, hears of it when it is back, and begins again under a new id.
func TestCutOffMemberIsReplacedAndReturns(t *testing.T) {
	t.Parallel()
	s := newStage(t, 3, 3)
	s.add(s.nodes[0], time.Second)
	lost := s.other(s.leader())
	before := lost.Status.Member
	for i := range s.nodes {
		if i != lost.Index {
			s.Cut(i, lost.Index)
			s.Cut(lost.Index, i)
		}
	}
	s.within(30*time.Second, "removal", func() bool { return len(s.leader().Status.Members) == 2 })
	if s.leader().Status.Voters != 2 {
		t.Errorf("%d voters are left", s.leader().Status.Voters)
	}
	if lost.Status.Online || lost.Status.Reason == "" {
		t.Errorf("the one that is cut off shows %+v", lost.Status)
	}
	s.add(s.other(lost), time.Second)
	s.Heal()
	s.within(10*time.Second, "whole group", s.Whole)
	if lost.Status.Member == before {
		t.Error("the member came back under its old id")
	}
	if got := s.read(lost); got != "2" {
		t.Errorf("it reads %s", got)
	}
}

// Two histories that form apart meet, and become one with everything that either held.
func TestHistoriesMeet(t *testing.T) {
	t.Parallel()
	for name, with := range map[string][]int{"both hold commands": {0, 1, 2, 3}, "one does": {0}, "none does": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := uint64(1); seed <= 20; seed++ {
				s := emptyStage(t, seed)
				w := s.World
				apart := func() {
					for _, pair := range [][2]int{{0, 2}, {0, 3}, {1, 2}, {1, 3}} {
						w.cut[pair], w.cut[[2]int{pair[1], pair[0]}] = true, true
					}
				}
				apart()
				nodes := 4
				if len(with) < 4 {
					nodes = 3 // the third is alone with its empty history
				}
				for i := range nodes {
					w.Start(i, core.Normal, 1)
				}
				s.within(20*time.Second, "two histories", func() bool {
					for _, n := range w.nodes {
						if n.Status == nil || !n.Status.Online || n.Index < 2 && len(n.Status.Members) != 2 {
							return false
						}
					}
					return true
				})
				for _, i := range with {
					s.add(w.nodes[i], time.Second)
				}
				w.Heal()
				s.within(15*time.Second, "one group", w.Whole)
				s.within(10*time.Second, "all of both", func() bool {
					for _, n := range w.nodes {
						if len(n.Log) != len(with) {
							return false
						}
					}
					return true
				})
				for _, n := range w.nodes {
					if want := fmt.Sprint(len(with)); s.read(n) != want && len(with) > 0 {
						t.Fatalf("seed %d: %v reads %s, want %s", seed, n, s.read(n), want)
					}
				}
			}
		})
	}
}
