package discovery

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/metric"
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
	part := metric.Of(reg, "discovery", network)
	gauge := func(name, help string) *share { return &share{gauge: part.Gauge(name, help)} }
	m := &metrics{
		catalogSize: gauge("catalog_size", "Peers in the catalog, this node not counted."),
		neighbours:  gauge("gossip_neighbors", "Peers to which this node gossips."),
		lost:        gauge("peers_lost", "Known peers that this node cannot reach."),
		discovered:  part.Counter("peers_discovered", "Peers that came into the catalog, those that were found again included."),
		updated:     part.Counter("peers_updated", "Entries that changed."),
		departed:    part.Counter("peers_departed", "Peers that left, fell silent or were lost."),
		syncs:       part.Counter("catalog_syncs", "Comparisons of catalogs that this node began and that succeeded."),
		syncsFailed: part.Counter("catalog_syncs_failed", "Comparisons of catalogs that this node began and that failed."),
		dropped:     part.Counter("gossip_dropped", "Frames dropped because a neighbour was slow; digests are compared instead."),
		refused:     part.CounterVec("refused", "Updates, peers and requests turned down, by reason.", "reason"),
	}
	return m, part.Err()
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
