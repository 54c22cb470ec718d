package groups_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/mosaik-go/mosaik/groups"
	"github.com/mosaik-go/mosaik/testnet"
)

// diaryRivals returns two nodes that do not know each other, each with a history of its own and so many commands, and the
// sums that those give. cut says whose logs are cut.
func diaryRivals(t *testing.T, commands [2]int, isCut [2]bool, faults *diaryFaults, opts ...groups.Option) (*testnet.Net, []*counterGroup, [2]int64) {
	t.Helper()
	net := testnet.Loopback(t, 2)
	key := groups.RandomKey()
	var gs []*counterGroup
	var sums [2]int64
	for i := range commands {
		own := append([]groups.Option{quick}, opts...)
		if isCut[i] {
			own = append(own, tight(64))
		}
		g := joinDiary(t, net.Node(i), key, faults, own...)
		gs = append(gs, g)
		within(t, bootstrapLimit(), "self-election", g.When().IsLeader)
		for k := range commands[i] {
			sums[i] = execute(t, g, int64(1000*i+k+1)).Value
		}
		if isCut[i] {
			cut(t, g)
		}
	}
	return net, gs, sums
}

// Of two histories the one whose log was cut stays, also if the other is longer, and takes over all that the other holds.
func TestMergeIntoCutLog(t *testing.T) {
	t.Parallel()
	net, gs, sums := diaryRivals(t, [2]int{20, 30}, [2]bool{true, false}, new(diaryFaults))
	stays := gs[0].Status().Genesis
	meet(t, net)
	oneLeader(t, gs, patience)
	for _, g := range gs {
		reaches(t, g, 50)
		equal(t, "sum", query(t, g, groups.Strong).Value, sums[0]+sums[1])
		equal(t, "history", g.Status().Genesis, stays)
		equal(t, "divergences", len(g.Divergences()), 0)
	}
}

// Of two histories whose logs were both cut the shorter one gives way all the same. Its members hand over what it held, as
// the state that their machines had; the lineage of the other says that it did not take that over.
func TestMergeOfCutLogs(t *testing.T) {
	t.Parallel()
	for name, policy := range map[string]groups.Option{
		"repropose": groups.MergeRepropose(),
		"surface":   groups.MergeSurface(),
		"resolve": groups.MergeFunc(func(groups.Divergence[int64]) []int64 {
			t.Error("asked to resolve what is not there")
			return nil
		}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			faults := new(diaryFaults)
			net, gs, sums := diaryRivals(t, [2]int{30, 20}, [2]bool{true, true}, faults, policy)
			from, into := gs[1].Status().Genesis, gs[0].Status().Genesis
			told := watch(t, gs[1], groups.Diverged)
			meet(t, net)
			oneLeader(t, gs, patience)
			for _, g := range gs {
				equal(t, "sum", query(t, g, groups.Strong).Value, sums[0])
				equal(t, "history", g.Status().Genesis, into)
			}
			eventually(t, "an event", func() bool { return len(told()) == 1 })
			equal(t, "commands in the event", told()[0].Commands, 20)
			all := gs[1].Divergences()
			equal(t, "divergences", len(all), 1)
			d := all[0]
			if d.From != from || d.Into != into || d.Snapshot == nil || len(d.Commands) == 0 || int(d.First)+len(d.Commands) != 21 ||
				d.Commands[len(d.Commands)-1] != 1020 {
				t.Errorf("divergence %+v", d)
			}
			var state bytes.Buffer
			if _, err := d.Snapshot.WriteTo(&state); err != nil {
				t.Fatal(err)
			}
			old := newDiary()
			if err := old.Restore(&state); err != nil {
				t.Fatal(err)
			}
			equal(t, "sum of the state that was handed over", old.sum, sums[1])
			lineage := gs[0].Status().Lineage
			equal(t, "ancestors", len(lineage), 1)
			equal(t, "lossy", lineage[0].Lossy, name != "surface")
			// It goes on with a new session, and the state is given up at the end.
			equal(t, "index", execute(t, gs[1], 1).Index, 31)
			for _, g := range gs {
				g.Close()
			}
			if _, err := d.Snapshot.WriteTo(&state); err == nil {
				t.Error("the state is there after the end")
			}
			eventually(t, "views are released", func() bool { return faults.views.Load() == faults.released.Load() })
		})
	}
}

// A state that cannot be taken is reported by whoever asks for it.
func TestMergeOfCutLogsWithoutView(t *testing.T) {
	t.Parallel()
	faults := new(diaryFaults)
	net, gs, _ := diaryRivals(t, [2]int{30, 20}, [2]bool{true, true}, faults)
	faults.noView.Store(true)
	meet(t, net)
	eventually(t, "divergence", func() bool { return len(gs[1].Divergences()) == 1 })
	if _, err := gs[1].Divergences()[0].Snapshot.WriteTo(new(bytes.Buffer)); err == nil || errors.Is(err, groups.ErrStateGone) {
		t.Errorf("no view: %v", err)
	}
	faults.noView.Store(false)
	oneLeader(t, gs, patience)
}
