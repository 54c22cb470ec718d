package p2p

import (
	"net/netip"

	"github.com/libp2p/go-libp2p/core/network"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/x/rate"
)

// Limits of one node. The library's defaults scale with memory and are made for open networks: a node there may share an
// address with eight others at most, and a single peer can use up all streams that are still being set up. Here a rack or
// a cluster behind one address is ordinary.
const (
	maxConns        = 2048
	maxConnsInbound = 1024
	maxConnsPerPeer = 8 // restarts and simultaneous dials
	maxConnsPerIP   = 256

	maxStreams          = 1 << 16
	maxStreamsPerPeer   = 4096
	maxInboundPerPeer   = 2048
	maxTransient        = 4096 // streams and connections that are being set up
	maxTransientPerPeer = 256  // streams whose header has not come, kept by the host itself

	maxMemory = 1 << 30
)

func newLimits() (network.ResourceManager, error) {
	unlimited := rcmgr.InfiniteLimits.ToPartialLimitConfig()
	limits := rcmgr.PartialLimitConfig{
		System: rcmgr.ResourceLimits{
			Conns: maxConns, ConnsInbound: maxConnsInbound, ConnsOutbound: maxConns,
			Streams: maxStreams, StreamsInbound: maxStreams, StreamsOutbound: maxStreams,
			FD: maxConns, Memory: maxMemory,
		},
		Transient: rcmgr.ResourceLimits{
			Conns: maxConnsInbound, ConnsInbound: maxConnsInbound, ConnsOutbound: maxConnsInbound,
			Streams: maxTransient, StreamsInbound: maxTransient, StreamsOutbound: maxTransient,
			FD: maxConnsInbound, Memory: maxMemory / 4,
		},
		PeerDefault: rcmgr.ResourceLimits{
			Conns: maxConnsPerPeer, ConnsInbound: maxConnsPerPeer, ConnsOutbound: maxConnsPerPeer,
			Streams: maxStreamsPerPeer, StreamsInbound: maxInboundPerPeer, StreamsOutbound: maxStreamsPerPeer,
			FD: maxConnsPerPeer, Memory: maxMemory / 4,
		},
	}
	limits.Apply(unlimited)
	prefixes := func(texts ...string) []rcmgr.NetworkPrefixLimit {
		var out []rcmgr.NetworkPrefixLimit
		for _, t := range texts {
			out = append(out, rcmgr.NetworkPrefixLimit{Network: netip.MustParsePrefix(t), ConnCount: maxConnsInbound})
		}
		return out
	}
	return rcmgr.NewResourceManager(
		rcmgr.NewFixedLimiter(limits.Build(rcmgr.InfiniteLimits)),
		rcmgr.WithMetricsDisabled(),
		rcmgr.WithLimitPerSubnet(
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 32, ConnCount: maxConnsPerIP}},
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 56, ConnCount: maxConnsPerIP}},
		),
		rcmgr.WithNetworkPrefixLimit(
			prefixes("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"),
			prefixes("::1/128", "fc00::/7", "fe80::/10"),
		),
		rcmgr.WithConnRateLimiters(new(rate.Limiter)), // its zero value does not limit: nodes behind one address come up together,
	)
}
