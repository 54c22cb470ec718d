package core

import (
	"bytes"
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

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

// sameConf reports whether two configurations are equal.
func sameConf(a, b *raftpb.ConfState) bool {
	return bytes.Equal(wire.AppendConf(nil, a), wire.AppendConf(nil, b))
}
