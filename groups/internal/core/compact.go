package core

import (
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/tracker"

	"github.com/mosaik-go/mosaik/groups/internal/genesis"
)

// compactEvery is how often a member looks whether its log is longer than it needs to be.
const compactEvery = time.Second

// A log can be cut behind what is applied, provided that somebody who lacks what is cut can have the state instead.
// Sending entries is cheaper than sending state, so a log keeps some for members that fall behind: all that a reachable
// member still lacks, and a fixed number more, unless that grows beyond a limit. While members fetch the state of a mark,
// what follows the mark is kept as well, since they need it next.
type logShape struct {
	first, last uint64 // entries in the log; last may be first-1
	bytes       int64
	applied     uint64 // by the state machine and in the library's eyes
	held        uint64 // entries beyond this one are needed by somebody who is there
	marked      uint64 // oldest mark whose state is being fetched, zero if none
	image       uint64 // for logs that outlive the process: newest image that does too
	lasting     bool
	few         bool // fewer voters than make copies of the log safe to cut: a merge may want all of it
}

// pinFactor is how far beyond its limits a log may grow for members that fetch state.
const pinFactor = 4

// cut returns the index up to which the log can be given up, zero if it should not be touched.
func (c *Config) cut(s logShape) uint64 {
	most := s.applied
	if s.lasting {
		most = min(most, s.image)
	}
	count := s.last + 1 - s.first
	if s.marked != 0 && count <= uint64(pinFactor*c.MostEntries) && s.bytes <= pinFactor*c.MostBytes {
		most = min(most, s.marked)
	}
	upTo := uint64(0)
	if keep := uint64(c.KeepEntries); !s.few && s.last > keep {
		upTo = min(s.last-keep, s.held)
	}
	// Beyond the limits those who are behind have to fetch the state.
	if limit := uint64(c.MostEntries); count > limit {
		upTo = max(upTo, s.last-limit)
	}
	if s.bytes > c.MostBytes && count > 0 {
		per := s.bytes / int64(count)
		upTo = max(upTo, s.last-min(s.last, uint64(c.MostBytes/max(per, 1))))
	}
	upTo = min(upTo, most)
	if upTo < s.first || upTo+1-s.first < count/8 && s.bytes <= c.MostBytes {
		return 0 // too little to be worth it
	}
	return upTo
}

// votersEnough is how many voters make the loss of a member's own log harmless to a merge of histories.
const votersEnough = 3

// tickCompact cuts the log from time to time.
func (r *Replica) tickCompact() {
	if r.rn == nil || r.now-r.snaps.compacted < compactEvery {
		return
	}
	r.snaps.compacted = r.now
	first, err := r.log.FirstIndex()
	if err != nil {
		return
	}
	last, err := r.log.LastIndex()
	if err != nil || last < first {
		return
	}
	if last != r.snaps.shown {
		r.snaps.shown, r.refresh, r.dirty = last, true, true
	}
	if !r.cfg.Snapshots || r.line.Phase != genesis.Active { // what is frozen is about to be needed whole
		return
	}
	s := logShape{
		first: first, last: last, bytes: r.log.Size(),
		applied: min(r.applied, r.rn.BasicStatus().Applied),
		lasting: r.lasting,
		few:     r.table.Voters() < votersEnough,
	}
	s.held = s.applied
	for _, im := range r.snaps.images {
		if s.marked == 0 && im.of.IsZero() && r.leased(im) {
			s.marked = im.index
		}
		if im.written && !im.useless && (im.isAgreed || im.rescue || !im.of.IsZero()) {
			s.image = im.index
		}
	}
	if r.isLeader() {
		r.rn.WithProgress(func(m uint64, _ raft.ProgressType, p tracker.Progress) {
			row := r.table.Get(m)
			if m == r.self || row == nil {
				return
			}
			if x := r.peers[row.Peer]; x != nil && (x.up || r.now-x.seen < 5*time.Second) && x.hello != nil && x.hello.Nonce == row.Nonce {
				s.held = min(s.held, p.Match)
			}
		})
	}
	if upTo := r.cfg.cut(s); upTo != 0 {
		if err := r.log.Compact(upTo); err != nil {
			r.fatal = err
		}
		r.refresh, r.dirty = true, true
	}
}
