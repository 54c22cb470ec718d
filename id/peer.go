package id

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
)

// PeerID is the identity of a node: its Ed25519 public key (RFC 8032). The transport proves it on every connection.
type PeerID [Size]byte

// PeerIDOf returns the identity that belongs to a private key.
// It panics when key does not have [ed25519.PrivateKeySize] bytes, as package ed25519 does.
func PeerIDOf(key ed25519.PrivateKey) PeerID {
	return PeerID(key.Public().(ed25519.PublicKey))
}

// ParsePeerID reads exactly 64 hexadecimal digits.
func ParsePeerID(text string) (PeerID, error) {
	var p PeerID
	if err := decodeHex(p[:], text); err != nil {
		return PeerID{}, fmt.Errorf("id: parse peer id %q: %w", text, err)
	}
	return p, nil
}

// PublicKey returns the key that verifies this peer's signatures. The slice is a copy.
func (p PeerID) PublicKey() ed25519.PublicKey { return bytes.Clone(p[:]) }

// IsZero reports whether p is the zero value, which is no peer.
func (p PeerID) IsZero() bool { return p == PeerID{} }

// Compare orders peer ids byte by byte: -1, 0 or +1.
func (p PeerID) Compare(other PeerID) int { return bytes.Compare(p[:], other[:]) }

// String returns the 64-digit lower-case form.
func (p PeerID) String() string { return hex.EncodeToString(p[:]) }

// Short returns the first ten digits, for logs and metric labels.
func (p PeerID) Short() string { return hex.EncodeToString(p[:shortDigits/2]) }

// MarshalText returns the 64-digit form.
func (p PeerID) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads exactly 64 hexadecimal digits.
func (p *PeerID) UnmarshalText(text []byte) error {
	v, err := ParsePeerID(string(text))
	if err != nil {
		return err
	}
	*p = v
	return nil
}
