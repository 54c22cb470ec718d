package sim

import (
	"fmt"
	"testing"
	"testing/cryptotest"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/mosaik-go/mosaik/groups/internal/core"
	"github.com/mosaik-go/mosaik/groups/internal/wire"
)

// One of two members on disks leaves for good, and as soon as it is gone the other one crashes. Alone it goes on: who leaves
// is told that it is out only when the other one will remember that.
func TestLastOfTwo(t *testing.T) {
	for seed := *first; seed < *first+uint64(max(*seeds, 150)); seed++ {
		if err := playLastOfTwo(t, seed); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
	}
}

func playLastOfTwo(t *testing.T, seed uint64) error {
	cryptotest.SetGlobalRandom(t, seed)
	w := New(seed, Network{Delay: time.Millisecond, Jitter: 5 * time.Millisecond})
	for i := range 2 {
		w.Disks[i] = w.newDisk()
		w.Start(i, core.Normal, 1)
	}
	if !w.Until(20*time.Second, func() bool { return w.Whole() && w.nodes[0].Status.Voters == 2 && w.nodes[1].Status.Voters == 2 }) {
		return fmt.Errorf("no group")
	}
	w.Run(time.Duration(w.Rng.IntN(3000)) * time.Millisecond)
	at := w.Rng.IntN(2)
	gone, stays := w.nodes[at], w.nodes[1-at]
	gone.do(func() { gone.eng.Leave(gone.clock()) })
	if !w.Until(10*time.Second, func() bool { return gone.Left }) {
		return fmt.Errorf("no departure")
	}
	gone.do(func() { gone.eng.Stop(gone.clock()) })
	w.Run(time.Duration(w.Rng.IntN(10)) * time.Millisecond)
	gone.wipe()
	w.Crash(gone, false)
	w.Crash(stays, false)
	w.Run(time.Second)
	n := w.Start(stays.Index, core.Normal, 1)
	if !w.Until(30*time.Second, func() bool { return n.Status != nil && n.Status.Online }) {
		return fmt.Errorf("the last one does not go on: %v", n.Status.Reason)
	}
	return nil
}

// Of two voters one is down when the other leaves for good. A third member, which does not vote and lags, hears the farewell.
// The voter comes back: all that are left are there, and one of them has the proof, so the group goes on.
func TestFarewellHeardByLaggard(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	s := emptyStage(t, 1)
	s.Net.Jitter = 5 * time.Millisecond
	for i, pref := range []core.Preference{core.Normal, core.Normal, core.Observer} {
		s.Disks[i] = s.newDisk()
		s.Start(i, pref, []int{1, joinOnly, joinOnly}[i])
	}
	s.within(20*time.Second, "a group of all", s.Whole)
	s.within(10*time.Second, "two voters", func() bool { return s.nodes[2].Status.Voters == 2 })
	s.Filter = func(_, to *Node, m wire.Message) bool { // the third gets nothing new
		x, is := m.(*wire.Raft)
		return to.Index != 2 || !is || x.Msg.GetType() == raftpb.MsgHeartbeat
	}
	for range 3 {
		s.add(s.nodes[0], time.Second)
	}
	s.Run(time.Second)
	gone, back := s.nodes[0], s.nodes[1]
	s.Crash(back, false)
	s.Run(3 * time.Second)
	gone.do(func() { gone.eng.Leave(gone.clock()) })
	s.within(10*time.Second, "departure", func() bool { return gone.Left })
	gone.do(func() { gone.eng.Stop(gone.clock()) })
	s.Run(100 * time.Millisecond)
	gone.wipe()
	s.Crash(gone, false)
	s.Run(time.Second)
	s.Filter = nil
	back = s.Start(1, core.Normal, joinOnly)
	s.within(60*time.Second, "group of those that are left", func() bool { return back.Status.Online && s.nodes[2].Status.Online })
	if got := s.read(back); got != "3" {
		t.Fatalf("reads %s", got)
	}
}
