package bond

import (
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/handshake"
)

// proofPurpose keeps these proofs apart from every other use of handshakes. Its version changes with the handshake.
const proofPurpose = "mosaik groups bond v1"

// proofKey is the key of one group's proofs.
func proofKey(l *local) handshake.Key {
	return handshake.Key(l.Secret.Derive([]byte(proofPurpose), l.Group[:]))
}

// proofOf returns what both sides know of the handshake between prover and verifier, and the prover's role in it: since
// either side may begin, the one with the smaller identity counts as the initiator.
func proofOf(network id.ID, prover, verifier id.PeerID, proverNonce, verifierNonce handshake.Nonce) (*handshake.Context, handshake.Role) {
	c := &handshake.Context{Purpose: proofPurpose, Network: network}
	if prover.Compare(verifier) < 0 {
		c.Initiator, c.NonceI, c.Acceptor, c.NonceA = prover, proverNonce, verifier, verifierNonce
		return c, handshake.Initiator
	}
	c.Initiator, c.NonceI, c.Acceptor, c.NonceA = verifier, verifierNonce, prover, proverNonce
	return c, handshake.Acceptor
}

// prove returns the proof that prover knows the secret of the group, made for verifier.
func prove(network id.ID, l *local, prover, verifier id.PeerID, proverNonce, verifierNonce handshake.Nonce) handshake.Proof {
	c, role := proofOf(network, prover, verifier, proverNonce, verifierNonce)
	return c.Prove(proofKey(l), role)
}

// verify checks a proof in constant time.
func verify(p handshake.Proof, network id.ID, l *local, prover, verifier id.PeerID, proverNonce, verifierNonce handshake.Nonce) bool {
	c, role := proofOf(network, prover, verifier, proverNonce, verifierNonce)
	return c.Verify(proofKey(l), role, p)
}
