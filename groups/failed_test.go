package groups_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mosaik-go/mosaik"
	"github.com/mosaik-go/mosaik/groups"
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
