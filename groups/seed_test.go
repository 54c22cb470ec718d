package groups_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/groups"
	"github.com/mosaik-go/mosaik/testnet"
)

// trio brings up a group as the first two scenarios want it: node 0 founds it alone and leads, nodes 1 and 2 join later
// with nothing to catch up on.
func trio(t *testing.T) (*testnet.Net, []*counterGroup) {
	t.Helper()
	net := testnet.Loopback(t, 1)
	key := groups.RandomKey()
	g := []*counterGroup{join(t, net.Node(0), key)}
	leads := func(i int) {
		t.Helper()
		within(t, bootstrapLimit(), "online", g[i].When().Online)
		leader, ok := g[i].Leader()
		equal(t, "has a leader", ok, true)
		equal(t, "leader", leader, net.Node(0).ID())
		equal(t, "committed", g[i].Committed(), 0)
	}
	leads(0)
	net.Add()
	net.Add()
	net.DiscoverAll(t.Context())
	g = append(g, join(t, net.Node(1), key), join(t, net.Node(2), key))
	equal(t, "id of the second", g[1].ID(), g[0].ID())
	equal(t, "id of the third", g[2].ID(), g[0].ID())
	leads(1)
	leads(2)
	return net, g
}

// Commands from the leader and from followers, weak reads everywhere, and the same after the leader is gone.
//
// spec: groups/execute/no_catchup_weak_query
func TestSeedWeakQuery(t *testing.T) {
	t.Parallel()
	net, g := trio(t)

	execute(t, g[0], 3)
	execute(t, g[0], 4)
	equal(t, "committed on the leader", g[0].Committed(), 2)
	equal(t, "strong on the leader", query(t, g[0], groups.Strong).Value, 7)
	for i := 1; i <= 2; i++ {
		reaches(t, g[i], 2)
		equal(t, "committed on a follower", g[i].Committed(), 2)
		equal(t, "weak on a follower", query(t, g[i], groups.Weak).Value, 7)
	}

	res := execute(t, g[1], -2)
	equal(t, "index of the follower's command", res.Index, 3)
	equal(t, "result of the follower's command", res.Value, 5)
	// What node 1 has applied says nothing about the others: wait for each.
	for i := range g {
		reaches(t, g[i], 3)
		equal(t, "weak everywhere", query(t, g[i], groups.Weak).Value, 5)
	}

	old := net.Node(0).ID()
	net.Close(0)
	equal(t, "the new leader, as the two see it", nextLeader(t, g[1], old, bootstrapLimit()), nextLeader(t, g[2], old, bootstrapLimit()))

	first := must(t, patience, "batch on node 1", func(ctx context.Context) (groups.Batch[int64], error) {
		return g[1].ExecuteMany(ctx, 10, -2, 3)
	})
	equal(t, "end of the first batch", first.Range.Last, 6)
	second := must(t, patience, "batch on node 2", func(ctx context.Context) (groups.Batch[int64], error) {
		return g[2].ExecuteMany(ctx, 20, -4, -1)
	})
	equal(t, "second batch", second.Range, groups.Range{First: 7, Last: 9})
	equal(t, "last result of the second batch", second.Values[2], 31)
	for i := 1; i <= 2; i++ {
		reaches(t, g[i], second.Range.Last)
		equal(t, "committed at the end", g[i].Committed(), 9)
		equal(t, "weak at the end", query(t, g[i], groups.Weak).Value, 31)
	}
}

