package discovery

import (
	"errors"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mosaik-go/mosaik/id"
)

// metrics are the counters of one node. Nodes of one network that share a registerer share them, and they add up.
type metrics struct {
	catalogSize *share
	neighbours  *share
	lost        *share
	discovered  prometheus.Counter
	updated     prometheus.Counter
	departed    prometheus.Counter
	syncs       prometheus.Counter
	syncsFailed prometheus.Counter
	dropped     prometheus.Counter
	refused     *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, network id.ID) (*metrics, error) {
	labels := prometheus.Labels{"network": network.Short()}
	var errs []error
	counter := func(name, help string) prometheus.Counter {
		c, err := register[prometheus.Counter](reg, prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "mosaik", Subsystem: "discovery", Name: name, Help: help, ConstLabels: labels,
		}))
		errs = append(errs, err)
		return c
	}
	gauge := func(name, help string) *share {
		g, err := register[prometheus.Gauge](reg, prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: "mosaik", Subsystem: "discovery", Name: name, Help: help, ConstLabels: labels,
		}))
		errs = append(errs, err)
		return &share{gauge: g}
	}
	m := &metrics{
		catalogSize: gauge("catalog_size", "Peers in the catalog, this node not counted."),
		neighbours:  gauge("gossip_neighbors", "Peers to which this node gossips."),
		lost:        gauge("peers_lost", "Known peers that this node cannot reach."),
		discovered:  counter("peers_discovered", "Peers that came into the catalog, those that were found again included."),
		updated:     counter("peers_updated", "Entries that changed."),
		departed:    counter("peers_departed", "Peers that left, fell silent or were lost."),
		syncs:       counter("catalog_syncs", "Comparisons of catalogs that this node began and that succeeded."),
		syncsFailed: counter("catalog_syncs_failed", "Comparisons of catalogs that this node began and that failed."),
		dropped:     counter("gossip_dropped", "Frames dropped because a neighbour was slow; digests are compared instead."),
	}
	var err error
	m.refused, err = register[*prometheus.CounterVec](reg, prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "mosaik", Subsystem: "discovery", Name: "refused",
		Help: "Updates, peers and requests turned down, by reason.", ConstLabels: labels,
	}, []string{"reason"}))
	return m, errors.Join(append(errs, err)...)
}

// register registers a collector, or returns the equal one that is registered already.
func register[C prometheus.Collector](reg prometheus.Registerer, c C) (C, error) {
	if reg == nil {
		return c, nil
	}
	err := reg.Register(c)
	if already, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if old, ok := already.ExistingCollector.(C); ok {
			return old, nil
		}
	}
	return c, err
}

// share is a node's share in a gauge.
type share struct {
	gauge prometheus.Gauge
	mu    sync.Mutex
	value int
}

func (s *share) set(value int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gauge.Add(float64(value - s.value))
	s.value = value
}

// withdraw takes the shares of a node that ends out of the gauges.
func (m *metrics) withdraw() {
	for _, s := range []*share{m.catalogSize, m.neighbours, m.lost} {
		s.set(0)
	}
}
