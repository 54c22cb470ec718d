package pebble

import (
	"encoding/binary"
	"fmt"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/mosaik-go/mosaik/groups/logstore"
	"github.com/mosaik-go/mosaik/id"
)

// What is in the database. The first byte of a key says whose it is:
//
//	1 'v'              version of this layout, one byte
//	1 'o'              identity of the node
//	2 group 'b'        position at which the log begins, raftpb.SnapshotMetadata
//	2 group 'h'        term, vote and commit index, 8 bytes each
//	2 group 'r'        the engine's record
//	2 group 's'        what the commands are, by whoever uses the log
//	2 group 'e' index  an entry: type, term, data
//
// Integers in keys are big-endian, so that entries are in order. The database has checksums over all of it.
const (
	storeSpace byte = 1
	groupSpace byte = 2

	beginField  byte = 'b'
	entryField  byte = 'e'
	recordField byte = 'r'
	schemaField byte = 's'
	stateField  byte = 'h'

	layout byte = 1
)

var (
	versionKey = []byte{storeSpace, 'v'}
	ownerKey   = []byte{storeSpace, 'o'}
)

// fieldKeySize and entryKeySize are the lengths of keys of a group.
const (
	fieldKeySize = 1 + id.Size + 1
	entryKeySize = fieldKeySize + 8
)

func fieldKey(group id.ID, field byte) []byte {
	k := make([]byte, 0, entryKeySize)
	k = append(append(k, groupSpace), group[:]...)
	return append(k, field)
}

func entryKey(group id.ID, index uint64) []byte {
	return binary.BigEndian.AppendUint64(fieldKey(group, entryField), index)
}

// entriesEnd is behind all entries of a group.
func entriesEnd(group id.ID) []byte { return fieldKey(group, entryField+1) }

func indexOf(key []byte) uint64 { return binary.BigEndian.Uint64(key[fieldKeySize:]) }

const stateSize = 24

func putState(b []byte, s *raftpb.HardState) {
	binary.BigEndian.PutUint64(b, s.GetTerm())
	binary.BigEndian.PutUint64(b[8:], s.GetVote())
	binary.BigEndian.PutUint64(b[16:], s.GetCommit())
}

func decodeState(b []byte) (*raftpb.HardState, error) {
	if len(b) != stateSize {
		return nil, fmt.Errorf("%w: hard state of %d bytes", logstore.ErrCorrupt, len(b))
	}
	term, vote, commit := binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint64(b[16:])
	return &raftpb.HardState{Term: &term, Vote: &vote, Commit: &commit}, nil
}

func encodeBegin(m *raftpb.SnapshotMetadata) ([]byte, error) { return proto.Marshal(m) }

func decodeBegin(b []byte) (*raftpb.SnapshotMetadata, error) {
	m := new(raftpb.SnapshotMetadata)
	if err := proto.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("%w: beginning of a log: %v", logstore.ErrCorrupt, err)
	}
	return m, nil
}

// entryHead is what comes before an entry's data.
const entryHead = 1 + 8

func putEntry(b []byte, e *raftpb.Entry) {
	b[0] = byte(e.GetType())
	binary.BigEndian.PutUint64(b[1:], e.GetTerm())
	copy(b[entryHead:], e.Data)
}

// decodeEntry reads an entry. It keeps nothing of b.
func decodeEntry(index uint64, b []byte) (*raftpb.Entry, error) {
	if len(b) < entryHead {
		return nil, fmt.Errorf("%w: entry %d has %d bytes", logstore.ErrCorrupt, index, len(b))
	}
	t, term := raftpb.EntryType(b[0]), binary.BigEndian.Uint64(b[1:])
	e := &raftpb.Entry{Type: &t, Term: &term, Index: &index}
	if len(b) > entryHead {
		e.Data = append([]byte(nil), b[entryHead:]...)
	}
	return e, nil
}

func termOf(index uint64, b []byte) (uint64, error) {
	if len(b) < entryHead {
		return 0, fmt.Errorf("%w: entry %d has %d bytes", logstore.ErrCorrupt, index, len(b))
	}
	return binary.BigEndian.Uint64(b[1:]), nil
}
