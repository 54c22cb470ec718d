package host

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/mosaik-go/mosaik/id"
)

// Whoever led which groups at first, nodes that act one after the other, in any order, come to rest soon, each with at most
// its part and the slack, and nobody gives anything away after that.
func TestBalance(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		nodes := make([]id.PeerID, rapid.IntRange(1, 7).Draw(t, "nodes"))
		for i := range nodes {
			nodes[i] = id.PeerID{byte(i + 1)}
		}
		seats := make([]seat, rapid.IntRange(0, 300).Draw(t, "groups"))
		pick := rapid.IntRange(0, len(nodes)-1)
		first := pick.Draw(t, "first")
		for i := range seats {
			leader := nodes[first]
			if rapid.Bool().Draw(t, "spread") {
				leader = nodes[pick.Draw(t, "leader")]
			}
			seats[i] = seat{leader: leader, voters: nodes, movable: true}
		}
		share := float64(len(seats)) / float64(len(nodes))
		still := 0
		for round := 0; still < len(nodes); round++ {
			if round > 500 {
				t.Fatal("they do not come to rest")
			}
			self := nodes[round%len(nodes)]
			moves := balance(self, seats)
			for _, m := range moves {
				if seats[m.seat].leader != self || m.to == self {
					t.Fatalf("%v gives away %v", self, m)
				}
				seats[m.seat].leader = m.to
			}
			if still++; len(moves) > 0 {
				still = 0
			}
		}
		leads := make(map[id.PeerID]int)
		for _, s := range seats {
			leads[s.leader]++
		}
		for _, n := range nodes {
			if float64(leads[n]) > share+max(balanceSlack, share/8)+0.5 {
				t.Errorf("%v leads %d groups, its part is %.1f", n, leads[n], share)
			}
		}
	})
}

// A node leaves few groups, those that may not be moved, and those that nobody else can lead, where they are.
func TestBalanceLeavesAlone(t *testing.T) {
	t.Parallel()
	a, b, c := id.PeerID{1}, id.PeerID{2}, id.PeerID{3}
	many := func(n int, s seat) (out []seat) {
		for range n {
			out = append(out, s)
		}
		return out
	}
	for name, seats := range map[string][]seat{
		"few groups":        many(6, seat{leader: a, voters: []id.PeerID{a, b, c}, movable: true}),
		"nothing movable":   many(60, seat{leader: a, voters: []id.PeerID{a, b, c}}),
		"nobody else":       many(60, seat{leader: a, voters: []id.PeerID{a}, movable: true}),
		"led by others":     many(60, seat{leader: b, voters: []id.PeerID{a, b, c}, movable: true}),
		"nothing known":     many(60, seat{}),
		"the successor too": append(many(20, seat{leader: a, voters: []id.PeerID{a, b}, movable: true}), many(20, seat{leader: b, voters: []id.PeerID{b, c}})...),
	} {
		if moves := balance(a, seats); len(moves) != 0 {
			t.Errorf("%s: %v", name, moves)
		}
	}
}
