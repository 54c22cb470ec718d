package sim

import (
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/core"
	"github.com/mosaik-go/mosaik/groups/internal/wire"
)

// resting is a group of n members that has come to rest, and had the given commands before.
func resting(t *testing.T, seed uint64, n, commands int) *stage {
	s := newStage(t, seed, n)
	for i := range commands {
		s.add(s.nodes[i%n], time.Second)
	}
	s.within(5*time.Second, "rest", s.rests)
	return s
}

func (s *stage) rests() bool {
	for _, n := range s.nodes {
		if n.Alive && n.rest == nil {
			return false
		}
	}
	return true
}

// A group in which nothing happens exchanges pulses and nothing else, and no engine is called, for as long as it lasts.
func TestRest(t *testing.T) {
	t.Parallel()
	for _, nodes := range []int{2, 3, 5} {
		s := resting(t, uint64(nodes), nodes, 3)
		pulses, others := 0, 0
		s.Filter = func(_, _ *Node, m wire.Message) bool {
			switch m.(type) {
			case *wire.Pulse, *wire.Pulsed:
				pulses++
			default:
				others++
			}
			return true
		}
		term, before := s.leader().Status.Term, s.rested
		const span = 10 * time.Minute
		s.Run(span)
		if got, want := s.rested-before, nodes*int(span/tick); got < want-nodes || got > want+nodes {
			t.Errorf("%d members rested for %d ticks in all, want %d", nodes, got, want)
		}
		if want := 2 * (nodes - 1) * int(span/(5*tick)); pulses < want-4*nodes || pulses > want+4*nodes {
			t.Errorf("%d members sent %d pulses and answers, want %d", nodes, pulses, want)
		}
		if others > 0 || !s.rests() || s.leader().Status.Term != term {
			t.Errorf("%d members: %d other messages, term %d after %d", nodes, others, s.leader().Status.Term, term)
		}
		s.Filter = nil
		s.add(s.other(s.leader()), 100*time.Millisecond)
		if got := s.read(s.nodes[0]); got != "4" {
			t.Errorf("the group reads %s after its rest", got)
		}
		s.within(5*time.Second, "rest", s.rests)
	}
}

// longestElection is how long the silence of a leader may last: two election timeouts, a tick, and some messages.
const longestElection = 2*20*tick + 2*tick

// The leader of a group at rest falls silent, or cannot hear the others any more, or its connections close: the group has
// another one as soon as it would have had if it had not rested.
func TestFailoverFromRest(t *testing.T) {
	t.Parallel()
	var fastest, slowest time.Duration
	for seed := uint64(1); seed <= 40; seed++ {
		s := resting(t, seed, 3, 1)
		s.Run(time.Duration(seed) * 130 * time.Millisecond)
		old := s.leader()
		last := s.Now()
		s.Filter = func(from, _ *Node, _ wire.Message) bool {
			if from == old {
				last = s.Now()
			}
			return true
		}
		s.Run(500 * time.Millisecond)
		s.Crash(old, true)
		s.within(longestElection, "leader after a silent one", func() bool { n := s.leader(); return n != nil && n != old && n.Status.Online })
		took := s.Now() - last
		if took < 20*tick-tick {
			t.Errorf("seed %d: elected %v after the leader was last heard, before the election timeout", seed, took)
		}
		if fastest == 0 || took < fastest {
			fastest = took
		}
		slowest = max(slowest, took)
		s.Filter = nil
		s.add(s.leader(), time.Second)

		s = resting(t, seed, 3, 1)
		old = s.leader()
		s.Crash(old, false)
		s.within(4*tick, "leader after one whose connections closed", func() bool { n := s.leader(); return n != nil && n != old && n.Status.Online })

		s = resting(t, seed, 3, 1)
		s.Run(time.Duration(seed) * 130 * time.Millisecond)
		deaf := s.leader()
		for _, n := range s.nodes {
			if n != deaf {
				s.Cut(n.Index, deaf.Index)
			}
		}
		s.within(longestElection, "end of a leader that hears nobody", func() bool { return deaf.Status.Role != core.RoleLeader })
		s.within(2*longestElection, "leader after a deaf one", func() bool { n := s.leader(); return n != nil && n != deaf && n.Status.Online })
	}
	t.Logf("silent leaders were replaced %v to %v after they were last heard", fastest, slowest)
}

// A follower that misses what its leader says last does not rest before it has that, and the leader's rest does not keep
// it from it.
func TestRestTakesAll(t *testing.T) {
	t.Parallel()
	for seed := uint64(1); seed <= 40; seed++ {
		s := newStage(t, seed, 3)
		behind := s.other(s.leader())
		s.Net.Loss = 0.3
		for range 5 {
			s.add(s.leader(), 30*time.Second)
		}
		s.Net.Loss = 0
		s.within(10*time.Second, "rest", s.rests)
		if len(behind.Log) != 5 {
			t.Fatalf("seed %d: %v rests with %d of 5 commands", seed, behind, len(behind.Log))
		}
	}
}
