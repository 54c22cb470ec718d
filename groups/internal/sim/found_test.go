package sim

import (
	"fmt"
	"strings"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/core"
	"github.com/mosaik-go/mosaik/groups/internal/wire"
)

// playFounding has members with disks found a group of which all are expected, and crashes and cuts them off while they
// do: most of all those that have just promised or voted. There must never be a second history.
func playFounding(t *testing.T, seed uint64, flaws core.Flaws) (crashes int, err error) {
	cryptotest.SetGlobalRandom(t, seed)
	w := New(seed, Network{Delay: time.Millisecond, Jitter: 20 * time.Millisecond})
	w.Bugs.Core = flaws
	if *trace {
		w.Keep()
		defer func() { t.Log("\n" + strings.Join(w.Trace(), "\n")) }()
	}
	n := 3 + w.Rng.IntN(3)
	var founded core.GenesisID
	w.Notice = func(x *Node) {
		if x.Fatal != nil && err == nil {
			err = fmt.Errorf("%v gave up: %w", x, x.Fatal)
		}
		if x.Status == nil || x.Status.Genesis.IsZero() {
			return
		}
		if founded.IsZero() {
			founded = x.Status.Genesis
		}
		if x.Status.Genesis != founded && err == nil {
			err = fmt.Errorf("%v is in history %x, others in %x", x, x.Status.Genesis[:4], founded[:4])
		}
	}
	stopped := false
	crash := func(x *Node) {
		if w.nodes[x.Index] != x || !x.Alive || stopped {
			return
		}
		crashes++
		w.Crash(x, false)
		w.After(time.Duration(50+w.Rng.IntN(3000))*time.Millisecond, func() {
			if w.nodes[x.Index] == x {
				w.Start(x.Index, core.Normal, n)
			}
		})
	}
	w.Filter = func(from, to *Node, m wire.Message) bool {
		switch m.(type) {
		case *wire.Promise, *wire.Elected:
			if !stopped && w.Rng.IntN(6) == 0 {
				w.After(time.Duration(w.Rng.IntN(60))*time.Millisecond, func() { crash(from) })
				for i := range w.nodes { // and who asked is alone for a while
					if i != to.Index {
						w.Cut(i, to.Index)
						w.Cut(to.Index, i)
					}
				}
			}
		}
		return true
	}
	for i := range n {
		w.Disks[i] = w.newDisk()
		w.Start(i, core.Normal, n)
	}
	if w.Rng.IntN(2) == 0 {
		w.Net.Loss = float64(w.Rng.IntN(10)) / 100
	}
	for range 30 {
		w.Run(time.Duration(w.Rng.IntN(1500)) * time.Millisecond)
		switch w.Rng.IntN(3) {
		case 0:
			w.Heal()
		case 1:
			crash(w.nodes[w.Rng.IntN(n)])
		}
	}
	stopped = true
	w.Net.Loss = 0
	w.Heal()
	for _, x := range w.nodes {
		if !x.Alive {
			w.Start(x.Index, core.Normal, n)
		}
	}
	if !w.Until(120*time.Second, func() bool { return err != nil || w.Whole() }) {
		return crashes, fmt.Errorf("the group did not form: %v", (&Scenario{World: w}).describe())
	}
	return crashes, err
}

// TestFounding founds groups with ExpectMembers of members that crash and come back with their disks.
func TestFounding(t *testing.T) {
	crashes := 0
	for seed := *first; seed < *first+uint64(*seeds); seed++ {
		n, err := playFounding(t, seed, core.Flaws{})
		crashes += n
		if err != nil {
			t.Fatalf("seed %d: %v\nrun again: go test ./groups/internal/sim -run TestFounding -sim.first=%d -sim.seeds=1 -sim.trace -v", seed, err, seed)
		}
	}
	t.Logf("%d seeds: %d crashes", *seeds, crashes)
	if crashes < 3**seeds {
		t.Errorf("only %d crashes", crashes)
	}
}

