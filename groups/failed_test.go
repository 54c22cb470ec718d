package groups_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mosaik-go/mosaik"
	"github.com/mosaik-go/mosaik/groups"
	"github.com/mosaik-go/mosaik/groups/logstore/pebble"
	"github.com/mosaik-go/mosaik/testnet"
)

// A group that fails says so to whoever watches: by its metrics until its last handle is closed, and by events.
func TestFailureIsSeen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		net := testnet.Simulated(t, 0)
		reg := prometheus.NewRegistry()
		net.Add(mosaik.WithMetrics(reg))
		g, err := groups.Join(net.Node(0), groups.RandomKey(), newBomb)
		if err != nil {
			t.Fatal(err)
		}
		good := join(t, net.Node(0), groups.RandomKey())
		within(t, time.Minute, "online", g.When().Online)
		within(t, time.Minute, "online", good.When().Online)
		shows := func(when string, active, online, failed float64) {
			t.Helper()
			equal(t, "active "+when, metric(t, reg, "mosaik_groups_active"), active)
			equal(t, "online "+when, metric(t, reg, "mosaik_groups_online"), online)
			equal(t, "failed "+when, metric(t, reg, "mosaik_groups_failed"), failed)
		}
		shows("at first", 2, 2, 0)
		events := g.Events(t.Context())
		_, err = g.Execute(t.Context(), 13)
		wantError(t, err, groups.ErrOutcomeUnknown)
		synctest.Wait()
		shows("after the panic", 1, 1, 1)
		var kinds []groups.EventKind
		for ev := range events {
			if ev.Kind == groups.WentOffline || ev.Kind == groups.GroupEnded {
				kinds = append(kinds, ev.Kind)
				equal(t, "reason", ev.Reason, g.Status().Failed.Error())
			}
		}
		if len(kinds) != 2 || kinds[0] != groups.WentOffline || kinds[1] != groups.GroupEnded {
			t.Errorf("events: %v", kinds)
		}
		g.Close()
		shows("after Close", 1, 1, 0)
		good.Close()
		equal(t, "active at the end", metric(t, reg, "mosaik_groups_active"), 0)
	})
}

// batchBomb is a bomb whose commands are applied in batches.
type batchBomb struct{ bomb }

func newBatchBomb() *batchBomb { return new(batchBomb) }

func (b *batchBomb) ApplyBatch(ctx groups.ApplyContext, cmds, results []int64) {
	for i, c := range cmds {
		results[i] = b.Apply(ctx, c)
	}
}

// A panic says at which command it was, and which that is; what came before it is applied, and counts as such.
func TestPoisonCommandIsNamed(t *testing.T) {
	t.Parallel()
	batch := func(ctx context.Context, g *counterGroup) error {
		_, err := g.ExecuteMany(ctx, 3, 13, 4)
		return err
	}
	single := func(ctx context.Context, g *counterGroup) error {
		_, err := g.Execute(ctx, 13)
		return err
	}
	joinBomb := func(net *mosaik.Network) (*counterGroup, error) { return groups.Join(net, groups.RandomKey(), newBomb) }
	for name, tc := range map[string]struct {
		join    func(*mosaik.Network) (*counterGroup, error)
		call    func(context.Context, *counterGroup) error
		index   uint64
		command any
		text    string
	}{
		"one":     {joinBomb, single, 3, int64(13), "at command 3: unlucky"},
		"of many": {joinBomb, batch, 4, int64(13), "at command 4: unlucky"},
		"in a batch": {func(net *mosaik.Network) (*counterGroup, error) {
			return groups.Join(net, groups.RandomKey(), newBatchBomb)
		},
			batch, 3, []int64{3, 13, 4}, "at one of commands 3 to 5: unlucky"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				log := new(record)
				net := testnet.Simulated(t, 0)
				net.Add(mosaik.WithLogger(log.logger()))
				g, err := tc.join(net.Node(0))
				if err != nil {
					t.Fatal(err)
				}
				within(t, time.Minute, "online", g.When().Online)
				execute(t, g, 1)
				execute(t, g, 2)
				err = tc.call(t.Context(), g)
				wantError(t, err, groups.ErrOutcomeUnknown)
				p, ok := errors.AsType[*groups.PanicError](err)
				if !ok {
					t.Fatal(err)
				}
				equal(t, "index", p.Index, tc.index)
				if want, many := tc.command.([]int64); many {
					got, _ := p.Command.([]int64)
					equal(t, "commands", len(got), p.Count)
					equal(t, "commands", len(got), len(want))
					equal(t, "the poison", got[1], want[1])
				} else {
					equal(t, "count", p.Count, 1)
					equal(t, "command", p.Command, tc.command)
				}
				if !strings.Contains(err.Error(), tc.text) {
					t.Errorf("%v does not say %q", err, tc.text)
				}
				equal(t, "commands applied", uint64(g.Status().Committed), tc.index-1)
				synctest.Wait() // the call ends first
				lines := log.lines(t, "the group failed on this node")
				if len(lines) != 1 || lines[0]["index"] != float64(tc.index) || !strings.Contains(lines[0]["stack"].(string), "(*bomb).Apply") {
					t.Errorf("log: %v", lines)
				}
			})
		})
	}
}

