package sim

import (
	"testing"
	"testing/cryptotest"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/mosaik-go/mosaik/groups/internal/core"
	"github.com/mosaik-go/mosaik/groups/internal/wire"
)

// A member follows a recovery by order only to somebody who leads there. One that merely was about to join has nothing,
// and the log that would be given up for it may be the last one.
func TestFollowNobody(t *testing.T) {
	for seed := uint64(1); seed <= 10; seed++ {
		cryptotest.SetGlobalRandom(t, seed)
		s := emptyStage(t, seed)
		for i := range 3 {
			s.Disks[i] = s.newDisk()
			s.Start(i, core.Normal, 3)
		}
		s.within(20*time.Second, "a group of all", s.Whole)
		s.within(5*time.Second, "three voters", func() bool { return s.leader().Status.Voters == 3 })
		for range 5 {
			s.add(s.nodes[0], time.Second)
		}
		s.Run(2 * time.Second)
		old := s.leader().Status.Genesis
		for _, n := range s.nodes {
			s.Crash(n, false)
		}
		r := &rivalRun{w: s.World, n: 3}
		if done, err := r.order(s.nodes[0]); !done || err != nil {
			t.Fatalf("no recovery: %v", err)
		}
		s.Start(0, core.Normal, joinOnly)
		s.within(10*time.Second, "recovery", func() bool { return s.nodes[0].Status != nil && s.nodes[0].Status.Online })
		s.Filter = func(_, to *Node, m wire.Message) bool { // the newcomer is taken in, and gets nothing
			x, is := m.(*wire.Raft)
			return to.Index != 3 || !is || x.Msg.GetType() == raftpb.MsgHeartbeat
		}
		fresh := s.Start(3, core.Normal, joinOnly)
		s.within(10*time.Second, "newcomer", func() bool { return fresh.Status != nil && fresh.Status.Genesis == s.nodes[0].Status.Genesis })
		s.Cut(0, 1)
		s.Cut(1, 0)
		last := s.Start(1, core.Normal, joinOnly)
		s.Run(20 * time.Second)
		s.Crash(s.nodes[0], false)
		s.Run(20 * time.Second)
		if last.Status.Genesis != old {
			t.Fatalf("seed %d: the last member that is there holds %d commands of history %x", seed, len(last.Log), last.Status.Genesis[:3])
		}
		s.Heal()
		s.Filter = nil
		s.Start(0, core.Normal, joinOnly)
		s.Start(2, core.Normal, joinOnly)
		s.within(60*time.Second, "a group of all", s.Whole)
		if got := s.read(last); got != "5" {
			t.Fatalf("seed %d: reads %s", seed, got)
		}
	}
}
