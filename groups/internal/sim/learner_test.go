package sim

import (
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/core"
)

// Of two voters one leaves, and the other crashes as soon as a third member, which does not vote, knows that the departure
// is committed. Back again the voter does not know that, and without the one that left it has no majority. It hears it from
// the third member, whether the one that left is back or not, and leads.
func TestLearnerKnowsMore(t *testing.T) {
	forgot := 0
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
		gone, history := s.nodes[1], watcher.Status.Genesis
		gone.do(func() { gone.eng.Leave(gone.clock()) })
		s.within(10*time.Second, "departure", func() bool { return watcher.Status.Voters == 1 })
		s.Crash(s.nodes[0], false)
		s.Crash(gone, false)
		s.Run(time.Second)
		s.Cut(0, 2)
		s.Cut(2, 0)
		voter := s.Start(0, core.Normal, joinOnly)
		s.Run(time.Second)
		if !voter.Status.Online {
			forgot++
		}
		s.Heal()
		online := func() bool { return voter.Status.Online && watcher.Status.Online }
		if seed%2 == 0 {
			s.Start(1, core.Normal, joinOnly)
			online = s.Whole
		}
		s.within(20*time.Second, "group", online)
		if got := s.read(voter); got != "1" {
			t.Fatalf("seed %d: reads %s", seed, got)
		}
		if voter.Status.Genesis != history || watcher.Status.Genesis != history {
			t.Fatalf("seed %d: the history was left", seed)
		}
	}
	if forgot == 0 {
		t.Error("the voter always knew")
	}
}

// Of two voters one leaves. A second later, in which nothing went on, the other crashes and loses all that its disk had not
// synced. Alone it knows all the same that the departure is committed, and leads.
func TestLastVoterRemembers(t *testing.T) {
	for seed := uint64(1); seed <= 20; seed++ {
		cryptotest.SetGlobalRandom(t, seed)
		s := emptyStage(t, seed)
		s.Net.Jitter = 5 * time.Millisecond
		disk := s.newDisk()
		s.Disks[0] = disk
		s.Start(0, core.Normal, 1)
		s.within(10*time.Second, "founder", func() bool { return s.nodes[0].Status != nil && s.nodes[0].Status.Online })
		gone := s.Start(1, core.Normal, joinOnly)
		s.within(10*time.Second, "two voters", func() bool { return s.Whole() && gone.Status.Voters == 2 && s.leader() == s.nodes[0] })
		s.add(gone, time.Second)
		history := gone.Status.Genesis
		gone.do(func() { gone.eng.Leave(gone.clock()) })
		s.within(10*time.Second, "departure", func() bool { return gone.Left })
		s.Crash(gone, false)
		s.Run(time.Second)
		disk.ops = disk.ops[:disk.synced]
		s.Crash(s.nodes[0], false)
		s.Run(time.Second)
		voter := s.Start(0, core.Normal, joinOnly)
		s.within(10*time.Second, "leader", func() bool { return voter.Status.Online })
		if got := s.read(voter); got != "1" || voter.Status.Genesis != history {
			t.Fatalf("seed %d: reads %s", seed, got)
		}
	}
}
