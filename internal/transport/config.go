package transport

import (
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mosaik-go/mosaik/id"
)

// Config is what a [Host] is opened with.
type Config struct {
	Network id.ID
	Key     ed25519.PrivateKey
	Reach   Reach
	Listen  []string // multiaddrs or host:port pairs; empty means what Reach implies, on free ports
	Secret  string   // non-empty: peers must prove that they know it
	Logger  *slog.Logger
	Metrics prometheus.Registerer // nil: metrics are kept but not exported

	// Heartbeat is the time between pings, default 2 s; a connection on which nothing at all arrived for DeadAfter, default
	// 6 s or, if that is more, three heartbeats, is closed. The two sides of a connection need not agree, since each answers the other's pings.
	Heartbeat, DeadAfter time.Duration
}

// The defaults of the heartbeat.
const (
	DefaultHeartbeat = 2 * time.Second
	DefaultDeadAfter = 6 * time.Second
)

// Beats returns the heartbeat and the time after which a silent connection is closed, with their defaults. It fails when
// a ping and its answer would not fit.
func (c *Config) Beats() (every, dead time.Duration, err error) {
	every, dead = c.Heartbeat, c.DeadAfter
	if every == 0 {
		every = DefaultHeartbeat
	}
	if dead == 0 {
		dead = max(DefaultDeadAfter, 3*every)
	}
	if every < 10*time.Millisecond || dead < 2*every {
		return 0, 0, fmt.Errorf("a heartbeat of %v with %v of silence: want at least 10ms, and twice the heartbeat of silence", every, dead)
	}
	return every, dead, nil
}

// Reach says how far a node makes itself known.
type Reach uint8

const (
	// ReachHost keeps to this machine: loopback addresses only.
	ReachHost Reach = iota + 1
	// ReachLAN listens on all interfaces.
	ReachLAN
	// ReachInternet is for nodes that must be reached from anywhere. It listens like ReachLAN.
	ReachInternet
)

// String returns "host", "lan" or "internet".
func (r Reach) String() string {
	switch r {
	case ReachHost:
		return "host"
	case ReachLAN:
		return "lan"
	case ReachInternet:
		return "internet"
	default:
		return fmt.Sprintf("reach %d", uint8(r))
	}
}

// ParseReach reads what [Reach.String] prints.
func ParseReach(text string) (Reach, error) {
	for _, r := range []Reach{ReachHost, ReachLAN, ReachInternet} {
		if r.String() == text {
			return r, nil
		}
	}
	return 0, fmt.Errorf("unknown reach %q: want host, lan or internet", text)
}
