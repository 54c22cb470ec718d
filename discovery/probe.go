package discovery

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/mosaik-go/mosaik/discovery/internal/catalog"
)

// Times and limits of round-trip measurement.
const (
	sampleEvery  = 5 * time.Second // of connections that exist
	probeTimeout = 5 * time.Second
	probeConns   = 32 // with so many connections there are no probes of further peers
)

// runProbes measures round-trip times.
func (d *Discovery) runProbes() {
	sampleTick := time.NewTicker(sampleEvery)
	defer sampleTick.Stop()
	probe := time.NewTimer(d.nextProbe())
	defer probe.Stop()
	for {
		select {
		case <-d.loopCtx.Done():
			return
		case <-sampleTick.C:
			for _, p := range d.host.Peers() {
				d.sample(p)
			}
		case <-probe.C:
			d.probe()
			probe.Reset(d.nextProbe())
		}
	}
}

func (d *Discovery) nextProbe() time.Duration {
	return stretch(d.cfg.RTTProbeInterval, 0.5+rand.Float64())
}

// sample takes in what the host measured on a connection.
func (d *Discovery) sample(p PeerID) {
	if rtt, ok := d.host.RTT(p); ok {
		d.ObserveRTT(p, rtt)
	}
}

// ObserveRTT takes in a round-trip time that was measured elsewhere, for example on an exchange of the application's. Peers
// that are not in the catalog are ignored.
func (d *Discovery) ObserveRTT(p PeerID, rtt time.Duration) {
	if d.closed() {
		return
	}
	d.store.change(func(c *catalog.Core, now int64) noise {
		if rtt < 0 || c.Get(p) == nil {
			return silent
		}
		before, measured := d.store.rtt[p].Known()
		d.store.rtt.Add(p, rtt)
		after, _ := d.store.rtt[p].Known()
		max := d.cfg.MaxRTT
		if !measured || max > 0 && (before > max) != (after > max) {
			return loud
		}
		return quiet
	})
}

// probe connects to a few random peers, so that the host can measure the way to them.
func (d *Discovery) probe() {
	connected := d.host.Peers()
	n := min(d.cfg.RTTProbes, probeConns-len(connected))
	if n <= 0 {
		return
	}
	others := slices.DeleteFunc(d.store.candidates(), func(p PeerID) bool { return slices.Contains(connected, p) })
	rand.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
	var wg sync.WaitGroup
	for _, p := range others[:min(n, len(others))] {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(d.loopCtx, probeTimeout)
			defer cancel()
			if err := d.host.Connect(ctx, PeerAddr{ID: p}); err != nil && d.loopCtx.Err() == nil {
				d.log.Debug("probe failed", "peer", p.Short(), "err", err)
				d.unreached(p, err)
			}
		})
	}
	wg.Wait()
}
