package p2p

import (
	"io"
	"testing"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/internal/transport"
)

func benchPair(b *testing.B, listen string) (from, to transport.Host) {
	b.Helper()
	network := id.Random()
	var hosts [2]transport.Host
	for i := range hosts {
		h, err := New(transport.Config{Network: network, Key: keyOf(id.Random().String()), Listen: []string{listen}})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { h.Close() })
		hosts[i] = h
	}
	if err := hosts[0].Connect(b.Context(), hosts[1].Addr()); err != nil {
		b.Fatal(err)
	}
	return hosts[0], hosts[1]
}

func onEach(b *testing.B, bench func(b *testing.B, from, to transport.Host)) {
	for _, c := range [][2]string{{"TCP", overTCP}, {"QUIC", overQUIC}} {
		b.Run(c[0], func(b *testing.B) {
			from, to := benchPair(b, c[1])
			bench(b, from, to)
		})
	}
}

// BenchmarkEcho is a message of 128 bytes there and back on an open stream.
func BenchmarkEcho(b *testing.B) {
	onEach(b, func(b *testing.B, from, to transport.Host) {
		to.Handle("echo", echoHandler)
		s, err := from.Open(b.Context(), to.ID(), "echo")
		if err != nil {
			b.Fatal(err)
		}
		defer s.Close()
		buf := make([]byte, 128)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := s.Write(buf); err != nil {
				b.Fatal(err)
			}
			if _, err := io.ReadFull(s, buf); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkOpen is a stream of its own for each such message.
func BenchmarkOpen(b *testing.B) {
	onEach(b, func(b *testing.B, from, to transport.Host) {
		to.Handle("echo", echoHandler)
		b.ReportAllocs()
		for b.Loop() {
			s, err := from.Open(b.Context(), to.ID(), "echo")
			if err != nil {
				b.Fatal(err)
			}
			s.Write(make([]byte, 128))
			s.CloseWrite()
			if n, err := io.Copy(io.Discard, s); n != 128 || err != nil {
				b.Fatal(n, err)
			}
			s.Close()
		}
	})
}

// BenchmarkFrames is frames of 64 bytes through a link, as many as go.
func BenchmarkFrames(b *testing.B) {
	const size = 64
	onEach(b, func(b *testing.B, from, to transport.Host) {
		got := make(chan int, 1)
		to.Handle("sink", func(s transport.Stream) {
			defer s.Close()
			r, n := link.NewReader(s, size), 0
			for {
				if _, err := r.Next(); err != nil {
					got <- n
					return
				}
				n++
			}
		})
		s, err := from.Open(b.Context(), to.ID(), "sink")
		if err != nil {
			b.Fatal(err)
		}
		w := link.NewWriter(s, link.WriterConfig{MaxFrame: size})
		body, n := make([]byte, size), 0
		encode := func(dst []byte) []byte { return append(dst, body...) }
		b.SetBytes(size)
		b.ReportAllocs()
		for b.Loop() {
			if err := w.Append(b.Context(), encode); err != nil {
				b.Fatal(err)
			}
			n++
		}
		if err := w.Close(b.Context()); err != nil {
			b.Fatal(err)
		}
		if arrived := <-got; arrived != n {
			b.Fatalf("%d of %d frames arrived", arrived, n)
		}
	})
}
