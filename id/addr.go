package id

import (
	"fmt"
	"strings"
)

// PeerAddr is a peer and where it may be reached. Addrs are multiaddrs without the peer part, such as
// /ip4/127.0.0.1/tcp/4001 or /ip4/127.0.0.1/udp/4001/quic-v1. An address without Addrs names a peer that must be
// reached by what the node already knows of it.
type PeerAddr struct {
	ID    PeerID
	Addrs []string
}

// String returns the text form: the peer id, and, if there are addresses, an @ and the addresses joined by commas.
// [ParsePeerAddr] reads it back.
func (a PeerAddr) String() string {
	if len(a.Addrs) == 0 {
		return a.ID.String()
	}
	return a.ID.String() + "@" + strings.Join(a.Addrs, ",")
}

// ParsePeerAddr reads the text form of a [PeerAddr]. It checks the peer id and that each address starts with a
// slash; whether an address can be dialled is for the transport to say.
func ParsePeerAddr(text string) (PeerAddr, error) {
	peer, addrs, has := strings.Cut(text, "@")
	p, err := ParsePeerID(peer)
	if err != nil {
		return PeerAddr{}, fmt.Errorf("id: parse peer address %q: %w", text, err)
	}
	a := PeerAddr{ID: p}
	if !has {
		return a, nil
	}
	for addr := range strings.SplitSeq(addrs, ",") {
		if !strings.HasPrefix(addr, "/") {
			return PeerAddr{}, fmt.Errorf("id: parse peer address %q: %q is not a multiaddr", text, addr)
		}
		a.Addrs = append(a.Addrs, addr)
	}
	return a, nil
}

// MarshalText returns the text form.
func (a PeerAddr) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads the text form.
func (a *PeerAddr) UnmarshalText(text []byte) error {
	v, err := ParsePeerAddr(string(text))
	if err != nil {
		return err
	}
	*a = v
	return nil
}
