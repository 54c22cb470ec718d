package groups_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/groups"
	"github.com/mosaik-go/mosaik/testnet"
)

// patientRemoval lets nobody be removed for silence while a test runs.
var patientRemoval = groups.WithConsensus(groups.Consensus{RemoveAfter: time.Hour})

// A member that is gone can be removed at once, by any other; one that is there cannot. If it was merely out of reach it
// is back as a new member.
func TestRemoveMember(t *testing.T) {
	simulated(t, 4, func(t *testing.T, net *testnet.Sim) {
		gs := joinAll(t, net.Net, groups.RandomKey(), patientRemoval)
		execute(t, gs[0], 5)
		refused := func(by int, who groups.PeerID, why string) {
			t.Helper()
			err := gs[by].RemoveMember(t.Context(), who)
			if err == nil || !strings.Contains(err.Error(), why) {
				t.Fatalf("removing: %v, want a refusal because of %q", err, why)
			}
			wantError(t, err, groups.ErrNotApplied)
		}
		refused(0, net.Node(1).ID(), "is connected")
		refused(0, net.Node(0).ID(), "Leave")
		refused(0, groups.PeerID{1}, "no member")
		equal(t, "members", len(gs[0].Members()), 4)

		leader := leaderOf(t, gs)
		away := (leader + 1) % 4
		if !gs[away].Status().Members[slices.IndexFunc(gs[away].Status().Members, func(m groups.Member) bool { return m.Peer == net.Node(away).ID() })].Voter {
			away = (leader + 2) % 4 // of four members three vote
		}
		asked := (leader + 3) % 4
		fresh := watch(t, gs[away], groups.StateReset)
		net.Partition([]int{away})
		net.WaitFor("the silence being noticed", func() bool {
			return len(gs[leader].Bonds()) == 2 && len(gs[asked].Bonds()) == 2
		})
		began := time.Now()
		within(t, 10*time.Second, "remove", ctxArg(gs[asked].RemoveMember, net.Node(away).ID()))
		if took := time.Since(began); took > 5*time.Second { // of virtual time
			t.Errorf("took %v", took)
		}
		gone := func(m groups.Member) bool { return m.Peer == net.Node(away).ID() }
		if slices.ContainsFunc(gs[asked].Members(), gone) {
			t.Error("is a member when the call has returned")
		}
		net.WaitFor("the rest of three voting", func() bool { return gs[leader].Status().Voters == 3 })
		refused(asked, net.Node(away).ID(), "no member")
		execute(t, gs[asked], 7)
		net.Heal()
		net.WaitFor("it is back as a new member", func() bool {
			return gs[away].Status().Online && len(gs[leader].Members()) == 4 && len(fresh()) == 1
		})
		equal(t, "the sum", query(t, gs[away], groups.Strong).Value, 12)
	})
}

// Without a majority nobody can be removed, and the call says so in time.
func TestRemoveMemberWithoutMajority(t *testing.T) {
	simulated(t, 2, func(t *testing.T, net *testnet.Sim) {
		gs := joinAll(t, net.Net, groups.RandomKey(), patientRemoval)
		leader := leaderOf(t, gs)
		net.Partition([]int{1 - leader})
		net.WaitFor("the loss being noticed", func() bool { return !gs[leader].Status().Online && len(gs[leader].Bonds()) == 0 })
		err := gs[leader].RemoveMember(t.Context(), net.Node(1-leader).ID())
		if err == nil || !strings.Contains(err.Error(), "no majority") {
			t.Fatalf("removing: %v", err)
		}
		wantError(t, err, groups.ErrNotApplied)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err = gs[leader].RemoveMember(ctx, net.Node(1-leader).ID())
		wantError(t, err, context.DeadlineExceeded)
		if errors.Is(err, groups.ErrNotApplied) == errors.Is(err, groups.ErrOutcomeUnknown) {
			t.Errorf("not one outcome: %v", err)
		}
		net.Heal()
		net.WaitFor("both are there", func() bool { return gs[0].Status().Online && gs[1].Status().Online && len(gs[0].Members()) == 2 })
	})
}
