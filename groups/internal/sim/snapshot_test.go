package sim

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/mosaik-go/mosaik/groups/internal/core"
	"github.com/mosaik-go/mosaik/groups/internal/wire"
)

// small makes engines cut their logs at once, and take snapshots.
func small(c *core.Config) {
	c.Snapshots, c.ChunkBytes, c.KeepEntries, c.MostEntries, c.MostBytes = true, 1<<10, 3, 6, 1<<20
	c.VolatileRemoval = time.Minute
}

// cutWorld returns a world of n members that have executed some calls and cut their logs.
func cutWorld(t *testing.T, n int) *World {
	t.Helper()
	w := New(7, Network{Delay: time.Millisecond})
	w.Tune = small
	w.Keep()
	for i := range n {
		w.Start(i, core.Normal, 1)
	}
	await(t, w, 20*time.Second, "a group", w.Whole)
	voters := func() bool { return leader(w) != nil && leader(w).Status.Voters >= min(n, 3) }
	await(t, w, 20*time.Second, "voters", voters)
	calls(t, w, 0, 40)
	w.Run(3 * time.Second)
	for _, x := range w.Nodes() {
		if !x.Status.LogCut {
			t.Fatalf("%v has not cut its log: %d to %d", x, x.Status.LogFirst, x.Status.LogLast)
		}
	}
	return w
}

func await(t *testing.T, w *World, d time.Duration, what string, cond func() bool) {
	t.Helper()
	if !w.Until(d, cond) {
		trace := w.Trace()
		for _, line := range trace[max(0, len(trace)-80):] {
			t.Log(line)
		}
		t.Fatalf("no %s within %v, now %v", what, d, w.Now())
	}
}

// calls has the leader execute numbered calls one after the other.
func calls(t *testing.T, w *World, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		o := &Op{ID: i + 1, Name: "x", Call: fmt.Sprintf("%d:a x 1", i+1)}
		w.Submit(leader(w), o, nil)
		await(t, w, 20*time.Second, "outcome", func() bool { return o.Done })
		if !o.OK || o.Out != fmt.Sprint(i+1) {
			t.Fatalf("%v: ok=%v answer=%q", o, o.OK, o.Out)
		}
	}
}

func leader(w *World) *Node {
	for _, n := range w.Nodes() {
		if n.Alive && n.Status != nil && n.Status.Role == core.RoleLeader && n.Status.Online {
			return n
		}
	}
	return nil
}

// done checks that all nodes end up with the same n calls.
func done(t *testing.T, w *World, n int) {
	t.Helper()
	await(t, w, 60*time.Second, "agreement", func() bool {
		for _, x := range w.Nodes() {
			if x.Alive && (len(x.Log) != n || !x.Status.Online) {
				return false
			}
		}
		return true
	})
	for _, x := range w.Nodes() {
		if x.Fatal != nil {
			t.Fatalf("%v: %v", x, x.Fatal)
		}
		if x.Alive && x.State["x"] != fmt.Sprint(n) {
			t.Fatalf("%v has %v after %d calls", x, x.State, n)
		}
	}
}

// A member that joins after logs were cut gets the state, and one that joins after it gets a newer one, since the first
// does not know it.
func TestJoinersGetSnapshotsThatKnowThem(t *testing.T) {
	t.Parallel()
	w := cutWorld(t, 3)
	for i := 3; i < 6; i++ {
		n := w.Start(i, core.Normal, joinOnly)
		await(t, w, 10*time.Second, "joiner", w.Whole)
		if n.Log == nil || w.Installed != i-2 {
			t.Fatalf("%d snapshots installed", w.Installed)
		}
	}
	calls(t, w, 40, 50)
	done(t, w, 50)
}

// A snapshot message that is lost does not leave its receiver waiting: the library would never send anything again.
func TestLostSnapshotIsSentAgain(t *testing.T) {
	t.Parallel()
	w := cutWorld(t, 3)
	lost := 0
	w.Filter = func(_, _ *Node, m wire.Message) bool {
		if raft, ok := m.(*wire.Raft); ok && raft.Msg.GetType() == raftpb.MsgSnap && lost < 3 {
			lost++
			return false
		}
		return true
	}
	w.Start(3, core.Normal, joinOnly)
	await(t, w, 60*time.Second, "joiner", w.Whole)
	if lost < 3 {
		t.Fatalf("%d snapshots were lost", lost)
	}
	done(t, w, 40)
}

