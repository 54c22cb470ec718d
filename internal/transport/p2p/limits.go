package p2p

import (
	"net/netip"

	"github.com/libp2p/go-libp2p/core/network"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/x/rate"
)

// Limits of one node. The library's defaults scale with memory and are made for open networks: a node there may share an
// address with seven others, and a single peer can use up all streams that are still being set up. Here a rack or a cluster
// behind one address is ordinary, and nobody may take so much that nothing is left for others.
const (
	maxConns        = 2048
	maxConnsInbound = 1024
	maxConnsPerPeer = 8 // restarts and simultaneous dials
	maxConnsPerIP   = 256
	maxConnsLocal   = 768 // from loopback addresses

	// QUIC's limit is the same and cannot be changed, so both transports refuse alike.
	maxStreamsIn        = 256 // opened by one peer
	maxStreamsOut       = 1024
	maxStreamsTotal     = 1 << 16
	maxStreamsTransient = 8192 // whose header or hello has not come

	// The multiplexer on TCP reserves 256 KiB for each stream, of which a stream that is read uses little, and more for
	// those that move much.
	maxMemory        = 2 << 30
	maxMemoryPerPeer = 384 << 20
)

func newLimits() (network.ResourceManager, error) {
	limits := rcmgr.PartialLimitConfig{
		System: rcmgr.ResourceLimits{
			Conns: maxConns, ConnsInbound: maxConnsInbound, ConnsOutbound: maxConns,
			Streams: maxStreamsTotal, StreamsInbound: maxStreamsTotal, StreamsOutbound: maxStreamsTotal,
			FD: maxConns, Memory: maxMemory,
		},
		Transient: rcmgr.ResourceLimits{
			Conns: maxConns, ConnsInbound: maxConnsInbound, ConnsOutbound: maxConns,
			Streams: maxStreamsTransient, StreamsInbound: maxStreamsTransient, StreamsOutbound: maxStreamsTransient,
			FD: maxConns, Memory: maxMemory,
		},
		PeerDefault: rcmgr.ResourceLimits{
			Conns: maxConnsPerPeer, ConnsInbound: maxConnsPerPeer, ConnsOutbound: maxConnsPerPeer,
			Streams: maxStreamsIn + maxStreamsOut, StreamsInbound: maxStreamsIn, StreamsOutbound: maxStreamsOut,
			FD: maxConnsPerPeer, Memory: maxMemoryPerPeer,
		},
	}
	limits.Apply(rcmgr.InfiniteLimits.ToPartialLimitConfig())
	loopback := func(prefix string) []rcmgr.NetworkPrefixLimit {
		return []rcmgr.NetworkPrefixLimit{{Network: netip.MustParsePrefix(prefix), ConnCount: maxConnsLocal}}
	}
	return rcmgr.NewResourceManager(
		rcmgr.NewFixedLimiter(limits.Build(rcmgr.InfiniteLimits)),
		rcmgr.WithMetricsDisabled(),
		rcmgr.WithLimitPerSubnet(
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 32, ConnCount: maxConnsPerIP}},
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 64, ConnCount: maxConnsPerIP}},
		),
		rcmgr.WithNetworkPrefixLimit(loopback("127.0.0.0/8"), loopback("::1/128")),
		rcmgr.WithConnRateLimiters(new(rate.Limiter)), // its zero value does not limit: nodes behind one address come up together
	)
}
