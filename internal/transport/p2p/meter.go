package p2p

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/link"
)

// meter holds a host's metrics. They are kept whether or not anybody collects them.
type meter struct {
	opened          prometheus.Counter
	usable          prometheus.Gauge
	closed, refused *prometheus.CounterVec
	ingress, egress prometheus.Counter
	rtt             prometheus.Histogram
}

func newMeter(r prometheus.Registerer, network id.ID) *meter {
	labels := prometheus.Labels{"network": network.Short()}
	counter := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Name: "mosaik_network_" + name, Help: help, ConstLabels: labels}
	}
	return &meter{
		opened: register(r, prometheus.NewCounter(counter("connections_opened", "Connections opened or accepted, before the hello."))),
		usable: register(r, prometheus.NewGauge(prometheus.GaugeOpts(counter("connections", "Connections whose hello is done.")))),
		closed: register(r, prometheus.NewCounterVec(
			counter("connections_closed", "Connections closed, by reason."), []string{"reason"})),
		refused: register(r, prometheus.NewCounterVec(
			counter("refused", "Peers and streams turned away before use, by reason and by who did it."), []string{"reason", "by"})),
		ingress: register(r, prometheus.NewCounter(counter("ingress_bytes", "Bytes read from streams."))),
		egress:  register(r, prometheus.NewCounter(counter("egress_bytes", "Bytes written to streams."))),
		rtt: register(r, prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "mosaik_network_rtt_seconds", Help: "Round-trip times of heartbeats.", ConstLabels: labels,
			Buckets: prometheus.ExponentialBuckets(50e-6, 4, 9), // 50 us to 3.3 s
		})),
	}
}

// register registers a collector, or returns the one that another node of this process has registered.
func register[C prometheus.Collector](r prometheus.Registerer, c C) C {
	if r == nil {
		return c
	}
	if err := r.Register(c); err != nil {
		if already, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
			if same, ok := already.ExistingCollector.(C); ok {
				return same
			}
		}
	}
	return c
}

func (m *meter) close(code link.Code) { m.closed.WithLabelValues(code.Label()).Inc() }

func (m *meter) refuse(why *link.CloseError) {
	by := "self"
	if why.Remote {
		by = "peer"
	}
	m.refused.WithLabelValues(why.Code.Label(), by).Inc()
}
