// Package rtt smooths measured round-trip times with the estimator of TCP (RFC 6298 §2): an exponentially weighted mean
// with a gain of 1/8, and a mean deviation with a gain of 1/4. It has no clock and no lock.
package rtt

import (
	"time"

	"github.com/mosaik-go/mosaik/id"
)

// Estimate is the smoothed round-trip time to one peer. The zero value has no samples.
type Estimate struct {
	Smoothed  time.Duration
	Variation time.Duration
	Samples   uint64
}

// Add returns the estimate after one more sample. Samples below zero are ignored.
func (e Estimate) Add(sample time.Duration) Estimate {
	if sample < 0 {
		return e
	}
	if e.Samples == 0 {
		return Estimate{Smoothed: sample, Variation: sample / 2, Samples: 1}
	}
	deviation := max(e.Smoothed-sample, sample-e.Smoothed)
	return Estimate{
		Smoothed:  (7*e.Smoothed + sample) / 8,
		Variation: (3*e.Variation + deviation) / 4,
		Samples:   e.Samples + 1,
	}
}

// Known returns the smoothed round-trip time, and false when there is no sample.
func (e Estimate) Known() (time.Duration, bool) { return e.Smoothed, e.Samples > 0 }

// Table holds the estimates of peers.
type Table map[id.PeerID]Estimate

// Add takes in a sample.
func (t Table) Add(p id.PeerID, sample time.Duration) { t[p] = t[p].Add(sample) }

// Remove forgets a peer.
func (t Table) Remove(p id.PeerID) { delete(t, p) }
