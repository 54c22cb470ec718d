package logstore

import (
	"fmt"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/mosaik-go/mosaik/id"
)

// Memory returns a store that keeps logs and images in memory, for as long as they are open.
func Memory() Store { return memoryStore{} }

type memoryStore struct{}

func (memoryStore) Open(id.ID, func(uint64, error)) (Log, error) {
	l := &memoryLog{state: new(raftpb.HardState), begin: new(raftpb.SnapshotMetadata)}
	l.entries.reset(1)
	return l, nil
}

func (memoryStore) Durable() bool         { return false }
func (memoryStore) Claim(id.PeerID) error { return nil }
func (memoryStore) Close() error          { return nil }

// memoryLog is a log in memory.
type memoryLog struct {
	state   *raftpb.HardState
	begin   *raftpb.SnapshotMetadata // position before the first entry
	entries segments
	record  []byte
	schema  []byte
	seq     uint64
	images  memoryImages
}

func (l *memoryLog) InitialState() (*raftpb.HardState, *raftpb.ConfState, error) {
	members := l.begin.ConfState
	if members == nil {
		members = new(raftpb.ConfState)
	}
	return l.state, members, nil
}

func (l *memoryLog) Entries(lo, hi, maxSize uint64) ([]*raftpb.Entry, error) {
	if lo < l.entries.first {
		return nil, raft.ErrCompacted
	}
	if hi > l.entries.next || lo > hi {
		return nil, raft.ErrUnavailable
	}
	return l.entries.slice(lo, hi, maxSize), nil
}

func (l *memoryLog) Term(i uint64) (uint64, error) {
	switch begin := l.begin.GetIndex(); {
	case i < begin:
		return 0, raft.ErrCompacted
	case i == begin:
		return l.begin.GetTerm(), nil
	case i >= l.entries.next:
		return 0, raft.ErrUnavailable
	default:
		return l.entries.at(i).GetTerm(), nil
	}
}

func (l *memoryLog) LastIndex() (uint64, error) { return l.entries.next - 1, nil }

func (l *memoryLog) FirstIndex() (uint64, error) { return l.entries.first, nil }

// Snapshot has nothing to give: the engine knows which images there are.
func (l *memoryLog) Snapshot() (*raftpb.Snapshot, error) {
	return nil, raft.ErrSnapshotTemporarilyUnavailable
}

func (l *memoryLog) Submit(b Batch) (seq uint64, safe bool, err error) {
	if b.Begin != nil {
		l.begin = b.Begin
		l.entries.reset(b.Begin.GetIndex() + 1)
	}
	if b.State != nil {
		l.state = b.State
	}
	if b.Record != nil {
		l.record = b.Record
	}
	if b.Schema != nil {
		l.schema = b.Schema
	}
	if len(b.Entries) > 0 {
		at := b.Entries[0].GetIndex()
		if at < l.entries.first || at > l.entries.next {
			return 0, false, fmt.Errorf("logstore: append at %d to a log of %d to %d", at, l.entries.first, l.entries.next-1)
		}
		l.entries.truncate(at)
		l.entries.append(b.Entries)
	}
	l.seq++
	return l.seq, true, nil
}

func (l *memoryLog) Compact(upTo uint64) error {
	if upTo < l.entries.first {
		return nil
	}
	term, err := l.Term(upTo)
	if err != nil {
		return fmt.Errorf("logstore: compact a log of %d to %d at %d: %w", l.entries.first, l.entries.next-1, upTo, err)
	}
	l.begin = &raftpb.SnapshotMetadata{Index: &upTo, Term: &term, ConfState: l.begin.ConfState}
	l.entries.compact(upTo)
	return nil
}

func (l *memoryLog) Size() int64 { return l.entries.bytes }

func (l *memoryLog) Images() Images { return &l.images }
func (l *memoryLog) Record() []byte { return l.record }
func (l *memoryLog) Schema() []byte { return l.schema }
func (l *memoryLog) Close() error   { return nil }
