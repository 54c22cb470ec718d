package bond

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"

	"github.com/mosaik-go/mosaik/id"
)

// proofLabel keeps these MACs apart from every other use of a key.
const proofLabel = "mosaik groups bond proof v1"

// prove returns the proof that prover knows the secret of the group, made for verifier: HMAC-SHA256 (RFC 2104) over
// everything the two sides see, so that a proof fits one direction of one handshake between two identities.
func prove(network id.ID, l *local, prover, verifier id.PeerID, proverNonce, verifierNonce [nonceSize]byte) (mac [macSize]byte) {
	h := hmac.New(sha256.New, l.Secret[:])
	for _, part := range [][]byte{
		[]byte(proofLabel), network[:], l.Group[:], prover[:], verifier[:], proverNonce[:], verifierNonce[:],
	} {
		var n [8]byte
		binary.LittleEndian.PutUint64(n[:], uint64(len(part)))
		h.Write(n[:])
		h.Write(part)
	}
	h.Sum(mac[:0])
	return mac
}

// verify checks a proof in constant time.
func verify(mac [macSize]byte, network id.ID, l *local, prover, verifier id.PeerID, proverNonce, verifierNonce [nonceSize]byte) bool {
	want := prove(network, l, prover, verifier, proverNonce, verifierNonce)
	return hmac.Equal(mac[:], want[:])
}
