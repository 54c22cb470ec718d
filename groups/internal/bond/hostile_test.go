package bond

import (
	"crypto/ed25519"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/handshake"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/internal/transport"
	"github.com/mosaik-go/mosaik/internal/transport/simnet"
)

// stranger is a peer of the network that speaks the protocol of trunks by hand.
func (w *world) stranger(to *testNode) transport.Stream {
	w.Helper()
	digest := id.Of(w.Name() + " stranger")
	h, err := w.NewHost(transport.Config{Network: testNetwork, Key: ed25519.NewKeyFromSeed(digest[:])})
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { h.Close() })
	h.Learn(to.host.Addr())
	s, err := h.Open(w.Context(), to.host.ID(), Protocol)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { s.Abort(link.CodeCancelled) })
	return s
}

func frameOf(body []byte) []byte {
	n := len(body)
	return append([]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, body...)
}

// Whatever a peer of the network sends on a trunk, it gets a clear reason or silence, and honest members go on.
func TestHostileInput(t *testing.T) {
	g := id.Of("g")
	preface := frameOf(prefaceFrame{}.append(nil))
	with := func(frames ...[]byte) []byte {
		out := append([]byte(nil), preface...)
		for _, f := range frames {
			out = append(out, frameOf(f)...)
		}
		return out
	}
	hello := (&helloFrame{group: g, channel: 0, nonce: handshake.NewNonce()}).append(nil)
	noise := make([]byte, 4000)
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	for name, tc := range map[string]struct {
		bytes  []byte
		closed link.Code // zero: the trunk stays, and ends by itself after a while
	}{
		"no preface":            {frameOf(pingFrame{}.append(nil)), link.CodeProtocolViolation},
		"other version":         {frameOf([]byte{byte(kindPreface), 99}), link.CodeIncompatibleVersion},
		"empty frame":           {with(nil), link.CodeProtocolViolation},
		"unknown kind":          {with([]byte{200, 1, 2, 3}), link.CodeProtocolViolation},
		"cut hello":             {with(hello[:20]), link.CodeProtocolViolation},
		"oversize frame":        {append(with(), 0xff, 0xff, 0xff, 0xff), link.CodeFrameTooLarge},
		"random bytes":          {append(with(), noise...), link.CodeFrameTooLarge},
		"second preface":        {append(with(), preface...), link.CodeProtocolViolation},
		"data without a bond":   {with(append(appendDataHeader(nil, 5), "x"...)), 0},
		"data before the proof": {with(hello, append(appendDataHeader(nil, 0), "x"...)), 0},
		"proof out of the blue": {with((&proofFrame{channel: 9}).append(nil)), 0},
		"close out of the blue": {with((&closeFrame{group: id.Of("?"), code: 1}).append(nil)), 0},
		"silence":               {nil, link.CodeTimeout},
		"half a frame":          {append(with(), 0, 0, 1, 0, 5), link.CodeTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, simnet.Options{}, func(t *testing.T, w *world) {
				if name == "random bytes" {
					tc.bytes[len(preface)] = 0x80 // a length beyond the limit, whatever follows
				}
				n0, n1 := w.node(), w.node()
				s0, s1 := n0.join(g, nil), n1.join(g, nil)
				w.within(time.Second, "the honest bond is up", bonded(s0, s1))
				s := w.stranger(n0)
				if len(tc.bytes) == 0 {
					// The handler starts with the first byte.
					tc.bytes = []byte{0}
				}
				if _, err := s.Write(tc.bytes); err != nil {
					t.Fatal(err)
				}
				begin := time.Now()
				_, err := io.Copy(io.Discard, s)
				if tc.closed != 0 && link.CodeOf(err) != tc.closed {
					t.Errorf("closed with %v after %v, want %v", err, time.Since(begin), tc.closed)
				}
				if took := time.Since(begin); took > idleAfter+time.Second {
					t.Errorf("the trunk stayed for %v", took)
				}
				if !s0.bond(n1).Send(note("still here")) {
					t.Error("the honest bond is down")
				}
				w.within(time.Second, "the honest bond works", func() bool { return len(s1.notes()) == 1 })
				if up, ups, _, _ := s0.count(); up != 1 || ups != 1 {
					t.Errorf("%d bonds, %d ups", up, ups)
				}
			})
		})
	}
}

// A recorded proof is worth nothing: it fits one pair of nonces and one pair of identities.
func TestProofFitsOneHandshake(t *testing.T) {
	t.Parallel()
	l := &local{Local: Local{Group: id.Of("g"), Secret: id.Of("secret")}}
	a, b, c := id.PeerID{1}, id.PeerID{2}, id.PeerID{3}
	na, nb := handshake.NewNonce(), handshake.NewNonce()
	mac := prove(testNetwork, l, a, b, na, nb)
	if !verify(mac, testNetwork, l, a, b, na, nb) {
		t.Fatal("the proof itself is refused")
	}
	other := &local{Local: Local{Group: id.Of("other"), Secret: l.Secret}}
	guess := &local{Local: Local{Group: l.Group, Secret: id.Of("guess")}}
	for name, ok := range map[string]bool{
		"reflected":         verify(mac, testNetwork, l, b, a, nb, na),
		"nonces swapped":    verify(mac, testNetwork, l, a, b, nb, na),
		"other nonce":       verify(mac, testNetwork, l, a, b, na, handshake.NewNonce()),
		"other verifier":    verify(mac, testNetwork, l, a, c, na, nb),
		"other prover":      verify(mac, testNetwork, l, c, b, na, nb),
		"other network":     verify(mac, id.Of("other"), l, a, b, na, nb),
		"other group":       verify(mac, testNetwork, other, a, b, na, nb),
		"other secret":      verify(mac, testNetwork, guess, a, b, na, nb),
		"one bit different": verify(handshake.Proof(append([]byte{mac[0] ^ 1}, mac[1:]...)), testNetwork, l, a, b, na, nb),
	} {
		if ok {
			t.Errorf("%s: accepted", name)
		}
	}
}

// A closed mesh refuses trunks by name.
func TestClosedMeshRefuses(t *testing.T) {
	inWorld(t, simnet.Options{}, func(t *testing.T, w *world) {
		n := w.node()
		n.mesh.Close()
		s := w.stranger(n)
		s.Write([]byte{0})
		if _, err := io.Copy(io.Discard, s); err == nil {
			t.Error("the trunk ended without a reason")
		} else if _, ok := errors.AsType[*link.CloseError](err); !ok {
			t.Errorf("ended with %v", err)
		}
		synctest.Wait()
	})
}

// A peer that makes up ever new reasons to refuse is reported now and then, not each time.
func TestRefusalsAreNotRepeated(t *testing.T) {
	inWorld(t, simnet.Options{}, func(t *testing.T, w *world) {
		n := w.node()
		sink := n.join(id.Of("g"), nil)
		s := w.stranger(n)
		if _, err := s.Write(frameOf(prefaceFrame{}.append(nil))); err != nil {
			t.Fatal(err)
		}
		for i := range 1000 {
			code := link.Code(70000 + i)
			if i%2 == 0 {
				code = []link.Code{link.CodeGroupInvalidProof, link.CodeGroupNotAllowed}[i/2%2]
			}
			if _, err := s.Write(frameOf((&closeFrame{group: id.Of("g"), code: code}).append(nil))); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(500 * time.Millisecond)
		if _, _, _, refused := sink.count(); refused == 0 || refused > 2 {
			t.Errorf("%d of 1,000 refusals are reported", refused)
		}
	})
}
