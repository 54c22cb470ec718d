// Package handshake proves that two sides know the same secret without showing it, bound to who the two sides are.
//
// Each side contributes a random nonce. A proof is HMAC-SHA256 (RFC 2104) under a key made from the secret, over the
// purpose, the network, the role, both identities and both nonces. The identities come from the authenticated channel, so
// an attacker who relays messages between two channels fails, and the nonces rule out replay. The initiator proves first.
package handshake

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"sync"

	"golang.org/x/crypto/argon2"

	"github.com/mosaik-go/mosaik/id"
)

// Sizes in bytes.
const (
	NonceSize = 32
	ProofSize = sha256.Size
	keySize   = 32
)

// Nonce is one side's contribution to the freshness of a handshake.
type Nonce [NonceSize]byte

// Proof is one side's proof.
type Proof [ProofSize]byte

// Key is what proofs are made with.
type Key [keySize]byte

// NewNonce returns a random nonce.
func NewNonce() Nonce {
	var n Nonce
	rand.Read(n[:]) // never fails, by its contract
	return n
}

// Role says which side makes a proof, so that one side's proof cannot be returned as the other's.
type Role byte

const (
	Initiator Role = 1 // proves first
	Acceptor  Role = 2
)

// Context is what both sides of a handshake know.
type Context struct {
	Purpose   string // keeps handshakes of different protocols apart
	Network   id.ID
	Initiator id.PeerID
	Acceptor  id.PeerID
	NonceI    Nonce // of the initiator
	NonceA    Nonce // of the acceptor
}

// Prove returns the proof of the side in the given role.
func (c *Context) Prove(k Key, r Role) Proof {
	h := hmac.New(sha256.New, k[:])
	var n [8]byte
	binary.LittleEndian.PutUint64(n[:], uint64(len(c.Purpose)))
	h.Write(n[:])
	h.Write([]byte(c.Purpose))
	h.Write([]byte{byte(r)})
	h.Write(c.Network[:])
	h.Write(c.Initiator[:])
	h.Write(c.Acceptor[:])
	h.Write(c.NonceI[:])
	h.Write(c.NonceA[:])
	var p Proof
	h.Sum(p[:0])
	return p
}

// Verify reports whether p is the proof of the side in the given role, in constant time.
func (c *Context) Verify(k Key, r Role, p Proof) bool {
	want := c.Prove(k, r)
	return hmac.Equal(want[:], p[:])
}

// Cost of turning a secret into a key (Argon2id, RFC 9106): about 10 ms, once for each secret and network in a process.
const (
	argonTime    = 1
	argonMemory  = 16 << 10 // KiB
	argonThreads = 1
)

type secretOf struct {
	secret  string
	network id.ID
}

var keys = struct {
	sync.Mutex
	cache map[secretOf]Key
}{cache: make(map[secretOf]Key)}

// keysKept bounds the cache; a process seldom has more than one network.
const keysKept = 64

// KeyOf turns a passphrase into the key of a network. It is slow on purpose, since whoever collects a proof can try
// passphrases offline, and remembers its results.
func KeyOf(secret string, network id.ID) Key {
	keys.Lock()
	defer keys.Unlock()
	k, ok := keys.cache[secretOf{secret, network}]
	if ok {
		return k
	}
	copy(k[:], argon2.IDKey([]byte(secret), network[:], argonTime, argonMemory, argonThreads, keySize))
	if len(keys.cache) >= keysKept {
		clear(keys.cache)
	}
	keys.cache[secretOf{secret, network}] = k
	return k
}
