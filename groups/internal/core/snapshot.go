package core

import (
	"bytes"
	"encoding/binary"
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"

	"github.com/mosaik-go/mosaik/groups/internal/wire"
	"github.com/mosaik-go/mosaik/id"
)

// A member that lacks what the others have cut from their logs gets a snapshot. It comes about in these steps:
//
//  1. The library asks the leader for a snapshot. If there is none that fits, the leader puts a mark into the log.
//  2. Every member takes a view of its state machine at the mark, and writes it out as an image: chunks, and a manifest
//     with their hashes and the engine's own state. The root is the hash of the manifest.
//  3. The leader puts the root of its image into the log. Members whose image has another root do not serve it, and say
//     so: their machines differ, or do not write equal states as equal bytes.
//  4. The leader sends the snapshot: a position, a configuration, and the root for the state.
//  5. The receiver holds the message back while its driver fetches chunks with that root from any members, and then lets
//     the library have it. See fetch.go.
//  6. In the log behind the mark it finds the root that the group agreed on, and compares.
//
// One case needs another way: a voter that lacks what was cut may be needed for the majority that commits a mark. Then the
// leader takes a view of its own, where it happens to be, and sends that; there is nobody to agree with, and nobody else to
// fetch from.
//
// Images are dropped some time after the last use.

// Times and bounds of snapshots.
const (
	imagesMost   = 2
	imageLease   = 10 * time.Second // after its last use an image is dropped
	markEvery    = time.Second
	wantedFor    = 5 * time.Second  // after the library last asked
	rescueAfter  = 2 * time.Second  // a mark that is not committed by then waits for whom it is meant to serve
	guardUnheard = 5 * time.Second  // a snapshot sent to a member that reports nothing is lost
	guardStalled = 30 * time.Second // one that makes no progress is given up
)

// Root stands for the state at a mark: the hash of the manifest of its image.
type Root = id.ID

// Mark asks the driver for an image: of a view taken right after the run that carries it, when all before is applied.
type Mark struct {
	ID    uint64 // names the image between engine and driver
	Index uint64 // raft index, names it in the log store
	Chunk int    // bytes of each chunk but the last
	State []byte // the engine's part, an encoded State
}

// Divergence says that this member's state at a mark has another root than the group agreed on.
type Divergence struct {
	Index        Index // user index at the mark
	Root, Agreed Root
}

// image is what this member knows of the state at one mark.
type image struct {
	id       uint64
	index    uint64
	term     uint64
	user     Index
	conf     *raftpb.ConfState
	root     Root
	written  bool
	useless  bool // could not be written, or is not what the group agreed on
	agreed   Root
	isAgreed bool
	proposed uint64       // term in which this member proposed its root
	rescue   bool         // taken by this member alone
	of       wire.Genesis // not zero: an heirloom, of that history. It serves this member's next life, and nobody else
	used     time.Duration
}

func (im *image) offerable() bool { return im.written && im.isAgreed && !im.useless }

// snapshots is the state of everything about snapshots but the fetching of one.
type snapshots struct {
	images    []*image // oldest first
	lastID    uint64
	wanted    bool // the library asked for a snapshot, and got none
	wantedAt  time.Duration
	markTerm  uint64 // term in which this member proposed a mark that is not handed out yet, zero if there is none
	markAt    time.Duration
	mark      uint64                   // raft index of the latest mark, or of what was installed, or where the history began here
	sent      map[uint64]*sentSnapshot // by member
	compacted time.Duration
	shown     uint64 // end of the log when its length was last put into the status

	// What was installed and not compared yet with what the log says.
	installed     uint64
	installedRoot Root
}

// sentSnapshot is a snapshot that a leader has sent and whose receiver is not through with it.
type sentSnapshot struct {
	index uint64
	heard bool
	done  uint64
	moved time.Duration
}

// raftStorage is the log as the library sees it.
type raftStorage struct {
	raft.Storage // the log
	r            *Replica
	conf         *raftpb.ConfState // with which the library begins
}

// InitialState is called once. The log knows with which members it began; those of a later image count instead.
func (s raftStorage) InitialState() (*raftpb.HardState, *raftpb.ConfState, error) {
	state, _, err := s.Storage.InitialState()
	return state, s.conf, err
}

