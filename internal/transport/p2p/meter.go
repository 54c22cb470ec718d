package p2p

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/internal/metric"
)

// meter holds a host's metrics. They are kept whether or not anybody collects them.
type meter struct {
	opened          prometheus.Counter
	usable          map[string]prometheus.Gauge // by transport
	closed, refused *prometheus.CounterVec
	ingress, egress prometheus.Counter
	rtt             prometheus.Histogram
}

func newMeter(reg prometheus.Registerer, network id.ID) (*meter, error) {
	part := metric.Of(reg, "network", network)
	usable := part.GaugeVec("connections", "Connections whose hello is done, by transport.", "transport")
	m := &meter{
		usable:  map[string]prometheus.Gauge{"tcp": usable.WithLabelValues("tcp"), "quic": usable.WithLabelValues("quic")},
		opened:  part.Counter("connections_opened", "Connections opened or accepted, before the hello."),
		closed:  part.CounterVec("connections_closed", "Connections closed, by reason.", "reason"),
		refused: part.CounterVec("refused", "Peers and streams turned away before use, by reason and by who did it.", "reason", "by"),
		ingress: part.Counter("ingress_bytes", "Bytes read from streams."),
		egress:  part.Counter("egress_bytes", "Bytes written to streams."),
		rtt: part.Histogram("rtt_seconds", "Round-trip times of heartbeats.",
			prometheus.ExponentialBuckets(50e-6, 4, 9)), // 50 us to 3.3 s
	}
	return m, part.Err()
}

func (m *meter) close(code link.Code) { m.closed.WithLabelValues(code.Label()).Inc() }

func (m *meter) refuse(why *link.CloseError) {
	by := "self"
	if why.Remote {
		by = "peer"
	}
	m.refused.WithLabelValues(why.Code.Label(), by).Inc()
}
