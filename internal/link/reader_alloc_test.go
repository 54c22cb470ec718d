//go:build !race

package link_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/mosaik-go/mosaik/internal/link"
)

// endless repeats what it holds.
type endless struct {
	frame []byte
	at    int
}

func (e *endless) Read(b []byte) (int, error) {
	n := copy(b, e.frame[e.at:])
	e.at = (e.at + n) % len(e.frame)
	return n, nil
}

// Frames longer than the ordinary buffer need no allocation each, and nothing of one shows in the next.
func TestLongFramesShareBuffers(t *testing.T) {
	for _, size := range []int{64 << 10, 70_000, 300_000, 1 << 20} {
		body := bytes.Repeat([]byte("x"), size)
		frame := append(binary.BigEndian.AppendUint32(nil, uint32(size)), body...)
		r := link.NewReader(&endless{frame: frame}, 2<<20)
		next := func() {
			got, err := r.Next()
			if err != nil || !bytes.Equal(got, body) {
				t.Fatalf("%d bytes, %v; want %d", len(got), err, size)
			}
		}
		next()
		if n := testing.AllocsPerRun(100, next); n > 1 {
			t.Errorf("%v allocations for a frame of %d bytes", n, size)
		}
	}
}
