package pebble_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/mosaik-go/mosaik"
	"github.com/mosaik-go/mosaik/groups"
	"github.com/mosaik-go/mosaik/groups/logstore"
	"github.com/mosaik-go/mosaik/groups/logstore/pebble"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/testnet"
)

// journal is a machine that remembers its commands in order.
type journal struct{ lines []string }

func newJournal() *journal { return new(journal) }

func (*journal) Signature() id.ID { return id.Of("journal v1") }

func (j *journal) Apply(_ groups.ApplyContext, line string) []string {
	j.lines = append(j.lines, line)
	return nil
}

func (j *journal) Query(struct{}) []string { return slices.Clone(j.lines) }

type journalGroup = groups.Group[string, struct{}, []string]

// hurried are settings under which a group comes up soon and calls wait for long.
var hurried = groups.WithConsensus(groups.Consensus{BootstrapDelay: 300 * time.Millisecond, Patience: time.Minute})

// team is nodes of a network, each with a store of its own, in one group.
type team struct {
	t      *testing.T
	net    *testnet.Net
	key    groups.Key
	opts   []groups.Option
	stores []logstore.Store
	dirs   []string
	groups []*journalGroup
}

func newTeam(t *testing.T, n int, opts ...groups.Option) *team {
	t.Helper()
	tm := &team{t: t, net: testnet.Loopback(t, 0), key: groups.RandomKey()}
	// A busy machine makes calls wait, and nodes find each other so late that they would found histories of their own.
	tm.opts = append([]groups.Option{hurried, groups.ExpectMembers(max(n, 1))}, opts...)
	for range n {
		dir := t.TempDir()
		s := open(t, dir)
		tm.stores, tm.dirs = append(tm.stores, s), append(tm.dirs, dir)
		t.Cleanup(func() { s.Close() })
		tm.net.Add(mosaik.WithStorage(s))
		tm.groups = append(tm.groups, nil)
	}
	t.Cleanup(func() { // before the stores
		for _, i := range tm.net.Up() {
			tm.net.Close(i)
		}
	})
	for i := range n {
		for j := range i {
			tm.meet(i, j)
		}
	}
	for i := range n {
		tm.join(i)
	}
	return tm
}

// meet has two nodes know each other.
func (tm *team) meet(i, j int) {
	tm.t.Helper()
	ctx, cancel := context.WithTimeout(tm.t.Context(), time.Minute)
	defer cancel()
	tm.net.WaitFor(fmt.Sprintf("nodes %d and %d to meet", i, j), func() bool { // one that is asked too often refuses for a while
		return tm.net.Node(i).Discovery().Dial(ctx, tm.net.Node(j).Addr()) == nil
	})
}

func (tm *team) join(i int) *journalGroup {
	tm.t.Helper()
	g, err := groups.Join(tm.net.Node(i), tm.key, newJournal, tm.opts...)
	if err != nil {
		tm.t.Fatal(err)
	}
	tm.groups[i] = g
	return g
}

func (tm *team) restart(i int) *journalGroup {
	tm.t.Helper()
	tm.net.Restart(i)
	return tm.join(i)
}

func (tm *team) online(all ...int) {
	tm.t.Helper()
	ctx, cancel := context.WithTimeout(tm.t.Context(), time.Minute)
	defer cancel()
	for _, i := range all {
		if err := tm.groups[i].When().Online(ctx); err != nil {
			tm.t.Fatalf("node %d: %v\n%s", i, err, tm.groups[i].Status())
		}
	}
}

// voters waits until the node sees so many.
func (tm *team) voters(i, n int) {
	tm.t.Helper()
	tm.net.WaitFor(fmt.Sprintf("%d voters", n), func() bool { return tm.groups[i].Status().Voters == n })
}

func (tm *team) write(i int, line string) {
	tm.t.Helper()
	ctx, cancel := context.WithTimeout(tm.t.Context(), time.Minute)
	defer cancel()
	if _, err := tm.groups[i].Execute(ctx, line); err != nil {
		tm.t.Fatalf("write %q: %v\n%s", line, err, tm.groups[i].Status())
	}
}

// reads checks what a strong read on each of the nodes gives.
func (tm *team) reads(want []string, all ...int) {
	tm.t.Helper()
	ctx, cancel := context.WithTimeout(tm.t.Context(), time.Minute)
	defer cancel()
	for _, i := range all {
		res, err := tm.groups[i].Query(ctx, struct{}{}, groups.Strong)
		if err != nil || !slices.Equal(res.Value, want) {
			tm.t.Fatalf("node %d has %q, %v; want %q", i, res.Value, err, want)
		}
	}
}

