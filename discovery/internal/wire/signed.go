package wire

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/mosaik-go/mosaik/id"
)

// ErrBadSignature reports that a signature is not the named peer's.
var ErrBadSignature = errors.New("bad signature")

// Domains keep signatures of different things apart. Each is followed by the network id and the encoded thing.
const (
	domainEntry  = "mosaik/discovery/entry/1\x00"
	domainBeat   = "mosaik/discovery/beat/1\x00"
	domainDepart = "mosaik/discovery/depart/1\x00"
)

// Signature is an Ed25519 signature (RFC 8032).
type Signature [ed25519.SignatureSize]byte

func message(domain string, network id.ID, body []byte) []byte {
	m := make([]byte, 0, len(domain)+len(network)+len(body))
	m = append(m, domain...)
	m = append(m, network[:]...)
	return append(m, body...)
}

func sign(key ed25519.PrivateKey, domain string, network id.ID, body []byte) Signature {
	return Signature(ed25519.Sign(key, message(domain, network, body)))
}

func verify(peer id.PeerID, domain string, network id.ID, body []byte, sig *Signature) error {
	if !ed25519.Verify(peer[:], message(domain, network, body), sig[:]) {
		return fmt.Errorf("%w of %s", ErrBadSignature, peer.Short())
	}
	return nil
}

// Signed is an entry as its peer signed it. It is shared and never changed.
type Signed struct {
	*Entry
	Body []byte // the encoded entry
	Sig  Signature
}

// SignEntry signs a sorted entry that passed Check.
func SignEntry(e *Entry, key ed25519.PrivateKey) *Signed {
	body := e.Append(nil)
	return &Signed{Entry: e, Body: body, Sig: sign(key, domainEntry, e.Network, body)}
}

// Verify checks the signature.
func (s *Signed) Verify() error { return verify(s.Peer, domainEntry, s.Network, s.Body, &s.Sig) }

// Append appends the encoding to dst: the length of the body, the body, the signature.
func (s *Signed) Append(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s.Body)))
	dst = append(dst, s.Body...)
	return append(dst, s.Sig[:]...)
}

// DecodeSigned reads what Append wrote and nothing else. It does not verify the signature.
func DecodeSigned(b []byte) (*Signed, error) {
	r := reader{b: b}
	s := r.signed()
	if err := r.end(); err != nil {
		return nil, err
	}
	return s, nil
}

func (r *reader) signed() *Signed {
	body := bytes.Clone(r.take("entry", int(r.uvarint("entry", MaxEntryBytes))))
	s := &Signed{Body: body}
	r.fill("entry signature", s.Sig[:])
	if r.err != nil {
		return nil
	}
	s.Entry, r.err = DecodeEntry(body)
	return s
}

// Beat is a sign of life: at time At the peer lived in the incarnation Start, and its entry had the version Content.
type Beat struct {
	Peer               id.PeerID
	Start, Content, At int64
	Sig                Signature
}

func (b *Beat) body() []byte {
	out := make([]byte, 0, id.Size+3*8)
	out = append(out, b.Peer[:]...)
	out = appendTime(out, b.Start)
	out = appendTime(out, b.Content)
	return appendTime(out, b.At)
}

// Sign signs the beat for a network.
func (b *Beat) Sign(network id.ID, key ed25519.PrivateKey) {
	b.Sig = sign(key, domainBeat, network, b.body())
}

// Verify checks the signature for a network.
func (b *Beat) Verify(network id.ID) error {
	return verify(b.Peer, domainBeat, network, b.body(), &b.Sig)
}

func (b *Beat) append(dst []byte) []byte { return append(append(dst, b.body()...), b.Sig[:]...) }

func (r *reader) beat() *Beat {
	b := &Beat{Peer: r.peer("beat"), Start: r.time("beat start"), Content: r.time("beat content"), At: r.time("beat time")}
	r.fill("beat signature", b.Sig[:])
	if b.At < b.Content || b.Content < b.Start {
		r.fail("beat: times out of order")
	}
	return b
}

// Depart says that the peer has left the network for good in the incarnation Start and all before it.
type Depart struct {
	Peer      id.PeerID
	Start, At int64
	Sig       Signature
}

func (d *Depart) body() []byte {
	out := make([]byte, 0, id.Size+2*8)
	out = append(out, d.Peer[:]...)
	out = appendTime(out, d.Start)
	return appendTime(out, d.At)
}

// Sign signs the departure for a network.
func (d *Depart) Sign(network id.ID, key ed25519.PrivateKey) {
	d.Sig = sign(key, domainDepart, network, d.body())
}

// Verify checks the signature for a network.
func (d *Depart) Verify(network id.ID) error {
	return verify(d.Peer, domainDepart, network, d.body(), &d.Sig)
}

func (d *Depart) append(dst []byte) []byte { return append(append(dst, d.body()...), d.Sig[:]...) }

func (r *reader) depart() *Depart {
	d := &Depart{Peer: r.peer("departure"), Start: r.time("departure start"), At: r.time("departure time")}
	r.fill("departure signature", d.Sig[:])
	if d.At < d.Start {
		r.fail("departure: times out of order")
	}
	return d
}
