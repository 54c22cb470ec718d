package member

import (
	"fmt"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTarget(t *testing.T) {
	t.Parallel()
	for n, want := range []int{0, 1, 2, 3, 3, 5, 5, 5, 5} {
		if got := Target(n, 5); got != want {
			t.Errorf("of %d members %d vote, want %d", n, got, want)
		}
	}
	for most, want := range map[int]int{1: 1, 2: 2, 3: 3, 4: 3, 6: 5, 7: 7} {
		if got := Target(9, most); got != want {
			t.Errorf("of 9 members, %d at most, %d vote, want %d", most, got, want)
		}
	}
}

// parse reads members: a letter each, capital for voters, with what is wrong after it.
//
//   - leads   ? not healthy   ! dead   - leaving   ~ behind   o observer
func parse(t *testing.T, text string) (all []State) {
	for _, f := range strings.Fields(text) {
		s := State{ID: uint64(f[0] | 0x20), Voter: f[0] < 'a', Healthy: true, CaughtUp: true}
		for _, c := range f[1:] {
			switch c {
			case '*':
				s.Leader = true
			case '?':
				s.Healthy = false
			case '!':
				s.Healthy, s.Dead = false, true
			case '-':
				s.Leaving = true
			case '~':
				s.CaughtUp = false
			case 'o':
				s.Observer = true
			default:
				t.Fatalf("%q in %q", c, text)
			}
		}
		all = append(all, s)
	}
	return all
}

// What is planned in situations that come up, with five voters at most.
func TestPlan(t *testing.T) {
	t.Parallel()
	for _, x := range []struct{ members, want string }{
		// Growing.
		{"A*", "none"},
		{"A* b", "promote b"},
		{"A* b~", "none"},
		{"A* b?", "none"},
		{"A* bo", "none"},
		{"A* B c", "promote c"},
		{"A* B C d", "none"},
		{"A* B C d e", "promote d"},
		{"A* B C D e", "promote e"},
		{"A* B C D E f g", "none"},
		{"A* B c d", "promote c"},
		// One that may fail at once must not cost the majority: {A, B, C, d} would need three.
		{"A* B C? d e", "none"},
		{"A* B C D? e f", "promote e"}, // three of five are there without it
		// Shrinking.
		{"A* B C D", "demote b"},
		{"A* B C D?", "demote d"},
		{"A* B? C D?", "none"},
		// The dead go first, and their place is taken afterwards.
		{"A* B C! d", "remove c"},
		{"A* B C!", "remove c"},
		{"A* B!", "none"},
		{"A* B! C!", "none"},
		{"A* B C D! E!", "remove d"},
		{"A* B C? D! E!", "none"},
		{"A* B? C D! E", "remove d"},
		{"A* b!", "remove b"},
		{"A* B? c!", "none"},
		// Who leaves while it is there goes after another has taken its place.
		{"A* B C- d", "promote d"},
		{"A* B C- D", "remove c"},
		{"A* B C-", "remove c"},
		{"A* B-", "remove b"},
		{"A* b-", "remove b"},
		{"A* B-?", "none"},
		{"A* B? C-", "none"}, // without C there would be one of two
		{"A* B? C- d", "none"},
		// A leader that leaves is not taken out by itself; somebody who can follow it gets a vote.
		{"A*- B C", "none"},
		{"A*- b c", "promote b"},
		{"A*-", "none"},
		{"A*- B- C", "remove b"},
	} {
		got := "none"
		if op, ok := Plan(parse(t, x.members), 5); ok {
			got = fmt.Sprintf("%s %c", map[OpKind]string{Promote: "promote", Demote: "demote", Remove: "remove"}[op.Kind], rune(op.Member.ID))
		}
		if got != x.want {
			t.Errorf("%s: %s, want %s", x.members, got, x.want)
		}
	}
}

// drawStates draws members with one leader.
func drawStates(t *rapid.T) (all []State) {
	n := rapid.IntRange(1, 9).Draw(t, "members")
	leader := rapid.IntRange(0, n-1).Draw(t, "leader")
	for i := range n {
		s := State{
			ID: uint64(i + 1), Leader: i == leader,
			Voter: rapid.Bool().Draw(t, "voter"), Observer: rapid.IntRange(0, 5).Draw(t, "observer") == 0,
			Healthy: rapid.IntRange(0, 3).Draw(t, "healthy") > 0, CaughtUp: rapid.IntRange(0, 3).Draw(t, "caught up") > 0,
			Leaving: rapid.IntRange(0, 4).Draw(t, "leaving") == 0, Dead: rapid.IntRange(0, 4).Draw(t, "dead") == 0,
		}
		if s.Leader {
			s.Voter, s.Healthy, s.CaughtUp, s.Dead = true, true, true, false
		}
		if s.Dead {
			s.Healthy = false
		}
		if s.Observer && !s.Leader {
			s.Voter = false
		}
		all = append(all, s)
	}
	return all
}

func count(all []State) (voters, healthy int) {
	for _, m := range all {
		if m.Voter {
			voters++
			if m.Healthy || m.Leader {
				healthy++
			}
		}
	}
	return voters, healthy
}

// carry changes the members as an operation says.
func carry(t *rapid.T, all []State, op Op) (out []State) {
	found := false
	for _, m := range all {
		if m.ID != op.Member.ID {
			out = append(out, m)
			continue
		}
		found = true
		switch op.Kind {
		case Promote:
			if m.Voter || m.Observer || !m.Healthy || !m.CaughtUp || m.Leaving || m.Dead {
				t.Fatalf("%+v is promoted", m)
			}
			m.Voter = true
		case Demote:
			if !m.Voter || m.Leader {
				t.Fatalf("%+v is demoted", m)
			}
			m.Voter = false
		case Remove:
			if m.Leader || !m.Leaving && !m.Dead {
				t.Fatalf("%+v is removed", m)
			}
			continue
		}
		out = append(out, m)
	}
	if !found {
		t.Fatalf("%+v is about nobody", op)
	}
	return out
}

// No change is planned without a healthy majority of voters, before and after it; following the plan ends, and if all who
// should be there are, it ends with the right number of voters and nobody that is gone.
func TestPlanIsSafeAndEnds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		all := drawStates(t)
		most := rapid.IntRange(1, 7).Draw(t, "most")
		well := true
		for _, m := range all {
			if !m.Leader && !m.Dead && (!m.Healthy || !m.CaughtUp) || m.Leaving && m.Leader || m.Observer && m.Voter {
				well = false
			}
		}
		_, first := count(all)
		voters, _ := count(all)
		steps := 3 * len(all)
		for step := 0; ; step++ {
			op, ok := Plan(all, most)
			if !ok {
				break
			}
			if step > steps {
				t.Fatalf("no end: %+v", all)
			}
			before, healthy := count(all)
			if healthy <= before/2 {
				t.Fatalf("%+v with %d of %d voters healthy", op, healthy, before)
			}
			all = carry(t, all, op)
			if after, healthy := count(all); after == 0 || healthy <= after/2 {
				t.Fatalf("%+v leaves %d of %d voters healthy", op, healthy, after)
			}
		}
		if !well || first <= voters/2 {
			return
		}
		got, _ := count(all)
		for _, m := range all {
			if m.Dead || m.Leaving {
				t.Fatalf("%+v is still there: %+v", m, all)
			}
		}
		if want := Target(staying(all), most); got != want {
			t.Fatalf("%d vote, want %d: %+v", got, want, all)
		}
		if !Calm(all, most) {
			t.Fatalf("nothing is to be done, and the members are not taken for well: %+v", all)
		}
	})
}

// A candidate that fails the moment it votes costs nobody the majority, unless all others were well.
func TestPromotionSurvivesTheCandidate(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		all := drawStates(t)
		op, ok := Plan(all, 7)
		if !ok || op.Kind != Promote {
			return
		}
		voters, healthy := count(all)
		if healthy < voters && healthy <= (voters+1)/2 {
			t.Fatalf("%+v is promoted with %d of %d voters healthy", op, healthy, voters)
		}
	})
}
