package pebble_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/mosaik-go/mosaik/groups"
	"github.com/mosaik-go/mosaik/groups/logstore"
	"github.com/mosaik-go/mosaik/groups/logstore/pebble"
)

// stored returns what a store holds of its only group.
func stored(t *testing.T, s logstore.Store) groups.StoredGroup {
	t.Helper()
	all, err := groups.InspectStore(t.Context(), s)
	if err != nil || len(all) != 1 || all[0].Err != nil {
		t.Fatalf("%+v, %v", all, err)
	}
	return all[0]
}

// Two of three nodes are lost for good. The directory of the third, which is stopped, is recovered: its node starts, goes
// on with everything, and others join it.
func TestRecoverStore(t *testing.T) {
	t.Parallel()
	tm := newTeam(t, 3)
	tm.online(0, 1, 2)
	tm.voters(0, 3)
	var want []string
	for i := range 30 {
		want = append(want, fmt.Sprint("line ", i))
		tm.write(i%3, want[i])
	}
	tm.reads(want, 2) // so that it holds all of it
	before := tm.groups[2].Status()

	if all, err := groups.InspectStore(t.Context(), tm.stores[2]); err != nil || len(all) != 1 || !errors.Is(all[0].Err, logstore.ErrOpen) {
		t.Fatalf("a store in use: %+v, %v", all, err)
	}
	tm.net.Kill(0)
	tm.net.Kill(1)
	tm.net.Close(2)

	plan := stored(t, tm.stores[2])
	self := tm.net.Node(2).ID()
	switch {
	case plan.Group != before.Group, plan.History != before.Genesis, plan.Self != self, len(plan.Lineage) != 0:
		t.Errorf("stored: %+v", plan)
	case plan.Commands != 30 || plan.Committed > 30 || plan.Last == 0 || len(plan.Members) != 3 || plan.Why != "":
		t.Errorf("stored: %+v", plan)
	case !plan.Plan.Needed || plan.Plan.Lossless || plan.Plan.Founder != self || len(plan.Plan.Missing) != 2 || len(plan.Plan.Survivors) != 1:
		t.Errorf("plan: %+v", plan.Plan)
	}
	if again := stored(t, tm.stores[2]); again.Last != plan.Last || again.History != plan.History {
		t.Errorf("looking has changed something: %+v after %+v", again, plan)
	}
	if err := groups.RecoverStore(t.Context(), tm.stores[2], plan); err != nil {
		t.Fatal(err)
	}
	if err := groups.RecoverStore(t.Context(), tm.stores[2], plan); err == nil {
		t.Error("a plan was carried out twice")
	}
	after := stored(t, tm.stores[2])
	if after.History == plan.History || after.Plan.Needed || after.Commands != 30 || len(after.Members) != 1 ||
		len(after.Lineage) != 1 || after.Lineage[0].How != groups.ForkedByOrder || !after.Lineage[0].Lossy {
		t.Errorf("afterwards: %+v", after)
	}
	if err := groups.RecoverStore(t.Context(), tm.stores[2], after); err == nil || !strings.Contains(err.Error(), "majority by itself") {
		t.Errorf("recovery of a group of one: %v", err)
	}

	tm.restart(2)
	tm.online(2)
	tm.reads(want, 2)
	want = append(want, "after")
	tm.write(2, "after")
	st := tm.groups[2].Status()
	if st.Genesis != after.History || len(st.Lineage) != 1 || st.Lineage[0].History != before.Genesis || st.Lineage[0].How != groups.ForkedByOrder {
		t.Errorf("history %s, lineage %+v", st.Genesis, st.Lineage)
	}

	// The lost ones were not: they come back, go on in the old history, and all becomes one.
	tm.restart(0)
	tm.restart(1)
	tm.online(0, 1)
	tm.write(0, "in the old history, perhaps")
	for i := range 2 {
		tm.meet(i, 2)
	}
	tm.meet(0, 1)
	tm.net.WaitFor("one history of three", func() bool {
		for _, g := range tm.groups {
			if s := g.Status(); !s.Online || len(s.Members) != 3 || s.Genesis != tm.groups[0].Status().Genesis {
				return false
			}
		}
		return true
	})
	// What the two had after the fork comes before or after what the third had.
	want = append(want[:30:30], "after", "in the old history, perhaps")
	for _, i := range []int{0, 1, 2} {
		res, err := tm.groups[i].Query(t.Context(), struct{}{}, groups.Strong)
		slices.Sort(res.Value)
		slices.Sort(want)
		if err != nil || !slices.Equal(res.Value, want) {
			t.Errorf("node %d has %q, %v; want %q", i, res.Value, err, want)
		}
	}
}

