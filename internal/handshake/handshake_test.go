package handshake_test

import (
	"testing"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/handshake"
)

func context() handshake.Context {
	return handshake.Context{
		Purpose:   "test",
		Network:   id.Of("net"),
		Initiator: id.PeerID{1},
		Acceptor:  id.PeerID{2},
		NonceI:    handshake.NewNonce(),
		NonceA:    handshake.NewNonce(),
	}
}

func TestProofsAreBoundToEverything(t *testing.T) {
	t.Parallel()
	c := context()
	key := handshake.KeyOf("secret", c.Network)
	proof := c.Prove(key, handshake.Initiator)
	if !c.Verify(key, handshake.Initiator, proof) {
		t.Fatal("Verify refuses the right proof")
	}
	if c.Verify(key, handshake.Acceptor, proof) {
		t.Error("a proof passes for the other role")
	}
	if c.Verify(handshake.KeyOf("other", c.Network), handshake.Initiator, proof) {
		t.Error("a proof passes for another secret")
	}
	for name, change := range map[string]func(*handshake.Context){
		"purpose":         func(c *handshake.Context) { c.Purpose = "tes" },
		"network":         func(c *handshake.Context) { c.Network[0]++ },
		"initiator":       func(c *handshake.Context) { c.Initiator[0]++ },
		"acceptor":        func(c *handshake.Context) { c.Acceptor[0]++ },
		"initiator nonce": func(c *handshake.Context) { c.NonceI[0]++ },
		"acceptor nonce":  func(c *handshake.Context) { c.NonceA[0]++ },
		"swapped sides":   func(c *handshake.Context) { c.Initiator, c.Acceptor = c.Acceptor, c.Initiator },
	} {
		other := c
		change(&other)
		if other.Verify(key, handshake.Initiator, proof) {
			t.Errorf("a proof passes although the %s differs", name)
		}
	}
}

func TestKeysDependOnSecretAndNetwork(t *testing.T) {
	t.Parallel()
	a, b := id.Of("a"), id.Of("b")
	if first, again := handshake.KeyOf("x", a), handshake.KeyOf("x", a); first != again {
		t.Error("the same secret and network give different keys")
	}
	if handshake.KeyOf("x", a) == handshake.KeyOf("x", b) {
		t.Error("two networks share a key")
	}
	if handshake.KeyOf("x", a) == handshake.KeyOf("y", a) {
		t.Error("two secrets share a key")
	}
}