// Snapshot is called when a member needs one. The state itself is not part of it.
func (s raftStorage) Snapshot() (*raftpb.Snapshot, error) {
	r := s.r
	im := r.offer()
	if im == nil {
		r.snaps.wanted, r.snaps.wantedAt = true, r.now
		return nil, raft.ErrSnapshotTemporarilyUnavailable
	}
	r.snaps.wanted = false
	im.used = r.now
	index, term := im.index, im.term
	return &raftpb.Snapshot{
		Metadata: &raftpb.SnapshotMetadata{Index: &index, Term: &term, ConfState: im.conf},
		Data:     appendReference(im.root, im.rescue),
	}, nil
}

// The reference in a snapshot message is the root, and a byte that says whether the group agreed on it.
func appendReference(root Root, rescue bool) []byte { return appendFlag(slices.Clone(root[:]), rescue) }

func decodeReference(b []byte) (root Root, rescue, ok bool) {
	if len(b) != len(root)+1 || b[len(root)] > 1 {
		return Root{}, false, false
	}
	return Root(b), b[len(root)] == 1, true
}

func appendFlag(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

// offer returns the image to give to a member that needs one, nil if none fits: all members must be part of its
// configuration, since a member ignores a snapshot that does not know it, and the log must go on where it ends.
func (r *Replica) offer() *image {
	first, err := r.log.FirstIndex()
	if err != nil {
		return nil
	}
	stuck := r.stuck()
	for _, im := range slices.Backward(r.snaps.images) {
		ready := im.offerable() || im.rescue && im.written && !im.useless && stuck
		if ready && im.index+1 >= first && covers(im.conf, r.conf) {
			return im
		}
	}
	return nil
}

// stuck reports whether this leader can commit nothing for want of members, for all it knows.
func (r *Replica) stuck() bool {
	s := &r.snaps
	return !r.ownTermCommitted() && r.now-r.leader.since > rescueAfter || s.markTerm == r.term && r.now-s.markAt > rescueAfter
}

// covers reports whether all members of a configuration are members of another.
func covers(outer, inner *raftpb.ConfState) bool {
	for _, list := range [][]uint64{inner.GetVoters(), inner.GetLearners(), inner.GetVotersOutgoing()} {
		for _, m := range list {
			if !knows(outer, m) {
				return false
			}
		}
	}
	return true
}

func knows(c *raftpb.ConfState, m uint64) bool {
	return slices.Contains(c.GetVoters(), m) || slices.Contains(c.GetLearners(), m) || slices.Contains(c.GetVotersOutgoing(), m)
}

// leased reports whether an image is being written or was used a short while ago.
func (r *Replica) leased(im *image) bool {
	return !im.useless && (!im.written || r.now-im.used < imageLease)
}

// The payload of a control entry about snapshots begins with what it is.
const (
	markTake byte = 1 // take a view here: bytes of a chunk
	markRoot byte = 2 // the root at a mark: raft index of the mark, root
)

// planSnapshots proposes marks and roots if some are due.
func (r *Replica) planSnapshots() {
	l, s := &r.leader, &r.snaps
	if !r.isLeader() || l.fresh {
		return
	}
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

// chunkMost bounds the chunks of images, since they travel in one piece.
const chunkMost = 4 << 20

// takeMark asks for a view at the position of e.
func (r *Replica) takeMark(e *raftpb.Entry, chunk int, out *Apply) {
	s := &r.snaps
	s.markTerm, s.mark = 0, e.GetIndex()
	if !r.cfg.Snapshots {
		return
	}
	out.Mark = r.addImage(e.GetIndex(), e.GetTerm(), chunk, false)
}

func (r *Replica) addImage(index, term uint64, chunk int, rescue bool) *Mark {
	s := &r.snaps
	if len(s.images) >= imagesMost {
		r.dropImage(r.leastNeeded())
	}
	s.lastID++
	im := &image{id: s.lastID, index: index, term: term, user: r.index, conf: r.conf, used: r.now, rescue: rescue}
	s.images = append(s.images, im)
	return &Mark{ID: im.id, Index: index, Chunk: chunk, State: r.stateAt(index, term).Encode()}
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

// compare looks whether this member's image is what the group agreed on. One that could not be written says nothing.
func (r *Replica) compare(im *image) {
	if im.written && !im.useless && im.isAgreed && im.root != im.agreed {
		im.useless = true
		r.due.diverged = append(r.due.diverged, Divergence{Index: im.user, Root: im.root, Agreed: im.agreed})
	}
}

// Imaged says that the image of a mark was written, or, with a zero root, that it could not be.
func (r *Replica) Imaged(now time.Duration, mark uint64, root Root) {
	r.at(now)
	for _, im := range r.snaps.images {
		if im.id == mark && !im.written {
			im.written, im.useless = true, root == Root{}
			im.root, im.used = root, r.now
			r.compare(im)
			r.dirty = true
		}
	}
}

// ImageUsed says that a member fetches from the image of a mark.
func (r *Replica) ImageUsed(now time.Duration, mark uint64) {
	r.at(now)
	for _, im := range r.snaps.images {
		if im.id == mark {
			im.used = r.now
		}
	}
}

// superseded reports whether there is a newer image that does all that an image is there for. If images outlive the
// process the log is cut only behind one that the group agreed on, so the newest of those must stay.
func (r *Replica) superseded(i int) bool {
	for _, im := range r.snaps.images[i+1:] {
		if im.written && !im.useless && (im.isAgreed || im.rescue) {
			return true
		}
	}
	return false
}

// leastNeeded returns which image goes when there are too many: the oldest, unless the log may be cut behind it.
func (r *Replica) leastNeeded() int {
	if !r.lasting || r.superseded(0) {
		return 0
	}
	return len(r.snaps.images) - 1
}

func (r *Replica) dropImage(i int) {
	s := &r.snaps
	r.due.drop = append(r.due.drop, s.images[i].id)
	s.images = slices.Delete(s.images, i, i+1)
}

// dropImages drops all images.
func (r *Replica) dropImages() {
	for len(r.snaps.images) > 0 {
		r.dropImage(0)
	}
}

// tickSnapshots drops images that nobody needs, and watches over snapshots that were sent.
func (r *Replica) tickSnapshots() {
	s := &r.snaps
	for i := 0; i < len(s.images); {
		im := s.images[i]
		switch {
		case im.written && im.useless:
			r.dropImage(i)
		case im.written && !r.leased(im) && !(r.lasting && !r.superseded(i)):
			r.dropImage(i)
		default:
			i++
		}
	}
	if r.isLeader() {
		r.watchSent()
	} else if len(s.sent) > 0 {
		clear(s.sent)
	}
}

// watchSent makes sure that no member waits for ever for a snapshot that was lost, since the library sends it nothing
// else meanwhile.
func (r *Replica) watchSent() {
	s := &r.snaps
	var lost []uint64
	waiting := make(map[uint64]bool)
	r.rn.WithProgress(func(m uint64, _ raft.ProgressType, p tracker.Progress) {
		if p.State != tracker.StateSnapshot {
			return
		}
		waiting[m] = true
		x := s.sent[m]
		if x == nil || x.index != p.PendingSnapshot {
			if s.sent == nil {
				s.sent = make(map[uint64]*sentSnapshot)
			}
			x = &sentSnapshot{index: p.PendingSnapshot, moved: r.now}
			s.sent[m] = x
		}
		for _, im := range s.images {
			if im.index == x.index {
				im.used = r.now
			}
		}
		if still := r.now - x.moved; still > guardStalled || !x.heard && still > guardUnheard {
			lost = append(lost, m)
		}
	})
	for m := range s.sent {
		if !waiting[m] {
			delete(s.sent, m)
		}
	}
	slices.Sort(lost)
	for _, m := range lost {
		delete(s.sent, m)
		r.snapshotFailed(m)
	}
}

// snapshotFailed lets the library try again with a member, after its next answer to a heartbeat.
func (r *Replica) snapshotFailed(m uint64) {
	r.rn.ReportSnapshot(m, raft.SnapshotFailure)
	r.stirred = true
}

// onFetching hears from a member that was sent a snapshot.
func (r *Replica) onFetching(from id.PeerID, m *wire.Fetching) {
	if !r.isLeader() || m.Genesis != r.genesis {
		return
	}
	row := r.table.Get(m.Member)
	if row == nil || row.Peer != from {
		return
	}
	x := r.snaps.sent[m.Member]
	if x == nil || x.index != m.Index {
		if !m.Failed {
			return
		}
		pending := false // it may be over before the snapshot was noticed here as sent
		r.rn.WithProgress(func(who uint64, _ raft.ProgressType, p tracker.Progress) {
			pending = pending || who == m.Member && p.State == tracker.StateSnapshot && p.PendingSnapshot == m.Index
		})
		if pending {
			r.snapshotFailed(m.Member)
		}
		return
	}
	if m.Failed {
		delete(r.snaps.sent, m.Member)
		r.snapshotFailed(m.Member)
		return
	}
	if !x.heard || m.Done > x.done {
		x.heard, x.done, x.moved = true, m.Done, r.now
	}
}

// sameConf reports whether two configurations are equal.
func sameConf(a, b *raftpb.ConfState) bool {
	return bytes.Equal(wire.AppendConf(nil, a), wire.AppendConf(nil, b))
}