// durable returns a network with one node, which has a store.
func durable(t *testing.T) *testnet.Net {
	t.Helper()
	store, err := pebble.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	net := testnet.Loopback(t, 0)
	net.Add(mosaik.WithStorage(store))
	return net
}

// A durable member fails again when it is started, at the same command, and says how far it came. With the machine mended
// it goes on.
func TestRestartIntoPoison(t *testing.T) {
	t.Parallel()
	net, key := durable(t), groups.RandomKey()
	const before = 60
	g, err := groups.Join(net.Node(0), key, newBomb)
	if err != nil {
		t.Fatal(err)
	}
	within(t, time.Minute, "online", g.When().Online)
	for range before {
		within(t, time.Minute, "feed", func(ctx context.Context) error {
			_, err := g.Feed(ctx, 1)
			return err
		})
	}
	_, err = g.Execute(t.Context(), 13)
	wantError(t, err, groups.ErrOutcomeUnknown)
	net.Close(0)
	g, err = groups.Join(net.Restart(0), key, newBomb)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "failed again", func() bool { return g.Status().Failed != nil })
	p, ok := errors.AsType[*groups.PanicError](g.Status().Failed)
	if !ok || p.Index != before+1 || p.Command != int64(13) {
		t.Errorf("failed with %v", g.Status().Failed)
	}
	equal(t, "commands applied", g.Status().Committed, before)
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	mended, err := groups.Join(net.Node(0), key, newCounter)
	if err != nil {
		t.Fatal(err)
	}
	within(t, time.Minute, "online", mended.When().Online)
	equal(t, "value", query(t, mended, groups.Strong).Value, before+13)
}

// Whoever leaves a group that has failed is told that it did not happen, and the log stays: it may be the only one.
func TestLeaveAfterFailure(t *testing.T) {
	t.Parallel()
	net, key := durable(t), groups.RandomKey()
	g, err := groups.Join(net.Node(0), key, newBomb)
	if err != nil {
		t.Fatal(err)
	}
	within(t, time.Minute, "online", g.When().Online)
	execute(t, g, 4)
	_, err = g.Execute(t.Context(), 13)
	wantError(t, err, groups.ErrOutcomeUnknown)
	err = g.Leave(t.Context())
	if p, ok := errors.AsType[*groups.PanicError](err); !ok || p.Index != 2 || !strings.Contains(err.Error(), "not left, the log is kept") {
		t.Fatalf("leave: %v", err)
	}
	mended, err := groups.Join(net.Node(0), key, newCounter)
	if err != nil {
		t.Fatal(err)
	}
	within(t, time.Minute, "online", mended.When().Online)
	equal(t, "value", query(t, mended, groups.Strong).Value, 17)
	if err := mended.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	empty := join(t, net.Node(0), key)
	within(t, time.Minute, "online", empty.When().Online)
	equal(t, "value after a Leave that happened", query(t, empty, groups.Strong).Value, 0)
}

// The other members are told that the group failed on a node which runs on, and by that why there is no majority.
func TestOthersHearOfFailure(t *testing.T) {
	simulated(t, 2, func(t *testing.T, net *testnet.Sim) {
		key := groups.RandomKey()
		bad, err := groups.Join(net.Node(0), key, newBomb)
		if err != nil {
			t.Fatal(err)
		}
		good := join(t, net.Node(1), key)
		within(t, time.Minute, "online", bad.When().Online)
		within(t, time.Minute, "online", good.When().Online)
		settled(t, []*counterGroup{bad, good})
		events := good.Events(t.Context())
		_, err = bad.Execute(t.Context(), 13)
		wantError(t, err, groups.ErrOutcomeUnknown)
		time.Sleep(5 * time.Minute)
		const why = "the group failed on that node"
		st := good.Status()
		if len(st.Missing) != 1 || st.Missing[0].Why != why || !strings.Contains(st.Reason, why) {
			t.Errorf("missing %v, reason %q", st.Missing, st.Reason)
		}
		good.Close()
		downs := 0
		for ev := range events {
			if ev.Kind == groups.PeerRefused {
				t.Errorf("refused: %v", ev)
			}
			if ev.Kind == groups.BondDown && ev.Reason == why {
				downs++
			}
		}
		equal(t, "bonds that ended for that", downs, 1)
	})
}
