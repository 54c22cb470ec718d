package p2p

import (
	libcontrol "github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// gater keeps out who cannot be a peer: identities that are not Ed25519 keys, and everybody once the host is closing.
// Banned peers get as far as the hello, which tells them so.
type gater host

func (g *gater) allows(p peer.ID) bool {
	_, err := idOf(p)
	return err == nil && !(*host)(g).isClosing()
}

func (g *gater) InterceptPeerDial(p peer.ID) bool                                   { return g.allows(p) }
func (g *gater) InterceptAddrDial(peer.ID, ma.Multiaddr) bool                       { return true }
func (g *gater) InterceptAccept(network.ConnMultiaddrs) bool                        { return true }
func (g *gater) InterceptUpgraded(network.Conn) (bool, libcontrol.DisconnectReason) { return true, 0 }

func (g *gater) InterceptSecured(_ network.Direction, p peer.ID, _ network.ConnMultiaddrs) bool {
	return g.allows(p)
}
