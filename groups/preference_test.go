package groups_test

import (
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/groups"
	"github.com/mosaik-go/mosaik/testnet"
)

// Observers hold the state, read it and send commands, and never vote or lead, whoever else is lost.
func TestObserver(t *testing.T) {
	t.Parallel()
	net := testnet.Loopback(t, 3)
	meet(t, net)
	key := groups.RandomKey()
	watcher := join(t, net.Node(0), key, groups.WithPreference(groups.Observer))
	equal(t, "why the observer waits", contains(watcher.Status().Reason, "not an observer") || contains(watcher.Status().Reason, "just been joined"), true)
	gs := []*counterGroup{watcher, join(t, net.Node(1), key), join(t, net.Node(2), key)}
	for _, g := range gs {
		within(t, bootstrapLimit(), "online", g.When().Online)
	}
	net.WaitFor("two voters", func() bool { return watcher.Status().Voters == 2 && len(watcher.Members()) == 3 })
	execute(t, watcher, 5)
	equal(t, "strong read of the observer", query(t, watcher, groups.Strong).Value, 5)
	time.Sleep(2 * time.Second) // a vote would come within half a second
	for _, m := range watcher.Members() {
		if m.Peer == net.Node(0).ID() && (m.Voter || m.Leader) {
			t.Errorf("the observer: %+v", m)
		}
	}
	if err := watcher.LeadershipTransfer(t.Context(), net.Node(0).ID()); err == nil {
		t.Error("an observer was made the leader")
	}
}

// A reluctant member leads while it is alone, and hands over once another one can.
func TestReluctant(t *testing.T) {
	t.Parallel()
	net := testnet.Loopback(t, 2)
	meet(t, net)
	key := groups.RandomKey()
	shy := join(t, net.Node(0), key, groups.WithPreference(groups.Reluctant), quick)
	within(t, bootstrapLimit(), "leads alone", shy.When().IsLeader)
	keen := join(t, net.Node(1), key, quick)
	within(t, bootstrapLimit(), "hands over", keen.When().IsLeader)
	for i := range 10 {
		equal(t, "index", execute(t, shy, 1).Index, groups.Index(i+1))
	}
	within(t, patience, "leads still", keen.When().IsLeader) // or again, if this machine kept it waiting
}

// Leadership goes where it is asked to go, from whatever member it is asked, and calls go on.
func TestLeadershipTransfer(t *testing.T) {
	t.Parallel()
	net, gs := team(t, 3)
	settled(t, gs)
	for round := range 6 {
		to := round % 3
		asked := gs[(round/2)%3]
		within(t, patience, "transfer", ctxArg(asked.LeadershipTransfer, net.Node(to).ID()))
		leader, _ := asked.Leader()
		equal(t, "leader", leader, net.Node(to).ID())
		execute(t, gs[(to+1)%3], 1)
	}
	if err := gs[0].LeadershipTransfer(t.Context(), groups.PeerID{1}); err == nil {
		t.Error("a stranger was made the leader")
	}
}
