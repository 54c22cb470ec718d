package core

import (
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/wire"
	"github.com/mosaik-go/mosaik/id"
)

// The first refusal ends a muster, though others have not answered: as long as it lasts the member hears no leader.
func TestRefusalEndsMuster(t *testing.T) {
	t.Parallel()
	for _, peek := range []bool{false, true} {
		c := newCluster()
		c.form("a", "b", "c")
		one := c.node("a")
		r := one.eng
		var q *Question
		if peek {
			q = &Question{Kind: AskPlan}
		}
		c.unbond(c.node("b"), c.node("c"), true)
		r.callMuster(wire.Ordered, []id.PeerID{c.node("b").peer, c.node("c").peer}, q)
		m := r.recovery.muster
		r.Receive(c.now, c.node("b").peer, &wire.Standing{Genesis: r.genesis, Round: m.round, Member: c.node("b").eng.self, Refused: true})
		if goesOn := r.recovery.muster == m; goesOn != peek {
			t.Errorf("a muster (to look only: %v) goes on after a refusal: %v", peek, goesOn)
		}
		if r.recovery.sealed(c.now) {
			t.Errorf("the member (to look only: %v) stands still after a refusal", peek)
		}
		told := 0
		for _, out := range r.due.send {
			if d, ok := out.Message.(*wire.Dismiss); ok && d.Round == m.round {
				told++
			}
		}
		if want := len(m.asked); !peek && told != want || peek && told > 0 {
			t.Errorf("%d of %d that were asked are told that the muster (to look only: %v) is over", told, want, peek)
		}
	}
}

// Those that were asked stand still no longer when the muster ends without a fork, unless another one counts on them.
func TestDismissed(t *testing.T) {
	t.Parallel()
	for _, two := range []bool{false, true} {
		c := newCluster()
		c.form("a", "b", "c")
		r := c.node("a").eng
		r.seal(1)
		if two {
			r.seal(2)
			r.seal(1)
		}
		r.Receive(c.now, c.node("b").peer, &wire.Dismiss{Genesis: r.genesis, Round: 3})
		if !r.recovery.sealed(c.now) {
			t.Error("the end of a muster that it does not know lets a member go on")
		}
		r.Receive(c.now, c.node("b").peer, &wire.Dismiss{Genesis: r.genesis, Round: 1})
		if still := r.recovery.sealed(c.now); still != two {
			t.Errorf("stands still for another muster: %v, after the end of one: %v", two, still)
		}
		if two {
			c.pass(sealFor + time.Second)
			r.seal(1)
			if r.unseal(1); r.recovery.sealed(c.now) {
				t.Error("a muster that is long over keeps a member from going on")
			}
		}
	}
}

// Who stands still when another one musters: one that sees no proof and knows more of the log does not, nor one whose own
// muster goes first.
func TestMusterIsRefusedByThoseWhoKnowBetter(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		more    int // how much more of the log the one who asks knows
		proof   bool
		replays bool // the one who is asked knows that so much and one entry more is committed, and has yet to go through it
		own     bool // the one who is asked musters too
		first   bool // and has the lower id
		refused bool
	}{
		"knows more":                     {more: -1, refused: true},
		"knows as much":                  {},
		"knows less":                     {more: 1},
		"knows more, and sees the proof": {more: -1, proof: true},
		"replays more, and sees a proof of the past": {proof: true, replays: true, refused: true},
		"replays less":                                 {more: 1, proof: true, replays: true},
		"musters too, and knows more":                  {more: -1, proof: true, own: true, refused: true},
		"musters too, and knows less":                  {more: 1, proof: true, own: true, first: true},
		"musters too, knows as much, has the first id": {proof: true, own: true, first: true, refused: true},
		"musters too, knows as much, has a later id":   {proof: true, own: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster()
			c.form("a", "b", "c")
			one, other := c.node("a"), c.node("b")
			if (one.peer.Compare(other.peer) < 0) != x.first {
				one, other = other, one
			}
			for i, n := range c.nodes {
				for _, o := range c.nodes[i+1:] {
					c.unbond(n, o, true)
				}
			}
			if !c.until(10*time.Second, func() bool { return one.eng.lead == 0 && other.eng.lead == 0 }) {
				t.Fatal("there is a leader without a majority")
			}
			c.bond(one, other)
			r := one.eng
			if x.proof {
				for _, n := range c.nodes {
					if n != one {
						r.tombs[n.eng.self] = "said farewell"
					}
				}
			}
			if x.own {
				r.callMuster(wire.Proven, []id.PeerID{other.peer}, nil)
			}
			var answer *wire.Standing
			c.watch = func(m wire.Message) {
				if s, is := m.(*wire.Standing); is {
					answer = s
				}
			}
			if x.replays {
				r.commits++
			}
			const round = 7
			r.Receive(c.now, other.peer, &wire.Muster{Genesis: r.genesis, Round: round, Reason: wire.Proven, Known: r.handed + uint64(x.more)})
			one.flush()
			if answer == nil || answer.Refused != x.refused {
				t.Fatalf("answers %+v", answer)
			}
			if still := r.recovery.sealed(c.now) && r.recovery.round == round; still == x.refused {
				t.Errorf("stands still for the other one: %v", still)
			}
			if musters := r.recovery.muster != nil; musters != (x.own && x.refused) {
				t.Errorf("musters: %v", musters)
			}
		})
	}
}

