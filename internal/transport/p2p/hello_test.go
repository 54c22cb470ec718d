package p2p

import (
	"bytes"
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/handshake"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/internal/transport"
)

func TestHelloEncoding(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := hello{
			min:         rapid.Byte().Draw(t, "min"),
			max:         rapid.Byte().Draw(t, "max"),
			incarnation: transport.Incarnation(rapid.Int64Min(1).Draw(t, "incarnation")),
			order:       rapid.Uint64().Draw(t, "order"),
		}
		copy(m.network[:], rapid.SliceOfN(rapid.Byte(), id.Size, id.Size).Draw(t, "network"))
		copy(m.nonce[:], rapid.SliceOfN(rapid.Byte(), handshake.NonceSize, handshake.NonceSize).Draw(t, "nonce"))
		if back, err := decodeHello(m.encode()); err != nil || back != m {
			t.Fatalf("%+v comes back as %+v, %v", m, back, err)
		}
	})
}

// Of arbitrary bytes, and of hellos that were tampered with, exactly those are accepted that could have been sent; everything
// else is a protocol violation.
func TestHelloFromBytes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := helloOf(id.Of("net"))
		b := m.encode()
		if rapid.Bool().Draw(t, "arbitrary") {
			b = rapid.SliceOfN(rapid.Byte(), 0, 2*helloSize).Draw(t, "bytes")
		} else {
			b[rapid.IntRange(0, len(b)-1).Draw(t, "where")] = rapid.Byte().Draw(t, "what")
			b = b[:rapid.SampledFrom([]int{helloSize, helloSize - 1, 1}).Draw(t, "length")]
		}
		got, err := decodeHello(b)
		switch {
		case err == nil && !bytes.Equal(got.encode(), b):
			t.Errorf("%x is taken for %+v", b, got)
		case err != nil && !errors.Is(err, &link.CloseError{Code: link.CodeProtocolViolation}):
			t.Errorf("got %v", err)
		}
	})
}
