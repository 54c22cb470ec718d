// Package antientropy finds out what differs between two catalogs while sending little when little differs.
//
// Both sides sort what they know by peer id into the same number of buckets and hash each bucket. One side sends its
// hashes; the other answers with the rows, versions without content, of the buckets that differ; the first then knows
// what to send and what to ask for. The hash of a bucket is the XOR of the keyed hashes of its rows, so the order does not
// matter, and the key is new each time, so nobody can prepare rows that cancel out.
//
// It is a comparison of one level of a Merkle tree (Demers et al., "Epidemic algorithms for replicated database
// maintenance", 1987, §1.3, compare checksums; the buckets keep one difference from costing everything).
package antientropy

import (
	"encoding/binary"
	"math/bits"

	"github.com/zeebo/blake3"

	"github.com/mosaik-go/mosaik/discovery/internal/wire"
	"github.com/mosaik-go/mosaik/id"
)

// Item is one thing that a catalog tells others: a row and whom it is about.
type Item struct {
	Peer id.PeerID
	wire.Row
}

// ItemOf describes an update, which is not a beat alone.
func ItemOf(u wire.Update) Item {
	it := Item{Peer: u.Peer(), Row: wire.Row{Prefix: wire.PrefixOf(u.Peer()), Start: u.Start()}}
	if u.Depart != nil {
		it.Departed = true
		it.Alive = u.Depart.At
		return it
	}
	it.Update = u.Entry.Entry.Update
	it.Alive = it.Update
	if u.Beat != nil {
		it.Alive = max(it.Alive, u.Beat.At)
	}
	it.Check = binary.BigEndian.Uint32(u.Entry.Sig[:])
	return it
}

// Buckets returns how many buckets suit n items: about eight items in each.
func Buckets(n int) int {
	want := max(16, n/8)
	return min(wire.MaxBuckets, 1<<bits.Len(uint(want-1)))
}

// bucket returns which of n buckets a prefix belongs to; n is a power of two.
func bucket(p wire.Prefix, n int) uint32 {
	return binary.BigEndian.Uint32(p[:]) & uint32(n-1)
}

// Digests returns the hashes of n buckets.
func Digests(items []Item, salt wire.Salt, step int64, n int) []uint64 {
	out := make([]uint64, n)
	var key [32]byte
	copy(key[:], salt[:])
	h, err := blake3.NewKeyed(key[:])
	if err != nil {
		panic("antientropy: " + err.Error()) // the key has the right length
	}
	var buf [id.Size + 3*8 + 1 + 4]byte
	var sum [32]byte
	for i := range items {
		it := &items[i]
		b := append(buf[:0], it.Peer[:]...)
		b = binary.BigEndian.AppendUint64(b, uint64(it.Start))
		b = binary.BigEndian.AppendUint64(b, uint64(it.Update))
		b = binary.BigEndian.AppendUint64(b, uint64(age(&it.Row, step)))
		b = append(b, byte(rank(&it.Row)))
		b = binary.BigEndian.AppendUint32(b, it.Check)
		h.Reset()
		h.Write(b)
		h.Sum(sum[:0])
		out[bucket(it.Prefix, n)] ^= binary.BigEndian.Uint64(sum[:8])
	}
	return out
}

// age returns the sign of life in the resolution in which it counts. That of a departure does not.
func age(r *wire.Row, step int64) int64 {
	if r.Departed {
		return 0
	}
	return r.Alive / step
}

func rank(r *wire.Row) int {
	if r.Departed {
		return 1
	}
	return 0
}

// Differing returns the numbers of the buckets whose hashes differ, in ascending order.
func Differing(a, b []uint64) []uint32 {
	var out []uint32
	for i := range a {
		if a[i] != b[i] {
			out = append(out, uint32(i))
		}
	}
	return out
}
