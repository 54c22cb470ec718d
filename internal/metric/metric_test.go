package metric_test

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/metric"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// all makes one of each.
func all(p *metric.Part) (prometheus.Counter, prometheus.Gauge) {
	c, g := p.Counter("syncs", "Syncs."), p.Gauge("peers", "Peers.")
	p.CounterVec("refused", "Refusals.", "reason").WithLabelValues("busy").Inc()
	p.GaugeVec("consumers", "Consumers.", "stream").WithLabelValues("s").Add(2)
	p.Histogram("seconds", "Times.", []float64{1}).Observe(0.5)
	return c, g
}

// Two nodes of one network add up to one set of series, with full names and the network; another network has its own.
func TestNodesShareSeries(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	for _, network := range []string{"one", "one", "two"} {
		p := metric.Of(reg, "part", id.Of(network))
		c, g := all(p)
		c.Inc()
		g.Add(3)
		if err := p.Err(); err != nil {
			t.Fatal(err)
		}
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]float64{
		"mosaik_part_syncs": 2, "mosaik_part_peers": 6, "mosaik_part_refused": 2, "mosaik_part_consumers": 4, "mosaik_part_seconds": 2,
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			factor := 1.0
			for _, l := range m.GetLabel() {
				if l.GetName() == "network" && l.GetValue() == id.Of("two").Short() {
					factor = 2
				}
			}
			got := m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			if got*factor != want[f.GetName()] {
				t.Errorf("%s %v is %v, want %v", f.GetName(), m.GetLabel(), got, want[f.GetName()]/factor)
			}
		}
		if len(f.GetMetric()) != 2 {
			t.Errorf("%s has %d series, want one for each network", f.GetName(), len(f.GetMetric()))
		}
		delete(want, f.GetName())
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
}

// Nobody has to collect, and a name that is taken is reported.
func TestRefusedSeries(t *testing.T) {
	t.Parallel()
	p := metric.Of(nil, "part", id.Of("one"))
	c, _ := all(p)
	c.Inc()
	if err := p.Err(); err != nil {
		t.Errorf("without a registerer: %v", err)
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: "mosaik_part_syncs", Help: "Something else."}))
	p = metric.Of(reg, "part", id.Of("one"))
	c, _ = all(p)
	c.Inc()
	if err := p.Err(); err == nil || !strings.Contains(err.Error(), "mosaik_part_syncs") {
		t.Errorf("a name that is taken: %v", err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, f := range families {
		found = found || f.GetName() == "mosaik_part_peers"
	}
	if !found {
		t.Error("the other series are not there")
	}
}
