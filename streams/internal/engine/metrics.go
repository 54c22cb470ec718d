package engine

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/internal/metric"
)

// metrics are the series of all streams of a node. Every series has the constant label network.
type metrics struct {
	producers prometheus.Gauge
	accepted  prometheus.Counter
	rejected  prometheus.Counter
	refusals  *prometheus.CounterVec // of this node's consumers, by reason

	consumers         *prometheus.GaugeVec
	consumersAccepted *prometheus.CounterVec
	consumersRejected *prometheus.CounterVec
	itemsSent         *prometheus.CounterVec
	bytesSent         *prometheus.CounterVec
	itemsDropped      *prometheus.CounterVec
	undelivered       *prometheus.CounterVec

	upstreams     *prometheus.GaugeVec
	itemsReceived *prometheus.CounterVec
	bytesReceived *prometheus.CounterVec
	itemsMissed   *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, network id.ID) (*metrics, error) {
	part := metric.Of(reg, "streams", network)
	m := &metrics{
		producers: part.Gauge("producers_active", "Producers on this node."),
		accepted:  part.Counter("connections_accepted", "Subscriptions accepted."),
		rejected:  part.Counter("connections_rejected", "Subscriptions refused before they reached a producer: unknown peer or stream, other network."),
		refusals:  part.CounterVec("consumer_refusals", "Attempts of consumers on this node that failed and subscriptions that ended, by reason.", "reason"),

		consumers:         part.GaugeVec("producer_consumers", "Subscriptions to a producer.", "stream"),
		consumersAccepted: part.CounterVec("producer_consumers_accepted", "Subscriptions that a producer accepted.", "stream"),
		consumersRejected: part.CounterVec("producer_consumers_rejected", "Subscriptions that a producer refused: capacity, requirement, ticket, schema.", "stream"),
		itemsSent:         part.CounterVec("producer_items_sent", "Items sent, counted once for each consumer.", "stream"),
		bytesSent:         part.CounterVec("producer_bytes_sent", "Encoded bytes of these items.", "stream"),
		itemsDropped:      part.CounterVec("producer_items_dropped", "Items not sent because a consumer lagged, counted once for each consumer.", "stream"),
		undelivered:       part.CounterVec("producer_items_undelivered", "Items that went into no consumer's queue.", "stream"),

		upstreams:     part.GaugeVec("consumer_producers", "Producers that consumers on this node receive from.", "stream"),
		itemsReceived: part.CounterVec("consumer_items_received", "Items taken by the program.", "stream"),
		bytesReceived: part.CounterVec("consumer_bytes_received", "Encoded bytes of these items.", "stream"),
		itemsMissed:   part.CounterVec("consumer_items_missed", "Items that consumers were told they missed.", "stream"),
	}
	return m, part.Err()
}

// refused counts why a consumer of this node has no subscription.
func (m *metrics) refused(code link.Code) { m.refusals.WithLabelValues(code.Label()).Inc() }

// sinkMetrics are the series of one producer, looked up once.
type sinkMetrics struct {
	consumers   prometheus.Gauge
	accepted    prometheus.Counter
	rejected    prometheus.Counter
	items       prometheus.Counter
	bytes       prometheus.Counter
	dropped     prometheus.Counter
	undelivered prometheus.Counter
}

func (m *metrics) sink(stream id.ID) sinkMetrics {
	s := stream.Short()
	return sinkMetrics{
		consumers:   m.consumers.WithLabelValues(s),
		accepted:    m.consumersAccepted.WithLabelValues(s),
		rejected:    m.consumersRejected.WithLabelValues(s),
		items:       m.itemsSent.WithLabelValues(s),
		bytes:       m.bytesSent.WithLabelValues(s),
		dropped:     m.itemsDropped.WithLabelValues(s),
		undelivered: m.undelivered.WithLabelValues(s),
	}
}

func (m *sinkMetrics) sent(items, bytes int) {
	m.items.Add(float64(items))
	m.bytes.Add(float64(bytes))
}

// sourceMetrics are the series of one consumer, looked up once.
type sourceMetrics struct {
	producers prometheus.Gauge
	items     prometheus.Counter
	bytes     prometheus.Counter
	missed    prometheus.Counter
}

func (m *metrics) source(stream id.ID) sourceMetrics {
	s := stream.Short()
	return sourceMetrics{
		producers: m.upstreams.WithLabelValues(s),
		items:     m.itemsReceived.WithLabelValues(s),
		bytes:     m.bytesReceived.WithLabelValues(s),
		missed:    m.itemsMissed.WithLabelValues(s),
	}
}

func (m *sourceMetrics) up(by float64) { m.producers.Add(by) }
