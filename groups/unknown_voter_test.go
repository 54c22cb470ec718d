package groups_test

import (
	"context"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/groups"
	"github.com/mosaik-go/mosaik/testnet"
)

// unknownVoter makes a group of two voters, of which the first is cut off when it has the promotion of a third in its log and
// does not know that it is committed. The other two, of three, then acknowledge the command 7.
func unknownVoter(t *testing.T, net *testnet.Sim, key groups.Key) (first *counterGroup) {
	t.Helper()
	a, b := join(t, net.Node(0), key), join(t, net.Node(1), key)
	within(t, time.Minute, "the first is online", a.When().Online)
	within(t, time.Minute, "the second is online", b.When().Online)
	settled(t, []*counterGroup{a, b})
	if !b.IsLeader() {
		if err := b.LeadershipTransfer(t.Context(), net.Node(1).ID()); err != nil {
			t.Fatal(err)
		}
	}
	net.SetLinks(testnet.Link{Delay: 50 * time.Millisecond})
	join(t, net.Node(2), key)
	for b.Status().Voters != 3 {
		time.Sleep(time.Millisecond)
	}
	net.Isolate(0)
	if n := a.Status().Voters; n != 2 {
		t.Fatalf("the first knows %d voters, want 2: the test shows nothing", n)
	}
	must(t, 20*time.Second, "execute", func(ctx context.Context) (groups.Result[int64], error) { return b.Execute(ctx, 7) })
	return a
}

// A plan does not promise that nothing can be missing while there may be voters that nobody here knows of.
func TestPlanWithUnknownVoter(t *testing.T) {
	simulated(t, 3, func(t *testing.T, net *testnet.Sim) {
		a := unknownVoter(t, net, groups.RandomKey())
		net.PowerOff(1)
		net.PowerOff(2)
		time.Sleep(10 * time.Second)
		p, err := a.RecoveryPlan(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !p.Needed || p.Lossless {
			t.Errorf("the plan says that nothing is missing:\n%v", p)
		}
	})
}

// Nor does the lineage of a member that went on by itself.
func TestForkWithUnknownVoter(t *testing.T) {
	simulated(t, 3, func(t *testing.T, net *testnet.Sim) {
		key := groups.RandomKey()
		a := unknownVoter(t, net, key)
		net.Kill(1)
		net.Kill(2)
		net.Heal()
		net.Restart(1)
		net.Restart(2)
		net.DiscoverAll(t.Context())
		join(t, net.Node(1), key)
		join(t, net.Node(2), key)
		within(t, 2*time.Minute, "online", a.When().Online)
		net.WaitFor("the lineage says that something may be missing", func() bool {
			l := a.Status().Lineage
			return len(l) == 1 && l[0].How == groups.ForkedByProof && l[0].Lossy
		})
	})
}
