package sim

import (
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/core"
)

// An observer that has saved the group votes until others can go on without it. Its log may be the longest then, so it must
// stand for election if nobody else can win, or nothing ever goes on.
func TestObserverWithTheLongestLog(t *testing.T) {
	for seed := uint64(1); seed <= 10; seed++ {
		cryptotest.SetGlobalRandom(t, seed)
		s := emptyStage(t, seed)
		s.Start(0, core.Normal, 1)
		s.within(10*time.Second, "founder", func() bool { return s.nodes[0].Status != nil && s.nodes[0].Status.Online })
		watcher := s.Start(1, core.Observer, joinOnly)
		s.within(10*time.Second, "a group of both", s.Whole)
		s.add(watcher, time.Second)
		s.Crash(s.nodes[0], false)
		s.Disks[0] = s.newDisk()
		s.Start(0, core.Normal, joinOnly)
		s.within(30*time.Second, "two voters", func() bool { return watcher.Status.Role == core.RoleLeader && watcher.Status.Voters == 2 })
		s.Crash(s.nodes[0], true) // what the observer proposes next only it will have
		s.Run(3 * time.Second)
		s.Start(0, core.Normal, joinOnly)
		s.within(60*time.Second, "a group of both", s.Whole)
		s.within(20*time.Second, "the observer without a vote", func() bool { return s.leader() == s.nodes[0] && s.leader().Status.Voters == 1 })
		if got := s.read(s.nodes[0]); got != "1" {
			t.Fatalf("seed %d: reads %s", seed, got)
		}
	}
}
