package host

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mosaik-go/mosaik/groups/internal/core"
	"github.com/mosaik-go/mosaik/id"
)

// values returns the series of a group that are not zero, as name{outcome} and value.
func values(t *testing.T, reg *prometheus.Registry, group string) (out []string) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			labels := make(map[string]string)
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["group"] != group {
				continue
			}
			name := strings.TrimPrefix(f.GetName(), "mosaik_groups_") + labels["outcome"] + labels["reason"]
			if h := m.GetHistogram(); h.GetSampleCount() > 0 {
				out = append(out, fmt.Sprintf("%s %d in %.3f s", name, h.GetSampleCount(), h.GetSampleSum()))
				for _, b := range h.GetBucket() {
					if b.GetUpperBound() == 0.0002 {
						out = append(out, fmt.Sprintf("%s %d below 200 us", name, b.GetCumulativeCount()))
					}
				}
			}
			if v := m.GetCounter().GetValue() + m.GetGauge().GetValue(); v != 0 {
				out = append(out, fmt.Sprintf("%s %v", name, v))
			}
		}
	}
	slices.Sort(out)
	return out
}

func testMetrics(t testing.TB, reg prometheus.Registerer, network string) *metrics {
	t.Helper()
	m, err := newMetrics(reg, id.Of(network))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Two networks of one name in a process share their series; what is forgotten is gone.
func TestGroupMetrics(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	group := id.Of("group")
	a, b := testMetrics(t, reg, "net"), testMetrics(t, reg, "net")
	x, y, other := a.group(group), b.group(group), a.group(id.Of("other"))
	x.applied(3, 7)
	y.applied(2, 6)
	x.done(100 * time.Microsecond)
	y.done(200 * time.Microsecond)
	y.done(200*time.Microsecond + 1)
	y.failed(core.FailedOffline)
	x.imagesFailed.Inc()
	y.refused("busy")
	other.leaders.Inc()
	want := []string{
		"bonds_refusedbusy 1", "call_seconds 2 below 200 us", "call_seconds 3 in 0.001 s", "callsapplied 3", "callsoffline 1",
		"commands_applied 5", "imagesfailed 1", "raft_committed 7",
	}
	if got := values(t, reg, group.Short()); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	b.forget(y)
	want = []string{"call_seconds 1 below 200 us", "call_seconds 1 in 0.000 s", "callsapplied 1", "commands_applied 3", "imagesfailed 1", "raft_committed 7"}
	if got := values(t, reg, group.Short()); !slices.Equal(got, want) {
		t.Errorf("after one was forgotten: got  %q\nwant %q", got, want)
	}
	a.forget(x)
	if got := values(t, reg, group.Short()); len(got) > 0 {
		t.Errorf("after both were forgotten: %q", got)
	}
	if got := values(t, reg, id.Of("other").Short()); !slices.Equal(got, []string{"raft_leader_changes 1"}) {
		t.Errorf("the other group shows %q", got)
	}
}
