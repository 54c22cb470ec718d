// Package fan decides what each consumer of a stream gets: what is queued for it, what is sent within the credit that it
// granted, and what is dropped when it lags. It is pure: no goroutine, clock, lock or I/O.
//
// A producer appends items to a [Run]. Finished runs are immutable and shared by all consumers: a [Lane] holds ranges of
// them, not copies, so that one more consumer costs one more reference for each run.
package fan

import (
	"encoding/binary"
)

// Run is a sequence of encoded items in the order of their numbers.
type Run struct {
	First   uint64   // number of the first item
	Numbers []uint64 // of all items; nil when they are consecutive
	Buf     []byte   // of each item its length as uvarint, and its bytes
	Marks   []Mark   // one for each item
	Keys    []uint64 // one for each item, or nil when the producer has no keys

	head uint8 // bytes that the length of the last item took
}

// Next returns an empty run for the items behind this one.
func (r *Run) Next() *Run { return &Run{First: r.Last() + 1, head: r.head} }

// Mark is where an item ends.
type Mark struct {
	End     uint32 // in Buf
	Payload uint32 // bytes of this item and all before it, without their lengths
}

// Open returns Buf with room for a length, for an encoder to append an item to.
func (r *Run) Open() []byte {
	var head [binary.MaxVarintLen32]byte
	return append(r.Buf, head[:r.room()]...)
}

// room is how many bytes Open leaves for a length: as many as the item before had, and at first one.
func (r *Run) room() int { return max(1, int(r.head)) }

// Size returns the length of the item that an encoder made of the result of Open.
func (r *Run) Size(buf []byte) int { return len(buf) - len(r.Buf) - r.room() }

// Add takes over what an encoder made of the result of Open.
func (r *Run) Add(buf []byte, key uint64, keyed bool) {
	start, room, size := len(r.Buf), r.room(), r.Size(buf)
	var head [binary.MaxVarintLen32]byte
	n := binary.PutUvarint(head[:], uint64(size))
	if n != room {
		if n > room {
			buf = append(buf, head[:n-room]...)
		}
		copy(buf[start+n:], buf[start+room:start+room+size])
		buf = buf[:start+n+size]
		r.head = uint8(n)
	}
	copy(buf[start:], head[:n])
	r.Buf = buf
	payload := uint32(size)
	if n := len(r.Marks); n > 0 {
		payload += r.Marks[n-1].Payload
	}
	r.Marks = append(r.Marks, Mark{End: uint32(len(buf)), Payload: payload})
	if keyed {
		r.Keys = append(r.Keys, key)
	}
}

// Len returns the number of items.
func (r *Run) Len() int { return len(r.Marks) }

// Number returns the number of item i.
func (r *Run) Number(i int) uint64 {
	if r.Numbers != nil {
		return r.Numbers[i]
	}
	return r.First + uint64(i)
}

// Last returns the number of the last item.
func (r *Run) Last() uint64 { return r.Number(len(r.Marks) - 1) }

// choose copies the items from index from on whose keys are in the set. So a consumer that wants few items does not hold
// on to the many around them.
func (r *Run) choose(from int, keys map[uint64]struct{}) *Run {
	chosen := new(Run)
	for i := from; i < r.Len(); i++ {
		if _, ok := keys[r.Keys[i]]; !ok {
			continue
		}
		chosen.Buf = append(chosen.Buf, r.Bytes(i, i+1)...)
		chosen.Marks = append(chosen.Marks, Mark{
			End:     uint32(len(chosen.Buf)),
			Payload: uint32(chosen.Payload(0, chosen.Len()) + r.Payload(i, i+1)),
		})
		chosen.Numbers = append(chosen.Numbers, r.Number(i))
	}
	return chosen
}

// start returns where item i begins in Buf.
func (r *Run) start(i int) uint32 {
	if i == 0 {
		return 0
	}
	return r.Marks[i-1].End
}

// Bytes returns the items from i to before j as they are on the wire.
func (r *Run) Bytes(i, j int) []byte {
	if i == j {
		return nil
	}
	return r.Buf[r.start(i):r.Marks[j-1].End:r.Marks[j-1].End]
}

// size returns the length of Bytes(i, j).
func (r *Run) size(i, j int) int {
	if i == j {
		return 0
	}
	return int(r.Marks[j-1].End - r.start(i))
}

// Payload returns the bytes of the items from i to before j without their lengths.
func (r *Run) Payload(i, j int) int {
	if i == j {
		return 0
	}
	before := uint32(0)
	if i > 0 {
		before = r.Marks[i-1].Payload
	}
	return int(r.Marks[j-1].Payload - before)
}

// Cut takes the first item off b, which is as [Run.Bytes] returns it. It reports false when b does not begin with one.
func Cut(b []byte) (item, rest []byte, ok bool) {
	if len(b) > 0 && b[0] < 1<<7 {
		end := 1 + int(b[0])
		if end > len(b) {
			return nil, nil, false
		}
		return b[1:end:end], b[end:], true
	}
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return nil, nil, false
	}
	end := n + int(size)
	return b[n:end:end], b[end:], true
}

// Measure counts the items in b and their bytes without the lengths. It reports false when b is not a sequence of items.
func Measure(b []byte) (items, payload int, ok bool) {
	for len(b) > 0 {
		if b[0] < 1<<7 && int(b[0]) < len(b) {
			payload += int(b[0])
			b = b[1+int(b[0]):]
			items++
			continue
		}
		item, rest, ok := Cut(b)
		if !ok {
			return 0, 0, false
		}
		payload += len(item)
		b = rest
		items++
	}
	return items, payload, true
}
