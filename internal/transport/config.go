package transport

import (
	"crypto/ed25519"
	"fmt"
	"log/slog"

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
}

// Reach says how far a node makes itself known.
type Reach uint8

const (
	// ReachHost keeps to this machine: loopback addresses only.
	ReachHost Reach = iota + 1
	// ReachLAN listens on all interfaces.
	ReachLAN
	// ReachInternet also asks routers for port mappings and uses public rendezvous.
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
