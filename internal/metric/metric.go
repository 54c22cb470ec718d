// Package metric makes and registers the series of a node's parts: mosaik_discovery_syncs and its like.
//
// Nodes of one network in a process that share a registerer share their series too, which then add up.
package metric

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mosaik-go/mosaik/id"
)

// Part makes the series of one part of a node. All have the constant label network. It is for one goroutine; what it makes
// is for any.
type Part struct {
	reg    prometheus.Registerer
	prefix string
	labels prometheus.Labels
	errs   []error
}

// Of returns the part whose series are called mosaik_name_ and what they count. Without a registerer they are kept, but
// nobody sees them.
func Of(reg prometheus.Registerer, name string, network id.ID) *Part {
	return &Part{reg: reg, prefix: "mosaik_" + name + "_", labels: prometheus.Labels{"network": network.Short()}}
}

// Counter makes a counter without labels of its own.
func (p *Part) Counter(name, help string) prometheus.Counter {
	return Register(p, prometheus.NewCounter(prometheus.CounterOpts{Name: p.prefix + name, Help: help, ConstLabels: p.labels}))
}

// CounterVec makes counters that differ in labels.
func (p *Part) CounterVec(name, help string, labels ...string) *prometheus.CounterVec {
	return Register(p, prometheus.NewCounterVec(prometheus.CounterOpts{Name: p.prefix + name, Help: help, ConstLabels: p.labels}, labels))
}

// Gauge makes a gauge without labels of its own. Nodes that share it must add to it, rather than set it.
func (p *Part) Gauge(name, help string) prometheus.Gauge {
	return Register(p, prometheus.NewGauge(prometheus.GaugeOpts{Name: p.prefix + name, Help: help, ConstLabels: p.labels}))
}

// GaugeVec makes gauges that differ in labels.
func (p *Part) GaugeVec(name, help string, labels ...string) *prometheus.GaugeVec {
	return Register(p, prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: p.prefix + name, Help: help, ConstLabels: p.labels}, labels))
}

// Histogram makes a histogram with buckets of these upper bounds.
func (p *Part) Histogram(name, help string, buckets []float64) prometheus.Histogram {
	return Register(p, prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: p.prefix + name, Help: help, ConstLabels: p.labels, Buckets: buckets,
	}))
}

// Desc describes a series that a collector of the part shows.
func (p *Part) Desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(p.prefix+name, help, labels, p.labels)
}

// Register registers a collector, or returns the equal one that is registered already.
func Register[C prometheus.Collector](p *Part, c C) C {
	if p.reg == nil {
		return c
	}
	err := p.reg.Register(c)
	if already, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if old, ok := already.ExistingCollector.(C); ok {
			return old
		}
	}
	if err != nil {
		p.errs = append(p.errs, err)
	}
	return c
}

// Err says which series the registerer has refused, nil if none: something else in the program has their names.
func (p *Part) Err() error {
	if err := errors.Join(p.errs...); err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	return nil
}
