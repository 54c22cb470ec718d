package p2p

import (
	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// gater keeps banned peers out before anything is spent on them.
type gater host

func (g *gater) allows(p peer.ID) bool {
	who, err := idOf(p)
	if err != nil {
		return false
	}
	h := (*host)(g)
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.closing && !h.bannedLocked(who)
}

func (g *gater) InterceptPeerDial(p peer.ID) bool                                { return g.allows(p) }
func (g *gater) InterceptAddrDial(peer.ID, ma.Multiaddr) bool                    { return true }
func (g *gater) InterceptAccept(network.ConnMultiaddrs) bool                     { return true }
func (g *gater) InterceptUpgraded(network.Conn) (bool, control.DisconnectReason) { return true, 0 }

func (g *gater) InterceptSecured(_ network.Direction, p peer.ID, _ network.ConnMultiaddrs) bool {
	return g.allows(p)
}