// A node that is killed comes back as the member that it was, and catches up.
func TestComesBackAsItself(t *testing.T) {
	t.Parallel()
	tm := newTeam(t, 3)
	tm.online(0, 1, 2)
	tm.voters(0, 3)
	tm.write(0, "one")
	for _, m := range tm.groups[0].Members() {
		if !m.Durable {
			t.Errorf("%s is not seen as durable", m.Peer.Short())
		}
	}
	genesis := tm.groups[0].Status().Genesis
	joins := 0
	events := tm.groups[0].Events(t.Context())
	for i, line := range []string{"two", "three", "four"} {
		tm.net.Kill(i)
		if i == 0 {
			tm.write(1, line)
		} else {
			tm.write(0, line)
		}
		tm.restart(i)
		tm.online(i)
		tm.reads([]string{"one", "two", "three", "four"}[:i+2], 0, 1, 2)
		st := tm.groups[i].Status()
		if st.Genesis != genesis || len(st.Members) != 3 || st.Voters != 3 {
			t.Errorf("node %d is back in history %s with %d members, %d voters; want %s with 3", i, st.Genesis, len(st.Members), st.Voters, genesis)
		}
		if i == 0 {
			events = tm.groups[0].Events(t.Context())
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	context.AfterFunc(ctx, func() { tm.groups[0].Close() })
	for ev := range events {
		if ev.Kind == groups.MemberJoined || ev.Kind == groups.MemberLeft || ev.Kind == groups.StateReset {
			joins++
		}
	}
	if joins > 3 { // the first look at the members, after the restart
		t.Errorf("%d changes of members", joins)
	}
}

// All nodes are killed at once and come back with all that was acknowledged, and nobody founds anything.
func TestWholeClusterComesBack(t *testing.T) {
	t.Parallel()
	tm := newTeam(t, 3, groups.ExpectMembers(3))
	tm.online(0, 1, 2)
	tm.voters(0, 3)
	var want []string
	for round := range 3 {
		for k := range 20 {
			want = append(want, fmt.Sprint(round, ".", k))
			tm.write(k%3, want[len(want)-1])
		}
		genesis := tm.groups[0].Status().Genesis
		for i := range 3 {
			tm.net.Kill(i)
		}
		for i := range 3 {
			tm.restart(i)
		}
		tm.online(0, 1, 2)
		tm.reads(want, 0, 1, 2)
		if now := tm.groups[0].Status().Genesis; now != genesis {
			t.Fatalf("another history: %s after %s", now, genesis)
		}
	}
}

// A group of one comes back at once, without waiting for an election.
func TestAloneComesBack(t *testing.T) {
	t.Parallel()
	tm := newTeam(t, 1)
	tm.online(0)
	tm.write(0, "one")
	fastest := time.Hour
	for range 10 { // a busy machine can be slow, but not every time
		tm.net.Kill(0)
		tm.restart(0)
		begin := time.Now()
		tm.online(0)
		fastest = min(fastest, time.Since(begin))
		tm.reads([]string{"one"}, 0)
		if fastest < time.Second {
			return
		}
	}
	t.Errorf("online after %v at least", fastest)
}

// Close keeps the membership, Leave ends it, and then nothing is left of it on disk.
func TestCloseStaysLeaveGoes(t *testing.T) {
	t.Parallel()
	tm := newTeam(t, 3)
	tm.online(0, 1, 2)
	tm.voters(0, 3)
	tm.write(0, "one")
	if err := tm.groups[2].Close(); err != nil {
		t.Fatal(err)
	}
	tm.write(0, "two")
	if n := len(tm.groups[0].Members()); n != 3 {
		t.Errorf("%d members after one was closed", n)
	}
	tm.join(2)
	tm.online(2)
	tm.reads([]string{"one", "two"}, 2)

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	gid := tm.groups[2].ID()
	if err := tm.groups[2].Leave(ctx); err != nil {
		t.Fatal(err)
	}
	tm.net.WaitFor("the member is removed", func() bool { return len(tm.groups[0].Members()) == 2 })
	l, _ := openLog(t, tm.stores[2], gid)
	if v := lookAt(t, l, 1<<20); v.last != 0 || v.record != "" || v.state != "0 0 0" {
		t.Errorf("left on disk: %v", v)
	}
	closeAll(t, l)
	tm.join(2)
	tm.online(2)
	tm.reads([]string{"one", "two"}, 2)
}

// The leader hands over when it is closed, so nobody waits for an election timeout.
func TestLeaderClosed(t *testing.T) {
	t.Parallel()
	tm := newTeam(t, 3)
	tm.online(0, 1, 2)
	tm.voters(0, 3)
	fastest := time.Hour
	for round := 0; round < 3 || round < 10 && fastest > time.Second; round++ { // a busy machine can be slow, but not every time
		leader := -1
		tm.net.WaitFor("a leader", func() bool {
			leader = slices.IndexFunc(tm.groups, func(g *journalGroup) bool { return g.IsLeader() })
			return leader >= 0
		})
		tm.net.Close(leader)
		begin := time.Now()
		tm.write((leader+1)%3, fmt.Sprint("line ", round))
		fastest = min(fastest, time.Since(begin))
		tm.restart(leader)
		tm.online(0, 1, 2)
	}
	if fastest > time.Second {
		t.Errorf("the next command took %v at least", fastest)
	}
}

// A member that was removed while it was away joins again, and founds nothing if it finds nobody.
func TestRemovedWhileAway(t *testing.T) {
	t.Parallel()
	tm := newTeam(t, 3, groups.ExpectMembers(1), groups.WithConsensus(groups.Consensus{
		BootstrapDelay: 300 * time.Millisecond, RemoveAfter: 2 * time.Second, RemoveDurableAfter: 3 * time.Second, Patience: time.Minute,
	}))
	tm.online(0, 1, 2)
	tm.voters(0, 3)
	tm.write(0, "one")
	tm.net.Kill(2)
	tm.net.WaitFor("the member is removed", func() bool { return len(tm.groups[0].Members()) == 2 })
	tm.restart(2)
	tm.online(2)
	tm.reads([]string{"one"}, 2)
	tm.net.WaitFor("it votes again", func() bool { return tm.groups[0].Status().Voters == 3 })
	tm.net.Close(2)
	if s := stored(t, tm.stores[2]).Schema; s != "postcard/1 string" {
		t.Errorf("the log of the new life says that its commands are %q", s)
	}
}

// An operator who knows that a node is gone for good need not wait until the group gives it up. If the disk comes back after
// all the node joins again as a new member.
func TestRemoveMember(t *testing.T) {
	t.Parallel()
	tm := newTeam(t, 3)
	tm.online(0, 1, 2)
	tm.voters(0, 3)
	tm.write(0, "one")
	gone := tm.net.Node(2).ID()
	tm.net.Kill(2)
	tm.net.WaitFor("the loss being noticed", func() bool { return len(tm.groups[0].Bonds()) == 1 && len(tm.groups[1].Bonds()) == 1 })
	for deadline := time.Now().Add(30 * time.Second); ; { // which an election, or a machine that is busy, may fail
		err := tm.groups[0].RemoveMember(t.Context(), gone)
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	if n := len(tm.groups[0].Members()); n != 2 {
		t.Errorf("%d members are left", n)
	}
	tm.write(1, "two")
	tm.restart(2)
	tm.online(2)
	tm.reads([]string{"one", "two"}, 2)
	tm.net.WaitFor("it votes again", func() bool { return tm.groups[0].Status().Voters == 3 })
	if l := tm.groups[2].Status().Lineage; len(l) != 0 {
		t.Errorf("another history: %v", l)
	}
}

func TestOtherNodesStore(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	t.Cleanup(func() { s.Close() })
	net := testnet.Loopback(t, 2)
	g, err := groups.Join(net.Node(0), groups.KeyFrom("key"), newJournal, groups.WithStorage(s))
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if _, err := groups.Join(net.Node(1), groups.KeyFrom("key"), newJournal, groups.WithStorage(s)); !errors.Is(err, logstore.ErrOtherNode) {
		t.Errorf("another node's store: %v", err)
	}
}

// When the disk is full the group stops on that node, and says so; the others go on, and the node is back once there is
// space.
func TestDiskFullStopsTheGroup(t *testing.T) {
	t.Parallel()
	if !isLonely() {
		runLonely(t) // a failed database stands still and is left behind
		return
	}
	mem := vfs.NewMem()
	f := &faults{err: syscall.ENOSPC, match: func(op errorfs.Op) bool {
		return op.Kind == errorfs.OpFileWrite && strings.HasSuffix(op.Path, ".log")
	}}
	tm := newTeam(t, 2)
	full := open(t, "store", pebble.WithFS(errorfs.Wrap(mem, f)))
	tm.stores = append(tm.stores, full)
	tm.net.Add(mosaik.WithStorage(full))
	tm.groups = append(tm.groups, nil)
	tm.meet(2, 0)
	tm.meet(2, 1)
	tm.join(2)
	tm.online(0, 1, 2)
	tm.voters(0, 3)
	tm.write(2, "one")

	f.on.Store(true)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := tm.groups[2].Execute(ctx, "two")
	tm.net.WaitFor("the group is over", func() bool { return tm.groups[2].Status().Failed != nil })
	if st := tm.groups[2].Status(); !errors.Is(st.Failed, syscall.ENOSPC) || !strings.Contains(st.String(), "no space left") {
		t.Errorf("status: %v", st)
	}
	tm.write(0, "three")
	tm.net.Kill(2)
	tm.write(1, "four") // by now the second has happened, or will not
	patient, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	res, queryErr := tm.groups[0].Query(patient, struct{}{}, groups.Strong)
	if queryErr != nil {
		t.Fatal(queryErr)
	}
	want := res.Value
	rest := slices.DeleteFunc(slices.Clone(want), func(line string) bool { return line == "two" })
	switch twos := len(want) - len(rest); {
	case !slices.Equal(rest, []string{"one", "three", "four"}):
		t.Errorf("the others have %q", want)
	case twos != 1 && err == nil, twos != 0 && errors.Is(err, groups.ErrNotApplied), twos > 1:
		t.Errorf("the others have %q, and the call said: %v", want, err)
	}
	tm.reads(want, 1)
	if err := full.Close(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("close: %v", err)
	}
	f.on.Store(false)
	again := open(t, "store", pebble.WithFS(mem))
	tm.opts = append(tm.opts, groups.WithStorage(again))
	tm.restart(2)
	tm.online(2)
	tm.reads(want, 2)
	if n := len(tm.groups[0].Members()); n != 3 {
		t.Errorf("%d members", n)
	}
}
