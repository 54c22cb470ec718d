package discovery

import (
	"strings"
	"testing"
	"time"
)

func TestConfig(t *testing.T) {
	t.Parallel()
	c, err := Config{}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		AnnounceInterval: 15 * time.Second, AnnounceJitter: 0.5, PurgeAfter: 300 * time.Second, MaxClockDrift: 30 * time.Second,
		RTTProbeInterval: 30 * time.Second, RTTProbes: 4, Neighbours: 6, SwapInterval: time.Minute, SyncInterval: time.Minute,
		MaxPeers: 20_000, EventBacklog: 100, DepartureWindow: 500 * time.Millisecond,
	}
	if c != want {
		t.Errorf("defaults are %+v, want %+v", c, want)
	}
	for field, bad := range map[string]Config{
		"AnnounceInterval": {AnnounceInterval: time.Millisecond},
		"AnnounceJitter":   {AnnounceJitter: 1.5},
		"PurgeAfter":       {PurgeAfter: 10 * time.Second},
		"MaxClockDrift":    {MaxClockDrift: -1},
		"RTTProbes":        {RTTProbes: 5000},
		"Neighbours":       {Neighbours: 1},
		"MaxPeers":         {MaxPeers: 1 << 30},
		"EventBacklog":     {EventBacklog: -1},
		"SyncInterval":     {SyncInterval: -1},
	} {
		if _, err := bad.withDefaults(); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
	// The interval grows with the network, but stays well below the purge age.
	for n, want := range map[int]time.Duration{0: 15 * time.Second, 200: 15 * time.Second, 400: 30 * time.Second, 5000: 50 * time.Second} {
		if got := c.announceEvery(n); got != want {
			t.Errorf("with %d peers announced every %v, want %v", n, got, want)
		}
	}
	quick := Config{AnnounceInterval: 2 * time.Second, AnnounceJitter: -1, PurgeAfter: 4 * time.Second}
	if c, err := quick.withDefaults(); err != nil || c.AnnounceJitter != 0 || c.announceEvery(10_000) != 2*time.Second {
		t.Errorf("%+v, %v", c, err)
	}
}
