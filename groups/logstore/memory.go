package logstore

import (
	"fmt"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/mosaik-go/mosaik/id"
)

// Memory returns a store that keeps logs in memory, for as long as they are open.
func Memory() Store { return memoryStore{} }

type memoryStore struct{}

func (memoryStore) Open(id.ID) (Log, error) {
	l := new(memoryLog)
	return l, l.Reset(new(raftpb.SnapshotMetadata))
}

func (memoryStore) Close() error { return nil }

// memoryLog is a log in memory. The entry at index begin+1+i is entries[i].
type memoryLog struct {
	state   *raftpb.HardState
	begin   *raftpb.SnapshotMetadata
	entries []*raftpb.Entry
}

func (l *memoryLog) InitialState() (*raftpb.HardState, *raftpb.ConfState, error) {
	members := l.begin.ConfState
	if members == nil {
		members = new(raftpb.ConfState)
	}
	return l.state, members, nil
}

func (l *memoryLog) Entries(lo, hi, maxSize uint64) ([]*raftpb.Entry, error) {
	first := l.begin.GetIndex() + 1
	if lo < first {
		return nil, raft.ErrCompacted
	}
	if hi > first+uint64(len(l.entries)) || lo > hi {
		return nil, raft.ErrUnavailable
	}
	part := l.entries[lo-first : hi-first]
	size := uint64(0)
	for i, e := range part {
		size += uint64(len(e.Data)) + entryOverhead
		if size > maxSize && i > 0 {
			part = part[:i]
			break
		}
	}
	return part[:len(part):len(part)], nil
}

// entryOverhead is what an entry counts beside its data when sizes are limited.
const entryOverhead = 16

func (l *memoryLog) Term(i uint64) (uint64, error) {
	begin := l.begin.GetIndex()
	switch {
	case i < begin:
		return 0, raft.ErrCompacted
	case i == begin:
		return l.begin.GetTerm(), nil
	case i > begin+uint64(len(l.entries)):
		return 0, raft.ErrUnavailable
	default:
		return l.entries[i-begin-1].GetTerm(), nil
	}
}

func (l *memoryLog) LastIndex() (uint64, error) {
	return l.begin.GetIndex() + uint64(len(l.entries)), nil
}

func (l *memoryLog) FirstIndex() (uint64, error) { return l.begin.GetIndex() + 1, nil }

// Snapshot has nothing to give: a member that joins gets the log from its beginning.
func (l *memoryLog) Snapshot() (*raftpb.Snapshot, error) {
	return nil, raft.ErrSnapshotTemporarilyUnavailable
}

func (l *memoryLog) Append(state *raftpb.HardState, entries []*raftpb.Entry) error {
	if state != nil {
		l.state = state
	}
	if len(entries) == 0 {
		return nil
	}
	at := entries[0].GetIndex()
	first := l.begin.GetIndex() + 1
	if at < first || at > first+uint64(len(l.entries)) {
		return fmt.Errorf("logstore: append at %d to a log of %d to %d", at, first, first+uint64(len(l.entries)))
	}
	kept := l.entries[:at-first]
	if len(kept) < len(l.entries) {
		kept = kept[:len(kept):len(kept)] // readers may hold the tail that is replaced
	}
	l.entries = append(kept, entries...)
	return nil
}

func (l *memoryLog) Reset(begin *raftpb.SnapshotMetadata) error {
	*l = memoryLog{state: new(raftpb.HardState), begin: begin}
	return nil
}

func (l *memoryLog) Close() error { return nil }
