package core

import (
	"encoding/binary"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
)

// The payload of a control entry about snapshots begins with what it is.
const (
	markTake byte = 1 // take a view here: bytes of a chunk
	markRoot byte = 2 // the root at a mark: raft index of the mark, root
)

const (
	markEvery   = time.Second
	wantedFor   = 5 * time.Second // after the library last asked
	rescueAfter = 2 * time.Second // what is not committed by then waits for a member that needs a snapshot
	chunkMost   = 4 << 20         // bounds the chunks of images, in bytes, since they travel in one piece
)

// planSnapshots proposes marks and roots if some are due.
func (r *Replica) planSnapshots() {
	l, s := &r.leader, &r.snaps
	if !r.isLeader() || l.fresh {
		return
	}
	r.noteProgress()
	if s.wanted && r.stuck() {
		r.rescue()
	}
	if !r.ownTermCommitted() || r.handed < l.begin {
		return
	}
	busy := false // the newest image may still become one to offer
	for _, im := range s.images {
		if im.rescue || !im.of.IsZero() {
			continue
		}
		busy = !im.useless && !im.offerable()
		if im.written && !im.useless && !im.isAgreed && im.proposed != r.term {
			p := binary.AppendUvarint([]byte{markRoot}, im.index)
			if r.rn.Propose(control(controlMark, append(p, im.root[:]...))) == nil {
				im.proposed, r.stirred = r.term, true
			}
		}
	}
	if s.wanted && r.now-s.wantedAt > wantedFor {
		s.wanted = false
	}
	if !s.wanted && !r.imageDue() || busy || s.markTerm == r.term || s.markAt != 0 && r.now-s.markAt < markEvery {
		return
	}
	if len(s.images) >= imagesMost && r.awaited(s.images[0]) {
		return // somebody works with the one that would have to go
	}
	if r.rn.Propose(control(controlMark, binary.AppendUvarint([]byte{markTake}, uint64(r.cfg.ChunkBytes)))) == nil {
		s.markTerm, s.markAt, r.stirred = r.term, r.now, true
	}
}

// rescue takes a view that is not at a mark, unless there is one already.
func (r *Replica) rescue() {
	s := &r.snaps
	first, err := r.log.FirstIndex()
	if err != nil {
		return
	}
	for _, im := range s.images {
		if !im.useless && im.of.IsZero() && covers(im.conf, r.conf) && im.index+1 >= first {
			im.rescue = true // as good as any
			return
		}
	}
	term, err := r.log.Term(r.handed)
	if err != nil {
		return
	}
	run := Apply{RaftIndex: r.offset + r.handed, Term: term}
	run.Mark = r.addImage(r.handed, term, r.cfg.ChunkBytes, true)
	r.due.apply = append(r.due.apply, run)
}

// noteProgress notes since when nothing is committed although something waits to be.
func (r *Replica) noteProgress() {
	l := &r.leader
	last, err := r.log.LastIndex()
	switch {
	case err != nil:
	case r.commits >= last:
		l.pending = false
	case !l.pending || r.commits != l.movedTo:
		l.pending, l.moved, l.movedTo = true, r.now, r.commits
	}
}

// stuck reports whether this leader can commit nothing for want of members, for all it knows.
func (r *Replica) stuck() bool {
	return r.isLeader() && r.leader.pending && r.now-r.leader.moved > rescueAfter
}

// awaited reports whether a member was sent the snapshot of an image and is not through with it.
func (r *Replica) awaited(im *image) (yes bool) {
	r.rn.WithProgress(func(_ uint64, _ raft.ProgressType, p tracker.Progress) {
		yes = yes || p.State == tracker.StateSnapshot && p.PendingSnapshot == im.index
	})
	return yes
}

// newcomer takes a mark for a member that has just been added, if it will need one, without waiting to be asked.
func (r *Replica) newcomer() {
	if first, err := r.log.FirstIndex(); err == nil && first > firstIndex+1 && r.cfg.Snapshots {
		r.snaps.wanted, r.snaps.wantedAt = true, r.now
	}
}

// imageDue reports whether a log that outlives the process, this member's or another's, has grown enough to be replaced by
// an image.
func (r *Replica) imageDue() bool {
	if !r.cfg.Snapshots {
		return false
	}
	if !r.lasting {
		return r.handed > r.snaps.mark+uint64(r.cfg.MostEntries) && r.table.Durable()
	}
	first, err := r.log.FirstIndex()
	if err != nil {
		return false
	}
	since := first - 1
	if n := len(r.snaps.images); n > 0 {
		since = max(since, r.snaps.images[n-1].index)
	}
	count := r.handed - min(since, r.handed)
	return count > uint64(r.cfg.MostEntries) || count > uint64(r.cfg.KeepEntries) && r.log.Size() > r.cfg.MostBytes/2
}

// markEntry is what a control entry about snapshots says.
type markEntry struct {
	take  bool
	chunk int    // for a view to be taken
	index uint64 // of the mark whose root this is
	root  Root
}

func decodeMark(b []byte) (m markEntry, err error) {
	if len(b) == 0 {
		return m, errEntry
	}
	v, n := binary.Uvarint(b[1:])
	if n <= 0 {
		return m, errEntry
	}
	rest := b[1+n:]
	switch {
	case b[0] == markTake && v > 0 && v <= chunkMost && len(rest) == 0:
		return markEntry{take: true, chunk: int(v)}, nil
	case b[0] == markRoot && len(rest) == len(Root{}):
		return markEntry{index: v, root: Root(rest)}, nil
	default:
		return m, errEntry
	}
}

// commitMark carries out an entry about snapshots.
func (r *Replica) commitMark(e *raftpb.Entry, payload []byte, out *Apply) error {
	m, err := decodeMark(payload)
	switch {
	case err != nil:
		return err
	case m.take:
		r.takeMark(e, m.chunk, out)
		return nil
	default:
		return r.agree(m.index, m.root)
	}
}

// takeMark asks for a view at the position of e.
func (r *Replica) takeMark(e *raftpb.Entry, chunk int, out *Apply) {
	s := &r.snaps
	s.markTerm, s.mark = 0, e.GetIndex()
	if !r.cfg.Snapshots {
		return
	}
	out.Mark = r.addImage(e.GetIndex(), e.GetTerm(), chunk, false)
}

// agree notes the root that the group gives a mark: the first one in the log counts.
func (r *Replica) agree(index uint64, root Root) error {
	s := &r.snaps
	if s.installed == index {
		if s.installedRoot != root {
			return errInstalled
		}
		s.installed = 0
		r.dirty = true
	}
	for _, im := range s.images {
		if im.index == index && !im.isAgreed && !im.rescue {
			im.agreed, im.isAgreed = root, true
			r.compare(im)
		}
	}
	return nil
}
