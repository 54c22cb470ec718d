package groups_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mosaik-go/mosaik"
	"github.com/mosaik-go/mosaik/groups"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/testnet"
)

// The tests in this file show what docs/defects.md promises and no other test shows.

// journal is a machine that keeps all commands in their order.
type journal struct{ lines []string }

func newJournal() *journal { return new(journal) }

func (*journal) Signature() id.ID { return id.Of("groups test journal v1") }

func (j *journal) Apply(_ groups.ApplyContext, line string) string {
	j.lines = append(j.lines, line)
	return line
}

func (j *journal) Query(struct{}) string { return strings.Join(j.lines, " ") }

type journalGroup = groups.Group[string, struct{}, string]

// voting waits until so many vote, as all of the members see it.
func voting[C, Q, R any](t *testing.T, net *testnet.Net, voters int, gs []*groups.Group[C, Q, R]) {
	t.Helper()
	net.WaitUntil(fmt.Sprintf("%d members vote", voters), func() error {
		for i, g := range gs {
			if st := g.Status(); st.Voters != voters || !st.Online {
				return fmt.Errorf("node %d:\n%v", i, st)
			}
		}
		return nil
	})
}

// A leader that was cut off with entries that nobody else has acknowledges nothing and answers no strong read, notices by
// itself that it is alone, and gives up what it could not commit when it is back. Whatever tails several of them have
// gathered, all members end up with one journal, in which each acknowledged line stands once.
//
// defects: 1, 2, 4, 5, 10, 12, 14, 15
func TestTailsOfDeposedLeaders(t *testing.T) {
	simulated(t, 5, func(t *testing.T, net *testnet.Sim) {
		key := groups.RandomKey()
		var gs []*journalGroup
		for _, n := range net.Nodes() {
			g, err := groups.Join(n, key, newJournal, groups.WithConsensus(groups.Consensus{RemoveAfter: time.Hour}))
			if err != nil {
				t.Fatal(err)
			}
			gs = append(gs, g)
		}
		voting(t, net.Net, 5, gs)
		var acknowledged, doubtful []string
		for round := range 4 {
			l := slices.IndexFunc(gs, (*journalGroup).IsLeader)
			if l < 0 {
				t.Fatal("nobody leads")
			}
			if round%2 == 0 {
				net.Partition([]int{l})
			} else {
				net.Partition([]int{l, (l + 1) % 5})
			}
			var wg sync.WaitGroup
			for k := range 3 {
				line := fmt.Sprintf("%d-old-%d", round, k)
				doubtful = append(doubtful, line)
				wg.Go(func() {
					_, err := gs[l].Execute(t.Context(), line)
					if !errors.Is(err, groups.ErrOutcomeUnknown) && !errors.Is(err, groups.ErrNotApplied) {
						t.Errorf("the leader that was cut off executed %s: %v", line, err)
					}
				})
			}
			other := gs[(l+2)%5]
			within(t, 30*time.Second, "the majority goes on", func(ctx context.Context) error {
				line := fmt.Sprintf("%d-new", round)
				if _, err := other.Execute(ctx, line); err != nil {
					return err
				}
				acknowledged = append(acknowledged, line)
				return nil
			})
			if res, err := gs[l].Query(t.Context(), struct{}{}, groups.Strong); err == nil {
				t.Errorf("the leader that was cut off answered a strong read with %q", res.Value)
			}
			wg.Wait() // all of its calls end by themselves
			if st := gs[l].Status(); st.Online || st.Role == groups.Leader {
				t.Errorf("the leader that was cut off is still sure of itself:\n%v", st)
			}
			for k := range 2 {
				line := fmt.Sprintf("%d-new-%d", round, k)
				must(t, 30*time.Second, "execute", func(ctx context.Context) (groups.Result[string], error) { return other.Execute(ctx, line) })
				acknowledged = append(acknowledged, line)
			}
			net.Heal()
			voting(t, net.Net, 5, gs)
		}
		var first []string
		for i, g := range gs {
			res := must(t, time.Minute, "strong read", func(ctx context.Context) (groups.Result[string], error) {
				return g.Query(ctx, struct{}{}, groups.Strong)
			})
			lines := strings.Fields(res.Value)
			if i == 0 {
				first = lines
			}
			if !slices.Equal(lines, first) {
				t.Fatalf("node %d has %v, node 0 has %v", i, lines, first)
			}
		}
		seen := make(map[string]int)
		for _, line := range first {
			seen[line]++
		}
		for _, line := range acknowledged {
			if seen[line] != 1 {
				t.Errorf("%s was acknowledged and stands %d times in %v", line, seen[line], first)
			}
		}
		for _, line := range doubtful {
			if seen[line] > 1 {
				t.Errorf("%s stands %d times", line, seen[line])
			}
		}
	})
}

