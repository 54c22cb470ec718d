package groups_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mosaik-go/mosaik/codec"
	"github.com/mosaik-go/mosaik/groups"
	"github.com/mosaik-go/mosaik/testnet"
)

// Handles of one node to one group share the machine, and the group lives as long as any of them.
func TestHandlesShareTheGroup(t *testing.T) {
	simulated(t, 2, func(t *testing.T, net *testnet.Sim) {
		key := groups.RandomKey()
		gs := joinAll(t, net.Net, key)
		again := join(t, net.Node(1), key)
		execute(t, gs[1], 5)
		if res := query(t, again, groups.Weak); res.Value != 5 {
			t.Errorf("the second handle sees %v", res)
		}

		gs[1].Close()
		execute(t, again, 2)
		if !memberOf(t, gs[0], net.Node(1)) {
			t.Error("closing one of two handles ended the membership")
		}
		if _, err := gs[1].Execute(t.Context(), 1); err == nil {
			t.Error("a closed handle works")
		}

		again.Close()
		if memberOf(t, gs[0], net.Node(1)) {
			t.Error("the membership outlives the last handle")
		}
		if net.Node(1).Discovery().Me().HasGroup(gs[0].ID()) {
			t.Error("the group is advertised after the last handle was closed")
		}
		execute(t, gs[0], 1) // alone, and with a majority
		synctest.Wait()

		back := join(t, net.Node(1), key)
		within(t, time.Minute, "online again", back.When().Online)
		equal(t, "sum after joining again", query(t, back, groups.Strong).Value, 8)
	})
}

// Joining again with other types is an error that names the reason.
func TestJoinWithOtherTypes(t *testing.T) {
	simulated(t, 1, func(t *testing.T, net *testnet.Sim) {
		key := groups.RandomKey()
		g := join(t, net.Node(0), key)
		_, err := groups.Join(net.Node(0), key, newWords) // same signature, other commands
		wantError(t, err, groups.ErrTypeMismatch)
		_, err = groups.Join(net.Node(0), key, newBomb) // same types, other machine
		wantError(t, err, groups.ErrTypeMismatch)
		_, err = groups.Join(net.Node(0), key, newCounter, groups.WithCodec(codec.Must(codec.CBOR[int64]())))
		wantError(t, err, groups.ErrTypeMismatch)
		_, err = groups.Join(net.Node(0), key, newCounter, groups.WithCodec(codec.Must(codec.For[string]())))
		wantError(t, err, groups.ErrTypeMismatch)
		within(t, time.Minute, "the first handle is unharmed", g.When().Online)
	})
}

// What a machine and its group cannot be is refused in words.
func TestJoinRefuses(t *testing.T) {
	simulated(t, 1, func(t *testing.T, net *testnet.Sim) {
		key := groups.RandomKey()
		n := net.Node(0)
		_, nilPointer := groups.Join(n, key, func() *counter { return nil })
		_, nilInterface := groups.Join(n, key, func() groups.Machine[int64, struct{}, int64] { return nil })
		_, nilOption := groups.Join(n, key, newCounter, nil)
		_, nilStore := groups.Join(n, key, newCounter, groups.WithStorage(nil))
		for want, err := range map[string]error{
			"newMachine returned nil": nilPointer, "returned nil": nilInterface, "option 0 is nil": nilOption, "the store is nil": nilStore,
		} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("want an error with %q, got: %v", want, err)
			}
		}
	})
}

// A founder that closes as soon as it has a command acknowledged takes the other in first, which has the command then.
func TestCloseOfLoneFounder(t *testing.T) {
	simulated(t, 2, func(t *testing.T, net *testnet.Sim) {
		net.DiscoverAll(t.Context())
		key := groups.RandomKey()
		gs := []*counterGroup{join(t, net.Node(0), key), join(t, net.Node(1), key)}
		net.WaitFor("a founder", func() bool { return gs[0].IsLeader() || gs[1].IsLeader() })
		if gs[1].IsLeader() {
			slices.Reverse(gs)
		}
		execute(t, gs[0], 3)
		if err := gs[0].Close(); err != nil {
			t.Error(err)
		}
		execute(t, gs[1], 4)
		equal(t, "sum", query(t, gs[1], groups.Strong).Value, 7)
	})
}

// Leave ends the membership for all handles and is acknowledged by the others; the leader hands over first.
func TestLeave(t *testing.T) {
	simulated(t, 3, func(t *testing.T, net *testnet.Sim) {
		key := groups.RandomKey()
		gs := joinAll(t, net.Net, key)
		l := leaderOf(t, gs)
		second := join(t, net.Node(l), key)
		begin := time.Now()
		within(t, 5*time.Second, "leave", gs[l].Leave)
		if took := time.Since(begin); took > time.Second {
			t.Errorf("leaving took %v", took)
		}
		_, err := second.Execute(t.Context(), 1)
		wantError(t, err, groups.ErrNotApplied, groups.ErrClosed)
		for i, g := range gs {
			if i == l {
				continue
			}
			execute(t, g, 1)
			if memberOf(t, g, net.Node(l)) {
				t.Errorf("node %d still counts the one that left", i)
			}
		}
		second.Close()
	})
}

