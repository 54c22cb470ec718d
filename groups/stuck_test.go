package groups_test

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/groups"
	"github.com/mosaik-go/mosaik/testnet"
)

// impatient is unhurried for one member: patience is each member's own.
var impatient = groups.WithConsensus(groups.Consensus{
	Heartbeat: 100 * time.Millisecond, ElectionTimeout: 500 * time.Millisecond, BootstrapDelay: 2 * time.Second, Patience: time.Second,
})

// wantStuck checks that calls and strong reads on a member end by themselves, without an effect, and say why.
func wantStuck(t *testing.T, g *counterGroup, why string, causes ...error) {
	t.Helper()
	causes = append(causes, groups.ErrNotApplied, groups.ErrStuck)
	check := func(what string, err error) {
		t.Helper()
		if err == nil || errors.Is(err, groups.ErrOutcomeUnknown) || errors.Is(err, groups.ErrOffline) || !strings.Contains(err.Error(), why) {
			t.Fatalf("%s: %v, want one because of %q", what, err, why)
		}
		wantError(t, err, causes...)
	}
	_, err := g.Execute(t.Context(), 1000)
	check("execute", err)
	_, err = g.FeedMany(t.Context(), 1000, 1000)
	check("feed", err)
	_, err = g.Query(t.Context(), struct{}{}, groups.Strong)
	check("strong read", err)
	equal(t, "weak read", query(t, g, groups.Weak), groups.Result[int64]{})
}

// A member whose machine cannot read the state says so, fails its calls in time without having sent them, and works once
// the machine does.
func TestStuckWithoutRestore(t *testing.T) {
	t.Parallel()
	net, key, gs, sum := diaries(t, 3)
	net.Add()
	net.DiscoverAll(t.Context())
	f := new(diaryFaults)
	f.fail.Store(math.MaxInt32)
	late := joinDiary(t, net.Node(3), key, f, impatient, tight(64))
	eventually(t, "a reason", func() bool {
		why := late.Status().Reason
		return strings.Contains(why, "Restore: no restore today") && strings.Contains(why, "has got no further for ")
	})
	wantStuck(t, late, "Restore: no restore today", errNoRestore)
	equal(t, "elsewhere", query(t, gs[1], groups.Strong), groups.Result[int64]{Value: sum, Index: 100})
	f.fail.Store(0)
	within(t, 2*patience, "online", late.When().Online) // tries are up to half a minute apart
	equal(t, "execute", execute(t, late, 7), groups.Result[int64]{Value: sum + 7, Index: 101})
	equal(t, "strong", query(t, late, groups.Strong), groups.Result[int64]{Value: sum + 7, Index: 101})
	if why := late.Status().Reason + late.Status().Note; why != "" {
		t.Errorf("online: %s", why)
	}
}

// A call that was sent before it turns out that this member cannot read the state took effect, and is not waited for.
func TestStuckAfterCallWasSent(t *testing.T) {
	t.Parallel()
	net, key, gs, sum := diaries(t, 3)
	net.Add()
	net.DiscoverAll(t.Context())
	f := &diaryFaults{stall: make(chan struct{})}
	late := joinDiary(t, net.Node(3), key, f, impatient, tight(64))
	eventually(t, "a restore", func() bool { return f.restores.Load() > 0 })
	failed := make(chan error, 1)
	go func() {
		_, err := late.Execute(t.Context(), 7)
		failed <- err
	}()
	reaches(t, gs[0], 101)
	f.fail.Store(math.MaxInt32)
	close(f.stall)
	select {
	case err := <-failed:
		wantError(t, err, groups.ErrOutcomeUnknown, groups.ErrStuck, errNoRestore)
		if errors.Is(err, groups.ErrNotApplied) {
			t.Errorf("both: %v", err)
		}
	case <-time.After(patience):
		t.Fatal("the call still waits")
	}
	equal(t, "elsewhere", query(t, gs[1], groups.Strong).Value, sum+7)
}

// If nobody can write out the state, the member that needs it says who and why, and so do they.
func TestStuckWithoutSnapshot(t *testing.T) {
	t.Parallel()
	shared := new(diaryFaults)
	shared.noView.Store(true)
	net, key, gs, sum := diaries(t, 3, shared, shared, shared)
	net.Add()
	net.DiscoverAll(t.Context())
	late := joinDiary(t, net.Node(3), key, new(diaryFaults), impatient, tight(64))
	eventually(t, "a reason", func() bool {
		why := late.Status().Reason
		for i := range gs {
			if !strings.Contains(why, net.Node(i).ID().Short()+" cannot write out its state: the machine's Snapshot: no view today") {
				return false
			}
		}
		return strings.Contains(why, "catching up")
	})
	for _, g := range gs {
		if st := g.Status(); !st.Online || !strings.Contains(st.Note, "cannot write out its state") || !strings.Contains(st.Note, "no view today") {
			t.Errorf("a member whose Snapshot fails does not say so: %v", st)
		}
	}
	wantStuck(t, late, "Snapshot: no view today")
	shared.noView.Store(false)
	within(t, 2*patience, "online", late.When().Online) // likewise
	equal(t, "execute", execute(t, late, 7), groups.Result[int64]{Value: sum + 7, Index: 101})
	eventually(t, "the notes being gone", func() bool { return gs[0].Status().Note == "" && late.Status().Note == "" })
}

// A member that has a leader and gets nowhere, while nothing is known to fail, does not keep its callers for ever either.
func TestStuckForUnknownReasons(t *testing.T) {
	simulated(t, 2, func(t *testing.T, net *testnet.Sim) {
		key := groups.RandomKey()
		first := joinDiary(t, net.Node(0), key, new(diaryFaults), tight(64))
		within(t, bootstrapLimit(), "online", first.When().Online)
		for range 100 {
			execute(t, first, 1)
		}
		cut(t, first)
		late, err := groups.Join(net.Node(1), key, func() bookless { return bookless{newDiary()} })
		if err != nil {
			t.Fatal(err)
		}
		net.WaitFor("a leader", func() bool { _, led := late.Leader(); return led })
		began := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		if _, err := late.Execute(ctx, 1); !errors.Is(err, groups.ErrStuck) || !errors.Is(err, groups.ErrOutcomeUnknown) {
			t.Errorf("a call that was sent: %v", err)
		}
		if took := time.Since(began); took > time.Minute {
			t.Errorf("took %v", took)
		}
		if _, err := late.Query(ctx, struct{}{}, groups.Strong); !errors.Is(err, groups.ErrStuck) || !errors.Is(err, groups.ErrNotApplied) {
			t.Errorf("a read: %v", err)
		}
		if why := late.Status().Reason; !strings.Contains(why, "is not a Snapshotter") || !strings.Contains(why, "has got no further for ") {
			t.Errorf("reason: %s", why)
		}
	})
}
