package pebble_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/mosaik-go/mosaik/groups"
)

// settledOn waits until all nodes are members of one history, and checks that each has these lines, whatever their order.
func (tm *team) settledOn(want []string) {
	tm.t.Helper()
	for i := range tm.groups {
		for j := range i {
			tm.meet(i, j)
		}
	}
	tm.net.WaitFor("one history of all", func() bool {
		for _, g := range tm.groups {
			if s := g.Status(); !s.Online || len(s.Members) != len(tm.groups) || s.Genesis != tm.groups[0].Status().Genesis {
				return false
			}
		}
		return true
	})
	want = slices.Sorted(slices.Values(want))
	for i, g := range tm.groups {
		res, err := g.Query(tm.t.Context(), struct{}{}, groups.Strong)
		slices.Sort(res.Value)
		if err != nil || !slices.Equal(res.Value, want) {
			tm.t.Errorf("node %d has %q, %v; want %q", i, res.Value, err, want)
		}
		if d := g.Divergences(); len(d) != 0 {
			tm.t.Errorf("node %d: %+v", i, d)
		}
	}
}

// A store is recovered although the others are a majority and well, stopped or running: nothing that either side has
// acknowledged is lost.
func TestRecoverStoreByMistake(t *testing.T) {
	t.Parallel()
	for name, running := range map[string]bool{"while the others are stopped": false, "while the others run": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tm := newTeam(t, 3)
			tm.online(0, 1, 2)
			tm.voters(0, 3)
			want := []string{"of all three"}
			tm.write(0, want[0])
			tm.reads(want, 2)
			write := func(i int, line string) {
				want = append(want, line)
				tm.write(i, line)
			}
			tm.net.Close(2)
			for n := range 10 {
				write(n%2, fmt.Sprint("of the majority ", n))
			}
			if !running {
				tm.net.Close(0)
				tm.net.Close(1)
			}
			if err := groups.RecoverStore(t.Context(), tm.stores[2], stored(t, tm.stores[2])); err != nil {
				t.Fatal(err)
			}
			tm.restart(2)
			tm.online(2)
			write(2, "of the one that was recovered")
			if !running {
				tm.net.Close(2)
				tm.restart(0)
				tm.restart(1)
				tm.meet(0, 1)
				tm.online(0, 1)
				write(0, "of the majority that is back")
				tm.restart(2)
			}
			tm.settledOn(want)
		})
	}
}

// Two of five nodes are left, and one of their stores is recovered. The other node, which has no majority and nothing that
// the first one lacks, joins it.
func TestOtherSurvivorFollowsRecoveredStore(t *testing.T) {
	t.Parallel()
	tm := newTeam(t, 5)
	tm.online(0, 1, 2, 3, 4)
	tm.voters(0, 5)
	want := []string{"one", "two"}
	tm.write(0, "one")
	tm.net.Close(4) // which has less
	tm.write(1, "two")
	tm.reads(want, 3)
	for i := range 4 {
		tm.net.Close(i)
	}
	if err := groups.RecoverStore(t.Context(), tm.stores[3], stored(t, tm.stores[3])); err != nil {
		t.Fatal(err)
	}
	tm.restart(3)
	tm.restart(4)
	tm.meet(4, 3)
	tm.online(3, 4)
	tm.voters(3, 2)
	tm.reads(want, 3, 4)
	// The others were not lost: they go on without the two, and what they do is not lost either.
	for i := range 3 {
		tm.restart(i)
		for j := range i {
			tm.meet(i, j)
		}
	}
	want = append(want, "three")
	tm.online(0, 1, 2)
	tm.write(0, "three")
	tm.settledOn(want)
}
