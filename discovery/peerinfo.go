package discovery

import (
	"time"

	"github.com/mosaik-go/mosaik/discovery/internal/wire"
)

// PeerInfo is a peer's entry and what this node knows about the peer beside it, at the time of the snapshot that it
// comes from.
type PeerInfo struct {
	PeerEntry
	rtt      time.Duration
	measured bool
	signed   *wire.Signed
	alive    int64
	lost     int64
}

// RTT returns the smoothed round-trip time between this node and the peer, and false when it was never measured. It is
// the estimator of TCP (RFC 6298) over times measured on live connections.
func (p PeerInfo) RTT() (time.Duration, bool) { return p.rtt, p.measured }

// RTTBelow reports whether the round-trip time is below the limit or unknown.
func (p PeerInfo) RTTBelow(limit time.Duration) bool { return !p.measured || p.rtt < limit }

// Signed reports whether the peer itself vouches for the entry. Entries that were inserted by hand are unsigned.
func (p PeerInfo) Signed() bool { return p.signed != nil }

// SignedEntry returns the entry with its signature, for [Discovery.Feed] on another node; false when it is unsigned.
func (p PeerInfo) SignedEntry() (SignedPeerEntry, bool) {
	return SignedPeerEntry{p.signed}, p.signed != nil
}

// SeenAt returns the time of the latest sign of life that this node knows of, by the peer's clock. It is updated with
// about a second's delay.
func (p PeerInfo) SeenAt() time.Time { return time.UnixMilli(p.alive) }

// LostSince returns since when this node has been unable to reach the peer, and false when it is not lost, see
// [Catalog.Lost].
func (p PeerInfo) LostSince() (time.Time, bool) {
	if p.lost == 0 {
		return time.Time{}, false
	}
	return time.UnixMilli(p.lost), true
}
