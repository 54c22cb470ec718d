package discovery

import (
	"fmt"
	"time"
)

// Config holds the intervals and limits of discovery. Zero fields take their defaults.
type Config struct {
	// AnnounceInterval is the time between two signs of life of this node. Zero means 15 s. It grows with the
	// network: from 200 peers on in proportion, up to four times the value, but never beyond a sixth of PurgeAfter
	// unless the value itself is.
	AnnounceInterval time.Duration
	// AnnounceJitter spreads announcements: each pause is the interval times a random factor between 1-j and 1+j. Zero
	// means 0.5; a negative value means none. At most 1.
	AnnounceJitter float64
	// PurgeAfter is how long a peer stays in the catalog without a sign of life. Zero means 300 s. It must exceed
	// the longest announce pause. Nodes may differ in it; each judges by its own.
	PurgeAfter time.Duration
	// MaxClockDrift is how far in the future an entry may be. Zero means 30 s.
	MaxClockDrift time.Duration
	// MaxRTT hides peers whose round-trip time is known and longer from the catalog. Zero means no limit.
	MaxRTT time.Duration
	// RTTProbeInterval is the time between probes of random peers that are not connected, on average. Zero means 30 s.
	RTTProbeInterval time.Duration
	// RTTProbes is how many peers one round probes. Zero means 4; a negative value means none. At most 1,000. A probe connects, so no
	// more are made while this node has 32 connections.
	RTTProbes int
	// Neighbours is to how many peers this node gossips, roughly: it dials half as many and accepts up to twice as many.
	// Zero means 6. From 2 to 64.
	Neighbours int
	// SwapInterval is the time between replacements of a neighbour by another random peer. Zero means 60 s.
	SwapInterval time.Duration
	// SyncInterval is the time between comparisons of digests with a random neighbour. Zero means 60 s.
	SyncInterval time.Duration
	// MaxPeers bounds the catalog; further peers are refused. Zero means 20,000. At most 200,000.
	MaxPeers int
	// EventBacklog is how many events wait for a slow subscriber before the oldest are dropped. Zero means 100. At most 2^20.
	EventBacklog int
	// DepartureWindow is how long Close waits at most for the departure to reach the neighbours. Zero means 500 ms.
	DepartureWindow time.Duration
	// RegistryDir is where the same-host registry keeps its files, an absolute path. Empty means what the environment
	// variable MOSAIK_REGISTRY says, or else two places at once: the directory mosaik in the user's runtime directory
	// ($XDG_RUNTIME_DIR), if there is one, and mosaik-<uid> in the system's directory of temporary files.
	RegistryDir string
}

// withDefaults returns the configuration with all fields set, or says which field breaks which rule.
func (c Config) withDefaults() (Config, error) {
	for _, d := range []struct {
		name  string
		value *time.Duration
		zero  time.Duration
	}{
		{"AnnounceInterval", &c.AnnounceInterval, 15 * time.Second},
		{"PurgeAfter", &c.PurgeAfter, 300 * time.Second},
		{"MaxClockDrift", &c.MaxClockDrift, 30 * time.Second},
		{"MaxRTT", &c.MaxRTT, 0},
		{"RTTProbeInterval", &c.RTTProbeInterval, 30 * time.Second},
		{"SwapInterval", &c.SwapInterval, 60 * time.Second},
		{"SyncInterval", &c.SyncInterval, 60 * time.Second},
		{"DepartureWindow", &c.DepartureWindow, 500 * time.Millisecond},
	} {
		if *d.value < 0 {
			return c, fmt.Errorf("discovery: %s %v must not be negative", d.name, *d.value)
		}
		if *d.value == 0 {
			*d.value = d.zero
		}
	}
	for _, n := range []struct {
		name             string
		value            *int
		zero, least, max int
	}{
		{"RTTProbes", &c.RTTProbes, 4, -1 << 31, 1000},
		{"Neighbours", &c.Neighbours, 6, 2, 64},
		{"MaxPeers", &c.MaxPeers, 20_000, 1, 200_000},
		{"EventBacklog", &c.EventBacklog, 100, 1, 1 << 20},
	} {
		if *n.value == 0 {
			*n.value = n.zero
		}
		if *n.value < n.least || *n.value > n.max {
			return c, fmt.Errorf("discovery: %s %d must be between %d and %d", n.name, *n.value, n.least, n.max)
		}
	}
	switch {
	case c.AnnounceJitter == 0:
		c.AnnounceJitter = 0.5
	case c.AnnounceJitter < 0:
		c.AnnounceJitter = 0
	case c.AnnounceJitter > 1:
		return c, fmt.Errorf("discovery: AnnounceJitter %v must not exceed 1", c.AnnounceJitter)
	}
	if least := 10 * time.Millisecond; c.AnnounceInterval < least {
		return c, fmt.Errorf("discovery: AnnounceInterval %v must be at least %v", c.AnnounceInterval, least)
	}
	if pause := stretch(c.AnnounceInterval, 1+c.AnnounceJitter); c.PurgeAfter <= pause {
		return c, fmt.Errorf("discovery: PurgeAfter %v must exceed %v, the longest pause between announcements (AnnounceInterval %v, AnnounceJitter %v)",
			c.PurgeAfter, pause, c.AnnounceInterval, c.AnnounceJitter)
	}
	return c, nil
}

func stretch(d time.Duration, by float64) time.Duration { return time.Duration(float64(d) * by) }

// announceEvery returns the mean pause between announcements in a network of n peers.
func (c Config) announceEvery(n int) time.Duration {
	const unscaled = 200
	d := c.AnnounceInterval
	if n > unscaled {
		d = min(4*d, stretch(d, float64(n)/unscaled))
	}
	return max(c.AnnounceInterval, min(d, c.PurgeAfter/6))
}
