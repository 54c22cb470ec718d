package sim

import (
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/core"
)

// Of two voters one leaves, and the other crashes as soon as a third member, which does not vote, knows that the departure
// is committed. Back again the voter does not know that, and the one that left cannot tell it any more: it has to recover the
// group, and the third member must not stand in its way.
func TestLearnerKnowsMore(t *testing.T) {
	forks := 0
	for seed := uint64(1); seed <= 40; seed++ {
		cryptotest.SetGlobalRandom(t, seed)
		s := emptyStage(t, seed)
		s.Net.Jitter = 5 * time.Millisecond
		s.Disks[0] = s.newDisk()
		s.Start(0, core.Normal, 1)
		s.within(10*time.Second, "founder", func() bool { return s.nodes[0].Status != nil && s.nodes[0].Status.Online })
		s.Start(1, core.Normal, joinOnly)
		watcher := s.Start(2, core.Observer, joinOnly)
		s.within(10*time.Second, "a group of all", s.Whole)
		s.within(10*time.Second, "two voters", func() bool { return watcher.Status.Voters == 2 && s.leader() == s.nodes[0] })
		s.add(watcher, time.Second)
		gone := s.nodes[1]
		gone.do(func() { gone.eng.Leave(gone.clock()) })
		s.within(10*time.Second, "departure", func() bool { return watcher.Status.Voters == 1 })
		s.Crash(s.nodes[0], false)
		s.Crash(gone, false)
		s.Run(time.Second)
		s.Start(1, core.Normal, joinOnly)
		s.Start(0, core.Normal, joinOnly)
		s.within(60*time.Second, "a group of all", s.Whole)
		if got := s.read(s.nodes[0]); got != "1" {
			t.Fatalf("seed %d: reads %s", seed, got)
		}
		if s.nodes[0].Status.Genesis != watcher.Status.Genesis {
			t.Fatalf("seed %d: two histories", seed)
		}
		for _, n := range s.nodes {
			for _, x := range n.News {
				if x.Kind == core.NewsForked {
					forks++
				}
			}
		}
	}
	if forks == 0 {
		t.Error("the voter always knew")
	}
}