// A recovery that is cut short, at whatever moment, leaves the old history or the new one, with everything.
func TestRecoverStoreIsOneStep(t *testing.T) {
	t.Parallel()
	tm := newTeam(t, 2)
	tm.online(0, 1)
	tm.voters(0, 2)
	for i := range 20 {
		tm.write(i%2, strings.Repeat(fmt.Sprint("line ", i), 200))
	}
	tm.net.Close(1)
	if err := tm.stores[1].Close(); err != nil {
		t.Fatal(err)
	}
	mem := vfs.NewCrashableMem()
	if ok, err := vfs.Clone(vfs.Default, mem, tm.dirs[1], "store", vfs.CloneSync); !ok || err != nil {
		t.Fatal(ok, err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	var mu sync.Mutex // guards the two below
	var crashed []*vfs.MemFS
	watch := false
	watching := func(on bool) {
		mu.Lock()
		watch = on
		mu.Unlock()
	}
	s := open(t, "store", pebble.WithFS(errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		mu.Lock()
		defer mu.Unlock()
		if watch && op.Kind != errorfs.OpFileRead && op.Kind != errorfs.OpFileReadAt {
			for _, percent := range []int{0, 50, 100} {
				crashed = append(crashed, mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rng}))
			}
		}
		return nil
	}))))
	plan := stored(t, s)
	if plan.Commands != 20 || !plan.Plan.Lossless {
		t.Fatalf("%+v", plan)
	}
	watching(true)
	err := groups.RecoverStore(t.Context(), s, plan)
	watching(false)
	if err != nil {
		t.Fatal(err)
	}
	crashed = append(crashed, mem.CrashClone(vfs.CrashCloneCfg{}))
	done := stored(t, s).History
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	old := 0
	for i, fs := range crashed {
		s := open(t, "store", pebble.WithFS(fs))
		got := stored(t, s)
		switch {
		case got.Commands != 20 || got.Why == "" && !got.Plan.Needed:
			t.Errorf("crash %d of %d: %+v", i, len(crashed), got)
		case got.History == plan.History:
			old++
			if len(got.Members) != 2 || i == len(crashed)-1 {
				t.Errorf("crash %d of %d: %+v", i, len(crashed), got)
			}
		case got.History != done || len(got.Members) != 1 || got.Lineage[0].Lossy || got.Lineage[0].Commands != 20:
			t.Errorf("crash %d of %d: %+v", i, len(crashed), got)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d crashes, %d of them in time to leave the old history", len(crashed), old)
	if old == 0 || old == len(crashed) {
		t.Error("all crashes left the same")
	}
}

// A node whose log was cut goes on from the state that it had written out, and so it does after further restarts; others
// get that state.
func TestRecoverStoreWithCutLog(t *testing.T) {
	t.Parallel()
	tm := newTeam(t, 2)
	key := groups.RandomKey()
	join := func(i int) *shelfGroup {
		g, err := groups.Join(tm.net.Node(i), key, newShelf, groups.WithRetention(groups.Retention{Keep: 20, Most: 100}), hurried, groups.ExpectMembers(2))
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	total := 0
	write := func(g *shelfGroup, n int) {
		t.Helper()
		for range n {
			if _, err := g.Execute(ctx, fmt.Sprint("item ", total%50)); err != nil {
				t.Fatalf("%v\n%s", err, g.Status())
			}
			total++
		}
	}
	holds := func(g *shelfGroup) {
		t.Helper()
		if res, err := g.Query(ctx, "", groups.Strong); err != nil || res.Value["total"] != total || res.Index != groups.Index(total) {
			t.Fatalf("%v at %d, %v; want %d\n%s", res.Value, res.Index, err, total, g.Status())
		}
	}
	other, g := join(0), join(1)
	tm.net.WaitFor("two voters", func() bool { return other.Status().Voters == 2 && g.Status().Voters == 2 })
	tm.net.WaitFor("a log that was cut", func() bool {
		write(other, 50)
		return g.Status().LogCut
	})
	holds(g)
	before := g.Status()
	tm.net.Kill(0)
	tm.net.Kill(1)
	find := func() groups.StoredGroup {
		all, err := groups.InspectStore(ctx, tm.stores[1])
		at := slices.IndexFunc(all, func(s groups.StoredGroup) bool { return s.Group == before.Group })
		if err != nil || at < 0 || all[at].Err != nil {
			t.Fatalf("%+v, %v", all, err)
		}
		return all[at]
	}
	plan := find()
	if plan.History != before.Genesis || int(plan.Commands) != total || !plan.Plan.Lossless {
		t.Fatalf("%+v, want %d commands", plan, total)
	}
	if err := groups.RecoverStore(ctx, tm.stores[1], plan); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if found := find(); len(found.Lineage) != 1 || int(found.Commands) != total || found.Why == "" {
			t.Fatalf("%+v, want %d commands", found, total)
		}
		tm.net.Restart(1)
		g = join(1)
		holds(g)
		write(g, 1)
		tm.net.Kill(1)
	}
	tm.net.Restart(1)
	g = join(1)
	holds(g)
	i := tm.net.Len()
	tm.net.Add()
	tm.meet(i, 1)
	other = join(i)
	holds(other)
	write(other, 200)
	holds(g)
}
