package wire

import (
	"encoding/binary"
	"math/bits"

	"github.com/mosaik-go/mosaik/id"
)

// PrefixSize is how much of a peer id a sync uses to name a peer.
const PrefixSize = 8

// Prefix is the beginning of a peer id.
type Prefix [PrefixSize]byte

// PrefixOf returns the prefix of a peer id.
func PrefixOf(p id.PeerID) Prefix { return Prefix(p[:PrefixSize]) }

// Salt makes the digests of one sync unpredictable, so that nobody can prepare entries that cancel out in them.
type Salt [16]byte

// Open begins a sync. Digests has a power of two of elements, at least 16.
type Open struct {
	Salt    Salt
	Step    int64 // of the times of beats, milliseconds: smaller differences do not count
	Digests []uint64
	Self    Update // the sender's own entry
}

// Row is what one side knows of a peer, without the content.
type Row struct {
	Prefix   Prefix
	Start    int64
	Update   int64 // zero when departed
	Alive    int64 // latest sign of life, or the time of the departure
	Departed bool
	Check    uint32 // of the content, tells apart what has equal versions
}

// Rows is all that the answering side has in buckets whose digests differ. Frames are at most MaxRows long; Buckets, in
// strictly ascending order, is only in the first one.
type Rows struct {
	Buckets []uint32
	Rows    []Row
}

// Prefixes asks for what the other side knows of peers: all of it, or only the latest beat.
type Prefixes struct{ Entries, Beats []Prefix }

// Append implements [Frame].
func (o *Open) Append(dst []byte) []byte {
	dst = append(dst, frameOpen)
	dst = append(dst, o.Salt[:]...)
	dst = appendTime(dst, o.Step)
	dst = append(dst, byte(bits.TrailingZeros(uint(len(o.Digests)))))
	for _, d := range o.Digests {
		dst = binary.BigEndian.AppendUint64(dst, d)
	}
	return o.Self.Append(dst)
}

func (r *reader) open() *Open {
	o := new(Open)
	r.fill("salt", o.Salt[:])
	o.Step = r.time("step")
	if o.Step == 0 {
		r.fail("step: zero")
	}
	n := 1 << min(r.byte("buckets"), 31)
	if n < minBuckets || n > MaxBuckets {
		r.fail("buckets: %d, from %d to %d allowed", n, minBuckets, MaxBuckets)
		return o
	}
	raw := r.take("digests", 8*n)
	if r.err != nil {
		return o
	}
	o.Digests = make([]uint64, n)
	for i := range o.Digests {
		o.Digests[i] = binary.BigEndian.Uint64(raw[8*i:])
	}
	o.Self = r.update()
	if r.err == nil && o.Self.Entry == nil {
		r.fail("sync opened without an entry")
	}
	return o
}

// rowMin is the least size of a row: prefix, start, update, alive, flag, check.
const rowMin = PrefixSize + 3 + 1 + 4

// Append implements [Frame].
func (rs *Rows) Append(dst []byte) []byte {
	dst = append(dst, frameRows)
	dst = binary.AppendUvarint(dst, uint64(len(rs.Buckets)))
	for _, b := range rs.Buckets {
		dst = binary.AppendUvarint(dst, uint64(b))
	}
	dst = binary.AppendUvarint(dst, uint64(len(rs.Rows)))
	for i := range rs.Rows {
		row := &rs.Rows[i]
		dst = append(dst, row.Prefix[:]...)
		dst = appendTime(dst, row.Start)
		dst = appendTime(dst, row.Update)
		dst = appendTime(dst, row.Alive)
		departed := byte(0)
		if row.Departed {
			departed = 1
		}
		dst = append(dst, departed)
		dst = binary.BigEndian.AppendUint32(dst, row.Check)
	}
	return dst
}

func (r *reader) rows() *Rows {
	rs := new(Rows)
	if n := r.count("buckets", MaxBuckets, 1); n > 0 {
		rs.Buckets = make([]uint32, n)
	}
	for i := range rs.Buckets {
		rs.Buckets[i] = uint32(r.uvarint("bucket", MaxBuckets-1))
		if i > 0 && rs.Buckets[i-1] >= rs.Buckets[i] {
			r.fail("buckets: not strictly ascending")
			return rs
		}
	}
	if n := r.count("rows", MaxRows, rowMin); n > 0 {
		rs.Rows = make([]Row, n)
	}
	for i := range rs.Rows {
		row := &rs.Rows[i]
		r.fill("row", row.Prefix[:])
		row.Start = r.time("row start")
		row.Update = r.time("row update")
		row.Alive = r.time("row time")
		row.Departed = r.flag("row departed")
		var check [4]byte
		r.fill("row check", check[:])
		row.Check = binary.BigEndian.Uint32(check[:])
	}
	return rs
}

// Append implements [Frame].
func (p *Prefixes) Append(dst []byte) []byte {
	dst = append(dst, framePrefixes)
	for _, list := range [][]Prefix{p.Entries, p.Beats} {
		dst = binary.AppendUvarint(dst, uint64(len(list)))
		for i := range list {
			dst = append(dst, list[i][:]...)
		}
	}
	return dst
}

func (r *reader) prefixes() *Prefixes {
	p := new(Prefixes)
	for _, list := range []*[]Prefix{&p.Entries, &p.Beats} {
		if n := r.count("prefixes", MaxRows, PrefixSize); n > 0 {
			*list = make([]Prefix, n)
		}
		for i := range *list {
			r.fill("prefix", (*list)[i][:])
		}
	}
	return p
}