// A member that was alone for a long time neither deposes the leader when it is back nor makes anybody else's term rise: it
// has asked for votes, and got none.
//
// defects: 2
func TestReturningMemberDisturbsNobody(t *testing.T) {
	simulated(t, 3, func(t *testing.T, net *testnet.Sim) {
		gs := joinAll(t, net.Net, groups.RandomKey(), groups.WithConsensus(groups.Consensus{RemoveAfter: time.Hour}))
		l := leaderOf(t, gs)
		away := (l + 1) % 3
		before := gs[l].Status()
		changes := watch(t, gs[l], groups.LeaderChanged)
		net.Isolate(away)
		for range 5 {
			time.Sleep(30 * time.Second)
			execute(t, gs[l], 1)
		}
		net.Heal()
		within(t, time.Minute, "online", gs[away].When().Online)
		within(t, time.Minute, "caught up", ctxArg(gs[away].When().Committed().Reaches, 5))
		time.Sleep(time.Minute)
		if after := gs[l].Status(); after.Term != before.Term || after.Leader != before.Leader || len(changes()) > 0 {
			t.Errorf("term %d became %d, leader changes: %v", before.Term, after.Term, changes())
		}
	})
}

// With two members both vote, so what is acknowledged is on both: neither of them alone commits anything.
//
// defects: 17
func TestTwoMembersBothVote(t *testing.T) {
	simulated(t, 2, func(t *testing.T, net *testnet.Sim) {
		gs := joinAll(t, net.Net, groups.RandomKey(), groups.WithConsensus(groups.Consensus{RemoveAfter: time.Hour}))
		equal(t, "voters", gs[0].Status().Voters, 2)
		net.Partition([]int{0})
		for i, g := range gs {
			if _, err := g.Execute(t.Context(), 1); err == nil {
				t.Errorf("node %d committed alone", i)
			}
		}
	})
}

// MaxVoters says how many members vote, whatever their number; one that is lost is replaced by one that stood by.
//
// defects: 17
func TestVotersAreChosenAndReplaced(t *testing.T) {
	simulated(t, 5, func(t *testing.T, net *testnet.Sim) {
		key := groups.RandomKey()
		var gs []*counterGroup
		for _, n := range net.Nodes() {
			gs = append(gs, join(t, n, key, groups.WithConsensus(groups.Consensus{MaxVoters: 3})))
		}
		net.WaitFor("five members", func() bool {
			return !slices.ContainsFunc(gs, func(g *counterGroup) bool { return len(g.Members()) != 5 || g.Status().Voters != 3 })
		})
		var victim int
		for _, m := range gs[0].Members() {
			if i := net.IndexOf(m.Peer); m.Voter && i != 0 {
				victim = i
			}
		}
		lost := net.Node(victim).ID()
		net.Kill(victim)
		left := append(slices.Clone(gs[:victim]), gs[victim+1:]...)
		net.WaitFor("another one votes", func() bool {
			return !slices.ContainsFunc(left, func(g *counterGroup) bool {
				votes := 0
				for _, m := range g.Members() {
					if m.Voter && m.Peer != lost {
						votes++
					}
				}
				return votes != 3
			})
		})
	})
}

// Members that send each other large commands at the same time over a slow line neither block each other nor take each other for
// dead.
//
// defects: 29
func TestLargeCommandsBothWays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		net := testnet.Simulated(t, 3, testnet.Links(testnet.Link{Delay: 5 * time.Millisecond, Bandwidth: 4 << 20}))
		net.DiscoverAll(t.Context())
		key := groups.RandomKey()
		var gs []*journalGroup
		for _, n := range net.Nodes() {
			g, err := groups.Join(n, key, newJournal, groups.WithConsensus(groups.Consensus{Patience: 2 * time.Minute}))
			if err != nil {
				t.Fatal(err)
			}
			gs = append(gs, g)
		}
		voting(t, net.Net, 3, gs)
		term := gs[0].Status().Term
		var reports []func() []groups.Event
		for _, g := range gs {
			reports = append(reports, watch(t, g, groups.BondDown, groups.LeaderChanged))
		}
		var wg sync.WaitGroup
		big := strings.Repeat("x", 900<<10)
		for i, g := range gs {
			for range 6 {
				wg.Go(func() {
					if _, err := g.Execute(t.Context(), big); err != nil {
						t.Errorf("node %d: %v", i, err)
					}
				})
			}
		}
		wg.Wait()
		for i, r := range reports {
			if evs := r(); len(evs) > 0 {
				t.Errorf("node %d saw %v", i, evs)
			}
		}
		equal(t, "term", gs[0].Status().Term, term)
	})
}