// Events tell what happened, in order.
func TestEvents(t *testing.T) {
	simulated(t, 2, func(t *testing.T, net *testnet.Sim) {
		key := groups.RandomKey()
		g := join(t, net.Node(0), key)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		evs := g.Events(ctx)
		within(t, time.Minute, "online", g.When().Online)
		h := join(t, net.Node(1), key)
		within(t, time.Minute, "online", h.When().Online)
		settled(t, []*counterGroup{g, h})
		h.Close()
		synctest.Wait()
		cancel()
		var kinds []groups.EventKind
		at := make(map[groups.EventKind]int)
		for ev := range evs {
			if _, seen := at[ev.Kind]; !seen {
				at[ev.Kind] = len(kinds)
			}
			kinds = append(kinds, ev.Kind)
		}
		order := []groups.EventKind{groups.LeaderChanged, groups.BondUp, groups.MemberPromoted, groups.MemberLeft}
		for i, k := range order {
			p, seen := at[k]
			if !seen || i > 0 && p < at[order[i-1]] {
				t.Fatalf("%v is missing or out of order in %v", k, kinds)
			}
		}
	})
}

// tape is a machine with ApplyBatch that keeps all it is given, with the index of each command.
type tape struct {
	counter
	at      []groups.Index
	amounts []int64
	batches int
}

func newTape() *tape { return new(tape) }

func (m *tape) ApplyBatch(ctx groups.ApplyContext, cmds []int64, results []int64) {
	m.batches++
	for i, c := range cmds {
		m.at = append(m.at, ctx.Index+groups.Index(i))
		m.amounts = append(m.amounts, c)
		results[i] = m.Apply(ctx, c)
	}
}

// A machine with ApplyBatch gets runs of commands, and callers get their own results.
func TestBatchApplier(t *testing.T) {
	simulated(t, 1, func(t *testing.T, net *testnet.Sim) {
		m := newTape()
		g, err := groups.Join(net.Node(0), groups.RandomKey(), func() *tape { return m })
		if err != nil {
			t.Fatal(err)
		}
		within(t, time.Minute, "online", g.When().Online)
		res, err := g.ExecuteMany(t.Context(), 1, 2, 3)
		if err != nil || len(res.Values) != 3 || res.Values[0] != 1 || res.Values[2] != 6 {
			t.Fatalf("%v, %v", res, err)
		}
		one, err := g.Execute(t.Context(), 4)
		if err != nil || one.Value != 10 || one.Index != 4 {
			t.Fatalf("%v, %v", one, err)
		}
		if m.batches != 2 || len(m.at) != 4 || m.at[3] != 4 {
			t.Errorf("%d batches, indices %v", m.batches, m.at)
		}
	})
}

// Settings that cannot work are refused with the field's name.
func TestOptionsAreValidated(t *testing.T) {
	simulated(t, 1, func(t *testing.T, net *testnet.Sim) {
		for name, opt := range map[string]groups.Option{
			"Heartbeat":       groups.WithConsensus(groups.Consensus{Heartbeat: time.Millisecond}),
			"ElectionTimeout": groups.WithConsensus(groups.Consensus{ElectionTimeout: 600 * time.Millisecond}),
			"BootstrapDelay":  groups.WithConsensus(groups.Consensus{BootstrapDelay: -1}),
			"RemoveAfter":     groups.WithConsensus(groups.Consensus{RemoveAfter: time.Second}),
			"MaxVoters":       groups.WithConsensus(groups.Consensus{MaxVoters: -1}),
			"Patience":        groups.WithConsensus(groups.Consensus{Patience: 1000 * time.Hour}),
			"ExpectMembers":   groups.ExpectMembers(0),
			"WithPreference":  groups.WithPreference(9),
			"WithStorage":     groups.WithStorage(nil),
			"RequireTicket":   groups.RequireTicket(nil),
			"WithCodec":       groups.WithCodec[int64](nil),
		} {
			g, err := groups.Join(net.Node(0), groups.RandomKey(), newCounter, opt)
			if err == nil {
				g.Close()
				t.Errorf("%s: accepted", name)
			} else if !contains(err.Error(), name) {
				t.Errorf("%s: the error does not name it: %v", name, err)
			}
		}
		if _, err := groups.Join(net.Node(0), groups.Key{}, newCounter); err == nil {
			t.Error("the zero key was accepted")
		}
	})
}