// TestForgottenBallot makes members forget what they promised, and expects that a second history is founded.
func TestForgottenBallot(t *testing.T) {
	caught, n := 0, uint64(60)
	if *rates > 0 {
		n = uint64(*rates)
	}
	for seed := uint64(1); seed <= n && (caught == 0 || *rates > 0); seed++ {
		if _, err := playFounding(t, seed, core.Flaws{ForgetBallot: true}); err != nil && strings.Contains(err.Error(), "others in") {
			if caught++; caught == 1 {
				t.Logf("seed %d: %v", seed, err)
			}
		}
	}
	t.Logf("caught in %d of %d seeds", caught, n)
	if caught == 0 {
		t.Errorf("%d seeds found nothing", n)
	}
}

// orphanVote has two members found a history for which the third has voted, and die before anybody knows.
func orphanVote(t *testing.T, seed uint64) (s *stage, voter int) {
	cryptotest.SetGlobalRandom(t, seed)
	s = emptyStage(t, seed)
	votes := make(map[int]core.GenesisID)
	var founders []wire.Member
	s.Filter = func(from, to *Node, m wire.Message) bool {
		if e, ok := m.(*wire.Elect); ok {
			votes[to.Index], founders = e.Value.Genesis, e.Value.Founders
		}
		switch m.(type) {
		case *wire.Elected, *wire.Founded:
			return false
		}
		return true
	}
	for i := range 3 {
		s.Start(i, core.Normal, 3)
	}
	s.within(20*time.Second, "a vote of one that does not found", func() bool {
		for i, v := range votes {
			mine := v.IsZero()
			for _, f := range founders {
				mine = mine || int(f.Peer[0])-1 == i
			}
			if !mine {
				voter = i
				return true
			}
		}
		return false
	})
	s.Run(100 * time.Millisecond)
	for i := range 3 {
		if i != voter {
			s.Crash(s.nodes[i], false)
		}
	}
	s.Filter = nil
	return s, voter
}

// A member that voted for founders that all came back in another life is not bound by that any more.
func TestVoteIsReleased(t *testing.T) {
	for seed := uint64(1); seed <= 20; seed++ {
		s, voter := orphanVote(t, seed)
		// Each of the founders makes a majority of two with the voter, so that it cannot do without it.
		a, b := (voter+1)%3, (voter+2)%3
		s.Start(a, core.Normal, 3)
		s.Run(5 * time.Second)
		s.Crash(s.nodes[a], false)
		s.Start(b, core.Normal, 3)
		s.within(30*time.Second, "group of two", func() bool {
			return s.nodes[b].Status != nil && s.nodes[voter].Status.Online && s.nodes[b].Status.Online && s.nodes[b].Status.Genesis == s.nodes[voter].Status.Genesis
		})
		s.Start(a, core.Normal, 3)
		s.within(30*time.Second, "whole group", s.Whole)
	}
}

// While a founder is merely silent the vote stays, and the status says what to do about it.
func TestVoteBindsWhileAFounderIsSilent(t *testing.T) {
	for seed := uint64(1); seed <= 20; seed++ {
		s, voter := orphanVote(t, seed)
		a, b := (voter+1)%3, (voter+2)%3
		s.Start(a, core.Normal, 3)
		s.Run(60 * time.Second)
		st := s.nodes[voter].Status
		if !st.Genesis.IsZero() || !strings.Contains(st.Reason, s.nodes[b].Peer.Short()) || !strings.Contains(st.Reason, "join it again") {
			t.Fatalf("in history %x, reason %q", st.Genesis[:4], st.Reason)
		}
		// The other one is bound as well by now, and says so. Once neither is they found another history.
		if other := s.nodes[a].Status.Reason; other != st.Reason {
			t.Fatalf("the other says %q, this one %q", other, st.Reason)
		}
		s.leave(s.nodes[voter])
		s.leave(s.nodes[a])
		s.Start(voter, core.Normal, 3)
		s.Start(a, core.Normal, 3)
		s.within(30*time.Second, "group of two", func() bool {
			return s.nodes[a].Status != nil && s.nodes[a].Status.Online && s.nodes[voter].Status != nil && s.nodes[voter].Status.Online
		})
	}
}
