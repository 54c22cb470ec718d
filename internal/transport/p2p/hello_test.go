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

// FuzzHello: what is accepted is exactly what would be sent, and everything else a protocol violation.
func FuzzHello(f *testing.F) {
	m := helloOf(id.Of("net"))
	f.Add(m.encode())
	f.Add(m.encode()[:helloSize-1])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeHello(b)
		if err != nil {
			if !errors.Is(err, &link.CloseError{Code: link.CodeProtocolViolation}) {
				t.Errorf("got %v", err)
			}
			return
		}
		if !bytes.Equal(m.encode(), b) {
			t.Errorf("%x is taken for %+v", b, m)
		}
	})
}