// Groups are joined and left on both nodes at the same time, by many goroutines, some of them for the same groups. Nothing
// waits for anything else.
//
// defects: 23, 25, 31
func TestJoinsAndLeavesAtOnce(t *testing.T) {
	t.Parallel()
	net := testnet.Loopback(t, 2)
	net.DiscoverAll(t.Context())
	keys := make([]groups.Key, 4)
	for i := range keys {
		keys[i] = groups.RandomKey()
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	for worker := range 8 {
		node := net.Node(worker % 2)
		wg.Go(func() {
			for round := range 6 {
				g, err := groups.Join(node, keys[(worker+round)%len(keys)], newCounter, quick)
				if err != nil {
					t.Errorf("join: %v", err)
					return
				}
				if round%3 == 0 {
					if err := g.When().Online(ctx); err != nil {
						t.Errorf("online: %v\n%v", err, g.Status())
					}
				}
				if round%2 == 0 {
					g.Query(ctx, struct{}{}, groups.Weak)
				}
				if err := g.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			}
		})
	}
	wg.Wait()
	for i, n := range net.Nodes() {
		if own := n.Discovery().Me().Groups(); len(own) > 0 {
			t.Errorf("node %d still advertises %d groups", i, len(own))
		}
	}
	for _, n := range net.Nodes() { // and all still works
		g := join(t, n, keys[0], quick)
		within(t, bootstrapLimit(), "online", g.When().Online)
	}
}

// What a member says of itself and of the leader is current: a follower knows that it has lost its leader, and is online again
// with the next one; waiting for a leader is not answered with none; and changes of the leader are counted, not its heartbeats.
//
// defects: 33
func TestStatusIsCurrent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		net := testnet.Simulated(t, 0)
		reg := prometheus.NewRegistry()
		for range 3 {
			r := prometheus.NewRegistry()
			if net.Len() == 0 {
				r = reg
			}
			net.Add(mosaik.WithMetrics(r))
		}
		net.DiscoverAll(t.Context())
		gs := joinAll(t, net.Net, groups.RandomKey())
		for _, g := range gs {
			if g.Status().Role != groups.Leader {
				within(t, time.Second, "follows", g.When().IsFollower)
			}
		}
		if l := leaderOf(t, gs); l == 0 {
			within(t, 10*time.Second, "transfer", ctxArg(gs[0].LeadershipTransfer, net.Node(1).ID()))
		}
		within(t, time.Second, "follows", gs[0].When().IsFollower)
		before := metric(t, reg, "mosaik_groups_raft_leader_changes")
		time.Sleep(10 * time.Minute) // more than a thousand heartbeats
		if after := metric(t, reg, "mosaik_groups_raft_leader_changes"); after != before || before < 1 {
			t.Errorf("%v changes of the leader after %v", after, before)
		}

		// Two are cut off, so that no other leader comes: the one that is left says so, soon, and follows nobody.
		net.Isolate(0)
		begin := time.Now()
		within(t, 10*time.Second, "offline", gs[0].When().Offline)
		t.Logf("offline after %v", time.Since(begin))
		if leader, ok := gs[0].Leader(); ok {
			t.Errorf("it believes that %s leads", leader.Short())
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := gs[0].When().IsFollower(ctx); err == nil {
			t.Error("it follows nobody, and says that it follows")
		}
		for i := range int64(5) {
			execute(t, gs[1], i)
		}
		net.Heal()
		within(t, time.Minute, "online", gs[0].When().Online)
		last := must(t, time.Second, "execute", func(ctx context.Context) (groups.Result[int64], error) { return gs[0].Execute(ctx, 1) })
		equal(t, "index of its own command", last.Index, 6)
		equal(t, "commands", gs[0].Status().Committed, 6)
	})
}

// metric returns the sum of the values of a counter or gauge.
func metric(t *testing.T, reg *prometheus.Registry, name string) (sum float64) {
	t.Helper()
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, f := range all {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
				found = true
			}
		}
	}
	if !found {
		t.Fatalf("no metric %s", name)
	}
	return sum
}
