package sim

import (
	"errors"
	"flag"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/core"
)

var rates = flag.Int("sim.rates", 0, "play that many seeds with each bug, and print in how many it is caught")

// bugs are put in one at a time. For each the checks of TestSimulation must find something within a few seeds.
var bugs = []struct {
	name string
	bugs Bugs
}{
	{"an item is applied twice", Bugs{DoubleApply: true}},
	{"an item is skipped", Bugs{LoseApply: true}},
	{"items are applied out of order", Bugs{SwapApply: true}},
	{"a strong read asks nobody", Bugs{LocalRead: true}},
	{"a call is acknowledged when it is sent", Bugs{EarlyAck: true}},
	{"a call is acknowledged when the leader has appended it", Bugs{AckAppended: true}},
	{"a member votes twice in a term", Bugs{VoteTwice: true}},
	{"a follower acknowledges entries that it does not have", Bugs{AckUnstored: true}},
	{"a member comes back empty under its old id", Bugs{SameID: true}},
	{"a leader answers reads without hearing from a majority", Bugs{Core: core.Flaws{LonelyReads: true}}},
	{"a new leader answers reads before its own entry is committed", Bugs{Core: core.Flaws{UngatedReads: true}}},
	{"a call that is in the log twice counts twice", Bugs{Core: core.Flaws{ApplyAgain: true, TakeAgain: true}}},
	{"a leader takes calls that leave a gap", Bugs{Core: core.Flaws{TakeGaps: true}}},
	{"the user index in snapshots is wrong", Bugs{SnapshotIndex: true}},
	{"snapshots do not know which calls they contain", Bugs{SnapshotSessions: true}},
	{"snapshots do not know who votes", Bugs{SnapshotVotes: true}},
	{"state that was fetched is not held against its hash", Bugs{UncheckedState: true}},
}

// TestInjectedBugsAreCaught shows that the checks can fail. A history that took too long to check does not count, nor does
// a group that was destroyed or had to save itself, which [TestSimulation] allows now and then. See also [TestHastyRemoval],
// [TestForgottenBallot] and [TestBadDisks].
func TestInjectedBugsAreCaught(t *testing.T) {
	if testing.Short() {
		t.Skip("runs in full in the plain tests; nothing here is concurrent")
	}
	for _, b := range bugs {
		t.Run(b.name, func(t *testing.T) {
			caught, destroyed, first, n := 0, 0, uint64(0), uint64(200)
			var why error
			if *rates > 0 {
				n = uint64(*rates)
			}
			for seed := uint64(1); seed <= n && (caught == 0 || *rates > 0); seed++ {
				s, err := play(t, seed, b.bugs, false, 2*time.Second)
				destroyed += s.Stats.Lost + s.Stats.Forks
				if err == nil || errors.Is(err, errMajorityLost) || errors.Is(err, errUnchecked) {
					continue
				}
				if caught++; caught == 1 {
					first, why = seed, err
				}
			}
			switch {
			case caught == 0:
				t.Errorf("%d seeds found nothing", n)
			case *rates > 0:
				t.Logf("caught in %d of %d seeds; %d groups destroyed or saved", caught, n, destroyed)
			default:
				t.Logf("seed %d: %.200v", first, why)
			}
		})
	}
}
