package pebble

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the series of one store.
type metrics struct {
	registry prometheus.Registerer // nil if nobody wants them
	all      []prometheus.Collector

	batches prometheus.Counter
	jobs    prometheus.Counter
	bytes   prometheus.Counter
	latency prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer, s *store) *metrics {
	labels := prometheus.Labels{"dir": s.dir}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "mosaik_logstore_" + name, Help: help, ConstLabels: labels})
	}
	gauge := func(name, help string, value func() float64) prometheus.GaugeFunc {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "mosaik_logstore_" + name, Help: help, ConstLabels: labels}, value)
	}
	m := &metrics{
		registry: reg,
		batches:  counter("batches", "Batches written and synced."),
		jobs:     counter("writes", "Writes of groups; several go into one batch."),
		bytes:    counter("bytes_written", "Bytes of all batches."),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "mosaik_logstore_batch_seconds", Help: "Time to write and sync one batch.", ConstLabels: labels,
			Buckets: prometheus.ExponentialBuckets(50e-6, 2, 18),
		}),
	}
	m.all = []prometheus.Collector{
		m.batches, m.jobs, m.bytes, m.latency,
		gauge("queue_bytes", "Bytes that wait to be written.", func() float64 { return float64(s.queue.waiting()) }),
		gauge("failed", "1 once the store has failed and takes nothing more.", func() float64 {
			if s.failure.Load() != nil {
				return 1
			}
			return 0
		}),
		gauge("disk_bytes", "Space that the database takes, without images.", func() float64 { return float64(s.used()) }),
	}
	if reg != nil {
		for _, c := range m.all {
			reg.Register(c) // fails only if the directory is registered already, which its lock forbids
		}
	}
	return m
}

// used returns the space that the database takes, zero when it is closed or has failed.
func (s *store) used() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing || s.db == nil || s.failure.Load() != nil {
		return 0
	}
	return s.db.Metrics().DiskSpaceUsage()
}

// forget unregisters the series.
func (m *metrics) forget() {
	if m.registry == nil {
		return
	}
	for _, c := range m.all {
		m.registry.Unregister(c)
	}
}

// wrote counts a batch.
func (m *metrics) wrote(jobs, bytes int, took time.Duration) {
	m.batches.Inc()
	m.jobs.Add(float64(jobs))
	m.bytes.Add(float64(bytes))
	m.latency.Observe(took.Seconds())
}