// A member that hears a leader knows that there is a majority, whatever it takes for proof of the contrary: it may be
// behind, and not know the voters of today. It calls no muster, nor stands still for one.
func TestFollowersDoNotMuster(t *testing.T) {
	t.Parallel()
	c := newCluster()
	c.form("a", "b", "c", "d")
	l := c.leader()
	f := c.followers()[0]
	for _, n := range c.nodes {
		if n != f {
			f.eng.tombs[n.eng.self] = "said farewell"
		}
	}
	f.eng.recovery.look = true
	musters := 0
	c.watch = func(m wire.Message) {
		if _, is := m.(*wire.Muster); is {
			musters++
		}
	}
	c.pass(10 * time.Second)
	if musters > 0 || f.eng.recovery.sealed(c.now) {
		t.Fatalf("%d musters, standing still: %v", musters, f.eng.recovery.sealed(c.now))
	}
	refused := false
	c.watch = func(m wire.Message) {
		if s, is := m.(*wire.Standing); is {
			refused = s.Refused
		}
	}
	f.eng.Receive(c.now, c.followers()[1].peer, &wire.Muster{Genesis: f.eng.genesis, Round: 1, Reason: wire.Proven})
	f.flush()
	if !refused || f.eng.recovery.sealed(c.now) || l.status.Role != RoleLeader {
		t.Fatalf("refused: %v, standing still: %v", refused, f.eng.recovery.sealed(c.now))
	}
}

// A member that has yet to go through its log, as after a restart, takes voters for dead that were replaced long ago. It does
// nothing about that before it knows who the voters are. Found by a fault run.
func TestNoMusterWhileReplaying(t *testing.T) {
	t.Parallel()
	c := newCluster()
	c.form("a", "b", "c")
	one := c.node("a")
	for _, n := range c.nodes {
		if n != one {
			c.unbond(one, n, true)
			one.eng.tombs[n.eng.self] = "said farewell"
		}
	}
	if !c.until(10*time.Second, func() bool { return one.eng.lead == 0 }) {
		t.Fatal("there is a leader without a majority")
	}
	r, genesis := one.eng, one.eng.genesis
	r.commits++ // as if there were more to go through
	c.pass(10 * time.Second)
	if r.genesis != genesis || r.recovery.muster != nil {
		t.Fatal("recovers the group while it goes through its log")
	}
	r.commits--
	if !c.until(10*time.Second, func() bool { return r.genesis != genesis }) {
		t.Fatal("does not recover the group")
	}
}

// A plan says that a recovery is needed only when one would be carried out: not while a leader that has just lost its
// majority still takes itself for one.
func TestPlanOfALeaderThatLostItsMajority(t *testing.T) {
	t.Parallel()
	c := newCluster()
	c.form("a", "b", "c")
	l := c.leader()
	ask := func(q *Question) Answer {
		l.eng.Ask(c.now, q)
		for _, a := range l.eng.due.answer {
			if a.Question == q {
				return a
			}
		}
		t.Fatal("no answer")
		return Answer{}
	}
	for _, n := range c.followers() {
		c.crash(n, true)
	}
	recovers := func() (needed, done bool) {
		plan := ask(&Question{Kind: AskPlan}).Plan
		return plan.Needed, ask(&Question{Kind: AskRecover, Plan: plan}).Failure == ""
	}
	if needed, done := recovers(); needed || done {
		t.Errorf("at once: needed: %v, carried out: %v", needed, done)
	}
	if !c.until(10*time.Second, func() bool { return l.eng.lead == 0 }) {
		t.Fatal("the leader does not step down")
	}
	if needed, done := recovers(); !needed || !done {
		t.Errorf("later: needed: %v, carried out: %v", needed, done)
	}
}