// Strong reads on the leader and on a follower see what was committed, and at which index.
//
// spec: groups/execute/no_catchup_strong_query
func TestSeedStrongQuery(t *testing.T) {
	t.Parallel()
	_, g := trio(t)
	execute(t, g[0], 3)
	execute(t, g[0], 4)
	reaches(t, g[1], 2)
	equal(t, "committed on the leader", g[0].Committed(), 2)

	strong := groups.Result[int64]{Value: 7, Index: 2}
	equal(t, "strong on the leader", query(t, g[0], groups.Strong), strong)
	equal(t, "weak on the follower", query(t, g[1], groups.Weak), strong)
	equal(t, "strong on the follower", query(t, g[1], groups.Strong), strong)

	// A strong read on a follower costs a round trip to the leader more than one on the leader, and a weak one costs
	// none at all. Single measurements are noise; the fastest of many are not.
	fastest := func(best time.Duration, g *counterGroup, c groups.Consistency) time.Duration {
		for range 30 {
			begin := time.Now()
			query(t, g, c)
			best = min(best, time.Since(begin))
		}
		return best
	}
	onLeader, onFollower, weak := time.Hour, time.Hour, time.Hour
	for begin := time.Now(); onFollower <= onLeader || onFollower <= weak; {
		if onLeader < time.Hour && time.Since(begin) > patience {
			t.Fatalf("strong on the follower took %v, on the leader %v, weak %v", onFollower, onLeader, weak)
		}
		leader, follower := g[0], g[1]
		if follower.IsLeader() { // a busy machine can make another one lead
			leader, follower = follower, leader
		}
		onLeader = fastest(onLeader, leader, groups.Strong)
		onFollower = fastest(onFollower, follower, groups.Strong)
		weak = fastest(weak, follower, groups.Weak)
	}
}

// pair brings up a group of two.
func pair(t *testing.T) []*counterGroup {
	t.Helper()
	_, g := team(t, 2)
	return g
}

// Concurrent single commands from both members are all applied.
//
// spec: groups/execute/execute_is_send_sync_via_joinset
func TestSeedConcurrentExecute(t *testing.T) {
	t.Parallel()
	g := pair(t)
	var wg sync.WaitGroup
	for i := range int64(5) {
		for member, amount := range []int64{1 + i, 10 + i} {
			wg.Go(func() {
				if _, err := g[member].Execute(t.Context(), amount); err != nil {
					t.Errorf("member %d, amount %d: %v", member, amount, err)
				}
			})
		}
	}
	wg.Wait()
	for _, g := range g {
		reaches(t, g, 10)
		equal(t, "sum", query(t, g, groups.Weak).Value, 75)
	}
}

// Concurrent batches from both members are all applied, each in one piece.
//
// spec: groups/execute/execute_many_is_send_sync_via_joinset
func TestSeedConcurrentExecuteMany(t *testing.T) {
	t.Parallel()
	g := pair(t)
	var wg sync.WaitGroup
	for _, job := range []struct {
		member int
		batch  []int64
	}{
		{0, []int64{1, 2, 3}}, {0, []int64{-1, 5}}, {1, []int64{10, 20}}, {1, []int64{-5, 15}},
	} {
		wg.Go(func() {
			res, err := g[job.member].ExecuteMany(t.Context(), job.batch...)
			if err != nil {
				t.Errorf("member %d, batch %v: %v", job.member, job.batch, err)
				return
			}
			if res.Range.Len() != len(job.batch) || len(res.Values) != len(job.batch) {
				t.Errorf("batch %v got range %v and values %v", job.batch, res.Range, res.Values)
				return
			}
			for i := 1; i < len(job.batch); i++ {
				if res.Values[i] != res.Values[i-1]+job.batch[i] {
					t.Errorf("something came between the commands of batch %v: %v", job.batch, res.Values)
				}
			}
		})
	}
	wg.Wait()
	for _, g := range g {
		reaches(t, g, 9)
		equal(t, "sum", query(t, g, groups.Weak).Value, 50)
	}
}

// Concurrent queries of both kinds on both members agree.
//
// spec: groups/execute/query_is_send_sync_via_joinset
func TestSeedConcurrentQueries(t *testing.T) {
	t.Parallel()
	g := pair(t)
	execute(t, g[0], 10)
	execute(t, g[0], 20)
	reaches(t, g[1], 2)
	var wg sync.WaitGroup
	for range 3 {
		for _, c := range []groups.Consistency{groups.Weak, groups.Strong} {
			for member := range g {
				wg.Go(func() {
					res, err := g[member].Query(t.Context(), struct{}{}, c)
					if err != nil || res.Value != 30 {
						t.Errorf("%v query on member %d: %v, %v", c, member, res.Value, err)
					}
				})
			}
		}
	}
	wg.Wait()
}
