package discovery

import (
	"errors"
	"fmt"

	"github.com/mosaik-go/mosaik/discovery/internal/wire"
	"github.com/mosaik-go/mosaik/id"
)

// SignedPeerEntry is an entry with the signature of its peer, which was checked when the value was made. The signature
// covers the network id and every byte of the entry. The zero value is no entry.
type SignedPeerEntry struct{ s *wire.Signed }

// IsZero reports whether s is the zero value.
func (s SignedPeerEntry) IsZero() bool { return s.s == nil }

// Entry returns what was signed.
func (s SignedPeerEntry) Entry() PeerEntry {
	if s.s == nil {
		return PeerEntry{}
	}
	return PeerEntry{s.s.Entry}
}

// ID returns the peer's identity.
func (s SignedPeerEntry) ID() id.PeerID { return s.Entry().ID() }

// MarshalBinary returns the encoding that travels between nodes. It never fails, except on the zero value.
func (s SignedPeerEntry) MarshalBinary() ([]byte, error) {
	if s.s == nil {
		return nil, errors.New("discovery: marshal signed entry: there is none")
	}
	return s.s.Append(nil), nil
}

// UnmarshalBinary reads what MarshalBinary returned. It refuses anything but the one encoding of a valid entry, and with
// [ErrBadSignature] an entry that its peer did not sign.
func (s *SignedPeerEntry) UnmarshalBinary(data []byte) error {
	d, err := wire.DecodeSigned(data)
	if err != nil {
		return fmt.Errorf("discovery: unmarshal signed entry: %w", err)
	}
	if err := check(d.Entry); err != nil {
		return err
	}
	if d.Verify() != nil {
		return fmt.Errorf("discovery: unmarshal signed entry of %s: %w", d.Peer.Short(), ErrBadSignature)
	}
	s.s = d
	return nil
}