// The leader may change between the sending of a snapshot and its arrival: what is fetched stays valid.
func TestLeaderChangesDuringFetch(t *testing.T) {
	t.Parallel()
	w := cutWorld(t, 5)
	n := w.Start(5, core.Normal, joinOnly)
	await(t, w, 20*time.Second, "fetch", func() bool { return n.Status != nil && n.Status.Fetch != nil })
	w.Crash(leader(w), false)
	await(t, w, 30*time.Second, "new leader", func() bool { return leader(w) != nil })
	calls(t, w, 40, 45)
	done(t, w, 45)
}

// A voter that lacks what was cut is needed for every majority after another one has died, also for the one that a mark
// needs. The leader then sends it a state that nobody else has agreed on.
func TestLaggardIsNeededForMajority(t *testing.T) {
	t.Parallel()
	w := cutWorld(t, 3)
	l := leader(w)
	var late, dead *Node
	for _, n := range w.Nodes() {
		switch {
		case n == l:
		case late == nil:
			late = n
		default:
			dead = n
		}
	}
	for _, n := range w.Nodes() {
		if n != late {
			w.Cut(n.Index, late.Index)
			w.Cut(late.Index, n.Index)
		}
	}
	calls(t, w, 40, 80)
	w.Run(3 * time.Second)
	w.Crash(dead, false)
	w.Run(time.Second)
	w.Heal()
	await(t, w, 30*time.Second, "snapshot", func() bool { return w.Installed > 0 })
	await(t, w, 30*time.Second, "leader", func() bool { return leader(w) != nil })
	calls(t, w, 80, 85)
	done(t, w, 85)
}

// A member that is far behind and has calls under way learns that their outcome is not known, if they are part of the
// state it fetches, and goes on with its session.
func TestCallsInsideSnapshot(t *testing.T) {
	t.Parallel()
	w := cutWorld(t, 3)
	var n *Node
	for _, x := range w.Nodes() {
		if x != leader(w) {
			n = x
		}
	}
	w.Filter = func(_, to *Node, m wire.Message) bool {
		raft, ok := m.(*wire.Raft)
		return to != n || !ok || raft.Msg.GetType() != raftpb.MsgApp
	}
	o := &Op{ID: 41, Name: "x", Call: "41:a x 1"}
	w.Submit(n, o, nil)
	await(t, w, time.Second, "call in the log", func() bool { return len(leader(w).Log) == 41 })
	for i := range w.Nodes() {
		if i != n.Index {
			w.Cut(i, n.Index)
			w.Cut(n.Index, i)
		}
	}
	calls(t, w, 41, 80)
	w.Run(3 * time.Second)
	w.Filter = nil
	w.Heal()
	await(t, w, 30*time.Second, "outcome", func() bool { return o.Done })
	if o.OK || !o.Maybe {
		t.Fatalf("%v: ok=%v maybe=%v", o, o.OK, o.Maybe)
	}
	next := &Op{ID: 81, Name: "x", Call: "81:a x 1"}
	w.Submit(n, next, nil)
	await(t, w, 30*time.Second, "next call", func() bool { return next.Done })
	if !next.OK || next.Out != "81" {
		t.Fatalf("%v: ok=%v answer=%s", next, next.OK, next.Out)
	}
	done(t, w, 81)
}

// One node whose images differ does no harm to anybody, and is reported.
func TestOddImages(t *testing.T) {
	diverged, installed := 0, 0
	for seed := uint64(1); seed <= 20; seed++ {
		s, err := play(t, seed, Bugs{OddImages: true}, false, time.Minute)
		if err != nil && !errors.Is(err, errMajorityLost) {
			t.Errorf("seed %d: %v", seed, err)
		}
		diverged += s.World.Diverged
		installed += s.World.Installed
	}
	if diverged == 0 || installed == 0 {
		t.Errorf("%d images diverged, %d snapshots were installed", diverged, installed)
	}
}
