package wire

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/mosaik-go/mosaik/id"
)

// reader takes fields off the front of b. After the first field that does not fit it is bad, and returns zero values.
type reader struct {
	b   []byte
	bad bool
}

// own makes the reader work on a copy, so that byte strings can point into it.
func (r *reader) own() { r.b = slices.Clone(r.b) }

func (r *reader) take(n int) []byte {
	if r.bad || n < 0 || n > len(r.b) {
		r.bad = true
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) byte() byte {
	if v := r.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (r *reader) bool() bool {
	v := r.byte()
	if v > 1 {
		r.bad = true
	}
	return v == 1
}

func (r *reader) uint() uint64 {
	v, n := binary.Uvarint(r.b)
	if r.bad || n <= 0 || n > 1 && r.b[n-1] == 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) uint32() uint32 {
	v := r.uint()
	if v > math.MaxUint32 {
		r.bad = true
		return 0
	}
	return uint32(v)
}

// count reads a number of things that take at least size bytes each.
func (r *reader) count(size int) int {
	n := r.uint()
	if r.bad || n > uint64(len(r.b)/size) {
		r.bad = true
		return 0
	}
	return int(n)
}

// bytes reads a byte string, which points into b.
func (r *reader) bytes() []byte { return r.take(r.count(1)) }

func (r *reader) genesis() (g Genesis) {
	copy(g[:], r.take(len(g)))
	return g
}

func (r *reader) peer() (p id.PeerID) {
	copy(p[:], r.take(len(p)))
	return p
}

func (r *reader) member() Member {
	return Member{ID: r.uint(), Peer: r.peer(), Nonce: r.uint(), Preference: r.preference(), Durable: r.bool()}
}

func (r *reader) preference() byte {
	v := r.byte()
	if v > PreferenceMost {
		r.bad = true
	}
	return v
}

// uints reads what appendUints wrote.
func (r *reader) uints() (list []uint64) {
	for range r.count(1) {
		list = append(list, r.uint())
	}
	return list
}

func appendUints(b []byte, list []uint64) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	for _, v := range list {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

func (r *reader) items() []Item {
	n := r.count(2)
	if n == 0 {
		return nil
	}
	items := make([]Item, n)
	for i := range items {
		items[i] = Item{Count: r.uint32(), Payload: r.bytes()}
		if items[i].Count == 0 {
			r.bad = true
		}
	}
	return items
}
