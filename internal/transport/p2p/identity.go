package p2p

import (
	"crypto/ed25519"
	"fmt"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/mosaik-go/mosaik/id"
)

// peerOf maps our identity to libp2p's, which is the same key in an envelope.
func peerOf(p id.PeerID) (peer.ID, error) {
	key, err := crypto.UnmarshalEd25519PublicKey(p[:])
	if err != nil {
		return "", err
	}
	return peer.IDFromPublicKey(key)
}

// idOf maps libp2p's identity to ours. It fails for keys other than Ed25519.
func idOf(p peer.ID) (id.PeerID, error) {
	key, err := p.ExtractPublicKey()
	if err != nil {
		return id.PeerID{}, err
	}
	raw, err := key.Raw()
	if err != nil {
		return id.PeerID{}, err
	}
	if key.Type() != crypto.Ed25519 || len(raw) != ed25519.PublicKeySize {
		return id.PeerID{}, fmt.Errorf("key type %v, want Ed25519", key.Type())
	}
	return id.PeerID(raw), nil
}
