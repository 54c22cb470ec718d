package handshake_test

import (
	"bytes"
	"encoding/hex"
	"os"
	"sync"
	"testing"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/handshake"
	"github.com/mosaik-go/mosaik/internal/leak"
)

func TestMain(m *testing.M) { os.Exit(leak.Check(m.Run())) }

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

// The proofs and the key were computed with Python's hmac module and the Argon2 reference implementation: changing how they
// are made would cut a network in two.
func TestGolden(t *testing.T) {
	t.Parallel()
	fill := func(b byte) (out [32]byte) {
		copy(out[:], bytes.Repeat([]byte{b}, len(out)))
		return out
	}
	var key handshake.Key
	for i := range key {
		key[i] = byte(i)
	}
	c := handshake.Context{
		Purpose: "test vector", Network: fill(1), Initiator: fill(2), Acceptor: fill(3), NonceI: fill(4), NonceA: fill(5),
	}
	for role, want := range map[handshake.Role]string{
		handshake.Initiator: "e8efd2aede18a1b134cbf036feb7133da80bb9ecae985b06f25d5921f9d136b1",
		handshake.Acceptor:  "4f1c86ae37416b0bad0f66647b910424beae5d495a2619e7a6164b4a7fe44541",
	} {
		p := c.Prove(key, role)
		if got := hex.EncodeToString(p[:]); got != want {
			t.Errorf("role %d: got %s, want %s", role, got, want)
		}
	}
	k := handshake.KeyOf("open sesame", fill(1))
	if got, want := hex.EncodeToString(k[:]), "542d0b84c484b9cb26a3ea20e6d2ad35d781a18216e67e61dcd02836400eea23"; got != want {
		t.Errorf("key: got %s, want %s", got, want)
	}
}

// A recorded exchange is worth nothing: nonces differ each time.
func TestNoncesDiffer(t *testing.T) {
	t.Parallel()
	seen := make(map[handshake.Nonce]bool)
	for range 1000 {
		seen[handshake.NewNonce()] = true
	}
	if len(seen) != 1000 {
		t.Errorf("1000 nonces are %d different ones", len(seen))
	}
}

// Many networks in one process get their keys, beyond what is remembered.
func TestKeysConcurrently(t *testing.T) {
	t.Parallel()
	want := handshake.KeyOf("same", id.Of("same"))
	var wg sync.WaitGroup
	for i := range 70 {
		wg.Go(func() {
			handshake.KeyOf(string(rune('a'+i)), id.Of("net"))
			if handshake.KeyOf("same", id.Of("same")) != want {
				t.Error("a key changed")
			}
		})
	}
	wg.Wait()
}
