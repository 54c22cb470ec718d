package groups_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/groups"
	"github.com/mosaik-go/mosaik/testnet"
)

// rivals returns nodes that do not know each other, each of which has founded the group and executed as many commands as
// said.
func rivals(t *testing.T, commands []int, opts ...groups.Option) (*testnet.Net, []*counterGroup) {
	t.Helper()
	net := testnet.Loopback(t, len(commands), testnet.Patience(2*time.Minute))
	key := groups.RandomKey()
	var gs []*counterGroup
	for i := range commands {
		gs = append(gs, join(t, net.Node(i), key, opts...))
	}
	for i, g := range gs {
		within(t, bootstrapLimit(), "self-election", g.When().IsLeader)
		for k := range commands[i] {
			execute(t, g, int64(100*i+k+1))
		}
	}
	return net, gs
}

// meet lets the nodes of a network know of each other.
func meet(t testing.TB, net *testnet.Net) {
	t.Helper()
	for i, n := range net.Nodes() {
		for _, o := range net.Nodes()[i+1:] {
			if err := n.Discovery().Dial(t.Context(), o.Addr()); err != nil {
				t.Log(err) // what matters is that they know each other in the end
			}
		}
	}
	net.WaitFor("all know each other", func() bool {
		for _, n := range net.Nodes() {
			if n.Discovery().Catalog().Len() != net.Len()-1 {
				return false
			}
		}
		return true
	})
}

