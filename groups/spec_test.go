package groups_test

import (
	"context"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/groups"
	"github.com/mosaik-go/mosaik/groups/logstore"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/testnet"
)

// Members of overlapping groups see exactly their own.
//
// spec: groups/bonds/members_can_see_each_other
func TestMembersSeeEachOther(t *testing.T) {
	t.Parallel()
	net := testnet.Loopback(t, 4)
	net.DiscoverAll(t.Context())
	members := [][]int{{0, 1}, {0, 2, 3}, {1, 2}}
	handles := make([]map[int]*counterGroup, len(members))
	for k, nodes := range members {
		key := groups.RandomKey()
		handles[k] = make(map[int]*counterGroup)
		for _, i := range nodes {
			handles[k][i] = join(t, net.Node(i), key)
		}
	}
	begin := time.Now()
	net.WaitFor("all bonds are up", func() bool {
		for k, nodes := range members {
			for _, i := range nodes {
				if len(handles[k][i].Bonds()) != len(nodes)-1 {
					return false
				}
			}
		}
		return true
	})
	t.Logf("bonding took %v", time.Since(begin))
	for k, nodes := range members {
		for _, i := range nodes {
			for _, b := range handles[k][i].Bonds() {
				other := net.IndexOf(b.Peer)
				if _, member := handles[k][other]; !member || other == i {
					t.Errorf("in group %d node %d has a bond to node %d", k, i, other)
				}
			}
		}
	}
}

// other is a counter with another signature.
type other struct{ counter }

func newOther() *other { return new(other) }

func (*other) Signature() id.ID { return id.Of("groups test other v1") }

// The group's id follows from key, machine and settings, and from nothing else.
//
// spec: groups/builder/group_id_derived_from_config
func TestGroupID(t *testing.T) {
	t.Parallel()
	net := testnet.Loopback(t, 2)
	key := groups.RandomKey()
	g0 := join(t, net.Node(0), key)
	g1 := join(t, net.Node(1), key, groups.WithStorage(logstore.Memory()), groups.WithPreference(groups.Reluctant))
	equal(t, "same key, machine and settings", g1.ID(), g0.ID())

	differ := map[string]*counterGroup{
		"other key":     join(t, net.Node(0), groups.RandomKey()),
		"other expect":  join(t, net.Node(0), key, groups.ExpectMembers(3)),
		"one ns longer": join(t, net.Node(0), key, groups.WithConsensus(groups.Consensus{Heartbeat: 500*time.Millisecond + 1})),
		"election":      join(t, net.Node(0), key, groups.WithConsensus(groups.Consensus{ElectionTimeout: 3 * time.Second})),
		"bootstrap":     join(t, net.Node(0), key, groups.WithConsensus(groups.Consensus{BootstrapDelay: 4 * time.Second})),
		"remove after":  join(t, net.Node(0), key, groups.WithConsensus(groups.Consensus{RemoveAfter: 11 * time.Second})),
		"max voters":    join(t, net.Node(0), key, groups.WithConsensus(groups.Consensus{MaxVoters: 3})),
	}
	seen := map[id.ID]string{g0.ID(): "the first"}
	for name, g := range differ {
		if before, dup := seen[g.ID()]; dup {
			t.Errorf("%q has the same id as %q", name, before)
		}
		seen[g.ID()] = name
	}
	m, err := groups.Join(net.Node(0), key, newOther)
	if err != nil {
		t.Fatal(err)
	}
	if m.ID() == g0.ID() {
		t.Error("another machine has the same id")
	}
	same := join(t, net.Node(0), key, groups.WithConsensus(groups.Consensus{Patience: time.Minute, Heartbeat: 500 * time.Millisecond}))
	equal(t, "defaults written out, and local settings", same.ID(), g0.ID())
}

// A follower feeds commands and gets their indices before they are applied.
//
// spec: groups/feed/smoke
func TestFeed(t *testing.T) {
	t.Parallel()
	_, g := team(t, 2)
	follower := g[0]
	if follower.IsLeader() {
		follower = g[1]
	}
	for want := groups.Index(1); want <= 2; want++ {
		got := must(t, patience, "feed", func(ctx context.Context) (groups.Index, error) {
			return follower.Feed(ctx, int64(want))
		})
		equal(t, "index", got, want)
	}
	got := must(t, patience, "feed many", func(ctx context.Context) (groups.Range, error) {
		return follower.FeedMany(ctx, 3, 4, 5)
	})
	equal(t, "range", got, groups.Range{First: 3, Last: 5})
	for _, g := range g {
		reaches(t, g, 5)
		equal(t, "committed", g.Committed(), 5)
		equal(t, "sum", query(t, g, groups.Weak).Value, 15)
	}
}

// The first member elects itself, later ones follow it, and when it is killed the others agree on another.
//
// spec: groups/leader/is_elected
func TestLeaderIsElected(t *testing.T) {
	t.Parallel()
	net := testnet.Loopback(t, 1)
	key := groups.RandomKey()
	g := []*counterGroup{join(t, net.Node(0), key)}
	if leader, ok := g[0].Leader(); ok {
		t.Fatalf("%s leads at once", leader.Short())
	}
	elected := func(i int, limit time.Duration) groups.PeerID {
		t.Helper()
		return must(t, limit, "a leader", g[i].When().LeaderElected)
	}
	equal(t, "alone, the leader is", elected(0, bootstrapLimit()), net.Node(0).ID())

	for i := 1; i <= 2; i++ {
		net.Add()
		net.DiscoverAll(t.Context())
		g = append(g, join(t, net.Node(i), key))
		equal(t, "the leader, as a later member sees it", elected(i, bootstrapLimit()), net.Node(0).ID())
		equal(t, "the leader, as it sees itself", g[0].IsLeader(), true)
	}
	term := g[0].Status().Term
	settled(t, g)
	equal(t, "term after two members joined", g[0].Status().Term, term)

	old := net.Node(0).ID()
	net.Kill(0)
	first := nextLeader(t, g[1], old, bootstrapLimit())
	equal(t, "the new leader, as both see it", nextLeader(t, g[2], old, bootstrapLimit()), first)
	if g[1].IsLeader() == g[2].IsLeader() {
		t.Errorf("node 1 leads: %v, node 2 leads: %v", g[1].IsLeader(), g[2].IsLeader())
	}

	net.Add()
	net.DiscoverAll(t.Context())
	g = append(g, join(t, net.Node(3), key))
	equal(t, "the leader, as the newest member sees it", elected(3, bootstrapLimit()), first)
}

// nextLeader waits until another one than the old leads.
func nextLeader(t *testing.T, g *counterGroup, old groups.PeerID, limit time.Duration) groups.PeerID {
	t.Helper()
	return must(t, limit, "a new leader", func(ctx context.Context) (groups.PeerID, error) {
		for {
			leader, err := g.When().LeaderElected(ctx)
			if err != nil || leader != old {
				return leader, err
			}
			// The old one is still believed in. LeaderChanged would miss a change before its call.
			brief, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
			leader, err = g.When().LeaderChanged(brief)
			cancel()
			if err == nil || ctx.Err() != nil {
				return leader, err
			}
		}
	})
}
