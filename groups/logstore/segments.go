package logstore

import (
	"go.etcd.io/raft/v3/raftpb"
)

// segments is a run of log entries with consecutive indices, kept in pieces: dropping the front frees the memory of whole
// pieces, and appending never moves what is there. Slices that were handed out stay as they are.
type segments struct {
	first uint64 // index of the first entry that counts; those before it in the first piece are dropped
	next  uint64 // index after the last
	parts []segment
	bytes int64 // of all pieces
}

// segment is one piece.
type segment struct {
	first   uint64
	entries []*raftpb.Entry
	bytes   int64
}

// Bounds of a piece.
const (
	segmentEntries = 512
	segmentBytes   = 4 << 20
)

// entryOverhead is what an entry counts beside its data when sizes are limited.
const entryOverhead = 16

func entrySize(e *raftpb.Entry) int64 { return int64(len(e.Data)) + entryOverhead }

// reset empties the run; the next entry will have the given index.
func (s *segments) reset(next uint64) { *s = segments{first: next, next: next} }

// find returns the piece with the entry of the index, which must exist.
func (s *segments) find(index uint64) int {
	lo, hi := 0, len(s.parts)
	for hi-lo > 1 {
		if mid := (lo + hi) / 2; s.parts[mid].first <= index {
			lo = mid
		} else {
			hi = mid
		}
	}
	return lo
}

func (s *segments) at(index uint64) *raftpb.Entry {
	p := &s.parts[s.find(index)]
	return p.entries[index-p.first]
}

// slice returns the entries from lo up to, not including, hi, or as many of them as fit into maxSize bytes, at least one.
func (s *segments) slice(lo, hi, maxSize uint64) []*raftpb.Entry {
	if lo == hi {
		return nil
	}
	i := s.find(lo)
	p := &s.parts[i]
	part := p.entries[lo-p.first : min(hi-p.first, uint64(len(p.entries)))]
	size := uint64(0)
	for k, e := range part {
		if size += uint64(entrySize(e)); size > maxSize && k > 0 {
			return part[:k:k]
		}
	}
	at := lo + uint64(len(part))
	if at == hi {
		return part[:len(part):len(part)]
	}
	out := append(make([]*raftpb.Entry, 0, hi-lo), part...)
	for ; at < hi; at++ {
		if at-s.parts[i].first == uint64(len(s.parts[i].entries)) {
			i++
		}
		e := s.parts[i].entries[at-s.parts[i].first]
		if size += uint64(entrySize(e)); size > maxSize {
			break
		}
		out = append(out, e)
	}
	return out
}

// append adds entries behind the last one.
func (s *segments) append(entries []*raftpb.Entry) {
	for _, e := range entries {
		last := len(s.parts) - 1
		if last < 0 || len(s.parts[last].entries) >= segmentEntries || s.parts[last].bytes >= segmentBytes {
			s.parts = append(s.parts, segment{first: s.next})
			last++
		}
		p := &s.parts[last]
		p.entries = append(p.entries, e)
		p.bytes += entrySize(e)
		s.bytes += entrySize(e)
		s.next++
	}
}

// truncate drops the entries from the index on, which must not be below the first.
func (s *segments) truncate(index uint64) {
	for len(s.parts) > 0 && index < s.next {
		last := len(s.parts) - 1
		p := &s.parts[last]
		if p.first >= index {
			s.bytes -= p.bytes
			s.next = p.first
			s.parts[last] = segment{}
			s.parts = s.parts[:last]
			continue
		}
		for _, e := range p.entries[index-p.first:] {
			p.bytes -= entrySize(e)
			s.bytes -= entrySize(e)
		}
		kept := index - p.first
		p.entries = p.entries[:kept:kept] // readers may hold the tail that is replaced
		s.next = index
	}
}

// compact drops the entries up to and including the index, which must exist.
func (s *segments) compact(index uint64) {
	s.first = index + 1
	n := 0
	for n < len(s.parts) && s.parts[n].first+uint64(len(s.parts[n].entries)) <= s.first {
		s.bytes -= s.parts[n].bytes
		n++
	}
	if n > 0 {
		s.parts = append(make([]segment, 0, len(s.parts)-n+4), s.parts[n:]...)
	}
}