// oneLeader waits until all report the same leader.
func oneLeader(t *testing.T, gs []*counterGroup, limit time.Duration) groups.PeerID {
	t.Helper()
	begin := time.Now()
	for {
		leader, ok := gs[0].Leader()
		same := ok
		for _, g := range gs {
			l, _ := g.Leader()
			same = same && l == leader && g.Status().Online && g.Status().Genesis == gs[0].Status().Genesis
		}
		if same {
			t.Logf("one leader after %v", time.Since(begin))
			return leader
		}
		if time.Since(begin) > limit {
			for _, g := range gs {
				t.Log(g.Status())
			}
			t.Fatalf("no common leader within %v", limit)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// Three nodes that founded the group apart from each other, without doing anything in it, agree when they meet.
//
// spec: groups/leader/rivals_with_same_log_pos
func TestRivalsWithSameLogPos(t *testing.T) {
	t.Parallel()
	net, gs := rivals(t, []int{0, 0, 0})
	meet(t, net)
	oneLeader(t, gs, patience)
	for i, g := range gs {
		res := execute(t, g, 1)
		equal(t, "index", res.Index, groups.Index(i+1))
	}
}

// Three nodes that founded the group apart from each other follow the one that did most, and nothing is lost.
//
// spec: groups/leader/rivals_with_different_log_pos
func TestRivalsWithDifferentLogPos(t *testing.T) {
	t.Parallel()
	net, gs := rivals(t, []int{3, 1, 0})
	events := gs[0].Events(t.Context())
	reverted := make(chan error, 1)
	watch := gs[1].When().Committed()
	go func() { _, err := watch.Reverted(t.Context()); reverted <- err }()
	meet(t, net)
	equal(t, "leader", oneLeader(t, gs, patience), net.Node(0).ID())
	for _, g := range gs {
		reaches(t, g, 4)
		equal(t, "sum", query(t, g, groups.Strong).Value, 1+2+3+101)
		equal(t, "committed", g.Committed(), 4)
	}
	within(t, patience, "reverted", func(ctx context.Context) error {
		select {
		case err := <-reverted:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	merged := 0
	for ev := range events {
		if ev.Kind == groups.Merged {
			merged++
			equal(t, "into", ev.Into, gs[0].Status().Genesis)
		}
		if merged == 2 {
			break
		}
	}
	eventually(t, "two ancestors", func() bool { return len(gs[2].Status().Lineage) >= 2 })
	lineage := gs[2].Status().Lineage
	equal(t, "histories that were merged", len(lineage), 2)
	commands := lineage[0].Commands + lineage[1].Commands
	equal(t, "their commands", commands, 1)
}

// Calls that are made all through a merge neither fail nor get lost, repeated or reordered.
func TestMergeUnderLoad(t *testing.T) {
	t.Parallel()
	const nodes, senders = 4, 3
	net := testnet.Loopback(t, nodes, testnet.Patience(3*time.Minute))
	key := groups.RandomKey()
	var gs []*groups.Group[step, struct{}, uint64]
	for i := range nodes {
		g, err := groups.Join(net.Node(i), key, newLedger, quick)
		if err != nil {
			t.Fatal(err)
		}
		gs = append(gs, g)
		within(t, bootstrapLimit(), "online", g.When().IsLeader)
	}
	var acked atomic.Uint64
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var wg sync.WaitGroup
	for n := range nodes {
		for s := range senders {
			wg.Go(func() {
				for number := uint64(1); ctx.Err() == nil; number++ {
					if _, err := gs[n].Execute(context.Background(), step{n*senders + s, number}); err != nil {
						t.Errorf("node %d: %v", n, err)
						return
					}
					acked.Add(1)
					time.Sleep(5 * time.Millisecond) // so that a busy machine gets to the merge, too
				}
			})
		}
	}
	meet(t, net)
	begin := time.Now()
	net.WaitUntil("one history", func() error {
		for i, g := range gs {
			if st := g.Status(); !st.Online || st.Genesis != gs[0].Status().Genesis || len(st.Members) != nodes {
				return fmt.Errorf("node %d:\n%v", i, st)
			}
		}
		return nil
	})
	t.Logf("one history after %v", time.Since(begin))
	before := acked.Load()
	net.WaitFor("calls go on", func() bool { return acked.Load() > before+200 })
	stop()
	wg.Wait()
	for n, g := range gs {
		res := must(t, patience, "strong read", func(ctx context.Context) (groups.Result[uint64], error) {
			return g.Query(ctx, struct{}{}, groups.Strong)
		})
		if res.Value != acked.Load() || res.Index != groups.Index(res.Value) {
			t.Errorf("node %d has %d commands at index %d, %d were acknowledged", n, res.Value, res.Index, acked.Load())
		}
	}
	t.Logf("%d commands", acked.Load())
}

// With MergeSurface the commands of the history that gives way are handed to the application instead.
func TestMergeSurface(t *testing.T) {
	t.Parallel()
	net, gs := rivals(t, []int{3, 2}, quick, groups.MergeSurface())
	from := gs[1].Status().Genesis
	events := gs[1].Events(t.Context())
	meet(t, net)
	oneLeader(t, gs, patience)
	equal(t, "sum", query(t, gs[1], groups.Strong).Value, 1+2+3)
	for ev := range events {
		if ev.Kind == groups.Diverged {
			equal(t, "commands in the event", ev.Commands, 2)
			break
		}
	}
	all := gs[1].Divergences()
	equal(t, "divergences", len(all), 1)
	if d := all[0]; d.From != from || d.Into != gs[0].Status().Genesis || d.First != 1 || !slices.Equal(d.Commands, []int64{101, 102}) {
		t.Errorf("divergence %+v", d)
	}
	equal(t, "divergences of the other", len(gs[0].Divergences()), 0)
	// The session of the one that changed history goes on with a new number.
	equal(t, "sum after another command", execute(t, gs[1], 10).Value, 16)
}

// With MergeFunc the application says what is proposed instead.
func TestMergeFunc(t *testing.T) {
	t.Parallel()
	negate := groups.MergeFunc(func(d groups.Divergence[int64]) []int64 {
		var out []int64
		for _, c := range d.Commands {
			out = append(out, -c)
		}
		return out
	})
	net, gs := rivals(t, []int{3, 2}, quick, negate)
	meet(t, net)
	oneLeader(t, gs, patience)
	equal(t, "sum", query(t, gs[1], groups.Strong).Value, 1+2+3-101-102)
	equal(t, "commands", query(t, gs[0], groups.Strong).Index, 5)
	equal(t, "divergences", len(gs[1].Divergences()), 1)

	_, err := groups.Join(net.Node(0), groups.RandomKey(), newCounter, groups.MergeFunc(func(groups.Divergence[string]) []string { return nil }))
	wantError(t, err, groups.ErrTypeMismatch)
}

// A policy is part of the group's id, so that members never differ in it.
func TestPolicyInGroupID(t *testing.T) {
	t.Parallel()
	net := testnet.Loopback(t, 1)
	key := groups.RandomKey()
	plain := join(t, net.Node(0), key, groups.MergeRepropose())
	for name, opt := range map[string]groups.Option{
		"surface":   groups.MergeSurface(),
		"available": groups.AvailabilityFirst(10 * time.Second),
	} {
		if g := join(t, net.Node(0), key, opt); g.ID() == plain.ID() {
			t.Errorf("%s: same id", name)
		}
	}
	_, err := groups.Join(net.Node(0), key, newCounter, groups.AvailabilityFirst(time.Millisecond))
	if err == nil {
		t.Error("an availability delay below the election timeout was accepted")
	}
}

// apart joins all nodes of a network without waiting for anything.
func apart(t *testing.T, net *testnet.Sim, opts ...groups.Option) []*counterGroup {
	t.Helper()
	key := groups.RandomKey()
	var gs []*counterGroup
	for _, n := range net.Nodes() {
		gs = append(gs, join(t, n, key, opts...))
	}
	return gs
}

// With five members expected, three that see each other found the group and two do not, and the two join when they are
// let.
func TestFoundingBallot(t *testing.T) {
	simulated(t, 5, func(t *testing.T, net *testnet.Sim) {
		net.DiscoverAll(t.Context())
		net.Partition([]int{0, 1, 2}, []int{3, 4})
		gs := apart(t, net, groups.ExpectMembers(5))
		for _, g := range gs[:3] {
			within(t, time.Minute, "online", g.When().Online)
		}
		st := gs[0].Status()
		equal(t, "founders that vote", st.Voters, 3)
		time.Sleep(time.Minute)
		for _, g := range gs[3:] {
			st := g.Status()
			if st.Online || st.Genesis != "" || !contains(st.Reason, "3 of 5 expected members") {
				t.Fatalf("the minority:\n%v", st)
			}
		}
		net.Heal()
		for _, g := range gs {
			within(t, time.Minute, "online", g.When().Online)
			equal(t, "history", g.Status().Genesis, st.Genesis)
		}
	})
}

// Five rivals, each with commands of their own, become one history with all of them.
func TestFiveRivals(t *testing.T) {
	simulated(t, 5, func(t *testing.T, net *testnet.Sim) {
		net.DiscoverAll(t.Context())
		net.Partition([]int{0}, []int{1}, []int{2}, []int{3}, []int{4})
		gs := apart(t, net)
		want := int64(0)
		for i, g := range gs {
			within(t, 5*time.Minute, "self-election", g.When().IsLeader)
			for k := range i {
				want += int64(10*i + k)
				must(t, time.Minute, "execute", func(ctx context.Context) (groups.Result[int64], error) {
					return g.Execute(ctx, int64(10*i+k))
				})
			}
		}
		net.Heal()
		begin := time.Now()
		net.WaitUntil("one history", func() error {
			for i, g := range gs {
				if st := g.Status(); !st.Online || len(st.Members) != 5 {
					return fmt.Errorf("node %d:\n%v", i, st)
				}
			}
			return nil
		})
		t.Logf("one history after %v", time.Since(begin))
		for _, g := range gs {
			res, err := g.Query(t.Context(), struct{}{}, groups.Strong)
			if err != nil || res.Value != want || res.Index != 10 {
				t.Errorf("%+v, %v, want %d at 10", res, err, want)
			}
		}
		if err := gs[0].LeadershipTransfer(t.Context(), gs[0].Status().Members[0].Peer); err != nil && errors.Is(err, groups.ErrClosed) {
			t.Error(err)
		}
	})
}
