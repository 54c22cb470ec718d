package groups_test

import (
	"context"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/groups"
	"github.com/mosaik-go/mosaik/testnet"
)

// Two members without durable logs: one is killed and comes back, and the group goes on by itself, with everything that
// was acknowledged and without a new beginning on the one that stayed.
func TestOneOfTwoRestarts(t *testing.T) {
	t.Parallel()
	for _, leader := range []bool{false, true} {
		name := "follower"
		if leader {
			name = "leader"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			key := groups.RandomKey()
			net, gs := teamOf(t, 2, key, unshaken)
			settled(t, gs)
			for i := range 10 {
				execute(t, gs[i%2], 1)
			}
			victim := 0
			if gs[0].IsLeader() != leader {
				victim = 1
			}
			stays := gs[1-victim]
			before := stays.Status()
			events := stays.Events(t.Context())
			net.Kill(victim)
			begin := time.Now()
			net.Restart(victim)
			meet(t, net)
			back := join(t, net.Node(victim), key, unshaken)
			res := must(t, patience, "execute on the one that stayed", func(ctx context.Context) (groups.Result[int64], error) {
				return stays.Execute(ctx, 1)
			})
			t.Logf("goes on after %v", time.Since(begin))
			equal(t, "sum", res.Value, 11)
			equal(t, "index", res.Index, 11)
			within(t, patience, "online", back.When().Online)
			reaches(t, back, 11)
			equal(t, "sum on the one that came back", query(t, back, groups.Strong).Value, 11)
			st := stays.Status()
			if st.Genesis == before.Genesis || len(st.Lineage) != 1 || st.Lineage[0].History != before.Genesis ||
				st.Lineage[0].How != groups.ForkedByProof || st.Lineage[0].Lossy || st.Lineage[0].Commands < 10 {
				t.Errorf("lineage %+v after %s", st.Lineage, before.Genesis)
			}
			for ev := range events {
				if ev.Kind == groups.StateReset {
					t.Error("the one that stayed began anew")
				}
				if ev.Kind == groups.Forked {
					equal(t, "forked from", ev.From, before.Genesis)
					equal(t, "lost", len(ev.Lost), 1)
					break
				}
			}
		})
	}
}

// A majority that merely stays silent is waited for; the status says who is missing, and an operator can go on without.
func TestRecover(t *testing.T) {
	simulated(t, 3, func(t *testing.T, net *testnet.Sim) {
		net.DiscoverAll(t.Context())
		gs := joinAll(t, net.Net, groups.RandomKey())
		for range 5 {
			if _, err := gs[0].Execute(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
		}
		plan, err := gs[0].RecoveryPlan(t.Context())
		if err != nil || plan.Needed || len(plan.Survivors) != 3 {
			t.Fatalf("plan of a healthy group: %v, %v", plan, err)
		}
		if err := gs[0].Recover(t.Context(), plan); err == nil {
			t.Fatal("a healthy group was recovered")
		}
		events := gs[0].Events(t.Context())
		net.PowerOff(1)
		net.PowerOff(2)
		within(t, time.Minute, "offline", gs[0].When().Offline)
		time.Sleep(time.Minute)
		st := gs[0].Status()
		if st.Online || len(st.Missing) != 2 || !contains(st.Reason, "missing") || st.Missing[0].Seen.IsZero() {
			t.Fatalf("a group without majority: %v, missing %+v", st, st.Missing)
		}
		for ev := range events {
			if ev.Kind == groups.QuorumLost {
				equal(t, "lost", len(ev.Lost), 2)
				break
			}
		}
		equal(t, "weak read", gs[0].Committed(), 5)
		if plan, err = gs[0].RecoveryPlan(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !plan.Needed || plan.Lossless || len(plan.Survivors) != 1 || len(plan.Missing) != 2 || plan.Founder != net.Node(0).ID() {
			t.Fatalf("%+v", plan)
		}
		t.Log(plan)
		if err := gs[0].Recover(t.Context(), plan); err != nil {
			t.Fatal(err)
		}
		within(t, 10*time.Second, "online", gs[0].When().Online)
		res, err := gs[0].Execute(t.Context(), 1)
		if err != nil || res.Value != 6 || res.Index != 6 {
			t.Fatalf("%+v, %v", res, err)
		}
		st = gs[0].Status()
		if len(st.Lineage) != 1 || st.Lineage[0].How != groups.ForkedByOrder || !st.Lineage[0].Lossy {
			t.Errorf("lineage %+v", st.Lineage)
		}
		if err := gs[0].Recover(t.Context(), plan); err == nil {
			t.Error("a plan was carried out twice")
		}
	})
}

// With AvailabilityFirst both halves of a group go on through a partition, and both halves' commands are there after it.
func TestAvailabilityFirst(t *testing.T) {
	simulated(t, 4, func(t *testing.T, net *testnet.Sim) {
		net.DiscoverAll(t.Context())
		gs := joinAll(t, net.Net, groups.RandomKey(), groups.AvailabilityFirst(10*time.Second))
		want := int64(0)
		for i, g := range gs {
			want += int64(i)
			if _, err := g.Execute(t.Context(), int64(i)); err != nil {
				t.Fatal(err)
			}
		}
		net.Partition([]int{0, 1}, []int{2, 3})
		time.Sleep(40 * time.Second)
		for i, g := range gs {
			within(t, time.Minute, "online", g.When().Online)
			want += int64(100 * (i + 1))
			if _, err := g.Execute(t.Context(), int64(100*(i+1))); err != nil {
				t.Fatal(err)
			}
		}
		net.Heal()
		net.WaitFor("one history again", func() bool {
			for _, g := range gs {
				if st := g.Status(); !st.Online || len(st.Members) != 4 || st.Genesis != gs[0].Status().Genesis {
					return false
				}
			}
			return true
		})
		for _, g := range gs {
			res, err := g.Query(t.Context(), struct{}{}, groups.Strong)
			if err != nil || res.Value != want || res.Index != 8 {
				t.Errorf("%+v, %v, want %d at 8", res, err, want)
			}
		}
	})
}

// An observer that is all that is left saves what the group holds, and neither votes nor leads once somebody else can.
func TestObserverSavesTheGroup(t *testing.T) {
	t.Parallel()
	net := testnet.Loopback(t, 2)
	meet(t, net)
	key := groups.RandomKey()
	watcher := join(t, net.Node(0), key, groups.WithPreference(groups.Observer), quick)
	keen := join(t, net.Node(1), key, quick)
	within(t, bootstrapLimit(), "online", watcher.When().Online)
	within(t, bootstrapLimit(), "online", keen.When().Online)
	for range 5 {
		execute(t, keen, 1)
	}
	reaches(t, watcher, 5)
	net.Kill(1)
	net.Restart(1)
	meet(t, net)
	back := join(t, net.Node(1), key, quick)
	net.WaitFor("the other leads again, in the history that was saved", func() bool {
		st := back.Status() // with so short a bootstrap delay it may have founded one of its own for a moment
		return st.Role == groups.Leader && st.Genesis == watcher.Status().Genesis && len(st.Members) == 2
	})
	equal(t, "sum", execute(t, back, 1).Value, 6)
	net.WaitFor("the observer does not vote", func() bool { return back.Status().Voters == 1 })
	lineage := back.Status().Lineage
	if last := lineage[len(lineage)-1]; last.How != groups.ForkedByProof || !last.Lossy {
		t.Errorf("lineage %+v: the only voter was lost, and with it possibly commands", lineage)
	}
}
